"""Papers of a folder: PDF, Markdown, HTML and plain text, through a library that has read them.

Invariant: a paper's id is the name of its file below the folder; nothing is asked of the network.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from manyhands.adapters.papers.text import tidy, tidy_passage
from manyhands.errors import LibraryError, PaperError
from manyhands.ports import Library, Paper, Passage

T = TypeVar("T")

#: Characters of a paper that stand for its abstract.
_BEGINNING = 1_500
#: Passages that are looked at for each paper that is asked for: the best may all be of one paper.
_PASSAGES = 8
_FRONT = re.compile(r"\A---\n(.*?)\n(?:---|\.\.\.)\s*(?:\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"(?m)^(title|authors?|date|url|abstract):[ \t]*(.+)$")
_YEAR = re.compile(r"\d{4}(?:-\d{2}){0,2}")


class FolderPapers:
    """``name``: the folder's. The library is brought up to date when it is first asked."""

    def __init__(self, library: Library, name: str) -> None:
        self._library = library
        self._name = name
        self._fresh = False
        self._refreshing = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def search(self, query: str, limit: int = 10) -> list[Paper]:
        if limit < 1:
            return []
        await self._refresh()
        found = await self._asked(self._library.search(query, limit * _PASSAGES))
        names = list(dict.fromkeys(passage.source for passage in found))[:limit]
        return [_paper(name, await self._library.source(name)) for name in names]

    async def read(self, id: str) -> list[Passage]:
        await self._refresh()
        name = id.strip().strip("[]`\"' ")
        return [tidy_passage(each) for each in await self._asked(self._library.source(name))]

    async def close(self) -> None:
        await self._library.close()

    async def _refresh(self) -> None:
        async with self._refreshing:
            if not self._fresh:
                found = await self._asked(self._library.refresh())
                if not found.files:
                    why = "".join(f"; {path}: {reason}" for path, reason in found.unreadable[:3])
                    raise PaperError(
                        f"{self._name} holds no paper that can be read{why}",
                        next="put PDF or Markdown files there, or name another folder",
                    )
                self._fresh = True

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except LibraryError as error:
            raise PaperError(error.what, next=error.next) from error


def _paper(name: str, passages: Sequence[Passage]) -> Paper:
    """By its front matter, where it has one; else by its headings and its first words."""
    first = passages[0] if passages else Passage("", name, name, "", "")
    front = _FRONT.match(first.text)
    said = {
        key.rstrip("s"): _bare(value) for key, value in _FIELD.findall(front[1] if front else "")
    }
    date = _YEAR.match(said.get("date", ""))
    return tidy(
        Paper(
            id=name,
            title=said.get("title") or first.title.split(" > ")[0],
            authors=tuple(
                a for a in re.split(r"\s*[,;]\s*|\s+and\s+", said.get("author", "")) if a
            ),
            date=date[0] if date else "",
            abstract=said.get("abstract") or _abstract(passages, front.end() if front else 0),
            url=said.get("url", ""),
        )
    )


def _abstract(passages: Sequence[Passage], start: int) -> str:
    """The passages below a heading "Abstract", else the beginning."""
    named = [
        p.text for p in passages if p.title.lower().rpartition(" > ")[2].startswith("abstract")
    ]
    if named:
        return "\n".join(named)[:_BEGINNING]
    return passages[0].text[start : start + _BEGINNING] if passages else ""


def _bare(value: str) -> str:
    return value.strip().strip("[]\"'")
