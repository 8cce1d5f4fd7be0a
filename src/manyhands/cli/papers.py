"""`manyhands lab papers`: what a source of papers has, as its researcher is shown it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from manyhands.cli.printing import err, out, print_json
from manyhands.cli.runs import AsJson, go
from manyhands.config import load_config
from manyhands.errors import ConfigError
from manyhands.ports import Paper, Passage

_SHOWN_AUTHORS = 4
_SHOWN_ABSTRACT = 400


def papers(
    query: Annotated[str, typer.Argument(help="Words to search for.")] = "",
    read: Annotated[str, typer.Option("--read", metavar="ID", help="Read this paper.")] = "",
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="hf (the Hugging Face Hub), mcp:NAME (a tool server of manyhands.toml), or a "
            "folder of PDF and Markdown files.",
        ),
    ] = "hf",
    limit: Annotated[int, typer.Option(help="Papers at most.", min=1, max=100)] = 10,
    as_json: AsJson = False,
) -> None:
    """Search for papers, or read one: what a study's researcher is shown with `lab run --papers`.

    Examples:

    `manyhands lab papers "warmdown schedule"`

    `manyhands lab papers --read 2401.00001`

    `manyhands lab papers "learning rate" --from papers/ --json`
    """
    from manyhands.wiring.papers import (  # noqa: PLC0415 - starts slower
        located_papers,
        papers_of,
    )

    if bool(query.strip()) == bool(read.strip()):
        raise ConfigError(
            "nothing to search for" if not query else "a search and --read at once",
            next='write `manyhands lab papers "warmdown schedule"`, or --read ID',
        )
    where = located_papers(source, Path.cwd())

    async def work() -> None:
        async with papers_of(where, load_config(Path.cwd())) as index:
            if read:
                _print_text(read, index.name, await index.read(read), as_json)
            else:
                _print_found(index.name, await index.search(query, limit), as_json)

    go(work())


def _print_found(name: str, found: Sequence[Paper], as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        err.print(f"{name} has nothing on that; try other words", markup=False, soft_wrap=True)
    for paper in found:
        more = len(paper.authors) - _SHOWN_AUTHORS
        authors = ", ".join(paper.authors[:_SHOWN_AUTHORS]) + (f" and {more} more" * (more > 0))
        abstract = " ".join(paper.abstract.split())
        if len(abstract) > _SHOWN_ABSTRACT:
            abstract = abstract[: _SHOWN_ABSTRACT - 1].rstrip() + "…"
        out.print(f"{paper.id}  {paper.title}", markup=False, style="bold")
        about = " · ".join(each for each in (paper.date, authors, paper.url) if each)
        for line in (about, abstract):
            if line:
                out.print(f"  {line}", markup=False)


def _print_text(id: str, name: str, passages: Sequence[Passage], as_json: bool) -> None:
    if not passages:
        raise ConfigError(
            f"{name} has no paper {id!r}", next="take an id that the search gives (arXiv's)"
        )
    if as_json:
        print_json([asdict(each) for each in passages])
        return
    for passage in passages:
        out.print(f"[{passage.id}] {passage.title}", markup=False, style="bold", soft_wrap=True)
        out.print(f"{passage.text}\n", markup=False, soft_wrap=True)
