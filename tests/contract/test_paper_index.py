"""One suite for every source of papers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.adapters.papers.folder import FolderPapers
from manyhands.adapters.papers.hub import HubPapers
from manyhands.adapters.papers.tool_server import ToolPapers
from manyhands.errors import ToolError
from manyhands.hub import Hub
from manyhands.ports import PaperIndex, ToolOffer
from manyhands.testing.check_papers import PAPER_CHECKS, Check, OpenPapers, PlayedPaper
from manyhands.testing.hub_server import TOKEN, HubServer
from manyhands.testing.tool_servers import FakeToolServer, PlayedTool


@asynccontextmanager
async def of_the_hub(papers: Sequence[PlayedPaper]) -> AsyncGenerator[PaperIndex]:
    with (
        HubServer(papers) as server,
        TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setenv("HF_ENDPOINT", server.url)
        m.setenv("HF_TOKEN", TOKEN)
        index = HubPapers(DocumentLibrary(None, Path(folder) / "shelf.db"), Hub(seconds=10))
        yield index
        await index.close()


@asynccontextmanager
async def of_a_folder(papers: Sequence[PlayedPaper]) -> AsyncGenerator[PaperIndex]:
    with TemporaryDirectory() as folder:
        for paper in papers:
            front = f"---\ntitle: {paper.title}\nauthors: {', '.join(paper.authors)}\n"
            front += f"date: {paper.date}\n---\n"
            text = f"{front}\n## Abstract\n\n{paper.abstract}\n\n{paper.text}\n"
            (Path(folder) / f"{paper.id}.md").write_text(text, encoding="utf-8")
        index = FolderPapers(DocumentLibrary(Path(folder), Path(folder) / ".index.db"), folder)
        yield index
        await index.close()


@asynccontextmanager
async def of_a_tool_server(papers: Sequence[PlayedPaper]) -> AsyncGenerator[PaperIndex]:
    server = HubServer(papers)
    known = {paper.id: paper for paper in papers}

    async def search(arguments: Mapping[str, Any], _: int) -> str:
        found = server._find(arguments["query"])[: arguments["max_results"]]
        return json.dumps(
            {
                "papers": [
                    {
                        "id": p.id,
                        "title": p.title,
                        "authors": p.authors,
                        "published": p.date,
                        "abstract": p.abstract,
                    }
                    for p in found
                ]
            }
        )

    async def read(arguments: Mapping[str, Any], _: int) -> str:
        if arguments["paper_id"] not in known:
            raise ToolError("no such paper")
        return json.dumps({"status": "success", "content": known[arguments["paper_id"]].text})

    schema = {"properties": {"query": {"type": "string"}, "max_results": {"type": "integer"}}}
    tools = [
        PlayedTool(ToolOffer("list_papers", "", {"properties": {}}), search),
        PlayedTool(ToolOffer("search_papers", "", schema), search),
        PlayedTool(ToolOffer("read_paper", "", {"properties": {"paper_id": {}}}), read),
    ]
    with TemporaryDirectory() as folder:
        shelf = DocumentLibrary(None, Path(folder) / "shelf.db")
        index = ToolPapers(FakeToolServer(tools, name="arxiv"), shelf)
        yield index
        await index.close()
    server._http.server_close()


@pytest.mark.parametrize(
    "open_papers", [of_the_hub, of_a_folder, of_a_tool_server], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("check", PAPER_CHECKS, ids=lambda f: f.__name__)
async def test_paper_index(check: Check, open_papers: OpenPapers) -> None:
    await check(open_papers)
