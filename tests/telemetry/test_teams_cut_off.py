"""Teams whose process ends anywhere, and again: one trace, nothing missing, all paid."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import RunKilled
from manyhands.runtime import Runtime
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.telemetry.stage import events_of, fold, spans_in, spent, tokens

Stage = Answering | Coding


async def cut_off(stage: Stage, after: int) -> bool:
    """Let the run go on for so many events; True: it has ended before."""
    async with stage.runtime() as runtime:
        await begin(stage, runtime)
        seen = runtime.view("run").seq
        async for event in runtime.events("run", after=seen, follow=True):
            if event.seq >= seen + after:
                return False
        return True


async def begin(stage: Stage, runtime: Runtime) -> Any:
    if runtime.runs():
        return await runtime.resume("run")
    return await runtime.start(stage.workflow, stage.order(), run_id="run")


def check(path: Path, spent_tokens: int, requests: int) -> None:
    spans = spans_in(path)
    assert spent(spans) == spent_tokens
    lost = sum(spent([s]) for s in spans if s.error == "interrupted")
    assert tokens(spans) == spent_tokens - lost
    assert sum(s.facts.get("manyhands.spent.requests", 0) for s in spans) == requests
    done = [s for s in spans if s.name.startswith("chat") and not s.error]
    assert len({s.facts["manyhands.step"] for s in done}) == len(done)
    live = {s.id: s for s in fold(path, events_of(path))}
    assert {s.id for s in spans} == set(live)
    assert {s.id: (s.start, s.end, s.error, s.marks) for s in spans} == {
        id: (s.start, s.end, s.error, s.marks) for id, s in live.items()
    }


@pytest.mark.parametrize("team", [Answering, Coding])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_team_that_is_cut_off_again_and_again(
    tmp_path: Path, team: type[Stage], seed: int
) -> None:
    stage = team(tmp_path)
    stage.cast.delay = 0.005
    stage.model = stage.cast.model()
    dice = random.Random(seed)
    while not await cut_off(stage, dice.randint(15, 60)):
        spans_in(tmp_path / "journal.db", limit=1000)
    async with stage.runtime() as runtime:
        told = runtime.view("run").spent()
    check(tmp_path / "journal.db", told["tokens"], told["requests"])


@pytest.mark.parametrize("team", [Answering, Coding])
async def test_a_team_that_is_killed_and_resumed(tmp_path: Path, team: type[Stage]) -> None:
    stage = team(tmp_path)
    stage.cast.delay = 0.05
    stage.model = stage.cast.model()
    async with stage.runtime() as runtime:
        handle = await begin(stage, runtime)
        async for event in runtime.events("run", follow=True):
            if event.key.endswith("/request/1") and event.type == "step.started":
                break
        await runtime.command("run", "kill")
        with pytest.raises(RunKilled):
            await handle.result()
        before = spans_in(tmp_path / "journal.db")
        assert any(s.error == "interrupted" for s in before)
        await (await runtime.resume("run")).result()
        told = runtime.view("run").spent()
    spans = spans_in(tmp_path / "journal.db")
    assert {s.id for s in before} <= {s.id for s in spans}
    check(tmp_path / "journal.db", told["tokens"], told["requests"])
