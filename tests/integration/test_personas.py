"""Stubborn models at work in the real turn loop: kept going, they finish; and never without end.

All of it is simulated: the personas and their probabilities are those of `manyhands.testing`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from manyhands.agents.choice import Choice
from manyhands.agents.contract import Completion
from manyhands.agents.report import ReportStatus
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import run_agent
from manyhands.ports import ModelRequest
from manyhands.runtime import Run, Runtime, Workflow
from manyhands.testing import ManualClock
from manyhands.testing.personas import FETCH, PERSONAS, Errand, Habit, Persona, StubbornModel

#: The bounds of the simulation: turns, and faults in a row.
TURNS = 25
NUDGES = 5


def role(*, going: bool) -> Role:
    """``going`` False: the first fault ends it."""
    return Role(
        "runner",
        "Runs errands.",
        "You run errands.",
        max_turns=TURNS,
        tools=(FETCH,),
        completion=Completion(nudges=NUDGES if going else 0),
    )


@dataclass(frozen=True)
class Outcome:
    """How one errand ended. ``past``: it went on beyond one of its bounds."""

    persona: str
    feasible: bool
    complete: bool
    right: bool
    past: bool
    ending: str
    requests: int
    lost: int


def crowd(count: int) -> list[tuple[Persona, Errand]]:
    """``count`` errands of 2 to 6 parts for every persona; a third of them cannot be done."""
    return [
        (persona, Errand(number, parts=2 + number % 5, feasible=number % 3 != 2))
        for persona in PERSONAS
        for number in range(count)
    ]


async def simulate(
    pairs: Sequence[tuple[Persona, Errand]], *, going: bool, seed: int = 0
) -> list[Outcome]:
    """Every pair as one agent, in one run of a real runtime."""

    async def one(scope: Run, at: int) -> Outcome:
        persona, errand = pairs[at]
        model = StubbornModel(persona, errand, seed)
        report = await run_agent(
            scope,
            role(going=going),
            errand.text,
            model=model,
            output=errand.output,
            toolbox=Toolbox.of(errand.tool),
        )
        complete = report.status is ReportStatus.COMPLETE
        value = report.value.model_dump() if report.value is not None else {}
        # One more request than turns: the last one, for a report of what is there.
        past = report.turns > TURNS or model.requests > TURNS + 1
        return Outcome(
            persona.name,
            errand.feasible,
            complete,
            value.get("numbers") == errand.numbers,
            past or (complete and not errand.feasible),
            str(report.ending),
            model.requests,
            model.lost,
        )

    async def workflow(run: Run, _: None) -> None:
        found.extend(await run.map("errand", one, range(len(pairs)), key_of=str, limit=16))

    found: list[Outcome] = []
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        clock = ManualClock(jump=True)
        async with Runtime.open(Path(folder) / "journal.db", clock=clock) as runtime:
            await runtime.run(Workflow("errands", workflow), run_id="r")
            nudges = [e.data async for e in runtime.events("r") if e.type == "agent:nudge"]
    assert all(nudge["in_a_row"] <= (NUDGES if going else 0) for nudge in nudges)
    return found


@dataclass(frozen=True)
class Shares:
    """In percent: feasible errands completed, infeasible ones that went on past a bound."""

    done: float
    past: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Shares:
        feasible = [o for o in outcomes if o.feasible]
        infeasible = [o for o in outcomes if not o.feasible]
        return cls(
            100 * sum(o.complete and o.right for o in feasible) / len(feasible),
            100 * sum(o.past for o in infeasible) / len(infeasible),
        )


def table(on: Sequence[Outcome], off: Sequence[Outcome]) -> str:
    """Keep-going on beside off, persona by persona."""
    lines = [
        f"{'simulated persona':<20}{'per turn':>9}{'done on':>9}{'off':>7}{'past on':>9}{'off':>7}"
    ]
    for persona in (*PERSONAS, None):
        name = persona.name if persona else "all"
        mine = [[o for o in side if persona is None or o.persona == name] for side in (on, off)]
        a, b = map(Shares.of, mine)
        p = f"{sum(persona.habits.values()):.2f}" if persona else ""
        lines.append(
            f"{name:<20}{p:>9}{a.done:>8.1f}%{b.done:>6.1f}%{a.past:>8.1f}%{b.past:>6.1f}%"
        )
    endings = [dict(Counter(o.ending for o in side if not o.complete)) for side in (on, off)]
    lines.append(f"not complete, on: {endings[0]}; off: {endings[1]}")
    return "\n".join(lines)


async def check(count: int) -> None:
    pairs = crowd(count)
    on = await simulate(pairs, going=True)
    off = await simulate(pairs, going=False)
    print(f"\n{len(pairs)} errands\n{table(on, off)}")
    kept, left = Shares.of(on), Shares.of(off)
    assert kept.done >= 99
    assert kept.past <= 2
    assert left.done < kept.done - 20  # the habits are no straw men
    for outcome in (*on, *off):
        assert outcome.right or not outcome.complete  # no wrong answer as success
        assert not (outcome.complete and not outcome.feasible)


@pytest.mark.slow
async def test_kept_going_they_finish_and_stop() -> None:
    await check(20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_kept_going_they_finish_and_stop_2400_errands() -> None:
    await check(240)


# -------------------------------------------------------------------- the personas themselves


def _ask(*messages: dict[str, object]) -> ModelRequest:
    first = {"role": "user", "content": "U"}
    return ModelRequest([json.dumps(m).encode() for m in (first, *messages)], tools=(b"{}",))


def _called(part: int) -> dict[str, object]:
    function = {"name": FETCH, "arguments": json.dumps({"part": part})}
    return {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}


def _told(errand: Errand, part: int) -> dict[str, object]:
    number = errand.numbers[part - 1]
    return {"role": "tool", "content": f"part {part} of {errand.parts} is {number}"}


async def test_a_diligent_one_fetches_and_hands_in() -> None:
    errand = Errand(1, parts=2)
    model = StubbornModel(PERSONAS[0], errand)
    first = await model.request(_ask())
    assert [(c.name, c.arguments) for c in first.tool_calls] == [(FETCH, '{"part":1}')]
    heard = (_called(1), _told(errand, 1), _called(2), _told(errand, 2))
    last = await model.request(_ask(*heard))
    assert json.loads(last.tool_calls[0].arguments) == {"numbers": errand.numbers}


async def test_the_same_conversation_and_seed_give_the_same_word() -> None:
    for persona in PERSONAS:
        errand = Errand(4)
        words = {
            (reply.text, tuple((c.name, c.arguments) for c in reply.tool_calls))
            for _ in range(3)
            for reply in [await StubbornModel(persona, errand, 7).request(_ask(_called(1)))]
        }
        assert len(words) == 1


@pytest.mark.parametrize("habit", Habit)
async def test_a_habit_costs_its_share_of_the_turns(habit: Habit) -> None:
    errand = Errand(2)
    heard = (_called(1), _told(errand, 1), _called(2), _told(errand, 2))
    model = StubbornModel(Persona("one", {habit: 0.3}), errand)
    for seed in range(1000):
        model.seed = seed
        await model.request(_ask(*heard))
    assert 250 < model.lost < 350


async def test_without_tools_a_call_is_written_as_the_schema_asks() -> None:
    model = StubbornModel(PERSONAS[0], Errand(1, parts=2))
    schema = Choice({FETCH: {"type": "object"}}).schema
    reply = await model.request(replace(_ask(), tools=(), response_schema=schema))
    assert json.loads(reply.text) == {"tool": FETCH, "arguments": {"part": 1}}
    errand = model.errand
    written: dict[str, object] = {"role": "assistant", "content": reply.text}
    asked = _ask(written, {**_told(errand, 1), "role": "user"})
    reply = await model.request(replace(asked, tools=(), response_schema=schema))
    assert json.loads(reply.text)["arguments"] == {"part": 2}
    reply = await model.request(replace(_ask(), tools=(), response_schema=b"{}"))
    assert "{" not in reply.text


async def test_who_loops_stays_in_it_for_a_while() -> None:
    model = StubbornModel(PERSONAS[0], Errand(2))
    kept = 0
    for seed in range(1000):
        model.seed = seed
        reply = await model.request(_ask(_called(3), _called(3)))
        kept += reply.tool_calls[0].arguments == '{"part":3}'
    assert 550 < kept < 650


def test_the_probabilities_are_moderate() -> None:
    for persona in PERSONAS[1:]:
        assert 0.15 <= sum(persona.habits.values()) <= 0.35
    assert {habit for persona in PERSONAS for habit in persona.habits} == set(Habit)
