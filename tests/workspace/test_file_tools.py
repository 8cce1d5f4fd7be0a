"""``read`` and ``write`` on what a model may ask of them."""

from __future__ import annotations

import pytest

from manyhands.agents.workspace.tree import blob_name
from tests.workspace.bench import Bench, Hands


async def test_reads_a_range_and_says_where_it_was_cut(each_bench: Bench) -> None:
    (each_bench.base / "f.txt").write_text("".join(f"line {i}\n" for i in range(1, 1001)))

    async def go(hands: Hands) -> None:
        shown = (await hands.use("read", path="f.txt", start=10, lines=2)).split("\n")
        assert shown[0].startswith("f.txt: lines 10-11 of 1000, 8893 bytes, sha256:")
        assert shown[1:] == [
            "    10\tline 10",
            "    11\tline 11",
            "[cut here: 989 more lines; read on with start=12]",
        ]
        content = (each_bench.base / "f.txt").read_bytes()
        assert hands.last.paths == ("f.txt",)
        assert hands.last.contents == {"f.txt": blob_name(content)}
        assert "line 1000 " not in await hands.refused("read", path="f.txt", start=1001)
        assert "has 1000 lines" in await hands.refused("read", path="f.txt", start=1001)

    await each_bench.use(go)


async def test_what_is_unusual_is_said(bench: Bench) -> None:
    (bench.base / "crlf").write_bytes(b"a\r\nb\r\n")
    (bench.base / "mixed").write_bytes(b"a\r\nb\nc")
    (bench.base / "bin").write_bytes(b"\x7fELF\0\0\xff\xfe\n")
    (bench.base / "bom").write_bytes(b"\xef\xbb\xbfx\n")
    (bench.base / "empty").write_bytes(b"")

    async def go(hands: Hands) -> None:
        assert "[all lines end with CRLF]" in await hands.use("read", path="crlf")
        mixed = await hands.use("read", path="mixed")
        assert "[some lines (those with \\r) end with CRLF]" in mixed
        assert "     1e\ta\\r\n     2\tb\n     3\tc" in mixed
        assert "[the last line has no newline at its end]" in mixed
        binary = await hands.use("read", path="bin")
        assert "[binary: 2 zero bytes]" in binary
        assert "[not UTF-8: 2 bytes of it are none, shown as \\xNN]" in binary
        assert "     1e\t\\x7fELF\\x00\\x00\\xff\\xfe" in binary
        assert "[it begins with a byte order mark" in await hands.use("read", path="bom")
        assert "empty: empty, 0 bytes" in await hands.use("read", path="empty")

    await bench.use(go)


async def test_a_huge_line_is_cut_and_can_be_read_on(bench: Bench) -> None:
    (bench.base / "f").write_text("x" * 5000 + "END\nnext\n")

    async def go(hands: Hands) -> None:
        shown = await hands.use("read", path="f")
        assert "[columns 1-2000 of 5003; read on with start=1, column=2001]" in shown
        assert "     2\tnext" in shown
        shown = await hands.use("read", path="f", column=4001)
        assert "END [columns 4001-5003 of 5003]" in shown
        assert "has 5003 characters" in await hands.refused("read", path="f", column=5004)

    await bench.use(go)


async def test_a_missing_file_names_those_that_are_near(each_bench: Bench) -> None:
    (each_bench.base / "src").mkdir()
    for name in ("src/reader.py", "src/writer.py", "README.md"):
        (each_bench.base / name).write_text("")

    async def go(hands: Hands) -> None:
        said = await hands.refused("read", path="reader.py")
        assert "did you mean src/reader.py" in said
        assert "src/writer.py" in await hands.refused("read", path="src/writers.py")
        said = await hands.refused("read", path="src")
        assert "src is a folder; in it: src/reader.py, src/writer.py" in said

    await each_bench.use(go)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../../etc/passwd", "leads out of the workspace"),
        ("a/../../x", "leads out of the workspace"),
        ("/etc/passwd", "is not in the workspace"),
        ("a\0b", "is not a path"),
        ("x" * 5000, "is not a path"),
        ("", "is a folder"),
        ("/", "is not in the workspace"),
        ("folder/", "is a folder"),
        ("out", "absolute path"),
        ("up", "leads out of the workspace"),
    ],
)
async def test_paths_that_lead_out_are_refused(each_bench: Bench, path: str, why: str) -> None:
    (each_bench.base / "folder").mkdir()
    (each_bench.base / "out").symlink_to("/etc/passwd")
    (each_bench.base / "up").symlink_to("../../../etc/passwd")

    async def go(hands: Hands) -> None:
        before = hands.workspace.tree
        assert why in await hands.refused("read", path=path)
        assert why in await hands.refused("write", path=path, content="x")
        assert why in await hands.refused("edit", path=path, old="root", new="x")
        assert hands.workspace.tree == before

    await each_bench.use(go)


async def test_a_path_has_one_form(each_bench: Bench) -> None:
    (each_bench.base / "d").mkdir()
    (each_bench.base / "d" / "f").write_text("here\n")

    async def go(hands: Hands) -> None:
        await hands.use("bash", command="pwd")
        place = hands.run.read_blob(hands.last.output).decode().strip()
        for path in ("d/f", "./d//f", "d/../d/f", f"{place}/d/f", f"{place}//d/./f"):
            assert "here" in await hands.use("read", path=path)
            assert hands.last.paths == ("d/f",)
        await hands.use("write", path=f"{place}/new", content="x")
        assert hands.holds("new") == b"x"

    await each_bench.use(go)


async def test_write_says_what_it_did(each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        assert "created a/b: 2 lines, 3 bytes" in await hands.use(
            "write", path="a/b", content="x\ny"
        )
        said = await hands.use("write", path="a/b", content="z\n")
        assert said == "replaced a/b: 1 lines, 2 bytes (was 2 lines)"
        assert "is as it was" in await hands.use("write", path="a/b", content="z\n")
        assert hands.last.delta == {}
        assert hands.holds("a/b") == b"z\n"
        assert "is a folder" in await hands.refused("write", path="a", content="x")
        await hands.refused("write", path="a/b/c", content="x")

    await each_bench.use(go)


async def test_arguments_of_ten_megabytes(bench: Bench) -> None:
    big = "0123456789\n" * 950_000

    async def go(hands: Hands) -> None:
        assert "created big: 950000 lines" in await hands.use("write", path="big", content=big)
        shown = await hands.use("read", path="big", start=900_000, lines=3)
        assert "900002\t0123456789" in shown
        said = await hands.refused("edit", path="big", old=big + "x", new="y")
        assert len(said) < 2000
        said = await hands.refused("edit", path="big", old="no such line", new=big)
        assert len(said) < 2000
        await hands.use("edit", path="big", old=big, new="0123456789\n")
        assert hands.holds("big") == b"0123456789\n"
        for tool, given in (
            ("read", {"path": big}),
            ("write", {"path": big, "content": ""}),
            ("grep", {"pattern": big}),
            ("glob", {"pattern": big}),
            ("bash", {"command": big}),
            ("read_more", {"ref": big}),
            ("todo", {"items": [{"content": big}]}),
        ):
            assert len(await hands.refused(tool, **given)) < 1000

    await bench.use(go)


async def test_half_a_surrogate_pair_cannot_be_written(bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        async with hands.run.scope("call") as scope:
            tool = hands.toolbox.tools["write"]
            with pytest.raises(Exception, match="half of a surrogate pair at character 2"):
                await tool.fn(scope, path="f", content="ab\ud800c")
        assert hands.holds("f") is None

    await bench.use(go)
