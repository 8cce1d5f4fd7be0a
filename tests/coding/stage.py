"""A stage for the code team: a real repository, sandboxes and journal, and a scripted cast.

The cast is honest unless a test says otherwise: the orchestrator hands each broken module to a
coder, who reads, edits and runs the check.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands.config import Config
from manyhands.ports import ModelRequest, Sandboxes
from manyhands.runtime import Budget, Event, Runtime
from manyhands.teams.code.records import Order, Outcome
from manyhands.testing.models import Conversation, Reply, Scripted, answer, call, calls
from manyhands.wiring.code import code_workflow
from tests.casting import Casting, Part, asked

#: Two modules, each with a bug, that do not need each other.
FILES = {
    "sums.py": "def total(values):\n    return sum(values) - 1\n",
    "words.py": 'def longest(words):\n    return min(words, key=len)\n\n\nNAME = "words"\n',
    "test_all.py": (
        "import sys\n\nfrom sums import total\nfrom words import longest\n\n"
        "which = sys.argv[1:] or ['sums', 'words']\n"
        "if 'sums' in which:\n    assert total([1, 2, 3]) == 6, total([1, 2, 3])\n"
        "if 'words' in which:\n    assert longest(['a', 'bcd', 'ef']) == 'bcd'\n"
        "print('all well')\n"
    ),
    "README.md": "# Small things\n\nRun `python3 test_all.py`.\n",
}
CHECK = "python3 test_all.py"
FIXES = {
    "sums": ("sums.py", "sum(values) - 1", "sum(values)"),
    "words": ("words.py", "min(words, key=len)", "max(words, key=len)"),
}


def coder_task(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "role": "coder",
        "title": f"Fix {name}",
        "instructions": f"Mend {name}.py so that `{CHECK} {name}` succeeds.",
        "checks": [f"{CHECK} {name}"],
        **changes,
    }


def named(conversation: Conversation) -> str:
    """The module that a coder's task is about."""
    found = re.search(r"Fix (\w+)", conversation.task)
    return found[1] if found else ""


def honest_orchestrator(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken == 0:
        return call("delegate_many", tasks=[coder_task("sums"), coder_task("words")])
    return answer({"summary": "Both are mended."})


def honest_coder(request: ModelRequest, conversation: Conversation) -> Scripted:
    name = named(conversation)
    path, old, new = FIXES[name]
    turns: list[Reply] = [
        call("read", path=path),
        call("edit", path=path, old=old, new=new),
        call("bash", command=f"{CHECK} {name}"),
    ]
    if conversation.spoken < len(turns):
        return turns[conversation.spoken]
    return answer({"summary": f"Mended {name}.", "changed": [path], "passed": [f"{CHECK} {name}"]})


def honest_explorer(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken == 0:
        return calls(("read", {"path": "sums.py"}), ("bash", {"command": CHECK}))
    found = {
        "id": "sums-off-by-one",
        "content": "total() takes one off the sum.",
        "file": "sums.py",
    }
    return answer({"summary": "sums.py is off by one.", "findings": [found]})


@dataclass
class Cast(Casting):
    """Who says what, by role."""

    orchestrator: Part = honest_orchestrator
    explorer: Part = honest_explorer
    coder: Part = honest_coder


@dataclass
class Stage:
    folder: Path
    cast: Cast = field(default_factory=Cast)
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    sandboxes: Sandboxes | None = None

    def __post_init__(self) -> None:
        self.model = self.cast.model()
        self.repo = self.folder / "repo"
        if not self.repo.exists():
            for name, text in FILES.items():
                (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
                (self.repo / name).write_text(text)

    @property
    def journal(self) -> str:
        return str(self.folder / "journal.db")

    def order(self, instruction: str = "Mend what is broken.", **changes: Any) -> Order:
        given = {"repo": str(self.repo), "check": CHECK, "seconds": 30.0}
        return Order(instruction=instruction, **{**given, **self.settings, **changes})

    def runtime(self, **settings: Any) -> Runtime:
        self.workflow = code_workflow(Config(), models={"": self.model}, sandboxes=self.sandboxes)
        return Runtime.open(self.journal, workflows=[self.workflow], **settings)

    async def solve(
        self, *, budget: Budget | None = None, run_id: str = "solved", **changes: Any
    ) -> Outcome:
        async with self.runtime() as runtime:
            order = self.order(**changes)
            handle = await runtime.start(self.workflow, order, run_id=run_id, budget=budget)
            outcome = await handle.result()
            self.spent = dict(runtime.view(run_id).spent())
            self.events: list[Event] = [event async for event in runtime.events(run_id)]
            self.patch = runtime.journal.blob(outcome.patch)
            return outcome

    def asked(self, role: str) -> list[ModelRequest]:
        """The requests of a role, in the order of arrival."""
        return asked(self.model, role)

    def told(self, role: str, at: int = -1) -> str:
        """The last message of one request of a role."""
        return json.loads(self.asked(role)[at].messages[-1])["content"]
