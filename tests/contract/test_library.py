"""One suite for every library."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.ports import Library
from manyhands.testing import LIBRARY_CHECKS, check_library
from manyhands.testing.check_library import OpenLibrary


@asynccontextmanager
async def documents(folder: Path) -> AsyncGenerator[Library]:
    library = DocumentLibrary(folder, folder / ".manyhands" / "library" / "index.db")
    try:
        yield library
    finally:
        await library.close()


@pytest.mark.parametrize("open_library", [documents], ids=lambda f: f.__name__)
@pytest.mark.parametrize("check", LIBRARY_CHECKS, ids=lambda f: f.__name__)
async def test_library(
    check: Callable[[OpenLibrary, Path], Awaitable[None]],
    open_library: OpenLibrary,
    tmp_path: Path,
) -> None:
    await check(open_library, tmp_path)


async def test_check_library_finds_one_that_forgets() -> None:
    class Forgetful(DocumentLibrary):
        async def add(self, source, title, text):  # type: ignore[no-untyped-def]
            return (await super().add(source, title, text))[:0]

    @asynccontextmanager
    async def forgetful(folder: Path) -> AsyncGenerator[Library]:
        library = Forgetful(folder, folder / ".index.db")
        yield library
        await library.close()

    with pytest.raises(AssertionError):
        await check_library(forgetful)
