"""`check_library`: what every `Library` must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from manyhands.ports import Indexed, Library

#: Opens a library over a folder. What was added is there again when it is opened once more.
OpenLibrary = Callable[[Path], AbstractAsyncContextManager[Library]]
#: A check is given an empty folder as well.
Check = Callable[[OpenLibrary, Path], Awaitable[None]]

_TIDES = "# Tides\n\nThe moon pulls the sea. Spring tides come twice a month.\n"
_HARBOUR = (
    "# Harbour\n\n## Opening\n\nThe harbour opens at six.\n\n## Closing\n\nIt closes at ten.\n"
)
_ODD = (
    *(
        '"',
        "'",
        '"tides',
        "tides*",
        "tides AND",
        "NOT",
        "title:tides",
        "tides)",
        "(tides",
        "-tides",
    ),
    *("^tides", "NEAR(tides, 5)", "a\x00tides", "tides\ud800", "🌊", "\\", "%", "tides " * 5000),
)


def _fill(folder: Path) -> None:
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "tides.md").write_text(_TIDES, encoding="utf-8")
    (folder / "deep" / "harbour.md").write_text(_HARBOUR, encoding="utf-8")


def _counts(found: Indexed) -> tuple[int, int, int]:
    return found.files, found.changed, found.removed


async def check_finds(open_library: OpenLibrary, folder: Path) -> None:
    """A passage is found by its words and by its headings, and says where it is from."""
    _fill(folder)
    async with open_library(folder) as library:
        assert _counts(await library.refresh()) == (2, 2, 0)
        first = (await library.search("when is the moon's spring tide?"))[0]
        assert (first.id, first.source) == ("tides.md#1", "tides.md")
        assert "Spring tides come twice a month." in first.text
        assert "Tides" in first.title
        assert first.hash == hashlib.sha256(_TIDES.encode()).hexdigest()
        assert first.score > 0
        closing = (await library.search("closing"))[0]
        assert "closes at ten" in closing.text
        assert closing.source == "deep/harbour.md"
        assert "Harbour" in closing.title
        assert await library.search("zzyzx") == []


async def check_order(open_library: OpenLibrary, folder: Path) -> None:
    """The best first, never more than asked for; the same question has the same answer."""
    for name in "bca":
        (folder / f"{name}.txt").write_text("A lighthouse stands here.", encoding="utf-8")
    (folder / "z.txt").write_text("Lighthouse. Lighthouse! The lighthouse.", encoding="utf-8")
    async with open_library(folder) as library:
        await library.refresh()
        found = await library.search("lighthouse", limit=10)
        assert [each.source for each in found] == ["z.txt", "a.txt", "b.txt", "c.txt"]
        assert sorted((each.score for each in found), reverse=True) == [e.score for e in found]
        assert await library.search("lighthouse", limit=10) == found
        assert await library.search("lighthouse", limit=2) == found[:2]
        assert await library.search("lighthouse", limit=0) == []


async def check_any_query(open_library: OpenLibrary, folder: Path) -> None:
    """Any text is a query: no quote, operator or control character is an error."""
    _fill(folder)
    async with open_library(folder) as library:
        await library.refresh()
        for query in _ODD:
            found = await library.search(query)
            assert bool(found) is ("tides" in query), f"{query[:40]!r} found {found}"
        for query in ("", " \n", "!?", "\x00"):
            assert await library.search(query) == []


async def check_read(open_library: OpenLibrary, folder: Path) -> None:
    """A passage is read by its id, as models repeat it; a source in order, numbered from 1."""
    _fill(folder)
    async with open_library(folder) as library:
        await library.refresh()
        passages = await library.source("deep/harbour.md")
        assert [each.id for each in passages] == [
            f"deep/harbour.md#{n}" for n in range(1, len(passages) + 1)
        ]
        assert "".join("".join(p.text for p in passages).split()) == "".join(_HARBOUR.split())
        for around in ("{}", "[{}]", " {}\n", "`{}`", '"{}"', "[[{}]]"):
            found = await library.read(around.format(passages[0].id))
            assert found == passages[0], f"{around}: {found}"
            assert found is not None
            assert found.score == 0
        for none in ("", "#", "#1", "tides.md", "tides.md#0", "tides.md#99", "no.md#1", "\x00#1"):
            assert await library.read(none) is None
        assert await library.source("no.md") == []


async def check_follows(open_library: OpenLibrary, folder: Path) -> None:
    """A refresh follows what was changed, added and removed, and reads nothing else again."""
    _fill(folder)
    told: list[tuple[int, int]] = []
    async with open_library(folder) as library:
        await library.refresh(lambda done, of: told.append((done, of)))
        assert told[-1] == (2, 2)
        assert _counts(await library.refresh()) == (2, 0, 0)
        (folder / "tides.md").write_text("# Tides\n\nThe wind matters, too.\n", encoding="utf-8")
        (folder / "new.txt").write_text("A ferry.", encoding="utf-8")
        (folder / "deep" / "harbour.md").unlink()
        assert _counts(await library.refresh()) == (2, 2, 1)
        assert await library.search("moon harbour") == []
        assert await library.read("deep/harbour.md#1") is None
        assert {each.source for each in await library.search("wind ferry")} == {
            "tides.md",
            "new.txt",
        }


async def check_unreadable(open_library: OpenLibrary, folder: Path) -> None:
    """A file that cannot be read is listed with the reason each time, until it is mended."""
    _fill(folder)
    (folder / "data.md").write_bytes(b"\x00\x01\x02" * 100)
    async with open_library(folder) as library:
        for _ in range(2):
            found = await library.refresh()
            assert found.files == 2
            assert [path for path, _ in found.unreadable] == ["data.md"]
            assert found.unreadable[0][1]
        (folder / "data.md").write_text("Buoys are red and green.", encoding="utf-8")
        found = await library.refresh()
        assert (_counts(found), found.unreadable) == ((3, 1, 0), ())


async def check_added(open_library: OpenLibrary, folder: Path) -> None:
    """An added text is found, read, replaced, kept by a refresh, and there in the next process."""
    _fill(folder)
    url = "https://example.org/a?b=c"
    async with open_library(folder) as library:
        await library.refresh()
        await library.add(url, "Old", "Kelp grows slowly.")
        made = await library.add(url, "Forests of the sea", "# Kelp\n\nKelp grows fast.")
        assert [each.id for each in made] == [f"{url}#1"]
        assert "Forests of the sea" in made[0].title
    async with open_library(folder) as library:
        assert _counts(await library.refresh()) == (2, 0, 0)
        found = await library.search("kelp")
        assert [each.text for each in found] == ["# Kelp\n\nKelp grows fast."]
        assert await library.read(f"[{url}#1]") == made[0]
        assert await library.source(url) == made


async def check_at_once(open_library: OpenLibrary, folder: Path) -> None:
    """Searches, refreshes and additions at once do not get into each other's way."""
    _fill(folder)
    async with open_library(folder) as library:
        await library.refresh()
        _, _, added, searches = await asyncio.gather(
            library.refresh(),
            library.refresh(),
            asyncio.gather(*(library.add(f"t{n}", f"T{n}", f"text {n}") for n in range(8))),
            asyncio.gather(*(library.search("spring tides") for _ in range(24))),
        )
        assert all(found[0].id == "tides.md#1" for found in searches)
        assert [made[0].text for made in added] == [f"text {n}" for n in range(8)]


async def check_close(open_library: OpenLibrary, folder: Path) -> None:
    """Closing twice is closing once."""
    async with open_library(folder) as library:
        assert _counts(await library.refresh()) == (0, 0, 0)
        await library.close()
        await library.close()


LIBRARY_CHECKS: tuple[Check, ...] = (
    check_finds,
    check_order,
    check_any_query,
    check_read,
    check_follows,
    check_unreadable,
    check_added,
    check_at_once,
    check_close,
)


async def check_library(open_library: OpenLibrary) -> None:
    """Run them all; raises AssertionError at the first that fails."""
    for check in LIBRARY_CHECKS:
        with TemporaryDirectory() as folder:
            await check(open_library, Path(folder))
