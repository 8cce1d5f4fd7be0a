"""The Hugging Face Hub's papers.

Invariant: what was read is on the shelf under the paper's id, cut into passages there; a paper
without a text of its own is read as its abstract.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from manyhands.adapters.papers.text import inert, tidy, tidy_passage
from manyhands.errors import LibraryError, PaperError
from manyhands.hub import Hub, HubFailure, HubTrouble, endpoint
from manyhands.ports import Library, Paper, Passage

T = TypeVar("T")

#: What the Hub takes for a query, and gives at once.
LONGEST_QUERY = 250
MOST_FOUND = 100

_ID = re.compile(r"(?:(\d{4}\.\d{4,5})|([a-z-]+(?:\.[A-Z]{2})?/\d{7}))(?:v\d+)?")
_AROUND = re.compile(r"(?i)^(?:https?://[^/]+/(?:abs|pdf|html|papers)/|arxiv:)|(?:\.pdf|\.md)$")


class HubPapers:
    """``shelf`` keeps what was read, and cuts it into passages."""

    def __init__(self, shelf: Library, hub: Hub | None = None) -> None:
        self._shelf = shelf
        self._hub = hub or Hub()

    @property
    def name(self) -> str:
        return f"the Hub ({endpoint()})"

    async def search(self, query: str, limit: int = 10) -> list[Paper]:
        asked = " ".join(inert(query, LONGEST_QUERY).split())
        most = min(limit, MOST_FOUND)
        if not asked or most < 1:
            return []

        def find(api: Any) -> list[Paper]:
            return [_paper(each) for each in islice(api.list_papers(query=asked, limit=most), most)]

        found = await self._ask("the search for papers", find)
        return [tidy(each) for each in found if each.id]

    async def read(self, id: str) -> list[Passage]:
        known = arxiv_id(id)
        if known is None:
            return []
        paper = await self._maybe(f"paper {known}", lambda api: _paper(api.paper_info(known)))
        text = await self._maybe(f"the text of paper {known}", lambda api: api.read_paper(known))
        if paper is None and not text:
            return []
        title = paper.title if paper else known
        whole = inert(text or "") or (paper.abstract if paper else "")
        try:
            passages = await self._shelf.add(known, inert(title), whole)
        except LibraryError as error:
            raise PaperError(error.what, next=error.next) from error
        return [tidy_passage(each) for each in passages]

    async def close(self) -> None:
        await self._shelf.close()

    async def _maybe(self, what: str, call: Callable[[Any], T]) -> T | None:
        """None: the Hub does not have it."""
        try:
            return await self._ask(what, call)
        except PaperError as error:
            cause = error.__cause__
            if isinstance(cause, HubFailure) and cause.trouble is HubTrouble.MISSING:
                return None
            raise

    async def _ask(self, what: str, call: Callable[[Any], T]) -> T:
        try:
            return await self._hub.ask(what, call)
        except HubFailure as failure:
            raise PaperError(
                failure.what, next=f"{failure.next}, or read papers of a folder (--from FOLDER)"
            ) from failure


def arxiv_id(text: str) -> str | None:
    """The id in ``2401.00001v2``, ``arxiv:…`` or a URL of arXiv or the Hub; None: there is none."""
    bare = text.strip().split("#", 1)[0].split("?", 1)[0].rstrip("/")
    while bare != (bare := _AROUND.sub("", bare)):
        pass
    found = _ID.fullmatch(bare)
    return (found[1] or found[2]) if found else None


def _paper(info: Any) -> Paper:
    id = str(info.id or "")
    return Paper(
        id=id,
        title=str(info.title or ""),
        authors=tuple(str(each.name) for each in info.authors or ()),
        date=f"{info.published_at:%Y-%m-%d}" if info.published_at else "",
        abstract=str(info.summary or ""),
        url=f"{endpoint()}/papers/{id}",
    )
