"""Patches and their application: real git, and the user's folder, end up with the same bytes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.agents.workspace.tree import Node, Tree
from manyhands.errors import ConfigError
from manyhands.teams.code.applying import Applied, apply_to
from manyhands.teams.code.ignoring import ignored_by
from manyhands.teams.code.patches import unified_diff
from manyhands.teams.code.states import Ignored, hashes
from tests.coding.edits import edits, repositories
from tests.coding.snapshots import (
    Blobs,
    Snapshot,
    There,
    ground_over,
    link,
    nothing_ignored,
    read,
    run,
    tree_of,
    write,
)

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Bench:
    """``base`` is what states are told from, ``user`` a copy of it: the user's own folder."""

    def __init__(self, folder: str | Path, base: Snapshot) -> None:
        self.base, self.blobs = base, Blobs()
        self.ground = ground_over(write(Path(folder) / "base", base))
        self.user = write(Path(folder) / "user", base)
        for each in (self.ground.base, self.user):
            each.mkdir(exist_ok=True)

    def tree(self, now: Snapshot) -> Tree:
        return tree_of(self.base, now, self.blobs)

    def patch(self, start: Snapshot, end: Snapshot, ignored: Ignored = nothing_ignored) -> str:
        trees = (self.tree(start), self.tree(end))
        patch: str = run(unified_diff(self.ground, self.blobs.read, *trees, ignored))
        return patch

    def apply(self, end: Snapshot, ignored: Ignored = nothing_ignored) -> Applied:
        trees = (Tree(), self.tree(end))
        return apply_to(self.user, self.ground, self.blobs.read, *trees, ignored)


def git_apply(folder: Path, patch: str) -> None:
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        input=patch.encode(),
        cwd=folder,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode() + patch


def as_git_sees(snapshot: Snapshot) -> dict[str, tuple[bytes, str]]:
    kinds = {0: "link"}
    return {
        path: (there.content, kinds.get(there.mode, "x" if there.mode & 0o100 else "-"))
        for path, there in snapshot.items()
    }


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_git_and_the_users_folder_come_to_the_state_that_the_patch_is_of(
    data: st.DataObject,
) -> None:
    base = data.draw(repositories())
    end = data.draw(edits(base, "ann")).state
    with TemporaryDirectory(dir=MEMORY) as folder:
        bench = Bench(folder, base)
        patch = bench.patch(base, end)
        assert bool(patch) == (as_git_sees(base) != as_git_sees(end))
        copy = write(Path(folder) / "copy", base)
        copy.mkdir(exist_ok=True)
        if patch:
            git_apply(copy, patch)
        assert as_git_sees(read(copy)) == as_git_sees(end)
        bench.apply(end)
        assert read(bench.user) == end
        bench.apply(end)  # an application that was cut off can be done again
        assert read(bench.user) == end


STRANGE = {
    "latin-1": (There(b"caf\xe9\nb\n"), There(b"caf\xe9s\nb\n")),
    "utf-16": (There("a\n".encode("utf-16")), There("b\n".encode("utf-16"))),
    "late zero": (There(b"a\n" * 5000 + b"\0"), There(b"b\n" * 5000 + b"\0")),
    'na"me\\ with\nall \u00e9': (None, There(b"new\n")),
    "a b/c d": (There(b"x"), None),
    "empty": (None, There(b"")),
    "crlf": (There(b"a\r\nb\r\n"), There(b"a\r\nc\r\n")),
    "no newline": (There(b"a\nb"), There(b"a\nb\n")),
    "exec": (There(b"#!\n"), There(b"#!\n", 0o755)),
    "link": (link("a"), link("/somewhere/else")),
    "link to file": (link("a"), There(b"a\n")),
    "file to link": (There(b"a\n"), link("b")),
    "- separator": (There(b"-- a\n++ b\n"), There(b"-- b\n++ c\n@@ -1 +1 @@\n")),
    "\u2028": (None, There("a\u2028b\x0cc\x85\n".encode())),
}


def test_strange_files_are_told_byte_by_byte(tmp_path: Path) -> None:
    base = {path: before for path, (before, _) in STRANGE.items() if before}
    end = {path: after for path, (_, after) in STRANGE.items() if after}
    bench = Bench(tmp_path, base)
    patch = bench.patch(base, end)
    assert "+a\r\nb" not in patch
    assert "-b\r\n+c\r\n" in patch
    assert patch.count("GIT binary patch") == 3
    git_apply(bench.user, patch)
    assert as_git_sees(read(bench.user)) == as_git_sees(end)


def test_what_the_repository_says_has_no_part_in_a_patch(tmp_path: Path) -> None:
    """Attributes, configuration and a repository around the folder of temporary files."""
    base = {"f.txt": There(b"a\n"), ".gitattributes": There(b"* -diff\n*.txt diff=evil\n")}
    ran = tmp_path / "ran"
    outer = tmp_path / "tmp"
    outer.mkdir()
    subprocess.run(["git", "init", "-q", str(outer)], check=True)
    for name, value in (
        ("diff.evil.command", f"touch {ran}; false"),
        ("diff.external", f"touch {ran}; false"),
        ("diff.noprefix", "true"),
        ("core.fsmonitor", f"touch {ran}; false"),
    ):
        subprocess.run(["git", "-C", str(outer), "config", name, value], check=True)
    (outer / ".gitattributes").write_bytes(base[".gitattributes"].content)
    bench = Bench(tmp_path, base)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr("tempfile.tempdir", str(outer))
        patching.setenv("GIT_DIR", str(outer / ".git"))
        patching.setenv("GIT_EXTERNAL_DIFF", f"touch {ran}; false")
        patch = bench.patch(base, {**base, "f.txt": There(b"b\n")})
    assert patch.endswith("--- a/f.txt\n+++ b/f.txt\n@@ -1 +1 @@\n-a\n+b\n")
    assert not ran.exists()


def test_git_s_own_records_and_ignored_files_are_in_no_patch_and_no_folder(tmp_path: Path) -> None:
    base = {"f": There(b"a\n")}
    evil = {".git/hooks/post-commit": There(b"evil", 0o755), "d/.GIT/config": There(b"evil")}
    end = {"f": There(b"b\n"), "x/__pycache__/f.pyc": There(b"c"), **evil}
    bench = Bench(tmp_path, base)
    ignored = ignored_by(bench.ground.base, keep_git=True)
    patch = bench.patch(base, end, ignored)
    assert [line for line in patch.splitlines() if line.startswith("diff")] == [
        "diff --git a/f b/f"
    ]
    assert bench.apply(end, ignored) == Applied(("f",), (), tuple(sorted(evil)))
    assert read(bench.user) == {"f": There(b"b\n")}


# ---------------------------------------------------------------- the user's folder


def test_nothing_is_written_where_the_user_has_changed_a_file(tmp_path: Path) -> None:
    base = {name: There(name.encode()) for name in ("a", "b", "c", "d/e", "mode")}
    bench = Bench(tmp_path, base)
    end = {"a": There(b"new"), "c": There(b"new"), "d/e": There(b"new"), "new": There(b"new")}
    (bench.user / "a").write_text("the user's")
    (bench.user / "c").unlink()
    (bench.user / "d/e").unlink()
    (bench.user / "d/e").symlink_to("../b")
    (bench.user / "new").write_text("the user's")
    (bench.user / "mode").chmod(0o755)
    (bench.user / "untouched").write_text("the user's")
    before = read(bench.user)
    with pytest.raises(ConfigError) as caught:
        bench.apply(end)
    assert caught.value.what.startswith("5 files of ")
    assert caught.value.what.endswith(": a, c, d/e, mode, new")
    assert read(bench.user) == before


def test_no_link_is_followed_out_of_the_folder(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"d/f": There(b"a")})
    outside = write(tmp_path / "outside", {"f": There(b"a")})
    (bench.user / "d/f").unlink()
    (bench.user / "d").rmdir()
    (bench.user / "d").symlink_to(outside)
    for end in ({"d/f": There(b"b")}, {}, {"d/f": There(b"a"), "d/new": There(b"n")}):
        with pytest.raises(ConfigError, match="a link is on the way"):
            bench.apply(end)
    assert read(outside) == {"f": There(b"a")}


def test_a_link_takes_the_place_of_a_folder_and_nothing_is_written_through_it(
    tmp_path: Path,
) -> None:
    outside = write(tmp_path / "outside", {"f": There(b"a")})
    bench = Bench(tmp_path, {"d/f": There(b"a"), "g": link(str(outside))})
    end = {"d": link(str(outside)), "g/f": There(b"b")}
    bench.apply(end)
    assert read(bench.user) == end
    assert read(outside) == {"f": There(b"a")}


def test_a_folder_with_files_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"d/f": There(b"a")})
    write(bench.user, {"d/mine": There(b"user's")})
    with pytest.raises(ConfigError, match=r": d/mine \(where d is to be\)"):
        bench.apply({"d": There(b"file")})
    assert read(bench.user) == {"d/f": There(b"a"), "d/mine": There(b"user's")}


def test_a_full_disk_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"a": There(b"a"), "b": There(b"b"), "c": There(b"c")}
    bench = Bench(tmp_path, base)
    written: list[int] = []

    def fsync(handle: int) -> None:
        written.append(handle)
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        bench.apply({"a": There(b"A"), "b": There(b"B")})
    assert read(bench.user) == base


def test_permissions_that_the_change_leaves_alone_stay_the_users(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"f": There(b"a"), "g": There(b"a")})
    (bench.user / "f").chmod(0o640)
    end = {"f": There(b"b"), "g": There(b"a", 0o6755)}
    bench.apply(end)
    assert read(bench.user) == {"f": There(b"b", 0o640), "g": There(b"a", 0o755)}


def test_a_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"d/e/f": There(b"a"), "d/g": There(b"a"), "h/i": There(b"a")})
    bench.apply({"d/g": There(b"a")})
    assert sorted(path.name for path in bench.user.rglob("*")) == ["d", "g"]


def test_empty_folders_are_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {})
    end = Tree(nodes={"d/e": Node(kind="folder", mode=0o755)})
    apply_to(bench.user, bench.ground, bench.blobs.read, Tree(), end, nothing_ignored)
    assert (bench.user / "d/e").is_dir()


def test_hashes_are_those_of_what_is_there(tmp_path: Path) -> None:
    base = {"f": There(b"a"), "g": There(b"g"), "l": link("f")}
    bench = Bench(tmp_path, base)
    tree = bench.tree({"f": There(b"b"), "l": link("g")})
    found = hashes(bench.ground, bench.blobs.read, tree, ["f", "g", "l", "none"])
    assert found["f"] == bench.blobs.put(b"b")
    assert found["l"] == bench.blobs.put(b"g")
    assert found["g"] is found["none"] is None
    assert hashes(bench.ground, bench.blobs.read, Tree(), ["g"]) == {"g": bench.blobs.put(b"g")}
