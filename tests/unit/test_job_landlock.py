"""The allow-list and the filter of system calls, without applying them."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from manyhands.adapters.jobs import landlock
from manyhands.adapters.jobs.landlock import READ, READ_DIR, READ_FILE, WRITE_FILE, Landlock
from manyhands.errors import JobError
from manyhands.isolation import paths
from manyhands.ports import JobSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is a part of Linux")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    monkeypatch.setattr(paths, "readable", lambda network: [])
    for name in ("cwd", "out", "scratch", "data/sub"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/open", "data/sealed", "data/sub/open", "data/sub/sealed"):
        (tmp_path / name).touch()
    (tmp_path / "data/link").symlink_to("sealed")
    data, out = tmp_path / "data", tmp_path / "out"
    hidden = (data / "sealed", data / "sub" / "sealed", data / "missing")
    cwd = tmp_path / "cwd"
    return JobSpec("k", (), cwd, out, tmp_path / "log", read=(data,), hidden=hidden)


def allowed(spec: JobSpec, abi: int = 7) -> dict[str, int]:
    root = spec.cwd.parent
    rules = landlock.rules(Landlock(abi), spec, root / "scratch")
    return {
        str(Path(path).relative_to(root)): access
        for path, access in rules
        if Path(path).is_relative_to(root)
    }


def test_hidden_files_are_left_out_by_naming_their_neighbours(spec: JobSpec) -> None:
    file = READ & ~READ_DIR
    rights = Landlock(7).rights
    assert allowed(spec) == {
        "cwd": rights,
        "out": rights,
        "scratch": rights,
        "data": READ_DIR,
        "data/open": file,
        "data/sub": READ_DIR,
        "data/sub/open": file,
    }


def test_without_hidden_files_a_folder_is_one_rule(spec: JobSpec) -> None:
    plain = JobSpec("k", (), spec.cwd, spec.out, spec.log, read=spec.read)
    assert allowed(plain)["data"] == READ
    assert len(allowed(plain)) == 4


def test_hidden_in_a_writable_folder_is_refused(spec: JobSpec) -> None:
    (spec.cwd / "secret").touch()
    broken = JobSpec("k", (), spec.cwd, spec.out, spec.log, hidden=(spec.cwd / "secret",))
    with pytest.raises(JobError, match="writable folder") as caught:
        allowed(broken)
    assert "bubblewrap" in caught.value.next


def test_rules_know_the_kernels_version(spec: JobSpec) -> None:
    rules = dict(landlock.rules(Landlock(1), spec, spec.cwd.parent / "scratch"))
    assert max(rules.values()) < 1 << 13
    assert rules["/dev/null"] == READ_FILE | WRITE_FILE
    assert [
        len(landlock.attributes(Landlock(abi), network=False)) for abi in (1, 3, 4, 5, 6, 9)
    ] == [
        8,
        8,
        16,
        16,
        24,
        24,
    ]
    assert landlock.attributes(Landlock(4), network=True)[8:] == bytes(8)


def evaluate(program: bytes, number: int, architecture: int, first: int) -> int:
    """A reading of classic BPF of its own: what the filter returns for a system call."""
    data = struct.pack("=IIQQ", number, architecture, 0, first)
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        code, true, false, value = lines[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            held = accumulator == value if code == 0x15 else accumulator >= value
            at += true if held else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_lets_only_unix_sockets_through(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    program = landlock.network_filter()
    assert program is not None
    architecture, socket, io_uring = landlock.SYSTEM_CALLS[machine]
    allow, refuse, missing = 0x7FFF0000, 0x0005000D, 0x00050026
    assert evaluate(program, socket, architecture, 1) == allow
    for family in (2, 10, 16, 17, 40):
        assert evaluate(program, socket, architecture, family) == refuse
    assert evaluate(program, io_uring, architecture, 0) == missing
    for number in (0, 1, 59, 200, 435):
        assert evaluate(program, number, architecture, 2) == allow
    assert evaluate(program, socket | 0x40000000, architecture, 1) == refuse
    assert evaluate(program, 1, 0x40000003, 1) == refuse


def test_an_unknown_machine_has_no_filter_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert landlock.network_filter() is None
    assert not Landlock(7).blocks_network
