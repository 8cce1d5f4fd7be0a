"""The tools with which an agent reads: search, read, fetch a page.

Invariant: whatever they give has an id that can be cited, and is on the shelves under that id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from manyhands.agents.tools import CallContext, Tool
from manyhands.errors import FetchError, ToolError
from manyhands.ports import Fetcher, Passage
from manyhands.runtime import Effect
from manyhands.teams.answer.shelves import Shelves

MOST_FOUND = 10
#: Characters of a source that `read` gives at once.
MOST_READ = 8_000


def reading_tools(shelves: Shelves, fetcher: Fetcher | None, seconds: float) -> list[Tool]:
    async def search(query: str, limit: int = 5) -> str:
        """Search the sources. Gives the passages that fit best, each with its id.

        Args:
            query: Words that such a passage would hold.
            limit: How many passages, at most 10.
        """
        found = await shelves.search(query, max(1, min(limit, MOST_FOUND)))
        return shown(found) or "nothing found; try other words"

    async def read(id: str) -> str:
        """Read a passage by its id, or a whole source by its name (the part before '#').

        Args:
            id: Such as 'guide/routing.md#3' or 'guide/routing.md'.
        """
        passage = await shelves.read(id)
        found = [passage] if passage else await shelves.source(id.strip().strip("[]"))
        if not found:
            raise ToolError(f"there is no passage {id!r}", next="take an id that search gave")
        return shown(found, MOST_READ)

    async def fetch_url(url: str) -> str:
        """Fetch a web page; its passages can be searched and cited from then on.

        Args:
            url: The whole address, with https://.
        """
        assert fetcher is not None
        try:
            page = await fetcher.fetch(url)
        except FetchError as error:
            raise ToolError(error.what, next=error.next) from error
        return shown(await shelves.fetched.add(page.url, page.title, page.text), MOST_READ)

    made = [search, read, *([fetch_url] if fetcher is not None else [])]
    return [Tool.from_function(fn, Effect.IDEMPOTENT, seconds=seconds) for fn in made]


def citable(tool: Tool, shelves: Shelves) -> Tool:
    """The tool, whose results stand on the shelves under an id from then on."""

    async def call(context: CallContext, **arguments: Any) -> str:
        text = await tool.call(context, arguments)
        source = f"{tool.name}-{context.idempotency_key[:8]}"
        return shown(await shelves.fetched.add(source, tool.name, text)) or "it gave nothing"

    return replace(tool, fn=call, takes=CallContext)


def shown(passages: Sequence[Passage], limit: int | None = None) -> str:
    """Passages as a model reads them; ``limit``: characters, then the ids of the rest are named."""
    told: list[str] = []
    room = limit
    for at, passage in enumerate(passages):
        text = f"[{passage.id}] {passage.title}\n{passage.text}"
        if room is not None and told and len(text) > room:
            rest = passages[at:]
            told.append(f"({len(rest)} more: {rest[0].id} to {rest[-1].id}; read them by id)")
            break
        room = None if room is None else room - len(text)
        told.append(text)
    return "\n\n".join(told)
