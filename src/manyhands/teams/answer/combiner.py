"""One draft of several reports: mechanically, or by a model where reports must be reconciled.

Invariant: a draft holds findings with the citations that their authors gave; the mechanical way
invents nothing and needs no model. A synthesis that fails gives way to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.agents.context import Item
from manyhands.runtime import Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.checking import check_draft, problems
from manyhands.teams.answer.claims import Finding, Issue
from manyhands.teams.answer.contradictions import contradictions
from manyhands.teams.answer.parts import wants_decision
from manyhands.teams.answer.records import Draft, Part, SynthesisAnswer, Way

COMBINER = "combiner"


async def combine(run: Run, case: Case, issues: Sequence[Issue] = ()) -> Draft:
    """The next draft, checked and kept. ``issues``: what the synthesis has to mend."""
    why = reasons(case)
    made = await _synthesis(run, case, why, issues) if why else None
    return await keep(run, case, made or mechanical(case))


def reasons(case: Case) -> list[str]:
    """Why a model has to reconcile the reports; none: it has not."""
    work = [each for each in case.latest_work if each.findings]
    if case.route is None or case.route.way is Way.SINGLE or not work:
        return []
    conflicts = contradictions({each.subtask: each.findings for each in work})
    found = [conflict.why for conflict in conflicts]
    if wants_decision(case.question):
        found.append("the question asks for a decision")
    return found


def mechanical(case: Case) -> Draft:
    """The reports' findings under their subtasks' titles, each statement once."""
    titles = {task.id: task.title for task in case.plan.subtasks} if case.plan else {}
    seen: set[str] = set()
    parts: list[Part] = []
    for work in case.latest_work:
        fresh: list[Finding] = []
        for finding in work.findings:
            if finding.text not in seen:
                seen.add(finding.text)
                fresh.append(finding)
        if fresh:
            parts.append(
                Part(subtask=work.subtask, title=titles[work.subtask], findings=tuple(fresh))
            )
    return Draft(number=len(case.drafts) + 1, parts=tuple(parts), by=COMBINER)


async def _synthesis(
    run: Run, case: Case, why: Sequence[str], issues: Sequence[Issue]
) -> Draft | None:
    items = [
        Item(
            f"report on {work.subtask}",
            work.model_dump_json(include={"findings", "not_found"}),
            origin=f"{work.agent}/work",
            agent=work.agent,
        )
        for work in case.latest_work
    ]
    items.append(
        Item("why they are to be reconciled", "\n".join(f"- {w}" for w in why), agent=COMBINER)
    )
    if issues:
        told = "\n".join(f"- {i.kind}: {i.why} ({i.span!r})" for i in issues)
        items.append(Item("issues of the draft before", told, agent="critic"))
        items.append(
            Item(
                "the draft before",
                case.drafts[-1].model_dump_json(include={"parts", "decision"}),
                agent=COMBINER,
            )
        )
    report = await case.ask(
        run,
        "synthesiser",
        f"The question:\n{case.question}",
        SynthesisAnswer,
        items=items,
        checks={"cited": lambda answer: problems(case, answer.findings)},
    )
    if report.value is None:
        case.notes.append(
            f"The reports could not be reconciled by a model ({report.ending}); they stand side by "
            f"side. {' '.join(why)}"
        )
        return None
    return Draft(
        number=len(case.drafts) + 1,
        parts=(Part(subtask="", title="", findings=report.value.findings),),
        by=report.author,
        decision=report.value.decision,
    )


async def keep(run: Run, case: Case, draft: Draft) -> Draft:
    """Check a draft, keep it as a version of the artifact ``draft``, and say so."""

    async def checked() -> Draft:
        return draft.model_copy(update={"issues": await check_draft(case, draft)})

    kept: Draft = await run.step("check", checked, returns=Draft)
    case.drafts.append(kept)
    await run.put("draft", "draft", kept.model_dump(mode="json"), kind="draft")
    await run.record("drafted", "answer:draft", kept.model_dump(mode="json"))
    return kept
