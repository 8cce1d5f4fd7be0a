"""The log holds the output up to the cap, then one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.adapters.jobs.output import TAIL_BYTES, OutputLog
from manyhands.errors import JobError
from manyhands.isolation.report import Report


class Wakes:
    count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.mark.parametrize("chunk", [1, 3, 10])
@pytest.mark.parametrize("size", [0, 9, 10])
async def test_up_to_the_cap_all_is_kept(tmp_path: Path, chunk: int, size: int) -> None:
    wakes = Wakes()
    seen: list[bytes] = []
    output = OutputLog(tmp_path / "log", 10, seen.append, wakes)
    data = bytes(range(65, 65 + size))
    for start in range(0, size, chunk):
        output.data_received(data[start : start + chunk])
    output.connection_lost(None)
    assert (tmp_path / "log").read_bytes() == b"".join(seen) == data
    assert output.tail() == data.decode()
    assert not output.over
    assert wakes.count == 0
    assert output.closed.done()


@pytest.mark.parametrize("chunk", [1, 3, 11, 50])
async def test_over_the_cap_it_is_cut_and_says_so(tmp_path: Path, chunk: int) -> None:
    wakes = Wakes()
    seen: list[bytes] = []
    output = OutputLog(tmp_path / "log", 10, seen.append, wakes)
    for _ in range(0, 50, chunk):
        output.data_received(b"x" * chunk)
    output.connection_lost(None)
    text = (tmp_path / "log").read_text()
    assert text == "x" * 10 + "\n[manyhands: output cut at the limit of 10 bytes]\n"
    assert output.tail() == text
    assert b"".join(seen) == b"x" * 10
    assert output.over
    assert wakes.count == 1


async def test_the_tail_is_bounded_and_always_text(tmp_path: Path) -> None:
    output = OutputLog(tmp_path / "log", 10**6, None, Wakes())
    output.data_received(b"a" * 10_000)
    output.data_received(b"\xff end")
    output.connection_lost(None)
    assert len(output.tail()) == TAIL_BYTES
    assert output.tail().endswith("\ufffd end")


async def test_a_callback_that_fails_is_remembered(tmp_path: Path) -> None:
    def refuse(chunk: bytes) -> None:
        raise LookupError

    wakes = Wakes()
    output = OutputLog(tmp_path / "log", 10, refuse, wakes)
    output.data_received(b"x")
    output.data_received(b"x")
    output.connection_lost(None)
    assert isinstance(output.error, LookupError)
    assert wakes.count == 1


async def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="missing/log") as caught:
        OutputLog(tmp_path / "missing" / "log", 10, None, Wakes())
    assert caught.value.next


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
async def test_a_full_disk_is_named() -> None:
    output = OutputLog(Path("/dev/full"), 10, None, Wakes())
    output.data_received(b"x")
    output.connection_lost(None)
    assert isinstance(output.error, JobError)
    assert "No space left" in output.error.what


def test_the_supervisor_is_understood() -> None:
    report = Report()
    for line in ("start", "error OSError: no", "end -9 1.5 0.25 4096 2"):
        report.take(line)
    assert report == Report(True, "OSError: no", True, -9, 1.5, 0.25, 4096, 2)
    report.take("end ? 0 0 0 0")
    assert report.code is None
    with pytest.raises(ValueError, match="unpack"):
        report.take("end 0")
