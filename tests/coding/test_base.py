"""The copy that a run works from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from manyhands.errors import ConfigError
from manyhands.teams.code import base as module
from manyhands.teams.code.base import copy_of, matches


def make(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_all_is_copied_with_modes_links_and_times(tmp_path: Path) -> None:
    source = make(tmp_path / "a", **{"x/run.sh": "#!/bin/sh\n", "y": "y"})
    (source / "x/run.sh").chmod(0o755)
    (source / "link").symlink_to("y")
    (source / "folder-link").symlink_to("x")
    copied = copy_of(source, tmp_path / "b", ())
    assert copied.files == 4
    assert (tmp_path / "b/x/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "b/link").readlink() == Path("y")
    assert (tmp_path / "b/folder-link").is_symlink()


def test_a_copy_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    source = make(tmp_path / "a", x="1")
    copy_of(source, tmp_path / "b", ())
    (source / "x").write_text("2")
    copy_of(source, tmp_path / "b", ())
    assert (tmp_path / "b/x").read_text() == "1"


def test_what_a_killed_copy_left_is_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "a", x="1", y="2")

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(module.shutil, "copy2", full)
        with pytest.raises(OSError, match="full"):
            copy_of(source, tmp_path / "b", ())
    assert not (tmp_path / "b").exists()
    copy_of(source, tmp_path / "b", ())
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["x", "y"]


def test_what_git_keeps_though_a_rule_ignores_it_is_known(tmp_path: Path) -> None:
    source = make(tmp_path / "a", **{".gitignore": "*.log\n", "kept.log": "x", "other.log": "x"})
    for words in (["init", "-q"], ["add", "-f", "kept.log", ".gitignore"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    assert copy_of(source, tmp_path / "b", ()).tracked == ("kept.log",)
    assert copy_of(make(tmp_path / "c", x="1"), tmp_path / "d", ()).tracked == ()


def test_secrets_are_left_out_and_named(tmp_path: Path) -> None:
    names = (".env", ".env.local", "id_rsa", "server.pem", "deep/.netrc")
    kept = (".env.example", "id_rsa.pub", "environment.py", "keys.py")
    source = make(tmp_path / "a", **dict.fromkeys((*names, *kept), "x"))
    copied = copy_of(source, tmp_path / "b", ())
    assert sorted(copied.left_out) == sorted(f"{name} (it may hold a secret)" for name in names)
    there = {p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*")}
    assert there == set(kept)


def test_a_folder_that_is_too_large_names_its_largest_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    source = make(tmp_path / "a", **{"data/a": "x" * 900, "data/b": "x" * 900, "small": "x"})
    with pytest.raises(ConfigError, match=r"the largest: data 0\.0 GB") as error:
        copy_of(source, tmp_path / "b", ())
    assert "--exclude" in error.value.next
    assert copy_of(source, tmp_path / "b", ("data/",)).files == 1


@pytest.mark.parametrize(
    ("path", "glob", "is_one"),
    [
        ("tests/a/b.py", "tests/", True),
        ("tests", "tests/", True),
        ("src/tests/b.py", "tests/", True),
        ("src/contests.py", "tests", False),
        ("a/test_x.py", "test_*.py", True),
        ("a/x.py", "a/*.py", True),
        ("b/x.py", "a/*.py", False),
    ],
)
def test_globs_are_of_paths_names_and_folders(path: str, glob: str, is_one: bool) -> None:
    assert matches(path, [glob]) is is_one
