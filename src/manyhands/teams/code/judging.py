"""What an offer is to the items there are, and which items a change of files makes stale.

Invariant: pure functions of the shelf, called in steps alone, so that what they said is journaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from manyhands.agents.encoding import one_line
from manyhands.runtime import Evidence
from manyhands.teams.code.items import Judgement, Offer, Relation
from manyhands.teams.code.likeness import likeness
from manyhands.teams.code.shelf import Shelf


def judge(
    shelf: Shelf, offer: Offer, producer: str, is_other: Callable[[Evidence], str]
) -> Judgement:
    """``is_other``: of a piece of evidence, why it does not hold any more ('': it may)."""
    named = shelf.of(offer.supersedes) if offer.supersedes else []
    if offer.supersedes and not named:
        error = shelf.unknown([offer.supersedes])
        return Judgement(refused=error.what, next=error.next)
    own = [each for each in shelf.versions(offer.id) if each.producer == producer]
    over = {each.ref for each in (*named, *own) if not each.over}
    duplicates: list[Relation] = []
    contradicts: list[Relation] = []
    for entry in shelf.in_force():
        like = likeness(offer.content, entry.content)
        if like is not None and like.kind == "duplicate":
            duplicates.append(Relation(ref=entry.ref, why=like.why))
        elif entry.ref not in over and like is not None:
            contradicts.append(Relation(ref=entry.ref, why=like.why))
        elif entry.ref not in over and entry.id == offer.id:
            why = f"{entry.producer} says something else under this id"
            contradicts.append(Relation(ref=entry.ref, why=why))
    return Judgement(
        supersedes=tuple(sorted(over)),
        duplicates=tuple(duplicates),
        contradicts=tuple(contradicts),
        stale=next((why for each in offer.evidence if (why := is_other(each))), ""),
    )


def made_stale(shelf: Shelf, changed: Mapping[str, str | None], since: str) -> dict[str, str]:
    """Item -> why."""
    found: dict[str, str] = {}
    for entry in shelf.in_force():
        for each in entry.evidence:
            if each.source in changed and (why := differs(each, changed[each.source], since)):
                found[entry.ref] = why
                break
    return found


def differs(evidence: Evidence, now: str | None, since: str) -> str:
    """Why it does not hold where its file has the hash ``now`` (None: it is gone); '': it does."""
    if evidence.kind != "file" or not evidence.hash or evidence.hash == now:
        return ""
    what = "has changed" if now else "is gone"
    return f"since {since}: {one_line(evidence.source, 200)} {what}"
