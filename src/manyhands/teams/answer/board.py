"""Notes between workers: what one has found out and the others will want to know.

Invariant: a note is journaled by the call that posts it, with who wrote it; a worker hears each
note of another once, at its next turn, and as data. A replay posts and hears the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from manyhands.agents.context import Item
from manyhands.agents.tools import Tool
from manyhands.runtime import Run
from manyhands.teams.answer.claims import Citation, Finding

MOST_NOTES, MOST_CHARACTERS = 12, 600


@dataclass(frozen=True, slots=True)
class Note:
    author: str
    finding: Finding
    origin: str
    agent: str


@dataclass(slots=True)
class Board:
    """All notes, oldest first."""

    notes: list[Note] = field(default_factory=list[Note])

    def by(self, author: str) -> tuple[Finding, ...]:
        return tuple(note.finding for note in self.notes if note.author == author)

    def unheard(self, reader: str, heard: Collection[str]) -> list[Item]:
        """What others have posted, but for the notes of these origins."""
        return [
            Item(f"a note of {note.author}", _told(note.finding), note.origin, note.agent)
            for note in self.notes
            if note.author != reader and note.origin not in heard
        ]

    def posting_tool(self, author: str) -> Tool:
        """The tool with which ``author`` posts."""

        async def post_finding(run: Run, text: str, passage: str, quote: str) -> str:
            """Tell the other workers one finding. They see it at their next turn.

            Args:
                text: The finding, in one sentence.
                passage: The id of the passage that says so.
                quote: The passage's own words.
            """
            if len(self.by(author)) >= MOST_NOTES:
                return f"not posted: you have posted {MOST_NOTES} already"
            finding = Finding(
                text=text[:MOST_CHARACTERS],
                citations=(Citation(passage=passage, quote=quote[:MOST_CHARACTERS]),),
            )
            content = {"by": author, "finding": finding.model_dump(mode="json")}
            await run.put("note", f"note/{run.path}", content, kind="note")
            self.notes.append(Note(author, finding, run.key("note"), run.path))
            return "posted"

        return Tool.from_function(post_finding, None)


def _told(finding: Finding) -> str:
    cited = "; ".join(f"[{c.passage}] {c.quote!r}" for c in finding.citations)
    return f"{finding.text}\n({cited})" if cited else finding.text
