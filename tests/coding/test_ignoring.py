"""What takes no part in merges: git itself says the same of its rules."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.agents.workspace.tree import GONE, Tree
from manyhands.errors import ConfigError
from manyhands.teams.code.ignoring import ignored_by
from tests.coding.snapshots import Blobs, There, tree_of

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
NAMES = st.sampled_from(["a", "b", "build", "x.log", "keep.log", "src", "foo bar"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
RULES = r"""
a /a a/ *.log !keep.log build/ !build/x /src/* !/src/a **/b a/** a/**/b src/b/ !a b* ? [ab] \!a
#c foo\_bar */b !*/ /* !/src !src/** / ! a/b/ !a/b ** a//b /a/* !/a/b/ !/a/b*/ !**/b a_ b\_
src/**/x.log !src/**/b _ [!a] [a-b]/ \* src/[ab]/*"""
LINES = st.sampled_from(RULES.split()).map(lambda line: line.replace("_", " "))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["", "src/", "a/"]), st.lists(LINES, max_size=5)),
    st.lists(PATHS, max_size=15),
)
def test_git_says_the_same(rules: dict[str, list[str]], paths: list[str]) -> None:
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        subprocess.run(["git", "init", "-q", "--template=", name], check=True)
        for where, lines in rules.items():
            (folder / where).mkdir(exist_ok=True)
            (folder / where / ".gitignore").write_text("\n".join(lines) + "\n")
        there: list[str] = []
        for path in paths:
            try:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text("x")
            except OSError:
                continue  # a file is on the way, or a folder in its place
            there.append(path)
        said = subprocess.run(
            ["git", "-C", name, "check-ignore", "--no-index", "--stdin", "-z"],
            input="\0".join(there).encode(),
            capture_output=True,
            check=False,
        )
        by_git = set(said.stdout.decode().split("\0"))
        ignored = ignored_by(folder)
        assert {path for path in there if ignored(path)} == by_git & set(there)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "sub/.git/HEAD",
        "sub/.git",
        "a/__pycache__/b.cpython-311.pyc",
        "b.pyc",
        ".mypy_cache/x",
        "web/node_modules/.cache/y",
        "__pycache__/",
    ],
)
def test_git_s_records_and_caches_are_ignored_without_a_rule(tmp_path: Path, path: str) -> None:
    assert ignored_by(tmp_path)(path)


@pytest.mark.parametrize("path", [".gitignore", "git/x", "node_modules/x", "pyc", "a.pyc.txt"])
def test_what_only_looks_like_them_is_not(tmp_path: Path, path: str) -> None:
    assert not ignored_by(tmp_path)(path)


def test_git_s_records_count_where_they_are_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*\n")
    ignored = ignored_by(tmp_path, keep_git=True)
    assert not ignored(".git/refs/heads/main")
    assert ignored("other")


def test_the_rules_are_those_of_the_state_that_was_named(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("from-base\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/.gitignore").write_text("in-d\n")
    blobs = Blobs()
    tree = tree_of({}, {".gitignore": There(b"from-state\n")}, blobs)
    tree = tree.after({"d/.gitignore": GONE})
    ignored = ignored_by(tmp_path, tree, blobs.read)
    asked = ("from-base", "from-state", "d/in-d")
    assert [ignored(path) for path in asked] == [False, True, False]
    ignored = ignored_by(tmp_path, Tree(), blobs.read)
    assert [ignored(path) for path in asked] == [True, False, True]


def test_a_tracked_file_counts_whatever_a_rule_says(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("dist/\n")
    ignored = ignored_by(tmp_path, tracked=["dist/bundle.js"])
    assert not ignored("dist/bundle.js")
    assert ignored("dist/other.js")


def test_a_link_in_place_of_a_gitignore_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x\n")
    base = tmp_path / "base"
    base.mkdir()
    (base / ".gitignore").symlink_to("../outside")
    assert not ignored_by(base)("x")


def test_rules_that_take_long_to_match_are_not_applied(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*a" * 20 + "b\n" + "**/a/" * 20 + "b\nplain\n")
    ignored = ignored_by(tmp_path)
    began = time.monotonic()
    assert not ignored("a" * 250)
    assert not ignored("a/" * 100 + "c")
    assert time.monotonic() - began < 20
    assert ignored("plain")


def test_without_the_package_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pathspec", None)
    (tmp_path / ".gitignore").write_text("x\n")
    with pytest.raises(ConfigError, match="pathspec") as caught:
        ignored_by(tmp_path)("y")
    assert caught.value.next == "pip install 'manyhands[code]'"
