"""How far the errors of workers get into the team's answers, simulated: real documents, index,
checks, revision and journal; workers and critic are scripted to go wrong at set rates.

::

    python -m tests.answering.containment          # the table of docs/explanation/answer-team.md

A question is about four products with three facts each; a worker gets each fact wrong with the
*leaf error* rate, every time that it hands one in. A fifth of the errors are such as no mechanical
check can see: number and quote are right, and the sentence says something else. The critic finds a
false statement unless it *falsely accepts* it, and objects to a true one in 2 of 100. An answer is
wrong when it states anything false, whatever else it says.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.config import Config
from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.answer.records import Order, Outcome
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call
from manyhands.wiring.answer import answer_workflow

LEAVES = (0.01, 0.05, 0.10, 0.20, 0.40)
ACCEPTS = (0.0, 0.1, 0.3)
FALSE_ALARMS = 0.02
NAMES = ("Aster", "Borage", "Clover", "Dahlia")
KINDS = ("number", "quote", "passage", "negation", "reading")
#: The most that an answer may be wrong, as a multiple of one worker's report.
BOUND = 1.5


@dataclass(frozen=True)
class Fact:
    """``true`` and ``misread``: what a worker says of it; both can be cited with ``quote``."""

    passage: str
    text: str
    quote: str
    true: str
    misread: str


def facts_of(name: str) -> tuple[Fact, ...]:
    seed = random.Random(name)
    use, standby = seed.randint(6, 11), seed.randint(14, 22)
    weight, box = seed.randint(210, 480), seed.randint(600, 900)
    price, kit = seed.randint(120, 390), seed.randint(20, 80)
    file = f"{name.lower()}.md"
    return (
        Fact(
            f"{file}#1",
            f"The battery of the {name} lasts {use} hours in use and {standby} hours in standby.",
            f"The battery of the {name} lasts {use} hours in use and {standby} hours in standby",
            f"The battery of the {name} lasts {use} hours in use.",
            f"The battery of the {name} lasts {standby} hours in use.",
        ),
        Fact(
            f"{file}#2",
            f"The {name} weighs {weight} grams; with its box it weighs {box} grams.",
            f"The {name} weighs {weight} grams; with its box it weighs {box} grams",
            f"The {name} weighs {weight} grams.",
            f"The {name} weighs {box} grams.",
        ),
        Fact(
            f"{file}#3",
            f"In the shop the {name} costs {price} euros and its repair kit costs {kit} euros.",
            f"the {name} costs {price} euros and its repair kit costs {kit} euros",
            f"The {name} costs {price} euros.",
            f"The {name} costs {kit} euros.",
        ),
    )


FACTS = {name: facts_of(name) for name in NAMES}
TRUE = {fact.true for facts in FACTS.values() for fact in facts}


def told(fact: Fact, kind: str = "") -> dict[str, Any]:
    """The finding, true or false in one of `KINDS`."""
    text, passage, quote = fact.true, fact.passage, fact.quote
    number = next(word for word in text.split() if word.isdigit())
    match kind:
        case "number":
            text = text.replace(number, str(int(number) + 37))
        case "quote":
            text = text.replace(number, str(int(number) * 2 + 5))
            quote = quote.replace(number, str(int(number) * 2 + 5))
        case "passage":
            other = {"1": "2", "2": "3", "3": "1"}[passage[-1]]
            passage, text = passage[:-1] + other, text.replace(number, str(int(number) + 11))
        case "negation":
            for verb in ("lasts", "weighs", "costs"):
                text = text.replace(f" {verb} ", f" never {verb} ")
        case "reading":
            text = fact.misread
        case _:
            pass
    return {"text": text, "citations": [{"passage": passage, "quote": quote}]}


@dataclass
class Simulation:
    """One cell: ``leaf`` error rate of a finding, ``accept`` rate of a false one by the critic."""

    leaf: float
    accept: float
    seed: int = 1

    async def run(self, questions: int) -> Rates:
        first, last = [0, 0], 0
        with tempfile.TemporaryDirectory() as folder:
            docs = Path(folder) / "docs"
            docs.mkdir()
            for name, facts in FACTS.items():
                parts = [f"## Part {n}\n\n{fact.text}\n" for n, fact in enumerate(facts, 1)]
                (docs / f"{name.lower()}.md").write_text("\n".join(parts))
            for number in range(questions):
                outcome = await self.ask(Path(folder), docs, number)
                reports = [
                    any(finding["text"] not in TRUE for finding in self.first.get(name, []))
                    for name in NAMES
                ]
                first[0] += sum(reports)
                first[1] += any(reports)
                last += any(wrong in outcome.answer for wrong in self.said - TRUE)
        return Rates(first[0] / questions / len(NAMES), first[1] / questions, last / questions)

    async def ask(self, folder: Path, docs: Path, number: int) -> Outcome:
        self.said: set[str] = set()
        self.first: dict[str, list[dict[str, Any]]] = {}
        model = ScriptedModel(lambda request: self._reply(number, request))
        workflow = answer_workflow(Config(), models={"": model})
        journal = folder / f"{self.leaf}-{self.accept}-{number}.db"
        question = "How long does the battery last, what is the weight and what is the price?"
        async with Runtime.open(journal, workflows=[workflow]) as runtime:
            order = Order(
                question=question, docs=str(docs), project=str(folder), python=False, route="team"
            )
            handle = await runtime.start(workflow, order, run_id=f"q-{number}")
            return await handle.result()

    def _reply(self, number: int, request: ModelRequest) -> Scripted:
        conversation = Conversation.of(request)
        mark = f"{self.seed}/{number}/{self.leaf}/{conversation.task}/{conversation.spoken}"
        chance = random.Random(mark)
        match conversation.role:
            case "supervisor":
                return answer({"subtasks": [_subtask(name) for name in NAMES]})
            case "worker":
                return self._work(conversation, chance)
            case _:
                return self._judge(conversation, chance)

    def _work(self, conversation: Conversation, chance: random.Random) -> Scripted:
        name = next(n for n in NAMES if n in conversation.task.split("\n", 1)[0])
        if conversation.spoken == 0:
            return call("search", query=f"{name} battery weight price")
        kinds = [chance.choice(KINDS) if chance.random() < self.leaf else "" for _ in range(3)]
        findings = [told(fact, kind) for fact, kind in zip(FACTS[name], kinds, strict=True)]
        self.said |= {finding["text"] for finding in findings}
        self.first.setdefault(name, findings)
        return answer({"findings": findings, "not_found": []})

    def _judge(self, conversation: Conversation, chance: random.Random) -> Scripted:
        issues: list[dict[str, str]] = []
        for text in sorted(self.said):
            rate = FALSE_ALARMS if text in TRUE else 1 - self.accept
            if text in conversation.task and chance.random() < rate:
                issues.append({"kind": "unsupported", "span": text, "why": "the passage differs"})
        return answer({"verdict": "revise" if issues else "ship", "issues": issues})


@dataclass(frozen=True)
class Rates:
    """Share of wrong ones: reports of one worker as it first handed them in, the same reports put
    together unchecked, and the team's answers."""

    one: float
    unchecked: float
    team: float


def _subtask(name: str) -> dict[str, Any]:
    question = f"What are battery life, weight and price of the {name}?"
    return {"id": name.lower(), "title": name, "question": question, "needs": []}


def table(questions: int) -> str:
    """Markdown; the last column is the worst of the team's over one worker's."""
    heads = [f"team, {accept:.0%} falsely accepted" for accept in ACCEPTS]
    lines = [
        "| leaf errors | one worker | four, unchecked | " + " | ".join(heads) + " | worst ÷ one |",
        "|" + "---|" * (4 + len(heads)),
    ]
    for leaf in LEAVES:
        rates = [asyncio.run(Simulation(leaf, accept).run(questions)) for accept in ACCEPTS]
        worst = max(rate.team for rate in rates) / rates[0].one if rates[0].one else 0.0
        shown = " | ".join(f"{rate.team:.1%}" for rate in rates)
        first = rates[0]
        lines.append(
            f"| {leaf:.0%} | {first.one:.1%} | {first.unchecked:.1%} | {shown} | {worst:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200, help="for each cell of the table")
    print(table(parser.parse_args().questions))
