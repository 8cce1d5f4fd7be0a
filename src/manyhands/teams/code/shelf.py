"""The items there are, as they are looked at: by name, by task, and how they stand to each other.

Invariant: nothing here changes an item; what agents wrote comes into a listing as one clean line in
quotation marks, after what is known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from manyhands.agents.encoding import one_line
from manyhands.errors import ToolError
from manyhands.runtime import ArtifactStatus
from manyhands.teams.code.items import Entry, Relation, State

_ENDED: dict[ArtifactStatus, State] = {
    ArtifactStatus.STALE: "stale",
    ArtifactStatus.SUPERSEDED: "superseded",
}


@dataclass(slots=True)
class Shelf:
    """``entries``: ``id@version`` -> every version there ever was."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])

    def all(self) -> list[Entry]:
        """Every version, in the order of the journal."""
        return sorted(self.entries.values(), key=lambda entry: entry.seq)

    def in_force(self) -> list[Entry]:
        return [entry for entry in self.all() if entry.in_force]

    def resolve(self, refs: Iterable[str]) -> list[Entry]:
        """What is meant by each of ``refs``, once, in their order: ``id@version``; an id (its
        versions in force, or else its latest); a task's id (all that it produced). Raises
        `ToolError` naming all that mean nothing."""
        found: dict[str, Entry] = {}
        unknown: list[str] = []
        for ref in refs:
            entries = self.of(ref) or [e for e in self.all() if e.producer == ref]
            found |= {entry.ref: entry for entry in entries}
            if not entries:
                unknown.append(ref)
        if unknown:
            raise self.unknown(unknown)
        return list(found.values())

    def of(self, ref: str) -> list[Entry]:
        """``id@version``, or the versions in force of an id, or its latest; none: it is unknown."""
        if ref in self.entries:
            return [self.entries[ref]]
        versions = self.versions(ref)
        return [entry for entry in versions if entry.in_force] or versions[-1:]

    def versions(self, id: str) -> list[Entry]:
        """Of an item, the oldest first."""
        found = [entry for entry in self.entries.values() if entry.id == id]
        return sorted(found, key=lambda entry: entry.version)

    def unknown(self, refs: Sequence[str]) -> ToolError:
        """What to raise where these mean nothing."""
        known = {entry.id for entry in self.all()} | {entry.producer for entry in self.all()}
        known |= set(self.entries)
        near = [
            each for ref in refs for each in get_close_matches(ref[:200], sorted(known), 3, 0.4)
        ]
        ids = list(dict.fromkeys(near)) or sorted({entry.id for entry in self.all()})[:10]
        named = ", ".join(repr(one_line(ref, 80)) for ref in refs)
        return ToolError(
            f"the context store has no item and no task {named}",
            next=f"take one of these: {', '.join(ids)}" if ids else "it is empty: name nothing",
        )

    def state(self, entry: Entry) -> State:
        """How it stands now."""
        if entry.status in _ENDED:
            return _ENDED[entry.status]
        if self.disputes(entry):
            return "disputed"
        return "verified" if entry.verified else "asserted"

    def disputes(self, entry: Entry) -> list[Relation]:
        """What contradicts it, from either side, as long as both are in force."""
        return self._related(entry, lambda each: each.contradicts)

    def repeats(self, entry: Entry) -> list[Relation]:
        return self._related(entry, lambda each: each.duplicates)

    def _related(
        self, entry: Entry, relations: Callable[[Entry], tuple[Relation, ...]]
    ) -> list[Relation]:
        if not entry.in_force:
            return []
        of_mine = {each.ref: each.why for each in relations(entry)}
        for other in self.entries.values():
            for each in relations(other):
                if each.ref == entry.ref:
                    of_mine[other.ref] = each.why
        return [
            Relation(ref=ref, why=why)
            for ref, why in sorted(of_mine.items())
            if ref in self.entries and self.entries[ref].in_force
        ]

    def shown(self) -> str:
        """For the orchestrator: one line for each item in force or stale, and one for the rest;
        '' where there is none."""
        lines: list[str] = []
        rest: list[str] = []
        for entry in sorted(self.all(), key=lambda each: (each.id, each.version)):
            if entry.in_force or entry.status is ArtifactStatus.STALE:
                lines.append(self._line(entry))
            else:
                rest.append(f"{entry.ref} ({self.state(entry)} {one_line(entry.reason, 80)})")
        return "\n".join(lines + ([f"Not in force: {', '.join(rest)}"] if rest else []))

    def _line(self, entry: Entry) -> str:
        said = one_line(entry.content.strip().partition("\n")[0])
        who = one_line(entry.producer, 60)
        line = f"- {entry.ref} {entry.kind} [{self.state(entry)}] by {who}: “{said}”"
        notes = [f"CONTRADICTS {each.ref}: {each.why}" for each in self.disputes(entry)]
        notes += [f"repeats {each.ref}" for each in self.repeats(entry)]
        if entry.status is ArtifactStatus.STALE:
            notes.append(f"stale {entry.reason}")
        return f"{line} ({'; '.join(notes)})" if notes else line
