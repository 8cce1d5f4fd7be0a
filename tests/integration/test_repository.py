"""The study's repository, on real git repositories."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from manyhands.errors import DiskFull, RepositoryError
from manyhands.teams.lab.git import Done, Git, failure
from manyhands.teams.lab.records import FileEdit
from manyhands.teams.lab.repository import Repository

TRAIN = "# settings\nRATE = 0.1\n\n\n\nWIDTH = 64\n\n\nprint(RATE, WIDTH)\n"


def git(folder: Path, *words: str, **env: str) -> str:
    identity = {
        f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env={**clean, **identity, "GIT_CONFIG_GLOBAL": os.devnull, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def make(folder: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository whose study is the folder `studies/one`."""
    folder = tmp_path / "repo"
    folder.mkdir()
    make(
        folder,
        {
            "outside.txt": "o",
            "studies/one/train.py": TRAIN,
            "studies/one/study.toml": "x",
            "studies/one/lib/data.py": "d",
        },
    )
    return folder


@pytest.fixture
async def repository(top: Path) -> Repository:
    return await Repository.open(top / "studies/one")


def edited(**values: str) -> list[FileEdit]:
    text = TRAIN
    for name, value in values.items():
        line = next(ln for ln in TRAIN.splitlines() if ln.startswith(f"{name} ="))
        text = text.replace(line, f"{name} = {value}")
    return [FileEdit(path="train.py", text=text)]


class TestOpening:
    async def test_outside_of_a_repository(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="not in a git repository") as caught:
            await Repository.open(tmp_path)
        assert "git init" in caught.value.next

    async def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="no such folder"):
            await Repository.open(tmp_path / "nowhere")

    async def test_without_a_commit(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        with pytest.raises(RepositoryError, match="no commit") as caught:
            await Repository.open(tmp_path)
        assert "commit" in caught.value.next

    async def test_a_study_that_was_never_committed(self, top: Path) -> None:
        (top / "new").mkdir()
        with pytest.raises(RepositoryError, match="none of its files"):
            await Repository.open(top / "new")

    async def test_without_git(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(RepositoryError, match="git was not found"):
            await Repository.open(top)

    async def test_from_a_linked_worktree(self, top: Path, tmp_path: Path) -> None:
        git(top, "worktree", "add", "-q", str(tmp_path / "linked"))
        repository = await Repository.open(tmp_path / "linked/studies/one")
        assert await repository.head() == git(top, "rev-parse", "HEAD")

    async def test_an_outer_git_environment_is_not_followed(
        self, top: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
        repository = await Repository.open(top / "studies/one")
        assert set(await repository.files("HEAD")) == {"train.py", "study.toml", "lib/data.py"}


class TestClean:
    async def test_a_clean_study_in_a_dirty_repository(
        self, repository: Repository, top: Path
    ) -> None:
        (top / "outside.txt").write_text("changed")
        (top / "studies/one/__pycache__").mkdir()
        (top / "studies/one/__pycache__/x.pyc").write_text("")
        (top / "studies/one/.manyhands").mkdir()
        (top / "studies/one/.manyhands/journal").write_text("")
        await repository.check_clean()

    @pytest.mark.parametrize("path", ["train.py", "new.py", "ä b.py"])
    async def test_what_is_not_committed_is_named(self, repository: Repository, path: str) -> None:
        (repository.dir / path).write_text("changed")
        with pytest.raises(RepositoryError, match=path) as caught:
            await repository.check_clean()
        assert "commit" in caught.value.next

    async def test_what_is_ignored_is_not(self, repository: Repository, top: Path) -> None:
        (top / ".git/info/exclude").write_text("new.py\n")
        (repository.dir / "new.py").write_text("")
        await repository.check_clean()


class TestReading:
    async def test_texts_are_relative_to_the_study(self, repository: Repository) -> None:
        texts = await repository.texts("HEAD")
        assert texts == {"train.py": TRAIN, "study.toml": "x", "lib/data.py": "d"}
        assert await repository.texts("HEAD", ["train.py", "absent"]) == {"train.py": TRAIN}

    async def test_bytes_that_are_no_text_round_trip(self, repository: Repository) -> None:
        raw = b"\xff\x00\n\xfe"
        (repository.dir / "lib/blob").write_bytes(raw)
        make(repository.git.top, {})
        head = await repository.head()
        text = (await repository.texts(head))["lib/blob"]
        assert await repository.read(head, "lib/blob") == raw
        again = await repository.commit_edits(head, [FileEdit(path="lib/blob", text=text)], "m")
        assert await repository.read(again, "lib/blob") == raw

    async def test_an_absent_file(self, repository: Repository) -> None:
        with pytest.raises(RepositoryError, match="absent"):
            await repository.read("HEAD", "absent")

    async def test_export_is_the_study_alone(self, repository: Repository, tmp_path: Path) -> None:
        program = repository.dir / "run.sh"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        (repository.dir / "link").symlink_to("lib/data.py")
        # What `git archive` would leave out or fill in.
        (repository.dir / ".gitattributes").write_text(
            "train.py export-ignore\nlib/* export-subst\n*.py eol=crlf\n"
        )
        commit = make(repository.git.top, {})
        dest = tmp_path / "deep/export"
        await repository.export(commit, dest)
        assert (dest / "train.py").read_bytes() == TRAIN.encode()
        assert os.access(dest / "run.sh", os.X_OK)
        assert (dest / "link").read_text() == "d"
        assert not (dest / "outside.txt").exists()
        assert not (dest / ".git").exists()
        assert [p.name for p in dest.parent.iterdir()] == ["export"]

    async def test_export_does_not_overwrite_unasked(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        (tmp_path / "dest").mkdir()
        (tmp_path / "dest/mine").write_text("")
        with pytest.raises(RepositoryError, match="not empty"):
            await repository.export("HEAD", tmp_path / "dest")
        await repository.export("HEAD", tmp_path / "dest", replace=True)
        assert not (tmp_path / "dest/mine").exists()

    @pytest.mark.parametrize("target", ["/etc/passwd", "../../outside.txt", "lib/../../.."])
    async def test_a_link_that_leaves_the_study_is_refused(
        self, repository: Repository, tmp_path: Path, target: str
    ) -> None:
        (repository.dir / "link").symlink_to(target)
        commit = make(repository.git.top, {})
        with pytest.raises(RepositoryError, match="leaves the study"):
            await repository.export(commit, tmp_path / "dest")
        assert list(tmp_path.iterdir()) == [repository.git.top]


class TestCommits:
    async def test_an_edit_is_the_same_commit_every_time(
        self, repository: Repository, top: Path
    ) -> None:
        head = await repository.head()
        before = git(top, "status", "--porcelain"), (top / ".git/index").read_bytes()
        edits = [*edited(RATE="0.2"), FileEdit(path="lib/new.py", text="ä")]
        one = await repository.commit_edits(head, edits, "try 0.2")
        assert await repository.commit_edits(head, edits, "try 0.2") == one
        assert await repository.commit_edits(head, edits, "another") != one
        assert (await repository.texts(one))["lib/new.py"] == "ä"
        assert git(top, "rev-parse", f"{one}^") == head
        assert git(top, "show", f"{one}:outside.txt") == "o"
        assert before == (git(top, "status", "--porcelain"), (top / ".git/index").read_bytes())
        assert (repository.dir / "train.py").read_text() == TRAIN

    async def test_the_user_and_the_clock_make_no_difference(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = await repository.head()
        one = await repository.commit_edits(head, edited(RATE="0.2"), "m")
        monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
        monkeypatch.setenv("GIT_COMMITTER_DATE", "@1 +0000")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        git(repository.git.top, "config", "user.name", "else")
        git(repository.git.top, "config", "core.autocrlf", "true")
        assert await repository.commit_edits(head, edited(RATE="0.2"), "m") == one

    async def test_hooks_do_not_run(self, repository: Repository, tmp_path: Path) -> None:
        for hook in ("post-commit", "post-checkout", "reference-transaction", "pre-commit"):
            file = repository.git.folder / "hooks" / hook
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
            file.chmod(0o755)
        head = await repository.head()
        commit = await repository.commit_edits(head, edited(RATE="0.2"), "m")
        await repository.keep("refs/manyhands/r/c", commit)
        async with repository.worktree(tmp_path / "w", commit):
            pass
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "path", ["../outside.txt", "/etc/x", ".git/config", "a/../../b", "lib/.GIT/x", "a\tb", ""]
    )
    async def test_paths_that_leave_the_study(self, repository: Repository, path: str) -> None:
        with pytest.raises(RepositoryError, match="plain path"):
            await repository.commit_edits("HEAD", [FileEdit(path=path, text="")], "m")

    async def test_a_link_is_not_edited(self, repository: Repository) -> None:
        (repository.dir / "link").symlink_to("train.py")
        head = make(repository.git.top, {})
        with pytest.raises(RepositoryError, match="not a plain file"):
            await repository.commit_edits(head, [FileEdit(path="link", text="")], "m")

    async def test_one_file_twice(self, repository: Repository) -> None:
        with pytest.raises(RepositoryError, match="twice"):
            await repository.commit_edits("HEAD", edited(RATE="1") + edited(RATE="2"), "m")

    async def test_a_mode_is_kept(self, repository: Repository) -> None:
        (repository.dir / "train.py").chmod(0o755)
        head = make(repository.git.top, {})
        commit = await repository.commit_edits(head, edited(RATE="0.2"), "m")
        assert (await repository.files(commit))["train.py"].mode == "100755"

    async def test_the_diff_names_the_study_s_files(self, repository: Repository) -> None:
        head = await repository.head()
        commit = await repository.commit_edits(head, edited(RATE="0.2"), "m")
        diff = await repository.diff(head, commit)
        assert "--- a/train.py" in diff
        assert "-RATE = 0.1\n+RATE = 0.2" in diff


class TestRebase:
    async def test_two_wins_are_both_kept(self, repository: Repository) -> None:
        head = await repository.head()
        one = await repository.commit_edits(head, edited(RATE="0.2"), "one")
        two = await repository.commit_edits(head, edited(WIDTH="128"), "two")
        both = await repository.rebase(two, one)
        assert both is not None
        assert both == await repository.rebase(two, one)
        assert (await repository.texts(both))["train.py"] == edited(RATE="0.2", WIDTH="128")[0].text
        assert git(repository.git.top, "log", "--format=%s", "-2", both).split() == ["two", "one"]

    async def test_a_conflict(self, repository: Repository) -> None:
        head = await repository.head()
        one = await repository.commit_edits(head, edited(RATE="0.2"), "one")
        two = await repository.commit_edits(head, edited(RATE="0.3"), "two")
        assert await repository.rebase(two, one) is None

    async def test_onto_its_own_parent(self, repository: Repository) -> None:
        head = await repository.head()
        one = await repository.commit_edits(head, edited(RATE="0.2"), "one")
        assert await repository.rebase(one, head) == one

    async def test_the_base_is_the_candidate_s_parent(self, repository: Repository) -> None:
        """Also where history would find another: `onto` does not contain the parent."""
        head = await repository.head()
        parent = await repository.commit_edits(head, edited(WIDTH="32"), "parent")
        text = edited(WIDTH="32", RATE="0.5")
        candidate = await repository.commit_edits(parent, text, "candidate")
        rebased = await repository.rebase(candidate, head)
        assert rebased is not None
        assert (await repository.texts(rebased))["train.py"] == edited(RATE="0.5")[0].text


class TestRefs:
    async def test_compare_and_swap(self, repository: Repository) -> None:
        head = await repository.head()
        one = await repository.commit_edits(head, edited(RATE="0.2"), "one")
        two = await repository.commit_edits(head, edited(RATE="0.3"), "two")
        ref = "refs/manyhands/run-1/master"
        assert await repository.advance(ref, head, None)
        assert not await repository.advance(ref, one, None)
        assert await repository.advance(ref, one, head)
        assert not await repository.advance(ref, two, head)
        assert await repository.advance(ref, one, head), "repeated after a kill"
        assert await repository.resolve(ref) == one
        assert await repository.refs("refs/manyhands/run-1") == {ref: one}
        assert await repository.resolve("refs/manyhands/none") is None

    async def test_of_many_one_wins(self, repository: Repository) -> None:
        head, ref = await repository.head(), "refs/manyhands/run-1/master"
        await repository.keep(ref, head)
        commits = [
            await repository.commit_edits(head, edited(RATE=f"0.{n}"), "m") for n in range(2, 10)
        ]
        won = await asyncio.gather(*(repository.advance(ref, c, head) for c in commits))
        assert won.count(True) == 1
        assert await repository.resolve(ref) == commits[won.index(True)]

    async def test_a_lock_that_is_let_go(self, repository: Repository) -> None:
        ref = "refs/manyhands/run-1/master"
        await repository.keep(ref, await repository.head())
        lock = repository.git.folder / f"{ref}.lock"
        lock.touch()

        async def let_go() -> None:
            await asyncio.sleep(0.2)
            lock.unlink()

        letting = asyncio.create_task(let_go())
        assert await repository.advance(ref, "HEAD", await repository.head())
        await letting

    async def test_a_lock_of_one_that_was_killed(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("manyhands.teams.lab.git._TRIES", 2)
        ref, head = "refs/manyhands/run-1/master", await repository.head()
        await repository.keep(ref, head)
        lock = repository.git.folder / f"{ref}.lock"
        for set_again in (repository.advance(ref, head, head), repository.keep(ref, head)):
            lock.touch()
            await set_again
            assert not lock.exists()
        (repository.git.folder / "refs/heads/main.lock").touch()
        assert await repository.advance(ref, head, head), "others' locks stay"
        assert (repository.git.folder / "refs/heads/main.lock").exists()

    async def test_no_room_is_not_a_fault_of_the_repository(self, repository: Repository) -> None:
        said = "error: unable to write file: No space left on device\nfatal: it cannot be"
        error = failure(repository.dir, ("write-tree",), Done(128, b"", said))
        assert isinstance(error, DiskFull)
        assert error.next == "free some space and resume: what has ended is kept"

    async def test_other_refs_are_the_user_s(self, repository: Repository) -> None:
        for ref in (
            "refs/heads/main",
            "refs/manyhands/../heads/main",
            "HEAD",
            "refs/manyhands/a b",
        ):
            with pytest.raises(RepositoryError, match="not a ref of ours"):
                await repository.keep(ref, "HEAD")

    async def test_a_branch_that_is_checked_out(self, repository: Repository, top: Path) -> None:
        ref = "refs/heads/manyhands/one"
        head = await repository.head()
        assert await repository.advance(ref, head, None)
        git(top, "checkout", "-q", "manyhands/one")
        with pytest.raises(RepositoryError, match="checked out"):
            await repository.advance(ref, head, head)


class TestWorktrees:
    async def test_it_is_real_and_goes_away(self, repository: Repository, tmp_path: Path) -> None:
        head = await repository.head()
        async with repository.worktree(tmp_path / "w", head) as worktree:
            assert git(worktree.root, "rev-parse", "HEAD") == head
            (worktree.study / "train.py").write_text(edited(RATE="0.2")[0].text)
            (worktree.study / "more.py").write_text("more")
            (worktree.root / "outside.txt").write_text("changed")
            (worktree.study / "lib/data.py").unlink()
            commit = await repository.commit_worktree(worktree, "m")
            assert commit == await repository.commit_worktree(worktree, "m")
        assert not (tmp_path / "w").exists()
        assert len(git(repository.git.top, "worktree", "list").splitlines()) == 1
        files = await repository.files(commit)
        assert set(files) == {"train.py", "study.toml", "more.py"}
        assert git(repository.git.top, "show", f"{commit}:outside.txt") == "o"

    async def test_many_at_once(self, repository: Repository, tmp_path: Path) -> None:
        head = await repository.head()

        async def use(n: int) -> None:
            async with repository.worktree(tmp_path / f"w{n}", head) as worktree:
                assert (worktree.study / "train.py").read_text() == TRAIN

        await asyncio.gather(*map(use, range(8)))
        assert len(git(repository.git.top, "worktree", "list").splitlines()) == 1

    @pytest.mark.parametrize("left", ["all of it", "no folder", "no .git", "locked"])
    async def test_what_a_killed_process_left(
        self, repository: Repository, tmp_path: Path, left: str
    ) -> None:
        path = tmp_path / "w"
        git(repository.git.top, "worktree", "add", "-q", "--detach", str(path))
        if left == "no folder":
            shutil.rmtree(path)
        if left == "no .git":
            (path / ".git").unlink()
        if left == "locked":
            git(repository.git.top, "worktree", "lock", str(path))
        async with repository.worktree(path, "HEAD") as worktree:
            assert (worktree.study / "train.py").read_text() == TRAIN
        assert not path.exists()

    async def test_a_folder_of_the_user(self, repository: Repository, tmp_path: Path) -> None:
        (tmp_path / "w").mkdir()
        (tmp_path / "w/mine").write_text("")
        with pytest.raises(RepositoryError, match="no worktree of"):
            async with repository.worktree(tmp_path / "w", "HEAD"):
                pass
        assert (tmp_path / "w/mine").exists()

    async def test_a_worker_that_rewrote_its_git_file(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """Git reads the configuration that `.git` points to; a worker's must never be read."""
        evil = tmp_path / "evil"
        evil.mkdir()
        git(evil, "init", "-q")
        git(evil, "config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
        async with repository.worktree(tmp_path / "w", "HEAD") as worktree:
            (worktree.root / ".git").write_text(f"gitdir: {evil / '.git'}\n")
            (worktree.study / "train.py").write_text("changed")
            commit = await repository.commit_worktree(worktree, "m")
        assert await repository.read(commit, "train.py") == b"changed"
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "w").exists()

    async def test_it_goes_away_on_an_error(self, repository: Repository, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            async with repository.worktree(tmp_path / "w", "HEAD"):
                raise ZeroDivisionError
        assert not (tmp_path / "w").exists()


async def test_a_cancelled_call_leaves_no_process(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "git"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    call: asyncio.Task[Done] = asyncio.create_task(Git(tmp_path, tmp_path)("status"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    pid = int((tmp_path / "pid").read_text())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
