"""Sources of papers, by one word: ``hf``, ``mcp:NAME`` of ``manyhands.toml``, or a folder.

Invariant: a folder is only read; what is indexed or kept of papers lies in the user's own folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.adapters.papers.folder import FolderPapers
from manyhands.adapters.papers.hub import HubPapers
from manyhands.adapters.papers.tool_server import ToolPapers
from manyhands.config import Config, home
from manyhands.errors import ConfigError
from manyhands.ports import PaperIndex
from manyhands.wiring.tools import tool_server

HUB = "hf"
_MCP = "mcp:"
FORMS = "hf, mcp:NAME (a server of manyhands.toml), or a folder of PDF and Markdown files"


def located_papers(source: str, here: Path) -> str:
    """``source`` with a folder's path made absolute. Raises `ConfigError` for what is none."""
    if source == HUB or source.startswith(_MCP):
        return source
    folder = (here / Path(source).expanduser()).resolve()
    if not source or not folder.is_dir():
        raise ConfigError(
            f"{source!r} is no source of papers: there is no folder {folder}", next=f"name {FORMS}"
        )
    return str(folder)


@asynccontextmanager
async def papers_of(source: str, config: Config) -> AsyncGenerator[PaperIndex]:
    """``source``: as `located_papers` gives it. Nothing is asked or started before it is needed."""
    index = _index(source, config)
    try:
        yield index
    finally:
        await index.close()


def _index(source: str, config: Config) -> PaperIndex:
    if source == HUB:
        return HubPapers(_shelf(source))
    if source.startswith(_MCP):
        return ToolPapers(tool_server(config, source.removeprefix(_MCP)), _shelf(source))
    return FolderPapers(DocumentLibrary(Path(source), _place(source)), source)


def _shelf(source: str) -> DocumentLibrary:
    return DocumentLibrary(None, _place(source))


def _place(source: str) -> Path:
    return home() / "papers" / f"{hashlib.sha256(source.encode()).hexdigest()[:12]}.db"
