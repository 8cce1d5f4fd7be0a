"""`DocumentLibrary` over real folders: what changes, what is left out, who else is there."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.adapters.documents.reading import Limits
from manyhands.errors import LibraryError
from manyhands.ports import Indexed
from tests import stdlib
from tests.pdfs import pdf


@asynccontextmanager
async def opened(
    folder: Path | None, path: Path, limits: Limits | None = None
) -> AsyncGenerator[DocumentLibrary]:
    library = DocumentLibrary(folder, path, limits=limits)
    try:
        yield library
    finally:
        await library.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    made.mkdir()
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "index.db"


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / name.replace("_", ".")).write_bytes(raw)


async def refreshed(folder: Path, path: Path, limits: Limits | None = None) -> Indexed:
    async with opened(folder, path, limits) as library:
        return await library.refresh()


# ------------------------------------------------------------------ what is read


async def test_every_kind_of_file_is_found(folder: Path, path: Path) -> None:
    write(
        folder, a_md="# A\n\nkelp", b_txt="kelp", c_rst="C\n=\n\nkelp", d_html="<h1>D</h1><p>kelp"
    )
    write(folder, e_pdf=pdf("no", "kelp"), f_py="def kelp(): ...", README="kelp", g_log="kelp")
    write(folder, h_png=b"\x89PNG\x00")
    async with opened(folder, path) as library:
        found = await library.refresh()
        assert (found.files, found.unreadable) == (8, ())
        ids = {each.id for each in await library.search("kelp", limit=20)}
    names = {"a.md", "b.txt", "c.rst", "d.html", "f.py", "README", "g.log"}
    assert ids == {f"{name}#1" for name in names} | {"e.pdf#2"}


async def test_what_is_left_out_says_why(folder: Path, path: Path, tmp_path: Path) -> None:
    write(folder, a_docx=b"PK\x03\x04\x00\x00", b_pdf=b"%PDF-1.7 broken", c_txt="x" * 2_000)
    write(folder, d_md="y" * 900, ok_md="z")
    write(tmp_path, outside_md="secret")
    (folder / "link.md").symlink_to(tmp_path / "outside.md")
    (folder / "up").symlink_to(tmp_path)
    (folder / "same.md").symlink_to(folder / "ok.md")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.md")
    for hidden in (".git", ".manyhands", "node_modules", ".venv", "env"):
        (folder / hidden).mkdir()
        write(folder / hidden, secret_md="secret")
    write(folder / "env", pyvenv_cfg="home = /usr")
    async with opened(folder, path, Limits(file_bytes=1_000, text=800)) as library:
        found = await library.refresh()
        assert await library.search("secret") == []
    assert found.files == 1
    reasons = dict(found.unreadable)
    assert set(reasons) == {"a.docx", "b.pdf", "c.txt", "d.md", "link.md", "up"}
    assert "binary" in reasons["a.docx"]
    assert "damaged PDF" in reasons["b.pdf"]
    assert "limit" in reasons["c.txt"]
    assert "limit is 800" in reasons["d.md"]
    assert "leaves the folder" in reasons["link.md"]
    found = await refreshed(folder, path)
    assert (found.files, found.changed) == (3, 2), "other limits: what was left out is looked at"


async def test_a_file_that_may_not_be_read(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a_md="x")
    real = os.open

    def refuse(name, *more):  # type: ignore[no-untyped-def]
        if str(name).endswith("a.md"):  # by hand, as root may read everything
            raise PermissionError(13, "Permission denied")
        return real(name, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in (await refreshed(folder, path)).unreadable[0][1]


async def test_odd_names_are_read_by_their_ids(folder: Path, path: Path) -> None:
    names = [b"a#1.md", b"[b], c.md", b"100%.md", b"d\ne.md", b"bad\xff.md", "ü 世.md".encode()]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"kelp")
    async with opened(folder, path) as library:
        assert (await library.refresh()).files == len(names)
        for found in await library.search("kelp", limit=10):
            assert await library.read(f"[{found.id}]") is not None
            assert found.id.count("#") == 1
        assert (await library.refresh()).changed == 0


async def test_chinese_and_names_are_found_by_part(folder: Path, path: Path) -> None:
    write(
        folder,
        a_md="世界上最大的海洋是太平洋。",
        b_md="Use `asyncio.TaskGroup` and snake_case_names.",
    )
    async with opened(folder, path) as library:
        await library.refresh()
        for query in ("太平洋", "最大的海洋"):
            assert [each.source for each in await library.search(query)] == ["a.md"], query
        for query in ("asyncio.TaskGroup", "taskgroup", "TaskGroup", "task groups", "snake_case"):
            assert [each.source for each in await library.search(query)] == ["b.md"], query


# ------------------------------------------------------------------ what changes


async def test_only_what_changed_is_read_again(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a_md="one", b_md="two")
    old = 1_600_000_000
    for name in ("a.md", "b.md"):
        os.utime(folder / name, (old, old))
    await refreshed(folder, path)
    read: list[str] = []
    real = DocumentLibrary._read

    def spied(self, folder, found, known):  # type: ignore[no-untyped-def]
        read.append(found.name)
        return real(self, folder, found, known)

    monkeypatch.setattr(DocumentLibrary, "_read", spied)
    assert (await refreshed(folder, path)).changed == 0
    assert read == []
    os.utime(folder / "a.md", (old + 1, old + 1))  # touched: looked at, and found to be the same
    write(folder, b_md="three")
    assert (await refreshed(folder, path)).changed == 1
    assert read == ["a.md", "b.md"]


async def test_a_change_within_the_clock_s_tick_is_seen(folder: Path, path: Path) -> None:
    write(folder, a_md="one")
    await refreshed(folder, path)
    about = (folder / "a.md").stat()
    write(folder, a_md="two")
    os.utime(folder / "a.md", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (await refreshed(folder, path)).changed == 1


async def test_equal_content_has_the_same_ids_in_any_index(folder: Path, tmp_path: Path) -> None:
    for n in range(20):
        write(folder, **{f"f{n}_md": "The same words."})
    await refreshed(folder, tmp_path / "one.db")
    write(folder, f3_md="Others.")
    await refreshed(folder, tmp_path / "one.db")
    write(folder, f3_md="The same words.")
    async with (
        opened(folder, tmp_path / "one.db") as one,
        opened(folder, tmp_path / "two.db") as two,
    ):
        await one.refresh()
        await two.refresh()
        assert await one.search("words", limit=9) == await two.search("words", limit=9)


async def test_another_version_of_the_reader_reads_all_again(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a_md="one", b_md=b"\x00")
    await refreshed(folder, path)
    monkeypatch.setattr("manyhands.adapters.documents.library.READER", 2)
    assert (await refreshed(folder, path)).changed == 1
    assert (await refreshed(folder, path)).changed == 0


async def test_added_texts_need_no_folder(path: Path) -> None:
    async with opened(None, path) as library:
        assert await library.refresh() == Indexed(0, 0, 0, 0)
        await library.add("https://x.org/", "X", "kelp")
    async with opened(None, path) as library:
        assert [each.id for each in await library.search("kelp")] == ["https://x.org/#1"]


async def test_an_added_text_and_a_file_have_not_one_name(folder: Path, path: Path) -> None:
    write(folder, a_md="file")
    async with opened(folder, path) as library:
        await library.refresh()
        with pytest.raises(LibraryError, match="is a file of the folder"):
            await library.add("a.md", "A", "text")
        await library.add("b.md", "B", "text")
        write(folder, b_md="file")
        found = await library.refresh()
        assert found.unreadable == (("b.md", "a text was added under its name; rename the file"),)
        assert [each.text for each in await library.source("b.md")] == ["text"]
        (folder / "b.md").unlink()
        await library.refresh()
        assert [each.text for each in await library.source("b.md")] == ["text"]
        for name, text in (("", "x"), ("n" * 3_000, "x"), ("c", "x" * 6_000_000)):
            with pytest.raises(LibraryError):
                await library.add(name, "T", text)


# ------------------------------------------------------------------ the folder and the index


async def test_a_folder_that_cannot_be(tmp_path: Path, folder: Path, path: Path) -> None:
    with pytest.raises(LibraryError, match="is not there"):
        await refreshed(tmp_path / "none", path)
    write(folder, a_md="x", b_md="y")
    with pytest.raises(LibraryError, match="more than 1 files"):
        await refreshed(folder, path, Limits(files=1))


async def test_an_index_that_is_none_of_ours_is_left_as_it_is(folder: Path, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"hello, this is no index" * 10)
    other = path.with_name("other.db")
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    for each, reason in ((path, "damaged, or no index"), (other, "another program's")):
        before = each.read_bytes()
        with pytest.raises(LibraryError, match=reason):
            await refreshed(folder, each)
        assert each.read_bytes() == before


async def test_a_newer_index_is_refused(folder: Path, path: Path) -> None:
    await refreshed(folder, path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='99' WHERE name='schema'")
    db.close()
    with pytest.raises(LibraryError, match="has schema 99; this version reads 1"):
        await refreshed(folder, path)


async def test_a_damaged_index_says_so(folder: Path, path: Path) -> None:
    write(folder, **{f"f{n}_md": f"words {n} " * 200 for n in range(30)})
    await refreshed(folder, path)
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(LibraryError, match="damaged"):
        await refreshed(folder, path)


_OTHER = """
import asyncio, sys
from pathlib import Path
from manyhands.adapters.documents.library import DocumentLibrary
async def main():
    library = DocumentLibrary(Path(sys.argv[1]), Path(sys.argv[2]))
    await library.add(sys.argv[3], "T", "added by " + sys.argv[3])
    found = await library.refresh()
    print(found.files, found.passages)
    await library.close()
asyncio.run(main())
"""


def test_several_processes_share_an_index(folder: Path, path: Path) -> None:
    write(folder, **{f"f{n}_md": f"# H{n}\n\nwords {n} " * 20 for n in range(120)})
    command = [sys.executable, "-c", _OTHER, str(folder), str(path)]
    started = [
        subprocess.Popen([*command, f"p{n}"], stdout=subprocess.PIPE, text=True) for n in range(4)
    ]
    said = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(said) == 1
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO words(words, rank) VALUES('integrity-check', 1)")
        sources = db.execute("SELECT count(*), sum(added) FROM sources").fetchone()
    db.close()
    assert sources == (124, 4)


async def test_a_cancelled_refresh_is_gone_on_with(folder: Path, path: Path) -> None:
    write(folder, **{f"f{n}_md": "words. " * 1_000 for n in range(300)})
    async with opened(folder, path) as library:
        begun = asyncio.Event()
        task = asyncio.create_task(
            library.refresh(lambda done, _: begun.set() if done == 250 else None)
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = await library.refresh()
        assert found.files == 300
        assert found.changed < 300


@pytest.mark.slow
async def test_the_standard_library_s_documentation(folder: Path, path: Path) -> None:
    files = stdlib.write(folder, 10_000)
    async with opened(folder, path) as library:
        found = await library.refresh()
        assert (found.files, found.changed, found.unreadable) == (files, files, ())
        assert found.passages >= 10_000
        assert (await library.refresh()).changed == 0
        for query, word in (
            ("asyncio.TaskGroup", "asyncio"),
            ("how do I get a heap's smallest items", "heapq"),
            ("OrderedDict move_to_end", "collections"),
        ):
            top = await library.search(query, limit=8)
            assert any(word in each.source for each in top), [each.id for each in top]
        with sqlite3.connect(path) as db:
            counted = db.execute("SELECT count(*) FROM passages").fetchone()[0]
        db.close()
        assert counted == found.passages
