"""Revision that ends: who has to run again, when it is over, and which draft was the best.

Invariants: only those whom an issue concerns run again; it is over when the critic ships, when the
issues do not become fewer, or after ``max_revisions``; the best draft is the one with the fewest
issues, the earlier one of equals.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.runtime import Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.checking import is_about
from manyhands.teams.answer.claims import Issue, IssueKind
from manyhands.teams.answer.combiner import combine
from manyhands.teams.answer.critic import criticise
from manyhands.teams.answer.records import Draft, Revision, Subtask, Verdict
from manyhands.teams.answer.wording import content_of
from manyhands.teams.answer.workers import investigate

SYNTHESIS = "synthesis"

#: What only those who look things up can mend; the rest is a matter of how it is put.
_OF_WORKERS = frozenset({IssueKind.UNSUPPORTED, IssueKind.MISSING, IssueKind.CONTRADICTION})


def wanted(case: Case) -> bool:
    """Whether one more revision may help."""
    last = case.critiques[-1]
    if last.verdict is Verdict.SHIP or len(case.revisions) >= case.order.max_revisions:
        return False
    return not case.revisions or case.revisions[-1].helped


async def revise(run: Run, case: Case) -> None:
    """Run those concerned again, combine and criticise anew."""
    issues = case.critiques[-1].issues
    concerned = assigned(case, issues)
    plan = case.plan.subtasks if case.plan else ()
    again = [task for task in plan if any(task.id == subtask for subtask, _ in concerned)]
    if again:
        await investigate(run, case, again, concerned, round=len(case.revisions) + 1)
    draft = await combine(run, case, [i for subtask, i in concerned if subtask == SYNTHESIS])
    after = await criticise(run, case, draft)
    made = Revision(
        number=len(case.revisions) + 1,
        ran=(*(t.id for t in again), *((SYNTHESIS,) if draft.by.startswith("model:") else ())),
        issues_before=len(issues),
        issues_after=len(after.issues),
    )
    case.revisions.append(made)
    await run.record("revision", "answer:revision", made.model_dump(mode="json"))


def assigned(case: Case, issues: Sequence[Issue]) -> list[tuple[str, Issue]]:
    """Each issue with whom it concerns: a subtask, or the synthesis."""
    draft = case.drafts[-1]
    subtasks = case.plan.subtasks if case.plan else ()
    return [(_whom(case, draft, subtasks, issue), issue) for issue in issues]


def _whom(case: Case, draft: Draft, subtasks: Sequence[Subtask], issue: Issue) -> str:
    synthesised = draft.by.startswith("model:")
    if synthesised and (issue.kind not in _OF_WORKERS or _is_decision(draft, issue)):
        return SYNTHESIS
    for part in draft.parts:
        if part.subtask and any(is_about(issue, finding) for finding in part.findings):
            return part.subtask
    for work in case.latest_work:
        if any(is_about(issue, finding) for finding in work.findings):
            return work.subtask
    return _nearest(subtasks, f"{issue.span} {issue.why}")


def _is_decision(draft: Draft, issue: Issue) -> bool:
    return bool(issue.span) and issue.span in draft.decision


def _nearest(subtasks: Sequence[Subtask], text: str) -> str:
    """The subtask that shares most words with the text; the first one of equals."""
    words = content_of(text)

    def shared(task: Subtask) -> int:
        return len(words & content_of(f"{task.title} {task.question}"))

    return max(subtasks, key=shared).id


def best(case: Case) -> Draft | None:
    """The draft with the fewest issues, by the critique of it or else by its checks."""
    judged = {critique.draft: len(critique.issues) for critique in case.critiques}
    return min(
        case.drafts, key=lambda d: (judged.get(d.number, len(d.issues)), d.number), default=None
    )
