"""The critic: the mechanical checks' findings, then a model at temperature 0 that is given them.

Invariant: a verdict is ``revise`` only with an issue that a revision can work on; an issue of the
critic's names words of the draft, or something missing, or it is set aside. A critic that gives no
verdict leaves that of the checks.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.agents.context import Item
from manyhands.runtime import Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.claims import Issue, IssueKind
from manyhands.teams.answer.records import (
    CriticAnswer,
    Critique,
    Draft,
    Objection,
    Verdict,
    Way,
)


async def criticise(run: Run, case: Case, draft: Draft) -> Critique:
    """What is to be said of the draft. On the single route the checks alone say it."""
    made = by_checks(draft)
    if case.route is not None and case.route.way is Way.TEAM:
        made = await _with_critic(run, case, draft) or made
    case.critiques.append(made)
    await run.record("critique", "answer:critique", made.model_dump(mode="json"))
    return made


def by_checks(draft: Draft) -> Critique:
    verdict = Verdict.REVISE if draft.issues else Verdict.SHIP
    return Critique(draft=draft.number, verdict=verdict, issues=draft.issues)


async def _with_critic(run: Run, case: Case, draft: Draft) -> Critique | None:
    report = await case.ask(
        run,
        "critic",
        f"The question:\n{case.question}",
        CriticAnswer,
        items=_items(case, draft),
    )
    if report.value is None:
        case.notes.append(
            f"No critic has judged draft {draft.number} ({report.ending}); the checks alone have."
        )
        return None
    return weighed(draft, report.value, report.model)


def weighed(draft: Draft, answer: CriticAnswer, by: str) -> Critique:
    """The critic's issues beside those of the checks, less those that are about nothing."""
    issues, aside = list(draft.issues), list[str]()
    for said in answer.issues if answer.verdict is Verdict.REVISE else ():
        if not _is_there(draft, said):
            aside.append(f"{said.kind}: {said.why} (no words of the draft: {said.span!r})")
        elif not any(_same(said, known) for known in issues):
            issues.append(Issue(kind=said.kind, span=said.span, why=said.why))
    verdict = Verdict.REVISE if issues else Verdict.SHIP
    return Critique(
        draft=draft.number, verdict=verdict, issues=tuple(issues), by=by, set_aside=tuple(aside)
    )


def _is_there(draft: Draft, said: Objection) -> bool:
    if said.kind is IssueKind.MISSING:
        return bool(said.why.strip())
    return bool(said.span.strip()) and _plain(said.span) in _plain(draft.text)


def _same(said: Objection, known: Issue) -> bool:
    if said.kind is not known.kind:
        return False
    one, other = _plain(said.span), _plain(known.span)
    return bool(one) and bool(other) and (one in other or other in one)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _items(case: Case, draft: Draft) -> Sequence[Item]:
    facts = "\n".join(f"- {i.kind}: {i.span!r}: {i.why}" for i in draft.issues)
    quoted = "\n".join(
        f"- {finding.text}\n"
        + "\n".join(f"    [{c.passage}] {c.quote!r}" for c in finding.citations)
        for finding in draft.findings
    )
    denied = "\n".join(f"- {w.subtask}: {line}" for w in case.latest_work for line in w.not_found)
    return [
        Item("draft", draft.text, agent=draft.by),
        Item("what its statements rest on", quoted or "nothing", agent=draft.by),
        Item("what the checks have found", facts or "nothing", agent="checks"),
        Item("what the workers did not find", denied or "nothing", agent="workers"),
    ]
