"""Roles filled by models, with the same typed contracts as the algorithms.

Invariant: a model fills a role within the rules, not instead of them. Its hypotheses get their ids,
parents and ranks from the harness; its reviews come after the hard rules; its notes never rule
anything out; its patches go through preflight. Where it does not answer, the algorithm does, and
the journal says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from manyhands.agents.context import Item
from manyhands.agents.role import Role, load_roles
from manyhands.agents.tools import Tool, Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import AgentError, ToolError
from manyhands.ports import Model, PaperIndex
from manyhands.runtime import Effect, Run
from manyhands.teams.lab.cast import Brief, Cast, Filled
from manyhands.teams.lab.memory import in_force
from manyhands.teams.lab.papers import TASK, TOOLS, PaperDesk, PaperIdeas
from manyhands.teams.lab.records import (
    Experiment,
    FileEdit,
    Hypothesis,
    Idea,
    LedgerRow,
    Literalish,
    Note,
    Patch,
    Review,
)
from manyhands.teams.lab.reporter import timeless
from manyhands.teams.lab.repository import Worktree

ROLES = Path(__file__).parent / "roles"
#: Where a study keeps role files of its own.
OVERRIDES = "roles"
#: How many of the latest experiments a role is told of.
RECENT = 40
#: Turns that a researcher has for papers, on top of its role's own.
_READING_TURNS = 12

A = TypeVar("A", bound=BaseModel)


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ideas(Answer):
    ideas: tuple[Idea, ...]


class Proposal(Answer):
    """One change: a setting's new ``value``, or an edit that ``instructions`` describe."""

    title: str
    rationale: str
    kind: Literal["setting", "structural"]
    setting: str = ""
    value: Literalish | None = None
    instructions: str = ""
    expected_gain: float | None = None


class Proposals(Answer):
    hypotheses: tuple[Proposal, ...]


class Judgement(Answer):
    hypothesis: str
    accepted: bool
    reason: str


class Judgements(Answer):
    reviews: tuple[Judgement, ...]


class Change(Answer):
    comment: str


class Insights(Answer):
    insights: tuple[str, ...]


OUTPUTS = {c.__name__: c for c in (Ideas, Proposals, Judgements, Change, Insights)}


def roles_of(study: Path) -> dict[str, Role]:
    """The lab's roles by name; a file in the study's ``roles`` replaces the packaged one."""
    overrides = study / OVERRIDES
    return load_roles(
        ROLES,
        overrides if overrides.is_dir() else None,
        tools=("read_file", "edit_file", "write_file", *TOOLS),
        outputs=OUTPUTS,
    )


def with_models(
    cast: Cast,
    models: Mapping[str, Sequence[Model]],
    study: Path,
    papers: PaperIndex | None = None,
) -> Cast:
    """``cast`` with those roles filled by models that have one; the rest stay as they are.

    ``models``: by role, to be tried in order. ``papers``: what a researcher may search and read.
    """
    roles = roles_of(study)
    filled: dict[str, Filled[Any]] = {}
    for name, chain in models.items():
        agent = _Agent(roles[name], chain, getattr(cast, name), papers, "worker" in models)
        filled[name] = Filled(f"model:{chain[0].name}", getattr(agent, name))
    return replace(cast, **filled)


class _Agent:
    """A role, its models in the order to be tried, and the algorithm that stands in for them."""

    def __init__(
        self,
        role: Role,
        models: Sequence[Model],
        stand_in: Filled[Any],
        papers: PaperIndex | None = None,
        structural: bool = True,
    ):
        """``structural``: somebody can make edits that are more than a setting."""
        kept = tuple(name for name in role.tools if papers is not None or name not in TOOLS)
        self._role = replace(role, tools=kept)
        self._models = models
        self._stand_in = stand_in
        self._papers = papers
        self._structural = structural
        self._author = ""

    async def _ask(
        self, run: Run, task: str, items: Sequence[Item], output: type[A], toolbox: Toolbox
    ) -> A | None:
        """The answer, or None (recorded) where there is none."""
        report = await run_agent(
            run,
            self._role,
            task,
            model=self._models,
            output=output,
            items=items,
            toolbox=toolbox,
            key="agent",
        )
        self._author = report.author
        try:
            return report.require()
        except AgentError as error:
            await run.record(
                "fallback",
                "lab:fallback",
                {"role": self._role.name, "to": self._stand_in.name, "why": error.what},
            )
            return None

    # ---------------------------------------------------------------- one method per role

    async def researcher(self, run: Run, brief: Brief, limit: int) -> tuple[Idea, ...]:
        if self._papers is not None:
            return await self._from_papers(run, brief, limit, self._papers)
        found = await self._ask(
            run, f"Give at most {limit} ideas.", _background(brief), Ideas, Toolbox()
        )
        return found.ideas[:limit] if found else await self._stand_in.fill(run, brief, limit)

    async def _from_papers(
        self, run: Run, brief: Brief, limit: int, papers: PaperIndex
    ) -> tuple[Idea, ...]:
        """What papers support first; then the stand-in's, for there may be little."""
        desk = PaperDesk(run, papers, brief, self._structural)
        role = replace(
            self._role,
            tools=tuple(dict.fromkeys((*self._role.tools, *TOOLS))),
            output=PaperIdeas.__name__,
            checks=("papers",),
            max_turns=self._role.max_turns + _READING_TURNS,
        )
        report = await run_agent(
            run,
            role,
            TASK.format(limit=limit),
            model=self._models,
            output=PaperIdeas,
            items=_background(brief),
            toolbox=Toolbox.of(*desk.tools()),
            checks={"papers": desk.check},
            key="agent",
        )
        try:
            held, wrong = await desk.judge(report.require().ideas[:limit])
        except AgentError as error:
            held, wrong = (), [error.what]
        about = {"source": papers.name, "held": len(held), "refused": wrong}
        await run.record("papers", "lab:papers", about)
        spare = limit - len(held)
        more = await self._stand_in.fill(run, brief, spare) if spare > 0 else ()
        return (*held, *more)

    async def planner(
        self, run: Run, brief: Brief, ideas: tuple[Idea, ...], count: int, next_id: int
    ) -> tuple[Hypothesis, ...]:
        thoughts = "\n".join(f"- {i.title}: {i.rationale} ({i.source})" for i in ideas)
        items = [*_background(brief), Item("ideas", thoughts, agent="researcher")]
        found = await self._ask(
            run, f"Propose at most {count} hypotheses, best first.", items, Proposals, Toolbox()
        )
        if found is None:
            return await self._stand_in.fill(run, brief, ideas, count, next_id)
        return tuple(
            Hypothesis(
                **p.model_dump(),
                id=f"h{next_id + at:04d}",
                parent=brief.master.commit,
                source=self._author,
                rank=at,
            )
            for at, p in enumerate(found.hypotheses[:count])
        )

    async def reviewer(
        self, run: Run, brief: Brief, hypotheses: tuple[Hypothesis, ...]
    ) -> tuple[Review, ...]:
        by_rule = await self._stand_in.fill(run, brief, hypotheses)
        passed = [
            h for h in hypotheses if any(r.hypothesis == h.id and r.accepted for r in by_rule)
        ]
        if not passed:
            return by_rule
        listed = "\n".join(_told(h) for h in passed)
        items = [*_background(brief), Item("hypotheses", listed, agent="planner")]
        found = await self._ask(run, "Review each hypothesis.", items, Judgements, Toolbox())
        refused = {j.hypothesis: j.reason for j in found.reviews if not j.accepted} if found else {}
        return tuple(
            Review(
                hypothesis=r.hypothesis,
                accepted=False,
                rule="reviewer",
                reason=refused[r.hypothesis],
            )
            if r.accepted and r.hypothesis in refused
            else r
            for r in by_rule
        )

    async def worker(self, run: Run, brief: Brief, hypothesis: Hypothesis, place: Path) -> Patch:
        """A structural change in a folder of its own; a setting is set exactly, by no model."""
        if hypothesis.kind == "setting":
            return await self._stand_in.fill(run, brief, hypothesis, place)
        lay_out = partial(brief.repository.add_worktree, place, brief.master.commit)
        tree: Worktree = await run.step("worktree", lay_out, returns=Worktree)
        change = hypothesis.model_dump_json(include={"title", "rationale", "instructions"})
        report = await run_agent(
            run,
            self._role,
            "Make exactly this one change, then answer.",
            model=self._models,
            output=Change,
            items=[*_background(brief), Item("hypothesis", change, agent="planner")],
            toolbox=Toolbox.of(*editing_tools(tree.study, brief)),
            key="agent",
        )
        answer = report.require()
        collect = partial(_collect, brief, tree)
        edits = await run.step("edits", collect, returns=tuple[FileEdit, ...])
        await run.step("clear", partial(brief.repository.remove_worktree, tree))
        return Patch(edits=edits, comment=answer.comment)

    async def memory(
        self, run: Run, brief: Brief, experiment: Experiment, rows: tuple[LedgerRow, ...]
    ) -> tuple[Note, ...]:
        by_rule = await self._stand_in.fill(run, brief, experiment, rows)
        unsaid = {"citation"} if experiment.hypothesis.citation is None else set[str]()
        told = experiment.model_dump_json(exclude={"diff": True, "hypothesis": unsaid})
        items = [*_background(brief), Item("experiment", told), Item("diff", experiment.diff)]
        found = await self._ask(run, "What is worth remembering?", items, Insights, Toolbox())
        insights = found.insights if found else ()
        return by_rule + tuple(
            Note(kind="insight", text=text, experiment=experiment.id) for text in insights
        )

    async def reporter(self, run: Run, brief: Brief, facts: str) -> str:
        report = await run_agent(
            run,
            self._role,
            "Write the report.",
            model=self._models,
            # All that it is shown follows from the study: a replay must ask the same.
            items=[Item("facts", timeless(facts), agent="harness")],
            key="agent",
        )
        told = report.text.strip()
        return f"{told}\n\n{facts}" if told else facts


def _background(brief: Brief) -> list[Item]:
    """What is the same for every role: the aim, the program, what was tried, what was noted."""
    study = brief.study.config
    aim = (
        f"{study.study.objective}\nMetric: {study.metric.name}, {study.metric.direction} is better."
        f"\nMaster: version {brief.master.version}, noise sd {brief.master.noise_sd:.3g} per run."
    )
    tried = "\n".join(_line(e) for e in brief.history[-RECENT:]) or "nothing yet"
    holding = in_force(brief.notes, brief.master)
    notes = "\n".join(f"- {n.kind}: {n.text}" for n in holding[-RECENT:]) or "none"
    settings = "\n".join(f"{s.name} = {s.value!r}" for s in brief.settings.values())
    items = [Item("study", aim), Item("settings", settings)]
    items += [Item(path, text) for path, text in brief.files.items()]
    items += [Item(name, text) for name, text in brief.documents.items()]
    items += [Item("experiments", tried), Item("notes", notes, agent="memory")]
    if brief.steers:
        items.append(Item("a person says", "\n".join(brief.steers), agent="person"))
    return items


def _told(hypothesis: Hypothesis) -> str:
    unsaid = {"citation"} if hypothesis.citation is None else set[str]()
    return hypothesis.model_dump_json(exclude={"parent", "rank"} | unsaid)


def _line(e: Experiment) -> str:
    gain = e.decision.gain if e.decision else e.screen_gain
    told = "" if gain is None else f", gain {gain:+.4g}"
    return f"{e.id} {e.verdict}{told}: {e.hypothesis.title} ({e.rule})"


# -------------------------------------------------------------------- the worker's tools


async def _collect(brief: Brief, tree: Worktree) -> tuple[FileEdit, ...]:
    """Every file of the study that differs in the worktree, editable or not: preflight judges."""
    commit = await brief.repository.commit_worktree(tree, "as the worker left it")
    before = await brief.repository.texts(tree.commit)
    after = await brief.repository.texts(commit)
    return tuple(
        FileEdit(path=path, text=text) for path, text in after.items() if before.get(path) != text
    )


def editing_tools(place: Path, brief: Brief) -> list[Tool]:
    """Read and edit the editable files, in ``place``; nothing else can be reached.

    An edit that a crash cut off from its journal entry finds itself done and says so.
    """

    def locate(path: str) -> Path:
        target = place / path
        inside = target.resolve().is_relative_to(place.resolve())
        if not brief.study.editable(path) or not inside or target.is_symlink():
            editable = ", ".join(sorted(brief.files))
            raise ToolError(f"{path!r} is not an editable file", next=f"editable: {editable}")
        return target

    @tool(effect=Effect.PURE, result_bytes=65_536)
    def read_file(path: str) -> str:
        """Read a file of the study."""
        target = locate(path)
        if not target.is_file():
            raise ToolError(f"{path!r} does not exist", next="write_file makes it")
        return target.read_text(encoding="utf-8")

    @tool(effect=Effect.IDEMPOTENT)
    def edit_file(path: str, old: str, new: str) -> str:
        """Replace ``old``, which must occur exactly once, by ``new``."""
        target = locate(path)
        text = target.read_text(encoding="utf-8")
        if not old or text.count(old) != 1:
            if new and new in text and not text.count(old):
                return "done already"
            raise ToolError(
                f"the text to replace occurs {text.count(old) if old else 0} times in {path}",
                next="give a passage that occurs exactly once, copied from read_file",
            )
        target.write_text(text.replace(old, new), encoding="utf-8")
        return "done"

    @tool(effect=Effect.IDEMPOTENT)
    def write_file(path: str, text: str) -> str:
        """Write a whole file."""
        target = locate(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return f"{len(text)} characters written"

    return [read_file, edit_file, write_file]
