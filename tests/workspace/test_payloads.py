"""Ten thousand hostile contents: what is written, shown, edited and printed is told exactly."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from manyhands.agents.workspace import editing, file_tools, shell_tool
from manyhands.agents.workspace.editing import Edit
from manyhands.agents.workspace.places import content, put
from manyhands.agents.workspace.shown import text_of_bytes
from manyhands.agents.workspace.workspace import Act
from manyhands.errors import ToolError
from manyhands.ports import ExecResult, Sandbox
from tests.workspace.bench import Bench, Hands
from tests.workspace.payloads import payloads, texts
from tests.workspace.reader import parsed, whole

MANY = 10_000
_REST = re.compile(r"\[cut .*here: (\d+) more lines; read on with start=(\d+)\]")


def read_on(data: bytes) -> bytes:
    """The file, by reading until nothing more is said to be left out."""
    lines: dict[int, bytes] = {}
    start = 1
    while True:
        shown = file_tools.told("f", data, start, 2000, 1)
        found, cut, notes = parsed(shown)
        for number in cut:
            assert len(text_of_bytes(found[number])) == file_tools.MOST_COLUMNS
            found[number] = long_line(data, number)
        lines |= found
        rest = _REST.fullmatch(notes[-1])
        if rest is None:
            break
        assert int(rest[2]) == max(lines) + 1
        start = int(rest[2])
    end = b"\r\n" if any("all lines end" in note for note in notes) else b"\n"
    closed = not any("no newline" in note for note in notes)
    told = end.join(lines[number] for number in sorted(lines))
    assert len(lines) == (max(lines) if lines else 0)
    return told + end if closed and lines else told


def long_line(data: bytes, number: int) -> bytes:
    column, parts = 1, []
    while True:
        shown = file_tools.told("f", data, number, 1, column)
        found, cut, _ = parsed(shown)
        parts.append(found[number])
        if not cut and column == 1:  # alone, a line has more room
            return parts[0]
        assert cut == {number}
        # The last is ours: the content may hold others.
        *_, said = re.finditer(
            rf"columns {column}-(\d+) of (\d+)(; read on with start=(\d+), column=(\d+))?\]", shown
        )
        if said[3] is None:
            assert said[1] == said[2]
            return b"".join(parts)
        assert (int(said[4]), int(said[5])) == (number, int(said[1]) + 1)
        column = int(said[5])


def test_what_read_shows_tells_every_byte() -> None:
    cut = 0
    for data in payloads(MANY, seed=1):
        shown = file_tools.told("f", data, 1, 2000, 1)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u200b\ufeff\ud800-\udfff]", shown)
        if "c\t" in shown or "read on" in shown:
            cut += 1
            assert read_on(data) == data
        else:
            assert whole(shown) == data
    assert cut > 100


def test_edits_change_what_was_asked_and_nothing_else() -> None:
    chance = random.Random(2)
    news = list(texts(500, seed=3))
    done = refused = 0
    for text in texts(MANY, seed=2):
        text = text[:2000]
        at = chance.randrange(len(text) + 1)
        old = text[at : at + chance.choice([1, 3, 10, 100])]
        new = chance.choice(news)
        data = text.encode()
        once = sum(data.startswith(old.encode(), i) for i in range(len(data))) if old else 0
        only_crlf = data.count(b"\n") == data.count(b"\r\n") > 0
        put_in = re.sub("\r?\n", "\r\n", new) if only_crlf else new
        if once != 1 or old in (new, put_in):
            refused += 1
            with pytest.raises(ToolError):
                editing.apply("f", data, Edit(old=old, new=new))
            continue
        found = editing.apply("f", data, Edit(old=old, new=new)).data
        done += 1
        before, _, after = data.partition(old.encode())
        assert found == before + put_in.encode() + after
    assert min(done, refused) > 1000


def test_output_that_is_not_shown_as_it_was_is_said_to_be() -> None:
    plain = 0
    for data in payloads(MANY, seed=4):
        tape = shell_tool.Tape()
        for at in range(0, len(data), 1000):
            tape.add(data[at : at + 1000])
        assert tape.content() == data
        told = shell_tool.told_result(
            ExecResult(0, b"", 0, 0.1), tape, "sha256:x", background=False
        )
        head, _, shown = told.partition("\noutput:\n")
        if not data:
            assert told.endswith("(it printed nothing)")
        elif "[" not in head:
            plain += 1
            assert shown.encode() == data
        else:
            assert "the whole is sha256:x" in head
            cut = re.search(r"the first (\d+) and the last (\d+) bytes", head)
            assert (cut is not None) == (len(data) > shell_tool.HEAD + shell_tool.TAIL)
            if cut is not None:
                left = len(data) - int(cut[1]) - int(cut[2])
                assert f"[… {left} bytes left out here …]" in shown
        assert f"{len(data)} bytes of output" in head or not data
    assert plain > 500


@pytest.mark.needs("bubblewrap")
async def test_files_and_output_are_exact_through_a_real_sandbox(each_bench: Bench) -> None:
    contents = {f"p/{i:04}": data for i, data in enumerate(payloads(3000, seed=5))}

    async def doing(sandbox: Sandbox) -> Act:
        for path, data in contents.items():
            await put(sandbox, {path: data}, {})
        for path, data in contents.items():
            assert (await content(sandbox, path)).data == data
        return Act(text="written")

    async def go(hands: Hands) -> None:
        assert (await hands.workspace.act(hands.run, doing)).ok
        assert {path: hands.holds(path) for path in contents} == contents
        said = await hands.use("bash", command="cat p/*")
        printed = b"".join(contents[path] for path in sorted(contents))
        assert len(printed) < shell_tool.MOST_KEPT
        assert hands.run.read_blob(hands.last.output) == printed
        assert f"{len(printed)} bytes of output" in said
        assert "bytes left out here" in said

    await each_bench.use(go)


async def test_written_read_and_edited_with_the_tools(each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        edited = 0
        for i, text in enumerate(texts(120, seed=6)):
            await hands.use("write", path="f", content=text)
            assert hands.holds("f") == text.encode()
            shown = await hands.use("read", path="f", lines=2000)
            assert hands.last.contents == {"f": hands.workspace.tree.nodes["f"].blob}
            if "read on" not in shown:
                assert whole(shown) == text.encode()
            mark = f"<mark {i}>"
            await hands.use("write", path="f", content=f"{text}{mark}{text}")
            await hands.use("edit", path="f", old=mark, new="new")
            assert hands.holds("f") == f"{text}new{text}".encode()
            edited += 1
        assert edited == 120

    await each_bench.use(go)


def test_a_payload_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    assert list(payloads(50, 7)) == list(payloads(50, 7)) != list(payloads(50, 8))
