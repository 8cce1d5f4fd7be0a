"""The answer as the user gets it: what the best draft can support, and honestly what is missing.

Invariant: every number in the text leads to a source that was read and checked; what is not
supported is listed as dropped, not said. No model is needed here, so this also ends a run whose
budget is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from manyhands.agents.ending import is_spent, step_or_do
from manyhands.agents.report import Ending
from manyhands.errors import BudgetExceeded, StepFailed
from manyhands.runtime import ArtifactStatus, Evidence, Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.checking import FATAL, check_draft, decided, is_about, supported
from manyhands.teams.answer.claims import Citation, Finding, Issue, IssueKind
from manyhands.teams.answer.combiner import mechanical
from manyhands.teams.answer.memory import Memory
from manyhands.teams.answer.records import (
    Draft,
    Dropped,
    Outcome,
    Plan,
    Route,
    Source,
    Way,
    Work,
)
from manyhands.teams.answer.revision import best

_NO_ROUTE = Route(way=Way.SINGLE, reason="it ended before a route was chosen", by="rule:ended")


#: Why a worker did not finish, in words that hold nothing which it said.
_WHY: dict[str, str] = {
    Ending.BUDGET: "its budget ended",
    Ending.BAD_CALL: "its calls could not be read",
    Ending.CUT: "its replies were cut",
    Ending.EMPTY: "its replies were empty",
    Ending.FILTERED: "its server held the reply back",
    Ending.INTERRUPTED: "it was interrupted",
    Ending.LOOP: "it went round in circles",
    Ending.MALFORMED: "its answer was not in the form asked for",
    Ending.MODEL: "its model did not answer",
    Ending.OUT_OF_TURNS: "its turns ended",
    Ending.REFUSED: "it refused",
    Ending.KILLED: "a person ended it",
    Ending.STOPPED: "a person asked to stop",
    Ending.TOOLS: "its tools failed",
    Ending.UNACCEPTED: "not all that it said could be supported",
    Ending.UNANSWERED: "it did not hand in an answer",
    Ending.QUESTION: "it asked in place of answering",
}


@dataclass(slots=True)
class _Text:
    """The text as it is put together. ``sources``: in the order in which they are first cited."""

    lines: list[str] = field(default_factory=list[str])
    sources: dict[Citation, int] = field(default_factory=dict[Citation, int])

    def cite(self, citations: Sequence[Citation]) -> str:
        numbers = [self.sources.setdefault(c, len(self.sources) + 1) for c in citations]
        return "".join(f"[{n}]" for n in dict.fromkeys(numbers))


async def conclude(run: Run, case: Case) -> Outcome:
    """The outcome, journaled; findings that hold go into the memory where there is one."""
    draft = await _chosen(run, case)
    kept = [finding for finding in draft.findings if supported(draft, finding)]
    text = _Text()
    _body(text, case, draft, kept)
    sources = await _sources(case, text)
    missing, issues = _missing(case, kept), _open(case, draft)
    _gaps(text, missing, issues)
    outcome = await _outcome(run, case, draft, kept, text, sources, missing, issues)
    await _accept(run, case, kept, outcome)
    return outcome


async def _chosen(run: Run, case: Case) -> Draft:
    """The best draft, or what there is where none was made; checked in any case."""
    draft = best(case)
    if draft is not None:
        return draft
    made = mechanical(case)

    async def checked() -> Draft:
        return made.model_copy(update={"issues": await check_draft(case, made)})

    return await step_or_do(run, "last-check", checked, Draft)


# -------------------------------------------------------------------- the text


def _body(text: _Text, case: Case, draft: Draft, kept: Sequence[Finding]) -> None:
    shown = [(p, [f for f in p.findings if f in kept]) for p in draft.parts]
    shown = [(part, findings) for part, findings in shown if findings]
    for part, findings in shown:
        if part.title and len(shown) > 1:
            text.lines += [f"## {part.title}", ""]
        for finding in findings:
            cited = text.cite(finding.citations)
            text.lines.append(f"- {finding.text}{' ' + cited if cited else ''}")
        text.lines.append("")
    if (decision := decided(draft)) and kept:
        text.lines += [f"**Decision.** {decision}", ""]
    if not shown:
        text.lines += ["There is no answer that can be supported.", ""]
    if not case.checked and shown:
        text.lines += ["*No sources were given: nothing of this was checked.*", ""]


def _gaps(text: _Text, missing: Sequence[str], issues: Sequence[Issue]) -> None:
    if missing:
        text.lines += ["## What is missing", "", *(f"- {each}" for each in missing), ""]
    if issues:
        told = [f"- {i.kind}: {i.why}" + (f" (“{i.span}”)" if i.span else "") for i in issues]
        text.lines += ["## Open issues", "", *told, ""]


async def _sources(case: Case, text: _Text) -> tuple[Source, ...]:
    passages = await case.desk.shelves.passages(c.passage for c in text.sources)
    found: list[Source] = []
    for citation, number in text.sources.items():
        passage = passages[citation.passage]
        found.append(
            Source(
                number=number,
                passage=citation.passage,
                title=passage.title if passage else "",
                quote=citation.quote,
                hash=passage.hash if passage else "",
            )
        )
    return tuple(found)


# -------------------------------------------------------------------- what is missing


def _missing(case: Case, kept: Sequence[Finding]) -> tuple[str, ...]:
    """Subtasks without an answer, what was not found, and why it ended early."""
    found: list[str] = [case.ended] if case.ended else []
    done = {work.subtask: work for work in case.latest_work}
    for task in case.plan.subtasks if case.plan else ():
        work = done.get(task.id)
        if work is None:
            found.append(f"{task.title}: not looked into")
        elif work.status != "complete":
            told = "only in part" if work.findings else "no answer"
            found.append(f"{task.title}: {told} ({_WHY.get(work.ending, work.ending)})")
        elif not work.findings and not work.not_found:
            found.append(f"{task.title}: nothing was found")
    found += [line for work in done.values() for line in work.not_found]
    if not kept and not found:
        found.append("Nothing that was found can be supported.")
    return tuple(dict.fromkeys(found))


def _open(case: Case, draft: Draft) -> tuple[Issue, ...]:
    """What the critique of this draft left; what it objects to fatally is dropped, not open."""
    judged = next((c for c in case.critiques if c.draft == draft.number), None)
    issues = judged.issues if judged else draft.issues
    dropped = [f for f in draft.findings if not supported(draft, f)]
    return tuple(
        issue
        for issue in issues
        if not (issue.kind in FATAL and any(is_about(issue, finding) for finding in dropped))
    )


def _dropped(draft: Draft, kept: Sequence[Finding]) -> tuple[Dropped, ...]:
    found: list[Dropped] = []
    said = [*draft.findings, *([] if decided(draft) else [Finding(text=draft.decision)])]
    for finding in said:
        if finding.text and finding not in kept:
            why = [i.why for i in draft.issues if i.kind in FATAL and is_about(i, finding)]
            found.append(Dropped(text=finding.text, why="; ".join(why)))
    return tuple(found)


# -------------------------------------------------------------------- the record


async def _outcome(
    run: Run,
    case: Case,
    draft: Draft,
    kept: Sequence[Finding],
    text: _Text,
    sources: tuple[Source, ...],
    missing: tuple[str, ...],
    issues: tuple[Issue, ...],
) -> Outcome:
    dropped = _dropped(draft, kept)

    async def made() -> Outcome:
        spent = run.spent()
        return Outcome(
            question=case.question,
            answer="\n".join(text.lines).strip(),
            complete=bool(kept) and not missing and not issues,
            checked=case.checked,
            route=case.route or _NO_ROUTE,
            plan=case.plan or Plan(subtasks=(), by="none"),
            reports=_reports(case),
            drafts=tuple(case.drafts),
            critiques=tuple(case.critiques),
            revisions=tuple(case.revisions),
            sources=sources,
            dropped=dropped,
            missing=missing,
            open_issues=issues,
            notes=tuple(case.notes),
            agents=case.crew.costs(run),
            seconds=round(run.seconds(), 3),
            requests=spent.get("requests", 0),
            tokens=spent.get("tokens", 0),
            micro_usd=spent.get("micro_usd", 0),
        )

    return await step_or_do(run, "outcome", made, Outcome)


def _reports(case: Case) -> tuple[Work, ...]:
    order = [task.id for task in case.plan.subtasks] if case.plan else []
    return tuple(work for subtask in order for work in case.work.get(subtask, ()))


async def _accept(run: Run, case: Case, kept: Sequence[Finding], outcome: Outcome) -> None:
    evidence = [
        Evidence(kind="passage", source=s.passage, hash=s.hash, quote=s.quote)
        for s in outcome.sources
    ]
    await run.put(
        "answer",
        "answer",
        outcome.answer,
        kind="answer",
        status=ArtifactStatus.ACCEPTED if outcome.complete else ArtifactStatus.PROPOSED,
        evidence=evidence,
    )
    if case.desk.memory is not None and case.checked:
        objected = [i for i in outcome.open_issues if i.kind is not IssueKind.MISSING]
        sound = [f for f in kept if not any(is_about(i, f) for i in objected)]
        await _remember(run, case, case.desk.memory, sound)


async def _remember(run: Run, case: Case, memory: Memory, sound: Sequence[Finding]) -> None:
    try:
        await memory.keep(run, case.question, sound, case.desk.shelves)
    except (BudgetExceeded, StepFailed) as error:
        if not is_spent(error):
            raise
