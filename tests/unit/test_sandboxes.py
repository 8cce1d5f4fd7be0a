"""Parts of sandboxes that need none."""

from __future__ import annotations

import os
import platform
import struct
from pathlib import Path

import pytest

from manyhands.adapters.sandboxes import beneath, calls, files, tree
from manyhands.adapters.sandboxes.capabilities import describe
from manyhands.adapters.sandboxes.changes import ALL, Comparison
from manyhands.adapters.sandboxes.output import HeadTail
from manyhands.errors import SandboxError, SandboxMissing, SandboxRefused
from manyhands.isolation import cgroups


@pytest.fixture
def root(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("here")
    (tmp_path / "out").write_text("outside")
    fd = os.open(tmp_path / "in", beneath.DIRECTORY)
    yield fd
    os.close(fd)


def link(root: int, name: str, target: str) -> None:
    os.symlink(target, name, dir_fd=root)


@pytest.mark.parametrize(
    "path", ["deep/file", "./deep/./file", "deep//file", "deep/../deep/file", "l", "a/file", "b"]
)
def test_paths_and_links_within_are_followed(root: int, path: str) -> None:
    link(root, "l", "deep/file")
    link(root, "a", "deep")
    link(root, "b", "a/../deep/file")
    assert files.read(root, path, 0, None).data == b"here"


@pytest.mark.parametrize(
    "path", ["../out", "deep/../../out", "/etc/passwd", "up", "upup", "abs", "round", "far/x", "\0"]
)
def test_what_leads_out_is_refused(root: int, path: str) -> None:
    link(root, "up", "../out")
    link(root, "upup", "deep/../../out")
    link(root, "abs", "/etc/passwd")
    link(root, "round", "round")
    link(root, "far", "..")
    with pytest.raises(SandboxRefused):
        files.read(root, path, 0, None)
    with pytest.raises(SandboxRefused):
        files.write(root, path, b"x", None)


def test_no_descriptor_is_left_open(root: int) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0
    link(root, "up", "../out")
    for path in ("deep/file", "deep/none/x", "up", "deep/../../x"):
        for _ in range(20):
            with pytest.raises(SandboxError) if path != "deep/file" else _nothing():
                files.read(root, path, 0, None)
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SandboxError, match="full"):
        files.write(root, "deep/file", b"new", None)
    assert os.listdir(f"/proc/self/fd/{root}/deep") == ["file"]
    assert files.read(root, "deep/file", 0, None).data == b"here"


def test_a_folder_is_no_file(root: int) -> None:
    for path in ("deep", "", ".", "deep/.."):
        with pytest.raises(SandboxMissing):
            files.read(root, path, 0, None)


def test_trees_that_are_too_deep_are_said(tmp_path: Path) -> None:
    deep = tmp_path / "new"
    deep.mkdir()
    (tmp_path / "old").mkdir()
    fds = [os.open(tmp_path / name, beneath.DIRECTORY) for name in ("old", "new")]
    here = os.open(deep, beneath.DIRECTORY)
    for _ in range(files.DEPTH + 10):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", beneath.DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(SandboxError, match="deep"):
        list(Comparison().folders(fds[0], fds[1], "", ALL))
    with pytest.raises(SandboxError, match="deep"):
        files.glob(fds[1], "**/*", 10)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 1000])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_head_and_tail_are_exact(size: int, piece: int) -> None:
    data = os.urandom(size)
    kept = HeadTail(5)
    for at in range(0, size, piece):
        kept.add(data[at : at + piece])
    assert kept.total == size
    assert kept.omitted == max(0, size - 10)
    if kept.omitted:
        assert kept.text().startswith(data[:5])
        assert kept.text().endswith(data[-5:])
        assert b"%d bytes" % kept.omitted in kept.text()
    else:
        assert kept.text() == data


def run(program: bytes, number: int, audit: int, first: int = 0) -> int:
    """The verdict of a filter, by a reading of classic BPF."""
    data = struct.pack("=IIQQ", number, audit, 0, first)
    lines = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, yes, no, given = lines[at]
        at += 1
        if code == calls.LOAD:
            value = int(struct.unpack_from("=I", data, given)[0])
        elif code == calls.RETURN:
            return int(given)
        else:
            holds = value == given if code == calls.EQUAL else value >= given
            at += yes if holds else no


@pytest.mark.parametrize("name", calls.MACHINES)
def test_the_filter_refuses_what_it_names_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    machine = calls.MACHINES[name]
    program = calls.program()
    assert program is not None
    for numbers in calls.REFUSED.values():
        assert run(program, numbers[machine.column], machine.audit) == calls.REFUSE | calls.EPERM
    assert run(program, calls.IO_URING_SETUP, machine.audit) == calls.REFUSE | calls.ENOSYS
    assert run(program, 9999, machine.audit) == calls.ALLOW
    assert run(program, 9999, 1) == calls.REFUSE | calls.ENOSYS
    for family in (1, 2, 10, 16):
        assert run(program, machine.socket, machine.audit, family) == calls.ALLOW
    for family in (0, 17, 38, 40):
        assert run(program, machine.socket, machine.audit, family) != calls.ALLOW


def test_no_group_is_found_where_none_gives_limits(tmp_path: Path) -> None:
    assert cgroups.own_group("0::/a/b\n") == cgroups.ROOT / "a" / "b"
    assert cgroups.own_group("4:memory:/x\n") is None
    assert isinstance(cgroups.usable([Path("/elsewhere")], tmp_path), str)


@pytest.mark.parametrize("backend", ["overlay", "copy", "unsafe-local", "none"])
def test_every_backend_says_of_each_thing_how_or_why_not(backend: str) -> None:
    found = describe(backend, ["a note"])
    assert all(each.how for each in found.enforced)
    assert (backend in ("overlay", "copy")) is found.enforced[0].holds
    if backend in ("none", "unsafe-local"):
        claims = {each.name for each in found.enforced if each.holds}
        assert claims <= {"cgroup", "non-root"}


@pytest.mark.parametrize(
    "place", ["logs", "/", "/usr", "/bin/x", "/tmp/x", "/app", "/app/x", "/a/../b"]
)
def test_scratch_folders_cover_nothing_that_is_needed(place: str) -> None:
    with pytest.raises(SandboxRefused):
        tree.scratch_places([place], "/app")
    with pytest.raises(SandboxRefused):
        tree.scratch_places(["/logs", "/logs/inner"], "/app")
    assert tree.scratch_places(["/logs/", "/tests"], "/app") == ("/logs", "/tests")
