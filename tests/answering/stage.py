"""A stage for the answer team: real documents, a real index and journal, and a scripted cast.

The cast is honest unless a test says otherwise: a worker searches, then hands in what the documents
say on its subtask; the critic ships.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhands.config import Config
from manyhands.ports import ModelRequest
from manyhands.runtime import Budget, Runtime
from manyhands.teams.answer.records import Order, Outcome
from manyhands.testing.models import Conversation, Scripted, answer, call
from manyhands.wiring.answer import answer_workflow
from tests.casting import Casting, Part, asked

QUESTION = "Compare FastAPI, Flask and Django for a small JSON API."

DOCUMENTS = {
    "fastapi.md": """# FastAPI

FastAPI validates request bodies with Pydantic models and writes an OpenAPI schema by itself.

## Performance

In the shop's own test of 2025 FastAPI answered 9,100 requests per second on four cores.
""",
    "flask.md": """# Flask

Flask is a micro framework: its core needs 6 packages, and it does not validate request bodies.

## Performance

In the shop's own test of 2025 Flask answered 3,400 requests per second on four cores.
""",
    "django.md": """# Django

Django brings an ORM, an admin site and migrations; a JSON API needs no further package.

## Performance

In the shop's own test of 2025 Django answered 2,800 requests per second on four cores.
""",
}


def finding(text: str, passage: str, quote: str) -> dict[str, Any]:
    return {"text": text, "citations": [{"passage": passage, "quote": quote}]}


#: What an honest worker finds out, by the framework that its subtask names.
FACTS: dict[str, list[dict[str, Any]]] = {
    "fastapi": [
        finding(
            "FastAPI validates request bodies with Pydantic models.",
            "fastapi.md#1",
            "validates request bodies with Pydantic models",
        ),
        finding(
            "FastAPI answered 9,100 requests per second on four cores.",
            "fastapi.md#2",
            "FastAPI answered 9,100 requests per second on four cores",
        ),
    ],
    "flask": [
        finding(
            "Flask does not validate request bodies.",
            "flask.md#1",
            "it does not validate request bodies",
        ),
        finding(
            "Flask answered 3,400 requests per second on four cores.",
            "flask.md#2",
            "Flask answered 3,400 requests per second on four cores",
        ),
    ],
    "django": [
        finding(
            "A JSON API in Django needs no further package.",
            "django.md#1",
            "a JSON API needs no further package",
        ),
        finding(
            "Django answered 2,800 requests per second on four cores.",
            "django.md#2",
            "Django answered 2,800 requests per second on four cores",
        ),
    ],
}
LIE = finding(
    "Flask answered 34,000 requests per second on four cores.",
    "flask.md#2",
    "Flask answered 34,000 requests per second on four cores",
)


def subtask(name: str, *needs: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": name.title(),
        "question": f"What do the documents say of {name} for a small JSON API? How fast is it?",
        "needs": list(needs),
    }


PLAN = {"subtasks": [subtask(name) for name in FACTS]}
SHIP = {"verdict": "ship", "issues": []}


def named(conversation: Conversation) -> str:
    """The framework that a worker's subtask is about ('': the whole question)."""
    first = conversation.task.split("\n", 1)[0].lower()
    found = [name for name in FACTS if name in first]
    return found[0] if len(found) == 1 else ""


def honest_worker(request: ModelRequest, conversation: Conversation) -> Scripted:
    name = named(conversation)
    if conversation.spoken == 0:
        return call("search", query=name or "FastAPI Flask Django JSON API")
    facts = FACTS[name] if name else [fact for facts in FACTS.values() for fact in facts]
    return answer({"findings": facts, "not_found": []})


@dataclass
class Cast(Casting):
    """Who says what, by role."""

    router: Part = lambda request, conversation: answer({"way": "team", "reason": "parts"})
    supervisor: Part = lambda request, conversation: answer(PLAN)
    worker: Part = honest_worker
    solo: Part = honest_worker
    synthesiser: Part = lambda request, conversation: answer(
        {"findings": [fact for facts in FACTS.values() for fact in facts], "decision": "FastAPI."}
    )
    critic: Part = lambda request, conversation: answer(SHIP)


@dataclass
class Stage:
    folder: Path
    cast: Cast = field(default_factory=Cast)
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.model = self.cast.model()
        self.docs = self.folder / "docs"
        self.docs.mkdir(parents=True, exist_ok=True)
        for name, text in DOCUMENTS.items():
            if not (self.docs / name).exists():
                (self.docs / name).write_text(text)

    @property
    def journal(self) -> str:
        return str(self.folder / "journal.db")

    def order(self, question: str = QUESTION, **changes: Any) -> Order:
        given = {"docs": str(self.docs), "project": str(self.folder), "python": False}
        return Order(question=question, **{**given, **self.settings, **changes})

    def runtime(self, **settings: Any) -> Runtime:
        self.workflow = answer_workflow(Config(), models={"": self.model})
        return Runtime.open(self.journal, workflows=[self.workflow], **settings)

    async def ask(
        self,
        question: str = QUESTION,
        *,
        budget: Budget | None = None,
        run_id: str = "asked",
        **changes: Any,
    ) -> Outcome:
        async with self.runtime() as runtime:
            order = self.order(question, **changes)
            handle = await runtime.start(self.workflow, order, run_id=run_id, budget=budget)
            outcome = await handle.result()
            self.spent = dict(runtime.view(run_id).spent())
            return outcome

    def asked(self, role: str) -> list[ModelRequest]:
        """The requests of a role, in the order of arrival."""
        return asked(self.model, role)
