"""The job's file tree as a list of mounts, without mounting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from manyhands.adapters.jobs import bubblewrap
from manyhands.adapters.jobs.bubblewrap import Bwrap
from manyhands.isolation import paths
from manyhands.ports import JobSpec

BWRAP = Bwrap("/usr/bin/bwrap", sizes=True, locks_userns=True)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "readable", lambda network: [])
    monkeypatch.setattr(paths, "devices", list)
    for name in ("cwd", "out", "scratch", "data/sealed/deep", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/open", "data/secret", "data/sealed/file", "elsewhere/file"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def spec(root: Path) -> JobSpec:
    return JobSpec("k", (), root / "cwd", root / "out", root / "log", read=(root / "data",))


def arguments(spec: JobSpec, bwrap: Bwrap = BWRAP) -> list[str]:
    line, file = bubblewrap.command(bwrap, spec, spec.cwd.parent / "scratch")
    with file:
        assert line[:3] == [bwrap.path, "--args", str(file.fileno())]
        return file.read().decode().removesuffix("\0").split("\0")


def follows(found: list[str], *words: str) -> int:
    """Where ``words`` stand in ``found``; -1 if they do not."""
    for at in range(len(found)):
        if tuple(found[at : at + len(words)]) == words:
            return at
    return -1


def test_own_folders_are_writable_and_data_is_not(spec: JobSpec) -> None:
    found = arguments(spec)
    for path in (spec.cwd, spec.out):
        assert follows(found, "--bind", str(path), str(path)) >= 0
    assert follows(found, "--ro-bind", str(spec.read[0]), str(spec.read[0])) >= 0
    assert "--unshare-net" in found
    assert "--unshare-net" not in arguments(replace(spec, network=True))


def test_the_rest_is_locked_at_the_end(spec: JobSpec) -> None:
    found = arguments(spec)
    assert found[-6:] == ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]


def test_hidden_paths_are_covered_after_what_shows_them(spec: JobSpec, root: Path) -> None:
    secret, sealed = str(root / "data/secret"), str(root / "data/sealed")
    hidden = (root / "data/secret", root / "data/sealed", root / "data/never")
    found = arguments(replace(spec, hidden=hidden))
    shown = follows(found, "--ro-bind", str(root / "data"), str(root / "data"))
    blank = root / "scratch/.hidden/0"
    assert 0 <= shown < follows(found, "--ro-bind", str(blank), secret)
    assert blank.stat().st_mode & 0o777 == 0
    assert shown < follows(found, "--size", "4096", "--tmpfs", sealed)
    assert follows(found, "--remount-ro", sealed) > follows(found, "--tmpfs", sealed)
    assert str(root / "data/never") not in found


def test_what_cannot_be_seen_is_not_covered(spec: JobSpec, root: Path) -> None:
    """A cover would show its name."""
    hidden = (root / "elsewhere/file", root / "data/sealed", root / "data/sealed/file")
    found = arguments(replace(spec, hidden=hidden))
    assert str(root / "elsewhere/file") not in found
    assert str(root / "data/sealed/file") not in found


def test_the_deepest_entry_decides(spec: JobSpec, root: Path) -> None:
    deep = root / "data/sealed/deep"
    found = arguments(
        replace(spec, hidden=(root / "data/sealed",), out=deep, read=(root / "data",))
    )
    cover = follows(found, "--tmpfs", str(root / "data/sealed"))
    assert 0 <= cover < follows(found, "--bind", str(deep), str(deep))
    found = arguments(replace(spec, hidden=(root / "data/sealed",), read=(root / "data", deep)))
    cover = follows(found, "--tmpfs", str(root / "data/sealed"))
    assert 0 <= cover < follows(found, "--ro-bind", str(deep), str(deep))


def test_a_hidden_link_hides_what_it_leads_to(spec: JobSpec, root: Path) -> None:
    (root / "link").symlink_to(root / "data/secret")
    found = arguments(replace(spec, hidden=(root / "link",)))
    blank = str(root / "scratch/.hidden/0")
    assert follows(found, "--ro-bind", blank, str(root / "data/secret")) >= 0


def test_links_are_made_where_a_path_was_named_through_one(spec: JobSpec, root: Path) -> None:
    (root / "named").symlink_to(root / "elsewhere")
    (root / "data/inside").symlink_to(root / "elsewhere")
    found = arguments(replace(spec, read=(root / "named", root / "named" / "file")))
    assert follows(found, "--ro-bind", str(root / "elsewhere"), str(root / "elsewhere")) >= 0
    assert follows(found, "--symlink", str(root / "elsewhere"), str(root / "named")) >= 0
    assert str(root / "named" / "file") not in found
    found = arguments(replace(spec, read=(root / "data", root / "data/inside")))
    assert follows(found, "--ro-bind", str(root / "elsewhere"), str(root / "elsewhere")) >= 0
    assert "--symlink" not in found  # it is there, in the folder that is shown


def test_a_folder_within_a_shown_one_is_shown_once(spec: JobSpec, root: Path) -> None:
    found = arguments(replace(spec, read=(root / "data", root / "data/sealed", root / "data")))
    assert found.count(str(root / "data")) == 2
    assert str(root / "data/sealed") not in found


def test_an_old_bwrap_puts_shared_memory_on_disk(spec: JobSpec, root: Path) -> None:
    old = Bwrap("/usr/bin/bwrap", sizes=False, locks_userns=False)
    found = arguments(replace(spec, hidden=(root / "data/sealed",)), old)
    assert "--size" not in found
    assert "--disable-userns" not in found
    assert follows(found, "--bind", str(root / "scratch/.shm"), "/dev/shm") >= 0
