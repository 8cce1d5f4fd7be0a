"""A study from the command line: recorded with a server, replayed without one, and once more with
a role's file changed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.lab import agents as lab_agents
from manyhands.teams.lab.view import read_lab
from manyhands.testing import ChatServer, ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, say
from tests.studies import git, lay_out

pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]

KEY = "sk-never-to-be-seen-0123456789"
ROLES = ("researcher", "planner", "reviewer", "reporter")


class Parrot(ChatServer):
    """A team that has one idea, refuses it, and repeats the key that it is sent."""

    def __init__(self) -> None:
        self.heard = ""
        self.asked = 0
        super().__init__(ScriptedModel(self._say))

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        self.heard = http.headers.get("Authorization", "")
        self.asked += 1
        return await super()._answer(http)

    def _say(self, request: ModelRequest) -> Scripted:
        told = Conversation.of(request)
        if told.role == "researcher":
            rationale = f"few steps ({self.heard})"
            return answer({"ideas": [{"title": "momentum", "rationale": rationale, "source": "m"}]})
        if told.role == "planner":
            plan = {
                "title": "add momentum",
                "rationale": "the descent is slow",
                "kind": "structural",
                "instructions": "keep a velocity",
                "expected_gain": 1.0,
            }
            known = "cannot help" in str(request.messages)
            return answer({"hypotheses": [] if known else [plan]})
        if told.role == "reviewer":
            refusal = {"hypothesis": "h0001", "accepted": False, "reason": "cannot help"}
            return answer({"reviews": [refusal]})
        return say(f"Nothing came of it. My key is {self.heard}.")


class Place:
    """A fresh copy of the study, and a user's home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.study = lay_out("regression", folder / "study")

    def change_role(self, name: str, old: str, new: str) -> None:
        """A role file of the study's own: the lab's, but for one thing."""
        text = (lab_agents.ROLES / f"{name}.md").read_text()
        assert old in text
        own = self.study / lab_agents.OVERRIDES / f"{name}.md"
        own.parent.mkdir()
        own.write_text(text.replace(old, new))
        git(self.study, "add", ".")
        who = ("-c", "user.name=t", "-c", "user.email=t@invalid")
        git(self.study, *who, "commit", "--quiet", "--no-gpg-sign", "-m", "another planner")

    async def run(self, url: str, *words: str, key: str = "") -> tuple[int, str]:
        """`manyhands lab run`; its exit code and all that it prints."""
        named = [word for role in ROLES for word in ("--role", f"{role}={url}#s")]
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("MANYHANDS", "HF_"))}
        kept |= {"MANYHANDS_HOME": str(self.folder / "home"), "COLUMNS": "200"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "manyhands.cli",
            *("lab", "run", str(self.study), "--runs", "16", *named, *words),
            env=kept | ({"MANYHANDS_API_KEY": key} if key else {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, printed.decode()

    def written(self) -> bytes:
        return b"".join(p.read_bytes() for p in self.folder.rglob("*") if p.is_file())


def left_by(journal: Path, run_id: str) -> dict[str, Any]:
    """What the run came to, but for times and the machine's speed."""
    runtime = Runtime.open(journal)
    try:
        view = read_lab(runtime, run_id)
        asked = {
            event.key: (event.data, runtime.journal.value(event))
            for event in runtime.journal.events(run_id)
            if event.type == "step.done" and "/request/" in event.key
        }
        measured = {"duration", "cpu_seconds", "peak_memory_mb", "created_at", "started_at", "slot"}
        rows = [row.model_dump(mode="json", exclude=measured) for row in view.rows]
        assert view.outcome is not None
        told = view.outcome["text"].partition("# regression")[0]
    finally:
        runtime.journal.close()
    verdicts = [(e.id, e.verdict, e.rule, e.hypothesis.title) for e in view.experiments]
    reviews = [r.model_dump(mode="json") for r in view.reviews.values()]
    return {"asked": asked, "rows": rows, "told": told, "verdicts": verdicts, "reviews": reviews}


async def test_a_study_is_recorded_replayed_and_diverges_where_a_role_file_was_changed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run.jsonl"
    first, second, third = (Place(tmp_path / name) for name in "abc")
    third.change_role("planner", "Put first what promises most", "Put first what is cheapest")
    async with Parrot() as server:
        url = server.url
        code, printed = await first.run(url, "--record", str(file), key=KEY)
        assert code == 0, printed
        asked = server.asked
    assert server.heard == f"Bearer {KEY}"
    assert asked >= 4

    # No server, no key, another folder: the same run.
    journal = second.folder / "journal.db"
    code, again = await second.run(url, "--replay", str(file), "--journal", str(journal))
    assert code == 0, again
    assert "not asked for" not in again
    run_id = json.loads(next(x for x in file.read_text().splitlines() if '"about"' in x))["about"][
        "run"
    ]
    live = left_by(first.folder / "home" / "journal.db", run_id)
    assert left_by(journal, run_id) == live
    assert len(live["asked"]) == asked
    assert live["told"].startswith("Nothing came of it. My key is Bearer ***.")

    # A study must not be written over by its own replay.
    code, refused = await first.run(url, "--replay", str(file))
    assert code == 2
    assert "the replay would write over" in refused

    # A role file that differs: where, and how.
    code, other = await third.run(url, "--replay", str(file))
    assert code == 11, other
    assert "request 1 of agent 'round-1/planner/agent' was not recorded" in other, other
    assert "message 0 (system) differs:" in other
    assert "Put first what promises most" in other
    assert "Put first what is cheapest" in other

    for written in (first.written(), second.written(), third.written(), file.read_bytes()):
        assert KEY.encode() not in written
    for text in (printed, again, refused, other):
        assert KEY not in text
