"""`manyhands watch`: a run's agents in the terminal, live and after, whatever they wrote."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manyhands.cli.agent_tree import AgentTree
from manyhands.errors import JournalUnreadable, RunNotFound
from manyhands.runtime import Event, Run, Runtime, Status, Workflow
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.shell import Shell
from tests.studies import lay_out
from tests.web.stage import Writing, insert, lay_down, many
from tests.web.test_hostile import ODD, SCRIPTS, hostile

NOT_FOUND = RunNotFound.exit_code
WORDS = [sys.executable, "-m", "manyhands.cli"]


def watched(journal: str | Path, run: str, *more: str, code: int = 0) -> tuple[str, str]:
    words = [*WORDS, "watch", run, "--journal", str(journal), *more]
    env = os.environ | {"COLUMNS": "160"}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


async def test_a_finished_answer_is_a_tree_of_its_agents(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    told, _ = watched(stage.journal, "asked")
    assert "completed asked · answer" in told
    assert f"{stage.spent['tokens']:,} tokens" in told
    for agent in ("supervisor", "worker fastapi", "worker flask", "worker django", "critic"):
        assert f"✓ {agent} · complete" in told
    printed, _ = watched(stage.journal, "asked", "--json")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["seq"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert lines[-1]["status"] == "completed"
    assert lines[-1]["spent"]["tokens"] == stage.spent["tokens"]
    below = [agent["spent"]["tokens"] for agent in lines[-1]["agents"]]
    assert sum(below) == stage.spent["tokens"]


@pytest.mark.needs("bubblewrap")
async def test_sub_agents_stand_below_who_called_them(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    await stage.solve()
    lines = watched(stage.journal, "solved")[0].splitlines()
    assert lines[1].startswith("└── ✓ orchestrator · complete · 22,")
    assert lines[2].startswith("    ├── ✓ coder sums · complete")
    assert lines[3].startswith("    └── ✓ coder words · complete")
    async with stage.runtime() as runtime:
        tree = AgentTree(runtime, "solved")
        for event in runtime.journal.events("solved"):
            tree.apply(event)
        for agent in tree.to_json(Status.COMPLETED)["agents"]:
            assert agent["spent"]["tokens"] == tree.state.spent(agent["agent"])["tokens"]


async def test_what_is_under_way_and_what_is_left_is_told(tmp_path: Path) -> None:
    write = Writing()
    about = {"effect": "idempotent", "args": "", "scope": "boss"}
    calls = [{"name": "search", "arguments": "{}"}]
    events = [
        write("run.created", workflow="w", version=1, budget={"tokens": 9_000, "usd": 0.5}),
        write("run.opened"),
        write("scope.opened", "boss", tokens=5_000),
        write("step.started", "boss/begin", **about),
        write("step.done", "boss/begin", {"role": "boss", "model": "m"}),
        write("step.started", "boss/turn/3/request/1", cost={"tokens": 2_000}, **about),
    ]
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[]) as runtime:
        await lay_down(runtime.journal, "run", events)
        tree = AgentTree(runtime, "run")
        for event in events:
            tree.apply(event)
        tree.settle()
        boss = tree.root.below[0]
        assert tree.doing(boss)[0] == "turn 3 · model"
        assert tree.word(boss, Status.RUNNING) == "running"
        more = [
            write("step.done", "boss/turn/3/request/1", {"calls": calls}, used={"tokens": 900}),
            write("step.started", "boss/turn/3/tool/0", **about),
        ]
        for event in more:
            tree.apply(event)
        tree.settle()
        assert tree.doing(boss)[0] == "turn 3 · search"
        assert tree.left(boss) == {"tokens": 4_100}
        assert tree.left(tree.root) == {"tokens": 8_100, "micro_usd": 500_000}
        assert tree.word(boss, Status.INTERRUPTED) == "interrupted"


@pytest.mark.parametrize(
    "bad",
    [*SCRIPTS, *ODD, pytest.param("x" * 3_000_000, marks=pytest.mark.slow)],
    ids=range(7),
)
async def test_what_agents_wrote_does_nothing_to_the_terminal(tmp_path: Path, bad: str) -> None:
    events, blobs = hostile(bad)
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[]) as runtime:
        await lay_down(runtime.journal, "run", events, blobs)
    for more in ((), ("--json",)):
        told, _ = watched(tmp_path / "j.db", "run", *more)
        assert not set(told) & set("\x00\x07\x08\x1b\x7f\x9b\u202e\u2066\u200b\ufeff")
        if not more:
            assert len(told) < 20_000
            assert all(len(line) <= 200 for line in told.splitlines())


async def test_a_run_is_watched_live_until_it_ends(tmp_path: Path) -> None:
    """In a terminal: drawn anew while events come, and left with the last picture."""
    gate = asyncio.Event()

    async def body(run: Run, _: Any) -> str:
        await run.step("first", lambda: "\x1b[2Jone")
        await run.step("second", gate.wait)
        return "done"

    workflow = Workflow("slow", body)
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, None, run_id="run")
        screen, theirs = pty.openpty()
        words = [*WORDS, "watch", "run", "--journal", str(tmp_path / "j.db")]
        env = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
        watching = await asyncio.create_subprocess_exec(*words, stdout=theirs, env=env)
        os.close(theirs)
        seen = ""
        while "second" not in seen:
            seen += await asyncio.wait_for(asyncio.to_thread(_read, screen), 30)
        assert "running" in seen
        gate.set()
        await handle.result()
        while "completed" not in seen:
            seen += await asyncio.wait_for(asyncio.to_thread(_read, screen), 30)
        assert await asyncio.wait_for(watching.wait(), 30) == 0
        os.close(screen)
        assert "\x1b[2J" not in seen


def _read(screen: int) -> str:
    try:
        return os.read(screen, 65_536).decode(errors="replace")
    except OSError:  # the other end is closed
        return ""


async def test_many_agents_fit_the_screen_and_none_at_work_is_left_out(tmp_path: Path) -> None:
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[]) as runtime:
        await lay_down(runtime.journal, "run", list(many(20_000, 900)))
        told, _ = watched(tmp_path / "j.db", "run")
        assert len(told.splitlines()) <= 203
        assert "… and 700 more" in told


def test_a_run_that_is_not_there_is_an_error_with_a_next_action(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "manyhands runs" in shell("watch", "nothing", code=NOT_FOUND)


COMMANDS = {
    "answer": ("answer", "Which one?", "--docs", "docs", "--model", "script:script.json"),
    "code": ("code", "Mend it", "--repo", "shop", "--model", "script:script.json"),
    "lab": ("lab", "run", "study", "--runs", "16"),
}


@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("team", COMMANDS)
def test_commands_say_on_stderr_where_their_run_can_be_watched(tmp_path: Path, team: str) -> None:
    shell = Shell(tmp_path, team if team != "lab" else "")
    if team == "lab":
        lay_out("regression", tmp_path / "study")
    words = shell.words(*COMMANDS[team], "--run-id", "seen")
    done = subprocess.run(words, cwd=tmp_path, env=shell.env, capture_output=True, text=True)
    assert "→ manyhands ui --run seen, or manyhands watch seen" in done.stderr, done.stderr
    quiet = subprocess.run(
        [*words[:-1], "quiet", "--json"],
        cwd=tmp_path,
        env=shell.env,
        capture_output=True,
        text=True,
    )
    assert "manyhands ui" not in quiet.stderr + quiet.stdout


async def test_a_damaged_run_is_told_up_to_the_damage(tmp_path: Path) -> None:
    events: list[Event] = list(many(300, 2))
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[]) as runtime:
        await lay_down(runtime.journal, "run", events[:200])
        await runtime.journal.call(lambda db: insert(db, "run", events[200:]))
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("UPDATE events SET key='x' WHERE seq=250")
    stdout, stderr = watched(tmp_path / "j.db", "run", code=JournalUnreadable.exit_code)
    assert "event 250 does not fit its checksum" in stderr
    assert "role 0" in stdout
