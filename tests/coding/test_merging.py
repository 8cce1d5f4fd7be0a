"""Merging of coders' changes: no update is lost, and what cannot be merged is named."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.agents.workspace.tree import GONE, Node, Tree, blob_name
from manyhands.teams.code.conflicts import holds_marks
from manyhands.teams.code.ignoring import ignored_by
from manyhands.teams.code.merging import Conflict, ConflictKind, Merged, merge
from manyhands.teams.code.states import node_in
from tests.coding.edits import Edited, edits, repositories
from tests.coding.snapshots import (
    Blobs,
    Snapshot,
    There,
    ground_over,
    link,
    nothing_ignored,
    run,
    snapshot_of,
    tree_of,
    write,
)

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Bench:
    """A base folder, and merges of snapshots over it."""

    def __init__(self, folder: str | Path, base: Snapshot) -> None:
        self.base, self.blobs = base, Blobs()
        self.folder = write(Path(folder), base)
        self.ignored = ignored_by(self.folder)

    def merge(self, start: Snapshot, ours: Snapshot, theirs: Snapshot) -> Merged:
        trees = [tree_of(self.base, each, self.blobs) for each in (start, ours, theirs)]
        ground = ground_over(self.folder)
        merged: Merged = run(merge(ground, self.blobs.read, *trees, ignored=self.ignored))
        self.blobs.update(merged.contents)
        return merged

    def state(self, tree: Tree) -> Snapshot:
        return snapshot_of(self.base, tree, self.blobs)


def lines_of(there: There | None) -> Counter[bytes]:
    if there is None or not there.content:
        return Counter()
    return Counter(there.content.replace(b"\r", b"").removesuffix(b"\n").split(b"\n"))


def is_text(there: There | None) -> bool:
    return there is not None and there.mode > 0 and b"\0" not in there.content


def below(path: str, state: Snapshot) -> bool:
    return any(each.startswith(f"{path}/") for each in state)


def above(path: str, state: Snapshot) -> bool:
    return any(path.startswith(f"{each}/") for each in state)


def check_lines(start: There | None, ours: There, theirs: There, merged: There) -> None:
    """Of each line there are as many as both changes together leave. Where both insert, or both
    delete, the same line, it may have been the same change."""
    was, mine, other, now = (lines_of(each) for each in (start, ours, theirs, merged))
    for line in was | mine | other | now:
        one, two = mine[line] - was[line], other[line] - was[line]
        if one * two > 0:
            least, most = sorted((one + two, max(one, two, key=abs)))
            assert was[line] + least <= now[line] <= was[line] + most, line
        else:
            assert now[line] == was[line] + one + two, line


def check_merge(
    bench: Bench, start: Snapshot, ours: Snapshot, theirs: Snapshot, merged: Merged
) -> Snapshot:
    now = bench.state(merged.tree)
    conflicts = {conflict.path: conflict for conflict in merged.conflicts}
    for path in sorted(start.keys() | ours.keys() | theirs.keys() | now.keys()):
        was, mine, other = (each.get(path) for each in (start, ours, theirs))
        if bench.ignored(path):
            assert path not in conflicts
            assert now.get(path) == mine or above(path, now)
        elif path in conflicts:
            assert now.get(path) == mine
            assert other != was
            check_conflict(conflicts[path], start, ours, theirs)
        elif other in (was, mine):
            assert now.get(path) == mine
        elif mine == was:
            assert now.get(path) == other
        else:
            assert is_text(mine)
            assert is_text(other)
            assert mine is not None
            assert other is not None
            check_lines(was if is_text(was) else None, mine, other, now[path])
    assert not [path for path in now if above(path, now)]
    assert merged.tree == tree_of(bench.base, now, Blobs())
    return now


def check_conflict(conflict: Conflict, start: Snapshot, ours: Snapshot, theirs: Snapshot) -> None:
    path = conflict.path
    was, mine, other = (each.get(path) for each in (start, ours, theirs))
    if conflict.kind is ConflictKind.FOLDER:
        everything = {**ours, **theirs}
        assert below(path, everything) or above(path, everything)
        return
    assert mine not in (was, other)
    expected = {
        ConflictKind.DELETED: mine is None or other is None,
        ConflictKind.LINK: bool(mine and other and mine.mode == other.mode == 0),
        ConflictKind.KIND: bool(mine and other and (mine.mode == 0) != (other.mode == 0)),
        ConflictKind.BINARY: not (is_text(mine) and is_text(other)),
        ConflictKind.TEXT: is_text(was) and is_text(mine) and is_text(other),
        ConflictKind.ADDED: not is_text(was) and is_text(mine) and is_text(other),
        ConflictKind.MODE: bool(mine and other and mine.mode != other.mode),
    }
    assert expected[conflict.kind]
    if conflict.text:
        marked = set(conflict.text.encode().replace(b"\r", b"").split(b"\n"))
        for side in (mine, other):
            added = lines_of(side) - lines_of(was if is_text(was) else None)
            assert marked.issuperset(added)


def run_coders(data: st.DataObject, most: int) -> None:
    base = data.draw(repositories())
    start = data.draw(edits(base, "before")).state if data.draw(st.booleans()) else dict(base)
    names = ["ann", "bob", "cy", "dee"][: data.draw(st.integers(2, most))]
    coders = [data.draw(edits(start, name)) for name in names]
    with TemporaryDirectory(dir=MEMORY) as folder:
        bench = Bench(folder, base)
        trunk = start
        unmerged: set[str] = set()
        for coder in coders:
            merged = bench.merge(start, trunk, coder.state)
            trunk = check_merge(bench, start, trunk, coder.state, merged)
            unmerged |= {conflict.path for conflict in merged.conflicts}
        for coder in coders:
            check_said(coder, trunk, unmerged, coders)
        check_pairs(bench, start, coders[0].state, coders[1].state)


def check_said(coder: Edited, trunk: Snapshot, unmerged: set[str], coders: list[Edited]) -> None:
    """What one coder alone has put into a file is there in the end, once, or the path was named."""
    for path, said in coder.said.items():
        if path in unmerged:
            continue
        found = lines_of(trunk.get(path))
        assert all(found[line] == 1 for line in said), (path, said)


def check_pairs(bench: Bench, start: Snapshot, one: Snapshot, other: Snapshot) -> None:
    forth, back = bench.merge(start, one, other), bench.merge(start, other, one)
    assert {c.path for c in forth.conflicts} == {c.path for c in back.conflicts} or any(
        c.kind is ConflictKind.FOLDER for c in (*forth.conflicts, *back.conflicts)
    )
    if not forth.conflicts and not back.conflicts:
        shown = [
            {
                path: there
                for path, there in bench.state(each.tree).items()
                if not bench.ignored(path)
            }
            for each in (forth, back)
        ]
        assert shown[0] == shown[1]
    same = bench.merge(start, one, one)
    assert not same.conflicts
    assert bench.state(same.tree) == one


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_update_of_any_coder_is_lost(data: st.DataObject) -> None:
    run_coders(data, 3)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_no_update_of_any_coder_is_lost_in_many_repositories(data: st.DataObject) -> None:
    run_coders(data, 4)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_order_of_merges_without_conflicts_does_not_matter(data: st.DataObject) -> None:
    """Of three coders, each at work on places of its own in a long file, or on files of its own."""
    base = {"long": There("".join(f"line {n}\n" for n in range(30)).encode())}
    coders: list[Snapshot] = []
    for n, who in enumerate(["ann", "bob", "cy"]):
        lines = base["long"].content.splitlines(keepends=True)
        at = data.draw(st.integers(n * 10 + 1, n * 10 + 8))
        gone = data.draw(st.integers(0, 1))
        lines[at : at + gone] = [
            f"{who} {i}\n".encode() for i in range(data.draw(st.integers(0, 3)))
        ]
        coder = {"long": There(b"".join(lines), data.draw(st.sampled_from([0o644, 0o755])))}
        if data.draw(st.booleans()):
            coder[f"of-{who}"] = There(who.encode())
        coders.append(coder)
    with TemporaryDirectory(dir=MEMORY) as folder:
        bench = Bench(folder, base)
        ends: list[Snapshot] = []
        for order in permutations(coders):
            trunk: Snapshot = base
            for coder in order:
                merged = bench.merge(base, trunk, coder)
                assert not merged.conflicts
                trunk = bench.state(merged.tree)
            ends.append(trunk)
        assert all(end == ends[0] for end in ends)
        found = lines_of(ends[0]["long"])
        said = {line for coder in coders for line in lines_of(coder["long"])}
        assert all(found[line] == 1 for line in said if not line.startswith(b"line"))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_ignored_files_change_nothing_of_a_merge(data: st.DataObject) -> None:
    start = data.draw(repositories())
    one, other = (data.draw(edits(start, who)).state for who in ("ann", "bob"))
    cache = "__pycache__/more.pyc"

    def seen(*states: Snapshot) -> object:
        with TemporaryDirectory(dir=MEMORY) as folder:
            bench = Bench(folder, start)
            merged = bench.merge(*states)
            now = bench.state(merged.tree)
            shown = {path: now[path] for path in now if not bench.ignored(path)}
            return shown, merged.conflicts

    plain = seen(start, one, other)
    assert plain == seen(start, {**one, cache: There(b"1")}, {**other, cache: There(b"2")})


# ---------------------------------------------------------------- one at a time


def conflict_in(path: Path, start: Snapshot, ours: Snapshot, theirs: Snapshot) -> Conflict:
    bench = Bench(path, start)
    merged = bench.merge(start, ours, theirs)
    check_merge(bench, start, ours, theirs, merged)
    assert len(merged.conflicts) == 1
    return merged.conflicts[0]


def test_a_conflict_is_told_and_can_be_resolved_in_the_marked_state(
    tmp_path: Path,
) -> None:
    start = {"f": There(b"a\nb\nc\nd\ne\n")}
    ours = {"f": There(b"top\na\nB\nc\nd\ne\n")}
    theirs = {"f": There(b"a\nb1\nb2\nc\nd\ne\nend\n", 0o755)}
    bench = Bench(tmp_path, start)
    merged = bench.merge(start, ours, theirs)
    (conflict,) = merged.conflicts
    assert (conflict.path, conflict.kind) == ("f", ConflictKind.TEXT)
    assert conflict.theirs is not None
    assert conflict.theirs.blob == blob_name(theirs["f"].content)
    assert holds_marks(conflict.text.encode(), conflict.marks)
    assert bench.state(merged.tree) == ours
    marked = bench.state(merged.marked)["f"]
    assert marked.mode == 0o755
    assert marked.content.decode() == conflict.text
    assert conflict.text == (
        "top\na\n<<<<<<< workspace\nB\n||||||| before\nb\n=======\nb1\nb2\n"
        ">>>>>>> task\nc\nd\ne\nend\n"
    )


def test_marks_are_told_from_lines_that_look_like_them(tmp_path: Path) -> None:
    start = {"f": There(b"<<<<<<< workspace\nb\n=========\nd\n")}
    ours = {"f": There(b"<<<<<<< workspace\nb ours\n=========\nd\n")}
    theirs = {"f": There(b"<<<<<<< workspace\nb theirs\n=========\nd\n")}
    conflict = conflict_in(tmp_path, start, ours, theirs)
    assert "<<<<<<<<<< workspace\nb ours\n" in conflict.text
    assert holds_marks(conflict.text.encode(), conflict.marks)
    assert not any(holds_marks(side["f"].content, conflict.marks) for side in (ours, theirs))


def test_a_repository_around_the_temporary_files_has_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = tmp_path / "tmp"
    (outer / ".git/objects").mkdir(parents=True)
    (outer / ".git/refs").mkdir()
    (outer / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (outer / ".git/config").write_text("[this is no configuration\n")
    monkeypatch.setattr("tempfile.tempdir", str(outer))
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    start, ours, theirs = (
        {"f": There(text)} for text in (b"a\nb\nc\n", b"A\nb\nc\n", b"a\nb\nC\n")
    )
    bench = Bench(tmp_path / "base", start)
    merged = bench.merge(start, ours, theirs)
    assert bench.state(merged.tree) == {"f": There(b"A\nb\nC\n")}


@pytest.mark.parametrize(
    ("start", "ours", "theirs", "kind"),
    [
        (There(b"\0a"), There(b"\0b"), There(b"\0c"), ConflictKind.BINARY),
        (There(b"a"), None, There(b"b"), ConflictKind.DELETED),
        (There(b"a"), There(b"b"), None, ConflictKind.DELETED),
        (There(b"a"), None, There(b"a", 0o755), ConflictKind.DELETED),
        (None, There(b"a\n"), There(b"b\n"), ConflictKind.ADDED),
        (There(b"a"), There(b"a", 0o755), There(b"a", 0o600), ConflictKind.MODE),
        (link("a"), link("b"), link("c"), ConflictKind.LINK),
        (link("a"), There(b"b"), link("c"), ConflictKind.KIND),
        (None, There(b"b"), link("c"), ConflictKind.KIND),
    ],
)
def test_what_cannot_be_merged_is_named(
    tmp_path: Path, start: There | None, ours: There | None, theirs: There | None, kind: str
) -> None:
    states = [{"p": each} if each else {} for each in (start, ours, theirs)]
    assert conflict_in(tmp_path, *states).kind is kind


def test_permissions_merge_apart_from_content(tmp_path: Path) -> None:
    start = {"f": There(b"a\n")}
    bench = Bench(tmp_path, start)
    merged = bench.merge(start, {"f": There(b"a\n", 0o755)}, {"f": There(b"b\n")})
    assert not merged.conflicts
    assert bench.state(merged.tree) == {"f": There(b"b\n", 0o755)}


@pytest.mark.parametrize("mine_is_file", [True, False])
def test_a_file_and_a_folder_in_one_place_conflict(tmp_path: Path, mine_is_file: bool) -> None:
    file, folder = {"p": There(b"file")}, {"p/q": There(b"inside"), "other": There(b"fine")}
    ours, theirs = (file, folder) if mine_is_file else (folder, file)
    bench = Bench(tmp_path, {})
    merged = bench.merge({}, ours, theirs)
    assert [(c.path, c.kind) for c in merged.conflicts] == [
        ("p/q" if mine_is_file else "p", ConflictKind.FOLDER)
    ]
    clean = {"other": There(b"fine")} if mine_is_file else {}
    assert bench.state(merged.tree) == {**ours, **clean}


def test_a_file_takes_the_place_of_a_folder_with_caches_in_it(tmp_path: Path) -> None:
    start = {"d/f.py": There(b"x"), "d/__pycache__/f.pyc": There(b"cached")}
    bench = Bench(tmp_path, start)
    ours = {**start, "d/__pycache__/g.pyc": There(b"later")}
    merged = bench.merge(start, ours, {"d": There(b"file")})
    assert not merged.conflicts
    assert bench.state(merged.tree) == {"d": There(b"file")}


def test_an_empty_folder_is_no_conflict_and_goes_when_it_is_filled(tmp_path: Path) -> None:
    empty = Tree(nodes={"d": Node(kind="folder", mode=0o755)})
    blobs = Blobs()
    filled = tree_of({}, {"d/f": There(b"x")}, blobs)
    ground = ground_over(tmp_path)
    for ours, theirs in ((empty, filled), (filled, empty)):
        merged: Merged = run(
            merge(ground, blobs.read, Tree(), ours, theirs, ignored=nothing_ignored)
        )
        assert merged.tree == filled
        assert not merged.conflicts


def test_a_folder_that_one_side_took_away_stays_where_the_other_changed_it(
    tmp_path: Path,
) -> None:
    start, theirs = (Tree(nodes={"d": Node(kind="folder", mode=m)}) for m in (0o755, 0o700))
    ground, read = ground_over(tmp_path), Blobs().read
    merged: Merged = run(merge(ground, read, start, Tree(), theirs, ignored=nothing_ignored))
    assert (merged.tree, merged.conflicts) == (theirs, ())


def test_a_cache_is_never_said_to_conflict(tmp_path: Path) -> None:
    start = {"d/f.py": There(b"x"), "d/__pycache__/f.pyc": There(b"cached")}
    bench = Bench(tmp_path, start)
    ours = {**start, "d/f.py": There(b"y")}
    merged = bench.merge(start, ours, {"d": There(b"file")})
    assert [conflict.path for conflict in merged.conflicts] == ["d", "d/f.py"]
    assert bench.state(merged.tree) == ours


def test_a_change_that_is_taken_back_names_nothing_and_stores_nothing(tmp_path: Path) -> None:
    base = {"f": There(b"base\n")}
    bench = Bench(tmp_path, base)
    merged = bench.merge({"f": There(b"start\n")}, {"f": There(b"start\n")}, base)
    assert merged.tree == Tree()
    assert merged.contents == {}


def test_the_content_of_the_base_is_handed_over_where_a_tree_comes_to_name_it(
    tmp_path: Path,
) -> None:
    base = {"f": There(b"base\n")}
    bench = Bench(tmp_path, base)
    start = {"f": There(b"start\n")}
    merged = bench.merge(start, {"f": There(b"start\n", 0o755)}, base)
    assert merged.tree.nodes["f"].mode == 0o755
    assert list(merged.contents.values()) == [b"base\n"]


def test_nothing_is_looked_at_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    base = tmp_path / "base"
    base.mkdir()
    (base / "way").symlink_to("..")
    assert node_in(base, "way/secret") is None
    start = Tree(nodes={"way/secret": GONE})
    ground, read = ground_over(base), Blobs().read
    merged: Merged = run(merge(ground, read, start, start, Tree(), ignored=nothing_ignored))
    assert merged.tree == start
    assert merged.contents == {}
