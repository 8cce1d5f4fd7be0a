"""What of the context store a task is given: what was asked for by name, and what bears on it.

Invariants: what was asked for is given whatever the budget, and it is said where it takes more; all
else fits in, chosen the same way in every process; what is in force and left out is named. What
agents wrote is an item's text, which the context delimits: it is never a title or a heading.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manyhands.agents.context import Item
from manyhands.agents.encoding import one_line
from manyhands.teams.code.items import Entry
from manyhands.teams.code.shelf import Shelf

#: Of the items that were left out, as many are named.
MOST_NAMED = 40
_TERM = re.compile(r"[^\W_]+")
_K, _B = 1.5, 0.75
_PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class LeftOut:
    ref: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Packed:
    """``items``: those asked for, then the others by relevance, then a note on what is not there.
    ``bytes``: of all items but the note."""

    items: tuple[Item, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    bytes: int = 0


def pack(store: Shelf, refs: Iterable[str], text: str, budget_bytes: int) -> Packed:
    """``refs``: as `Shelf.resolve` takes them; ``text``: what the task is about. Raises `ToolError`
    for a name that means nothing."""
    asked = store.resolve(refs)
    named = {entry.ref for entry in asked}
    items = [_item(store, entry) for entry in asked]
    used = by_name = sum(_size(item) for item in items)
    left_out: list[LeftOut] = []
    for entry in _by_relevance([e for e in store.in_force() if e.ref not in named], text):
        item = _item(store, entry)
        size = _size(item)
        if used + size > budget_bytes:
            left_out.append(LeftOut(entry.ref, size))
            continue
        items.append(item)
        used += size
    note = _note(left_out, by_name, budget_bytes)
    if note:
        items.append(Item("what is not here", note, "context", "the context store"))
    return Packed(tuple(items), tuple(left_out), used)


def _item(store: Shelf, entry: Entry) -> Item:
    state = store.state(entry)
    title = f"{entry.kind} {entry.ref} ({state})"
    lines = [f"{entry.kind} {entry.ref}, {state}, by {one_line(entry.producer, 60)}"]
    if entry.reason:
        lines.append(f"{state} {entry.reason}")
    lines += [f"contradicted by {each.ref}: {each.why}" for each in store.disputes(entry)]
    lines += [
        f"rests on {each.kind} {one_line(each.source, 200)} {each.hash[:19]}".rstrip()
        for each in entry.evidence
    ]
    return Item(title, "\n".join([*lines, "", entry.content]), entry.origin, entry.producer)


def _size(item: Item) -> int:
    return len(item.text.encode())


def _note(left_out: Sequence[LeftOut], by_name: int, budget: int) -> str:
    lines: list[str] = []
    if by_name > budget:
        lines.append(f"What was asked for by name takes {by_name} bytes, of {budget} for all.")
    if left_out:
        told = [f"{each.ref} ({each.bytes} bytes)" for each in left_out[:MOST_NAMED]]
        more = len(left_out) - len(told)
        lines.append(
            f"Left out for want of room, the most relevant first: {', '.join(told)}"
            + (f" and {more} more." if more else ".")
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- relevance


def _by_relevance(entries: Sequence[Entry], text: str) -> list[Entry]:
    """Okapi BM25; of equal ones the newest first."""
    terms = [_terms(f"{each.id} {each.content}") for each in entries]
    spread = Counter(term for found in terms for term in found)
    mean = sum(found.total() for found in terms) / len(terms) if terms else 0.0
    asked = sorted(_terms(text))

    def score(found: Counter[str]) -> float:
        length = _K * (1 - _B + _B * found.total() / mean)
        total = 0.0
        for term in asked:
            if count := found[term]:
                rare = math.log(1 + (len(terms) - spread[term] + 0.5) / (spread[term] + 0.5))
                total += rare * count * (_K + 1) / (count + length)
        return total

    ranked = [(-score(found), -entry.seq, entry) for found, entry in zip(terms, entries)]
    return [entry for _, _, entry in sorted(ranked, key=lambda each: each[:2])]


def _terms(text: str) -> Counter[str]:
    """Words, and the parts of names: `readConfig` and `read_config` have the same."""
    return Counter(term.casefold() for term in _TERM.findall(_PARTS.sub(" ", text)))
