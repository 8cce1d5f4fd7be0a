"""Mechanical checks of a worker's findings as it hands them in, and of a draft before the critic.

Invariant: what they find are facts, found without a model; a statement that they object to is never
in the answer as if it were supported.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.teams.answer.case import Case
from manyhands.teams.answer.citations import check_finding
from manyhands.teams.answer.claims import Finding, Issue, IssueKind
from manyhands.teams.answer.contradictions import denied
from manyhands.teams.answer.parts import unaddressed
from manyhands.teams.answer.records import Draft
from manyhands.teams.answer.wording import sentences

#: Problems that a worker is shown at once.
MOST_SHOWN = 8

#: What a statement cannot be in the answer with.
FATAL = frozenset({IssueKind.UNSUPPORTED, IssueKind.CONTRADICTION})


async def problems(case: Case, findings: Sequence[Finding]) -> str:
    """What is wrong with the citations of an answer, for its author; '': nothing."""
    issues = [issue for each in findings for issue in await check(case, each)]
    told = [f"- {issue.span!r}: {issue.why}" for issue in issues[:MOST_SHOWN]]
    if len(issues) > MOST_SHOWN:
        told.append(f"- and {len(issues) - MOST_SHOWN} more")
    return "\n".join(told)


async def check(case: Case, finding: Finding) -> tuple[Issue, ...]:
    """Where there are no sources, only an invented citation is an issue."""
    if not finding.citations:
        if not case.checked:
            return ()
        why = "it cites no passage: cite the one that says so, or leave it to not_found"
        return (_issue(IssueKind.UNSUPPORTED, finding.text, why, "cited"),)
    cited = [citation.passage for citation in finding.citations]
    issues = check_finding(finding, await case.desk.shelves.passages(cited))
    # Its words may be a quote or an id; whose statement it is has to be plain.
    return tuple(issue.model_copy(update={"span": finding.text}) for issue in issues)


async def check_draft(case: Case, draft: Draft) -> tuple[Issue, ...]:
    """Every citation, everything that a report denies, every part of the question."""
    issues = [issue for each in draft.findings for issue in await check(case, each)]
    issues += _denied(case, draft)
    issues += [
        _issue(IssueKind.MISSING, "", f"nothing is said of: {part}", "addressed")
        for part in unaddressed(case.question, draft.text)
    ]
    return tuple(dict.fromkeys(issues))


def _denied(case: Case, draft: Draft) -> list[Issue]:
    """What the draft says of its own and a report denies. Reports that deny each other are no
    fault of the draft's: both have their evidence, and the reader is shown both."""
    reports = {work.subtask: work.findings for work in case.latest_work}
    reported = {finding.text for findings in reports.values() for finding in findings}
    own = [finding for finding in draft.findings if finding.text not in reported]
    own += [Finding(text=sentence) for sentence in sentences(draft.decision)]
    return [
        _issue(IssueKind.CONTRADICTION, conflict.texts[0], conflict.why, "denied")
        for conflict in denied(own, reports)
    ]


def is_about(issue: Issue, finding: Finding) -> bool:
    """Whether an issue's words are words of this finding."""
    return bool(issue.span) and (issue.span in finding.text or finding.text in issue.span)


def supported(draft: Draft, finding: Finding) -> bool:
    """Whether the checks left it standing."""
    return not any(issue.kind in FATAL and is_about(issue, finding) for issue in draft.issues)


def decided(draft: Draft) -> str:
    """The decision, if the checks left it standing; '': there is none."""
    return draft.decision if supported(draft, Finding(text=draft.decision)) else ""


def _issue(kind: IssueKind, span: str, why: str, check: str) -> Issue:
    return Issue(kind=kind, span=span, why=why, by=f"check:{check}")
