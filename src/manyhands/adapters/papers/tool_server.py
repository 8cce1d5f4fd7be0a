"""Papers behind a tool server (MCP), whichever it is: a tool that searches, and one that reads.

Invariant: only tools whose names say that they search for or read papers are ever called; what they
give is taken for papers where it is JSON, or text with an id of arXiv in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from manyhands.adapters.papers.text import inert, tidy, tidy_passage
from manyhands.errors import LibraryError, PaperError, ToolError, ToolServerError
from manyhands.ports import Library, Paper, Passage, ToolOffer, ToolServer

_SEARCH = re.compile(r"(?i)search|find|query")
_READ = re.compile(r"(?i)read|get|fetch|download|content|text")
_PAPER = re.compile(r"(?i)paper|arxiv|article|publication")
_QUERY = ("query", "q", "search_query", "text", "topic", "keywords")
_LIMIT = ("limit", "max_results", "results_limit", "num_results", "n", "top_k", "k")
_ID = ("id", "paper_id", "arxiv_id", "paper", "identifier", "url")
_ARXIV = re.compile(r"(?<![\d.])\d{4}\.\d{4,5}(?!\d)")
_HEADING = re.compile(r"(?m)^(?=#{1,6}\s|\d+[.)]\s|[-*]\s+\*\*|Title:\s)")


class ToolPapers:
    """``shelf`` keeps what was read, and cuts it into passages."""

    def __init__(self, server: ToolServer, shelf: Library) -> None:
        self._server = server
        self._shelf = shelf
        self._found: tuple[ToolOffer, ToolOffer | None] | None = None
        self._known: dict[str, Paper] = {}

    @property
    def name(self) -> str:
        return f"tool server {self._server.name!r}"

    async def search(self, query: str, limit: int = 10) -> list[Paper]:
        asked = " ".join(inert(query, 1_000).split())
        if not asked or limit < 1:
            return []
        search, _ = await self._tools()
        arguments: dict[str, object] = {_argument(search, _QUERY): asked}
        if most := _argument(search, _LIMIT, ""):
            arguments[most] = limit
        found = [tidy(each) for each in papers_in(await self._call(search.name, arguments))][:limit]
        self._known |= {each.id: each for each in found}
        return found

    async def read(self, id: str) -> list[Passage]:
        """A server that has no tool to read with gives the abstracts of what it found."""
        wanted = id.strip()
        _, reader = await self._tools()
        paper = self._known.get(wanted)
        text = paper.abstract if paper else ""
        if reader is not None and wanted:
            try:
                text = _text_in(await self._call(reader.name, {_argument(reader, _ID): wanted}))
            except PaperError as error:
                if not isinstance(error.__cause__, ToolError):
                    raise
        text = inert(text)
        if not text:
            return []
        try:
            passages = await self._shelf.add(wanted, paper.title if paper else wanted, text)
        except LibraryError as error:
            raise PaperError(error.what, next=error.next) from error
        return [tidy_passage(each) for each in passages]

    async def close(self) -> None:
        await self._server.close()
        await self._shelf.close()

    async def _tools(self) -> tuple[ToolOffer, ToolOffer | None]:
        """The tool that searches, and the one that reads (None: there is none)."""
        if self._found is None:
            try:
                offers = await self._server.offers()
            except ToolServerError as error:
                raise PaperError(error.what, next=error.next) from error
            searching = _best(offers, _SEARCH, _QUERY)
            if searching is None:
                names = ", ".join(each.name for each in offers) or "nothing"
                raise PaperError(
                    f"{self.name} has no tool that searches for papers; it offers: {names}",
                    next="name another server",
                )
            reading = [each for each in offers if each is not searching]
            self._found = (searching, _best(reading, _READ, _ID))
        return self._found

    async def _call(self, tool: str, arguments: Mapping[str, object]) -> str:
        try:
            return await self._server.call(tool, arguments)
        except (ToolError, ToolServerError) as error:
            raise PaperError(
                f"{self.name}: {tool}: {error.what}", next=error.next or "try the tool by hand"
            ) from error


def _best(
    offers: Sequence[ToolOffer], verb: re.Pattern[str], names: Sequence[str]
) -> ToolOffer | None:
    """By its name; "read" before "get", "get" before "download", as `_READ` has them."""
    fit = [o for o in offers if verb.search(o.name) and _PAPER.search(o.name)]
    fit = [o for o in fit if _argument(o, names, "")]
    order = verb.pattern.removeprefix("(?i)").split("|")
    return min(
        fit,
        key=lambda o: next(i for i, word in enumerate(order) if word in o.name.lower()),
        default=None,
    )


def _argument(offer: ToolOffer, names: Sequence[str], default: str | None = None) -> str:
    """The first of ``names`` that the tool takes."""
    given: Any = offer.schema.get("properties")
    known = cast(dict[str, Any], given) if isinstance(given, dict) else {}
    return next((name for name in names if name in known), names[0] if default is None else default)


def papers_in(text: str) -> list[Paper]:
    """The papers of a tool's result: JSON, or text by paragraphs with an id in each."""
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError):
        return _unique(_from_text(text))
    return _unique(_from_json(data))


def _unique(papers: Iterator[Paper]) -> list[Paper]:
    found: dict[str, Paper] = {}
    for paper in papers:
        found.setdefault(paper.id, paper)
    return list(found.values())


def _from_json(data: object) -> Iterator[Paper]:
    if isinstance(data, list):
        for each in cast(list[object], data):
            yield from _from_json(each)
    elif isinstance(data, dict):
        found = cast(dict[str, object], data)
        id = _word(found, "id", "paper_id", "arxiv_id", "arxivId", "url")
        if id and _word(found, "title"):
            yield Paper(
                id=id,
                title=_word(found, "title"),
                authors=tuple(_names(found.get("authors"))),
                date=_word(found, "date", "published", "publishedAt", "published_at", "year")[:10],
                abstract=_word(found, "abstract", "summary"),
                url=_word(found, "url", "link", "pdf_url"),
            )
            return
        for each in found.values():
            if isinstance(each, list | dict):
                yield from _from_json(cast(object, each))


def _from_text(text: str) -> Iterator[Paper]:
    for part in _HEADING.split(text):
        ids = _ARXIV.findall(part)
        title = part.strip().split("\n", 1)[0].lstrip("#-*0123456789.) ").strip("* ")
        if ids and title:
            yield Paper(id=ids[0], title=title, abstract=part.strip())


def _word(data: Mapping[str, object], *names: str) -> str:
    return next((str(data[n]) for n in names if isinstance(data.get(n), str | int)), "")


def _names(authors: object) -> Iterator[str]:
    if isinstance(authors, str):
        yield from re.split(r"\s*[,;]\s*", authors)
    elif isinstance(authors, list):
        for each in cast(list[object], authors):
            yield (
                _word(cast(dict[str, object], each), "name")
                if isinstance(each, dict)
                else str(each)
            )


def _text_in(text: str) -> str:
    """The text of a reading tool's result: of JSON, its longest string."""
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return max(_strings(data), key=len, default="")


def _strings(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for each in cast(list[object], data):
            yield from _strings(each)
    elif isinstance(data, dict):
        for each in cast(dict[str, object], data).values():
            yield from _strings(each)
