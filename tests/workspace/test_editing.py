"""``edit`` and ``multi_edit``: what is refused, what the refusal says, and all or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.agents.workspace import editing
from manyhands.agents.workspace.edit_tools import change
from manyhands.agents.workspace.editing import Edit
from manyhands.errors import SandboxError, SandboxFull, SandboxMissing, ToolError
from manyhands.ports import FileSlice
from tests.workspace.bench import Bench, Hands


def refusal(data: bytes, **edit: Any) -> str:
    with pytest.raises(ToolError) as error:
        editing.apply("f", data, Edit(**edit))
    return str(error.value)


def test_refusals_say_what_is_there() -> None:
    data = b"def f(a):\n    return a\n\n\ndef g():\n    return f(1)\n"
    said = refusal(data, old="def f(a):\n\treturn a", new="x")
    assert "lines 1-2 are equal to it but for blanks" in said
    assert "Line 2:\n  in the file: '    return a'\n  in old:      '\\treturn a'" in said
    assert "line 5: 'def g():'" in refusal(data, old="def h():", new="x")
    assert "no line of it is like" in refusal(data, old="zzzzzzzz", new="x")
    assert "2 times, beginning at lines 2, 6" in refusal(data, old="    return ", new="x")
    assert "old and new are the same" in refusal(data, old="def", new="def")
    assert "old is empty" in refusal(data, old="", new="x")
    assert "begins with a line number" in refusal(data, old="     1\tdef f(a):", new="x")
    assert "more than 20 times, beginning at lines 1, 2" in refusal(b"a\n" * 99, old="a", new="b")
    assert "3 times" in refusal(b"aaaa", old="aa", new="x")


def test_line_ends_and_the_end_of_the_file_stay_as_they_are() -> None:
    def edited(data: bytes, old: str, new: str) -> bytes:
        return editing.apply("f", data, Edit(old=old, new=new)).data

    assert edited(b"a\r\nb\r\nc", "a\nb", "x\ny\nz") == b"x\r\ny\r\nz\r\nc"
    assert edited(b"a\r\nb\r\n", "a", "x\ny") == b"x\r\ny\r\nb\r\n"
    assert edited(b"a\nb\r\nc\r\n", "a\nb", "x\ny") == b"x\ny\r\nc\r\n"
    assert edited(b"\xef\xbb\xbfa\xff\x00b", "b", "c") == b"\xef\xbb\xbfa\xff\x00c"
    assert "line ends alone" in refusal(b"a\r\nb\r\n", old="a\r\nb", new="a\nb")


@given(
    st.text("ab\n", max_size=20),
    st.lists(
        st.tuples(
            st.text("ab\n", min_size=1, max_size=3), st.text("ab\n", max_size=3), st.booleans()
        ),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=400, deadline=None)
def test_edits_in_a_row_are_those_of_a_simple_model(
    text: str, edits: list[tuple[str, str, bool]]
) -> None:
    data: bytes | None = text.encode()
    expected: str | None = text
    for old, new, every in edits:
        if expected is not None:
            many = sum(expected.startswith(old, i) for i in range(len(expected)))
            fits = old != new and (many == 1 or (every and many > 1))
            expected = expected.replace(old, new) if fits else None
        if data is not None:
            try:
                data = editing.apply("f", data, Edit(old=old, new=new, all=every)).data
            except ToolError:
                data = None
    assert (data.decode() if data is not None else None) == expected


class Files:
    """As much of a sandbox as edits need; ``full_at``: the write that finds the disk full."""

    workspace = "/place"

    def __init__(self, files: dict[str, bytes], full_at: int = 0, for_good: bool = False) -> None:
        self.files = files
        self.writes = 0
        self.full_at = full_at
        self.for_good = for_good

    async def read(self, path: str, offset: int = 0, limit: int | None = None) -> FileSlice:
        if path not in self.files:
            raise SandboxMissing(f"{path!r} does not exist")
        return FileSlice(self.files[path], 0, len(self.files[path]))

    async def write(self, path: str, data: bytes) -> None:
        self.writes += 1
        if self.full_at and (
            self.writes == self.full_at or (self.for_good and self.writes > self.full_at)
        ):
            raise SandboxFull("the disk is full")
        self.files[path] = data

    async def glob(self, pattern: str, limit: int) -> list[str]:
        return []


class Scribbler(Files):
    async def write(self, path: str, data: bytes) -> None:
        await super().write(path, data + b"!")


EDITS = st.lists(
    st.builds(
        Edit,
        path=st.sampled_from(["a", "b", "c"]),
        old=st.sampled_from(["x", "y", "xy", "q"]),
        new=st.sampled_from(["x", "y", "z", ""]),
        all=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(EDITS, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
async def test_several_edits_are_all_made_or_none(edits: list[Edit], full_at: int) -> None:
    start = {"a": b"x\ny\n", "b": b"xy xy\n", "c": b"q\n"}
    expected: dict[str, bytes] | None = dict(start)
    for edit in edits:
        try:
            assert expected is not None
            expected[edit.path] = editing.apply(edit.path, expected[edit.path], edit).data
        except ToolError:
            expected = None
            break
    files = Files(dict(start), full_at)
    changed = [path for path in start if expected is not None and expected[path] != start[path]]
    if expected is None or 0 < full_at <= len(changed):
        with pytest.raises(ToolError):
            await change(files, "", edits)  # pyright: ignore[reportArgumentType]
        expected = start
    else:
        await change(files, "", edits)  # pyright: ignore[reportArgumentType]
    assert files.files == expected


async def test_what_cannot_be_put_back_is_no_refusal() -> None:
    edits = [Edit(path="a", old="x", new="1"), Edit(path="b", old="x", new="1")]
    files = Files({"a": b"x", "b": b"x"}, full_at=2, for_good=True)
    with pytest.raises(SandboxError, match="could not be put back"):
        await change(files, "", edits)  # pyright: ignore[reportArgumentType]


async def test_what_was_written_is_read_back() -> None:
    with pytest.raises(SandboxError, match="something else writes to it"):
        await change(Scribbler({"a": b"x"}), "a", [Edit(old="x", new="y")])  # pyright: ignore[reportArgumentType]


async def test_edits_with_the_tools(each_bench: Bench) -> None:
    (each_bench.base / "a.py").write_text("one\ntwo\n")
    (each_bench.base / "b.py").write_text("two\n")
    (each_bench.base / "run.sh").write_text("x\n")
    (each_bench.base / "run.sh").chmod(0o755)

    async def go(hands: Hands) -> None:
        said = await hands.refused(
            "multi_edit",
            edits=[{"old": "one", "new": "1"}, {"old": "three", "new": "3", "path": "b.py"}],
            path="a.py",
        )
        assert "edit 2 of 2: old is not in b.py" in said
        assert "Nothing was changed" in said
        assert hands.workspace.tree.nodes == {}
        said = await hands.use(
            "multi_edit",
            edits=[
                {"old": "one", "new": "two"},
                {"old": "two", "new": "2", "all": True},
                {"old": "two", "new": "zwei", "path": "b.py"},
            ],
            path="a.py",
        )
        assert "edited a.py: 3 places" in said
        assert (hands.holds("a.py"), hands.holds("b.py")) == (b"2\n2\n", b"zwei\n")
        assert hands.last.paths == ("a.py", "b.py")
        await hands.use("edit", path="run.sh", old="x", new="y")
        assert hands.workspace.tree.nodes["run.sh"].mode == 0o755
        assert "0 edits" in await hands.refused("multi_edit", edits=[])
        assert "no.py" in await hands.refused("edit", path="no.py", old="a", new="b")

    await each_bench.use(go)
