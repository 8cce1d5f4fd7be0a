"""Runs of the context store over a journal of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from manyhands.runtime import Artifact, Evidence, Run, Runtime, Workflow
from manyhands.teams.code.store import Offer, Store

#: What a workflow does with a store.
Body = Callable[[Run, Store], Awaitable[Any]]


@contextmanager
def journal() -> Iterator[Path]:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "journal.db"


async def live(path: Path, body: Body) -> tuple[Any, Store]:
    """What it gave, and the store at its end."""
    store = Store()

    async def whole(run: Run, input: Any) -> Any:
        return await body(run, store)

    async with Runtime.open(path) as runtime:
        return await runtime.run(Workflow("w", whole), run_id="r"), store


async def again(path: Path, body: Body) -> tuple[Any, Store]:
    """The same from the journal."""
    store = Store()

    async def whole(run: Run, input: Any) -> Any:
        return await body(run, store)

    async with Runtime.open(path, workflows=[Workflow("w", whole)]) as runtime:
        new = await runtime.fork("r", before=runtime.view("r").seq)
        return await (await runtime.resume(new)).result(), store


async def artifacts(path: Path) -> dict[str, Artifact]:
    async with Runtime.open(path) as runtime:
        return {f"{a.name}@{a.version}": a for a in runtime.view("r").artifacts.all()}


def offer(id: str, content: str, kind: Any = "fact", over: str = "", **files: str) -> Offer:
    """``files``: path (with _ for .) -> its hash."""
    rests = tuple(
        Evidence(kind="file", source=path.replace("_", "."), hash=hash)
        for path, hash in files.items()
    )
    return Offer(id=id, content=content, kind=kind, supersedes=over, evidence=rests)
