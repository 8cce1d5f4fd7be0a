"""The study's git repository, without ever touching the user's worktree, index or branches.

A study may be a folder within its repository; paths are relative to the study, with ``/``.

Invariant: a commit that is made here depends on nothing but its parent, its edits and its message
(fixed identity, the parent's date), so that the same step repeated makes the same commit. Objects
come first, refs last: whatever is killed in between leaves the refs as they were.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from manyhands.errors import RepositoryError
from manyhands.teams.lab.git import OLDEST, Done, Git, failure, find_git
from manyhands.teams.lab.paths import SKIPPED, is_plain
from manyhands.teams.lab.records import FileEdit

_FILE, _PROGRAM, _LINK, _MODULE = "100644", "100755", "120000", "160000"
_NOWHERE = "0" * 40
_REF = re.compile(r"refs/(heads/)?manyhands/[A-Za-z0-9._/-]+\Z")
#: Files are fetched in lots of about this many bytes.
_LOT = 64 * 2**20
#: Larger files stand in `Repository.texts` by their hash.
LARGEST_TEXT = 2**20


@dataclass(frozen=True, slots=True)
class TreeFile:
    """``mode`` as git writes it ("100644"); ``size`` in bytes (0 for a submodule)."""

    path: str
    mode: str
    blob: str
    size: int


@dataclass(frozen=True, slots=True)
class Worktree:
    """A detached worktree of its own. ``study`` is the study's folder within it."""

    root: Path
    study: Path
    commit: str


@dataclass(frozen=True)
class Repository:
    """``dir`` is the study's folder, ``prefix`` the same from the top of the repository."""

    git: Git
    dir: Path
    prefix: str

    @classmethod
    async def open(cls, study_dir: Path | str) -> Repository:
        """Raises `RepositoryError`: git missing or too old, no repository, no commit, a study that
        was never committed."""
        folder = Path(study_dir).expanduser().resolve()
        if not folder.is_dir():
            raise RepositoryError(f"{folder}: no such folder", next="name a study's folder")
        git_folder, top = find_git(folder)
        prefix = "" if folder == top else folder.relative_to(top).as_posix()
        repository = cls(Git(git_folder, top), folder, prefix)
        await repository._check()
        return repository

    async def _check(self) -> None:
        version = (await self.git.ok("version")).text
        found = re.search(r"(\d+)\.(\d+)", version)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise RepositoryError(
                f"{version} is older than {OLDEST[0]}.{OLDEST[1]}", next="install a newer git"
            )
        if (await self.git("rev-parse", "--verify", "-q", "HEAD^{commit}")).code != 0:
            raise RepositoryError(
                f"{self.dir}: the repository has no commit, or its HEAD cannot be read",
                next="commit the study's files, then run `git fsck` if this stays",
            )
        if (await self.git("rev-parse", "--verify", "-q", self._tree("HEAD"))).code != 0:
            raise RepositoryError(
                f"{self.dir}: none of its files is in the last commit",
                next=f"run `git add {self.dir}` and commit",
            )

    def _tree(self, commit: str) -> str:
        return f"{commit}:{self.prefix}"

    # ------------------------------------------------ reading

    async def check_clean(self) -> None:
        """Raises `RepositoryError` where the study's files differ from the last commit: changed,
        or neither committed nor ignored."""
        words = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        here = f":(top,literal){self.prefix}" if self.prefix else ":(top)"
        done = await self.git(*words, "--", here, users_own=True)
        if done.code != 0:
            raise RepositoryError(f"{self.dir}: git status: {done.err}", next="mend the repository")
        entries = done.out.decode("utf-8", "surrogateescape").split("\0")
        dirty = [e for e in entries if e and not SKIPPED & set(e[3:].split("/"))]
        if dirty:
            shown = ", ".join(_said(entry) for entry in dirty[:8])
            more = f" and {len(dirty) - 8} more" if len(dirty) > 8 else ""
            raise RepositoryError(
                f"{self.dir}: {len(dirty)} uncommitted: {shown}{more}",
                next="commit them, `git stash -u` them, or name them in .gitignore",
            )

    async def head(self) -> str:
        return (await self.git.ok("rev-parse", "HEAD^{commit}")).text

    async def resolve(self, ref: str) -> str | None:
        """The commit that ``ref`` names; None if there is no such ref."""
        done = await self.git("rev-parse", "--verify", "-q", f"{ref}^{{commit}}")
        return done.text if done.code == 0 else None

    async def files(self, commit: str) -> dict[str, TreeFile]:
        """The study's files at ``commit``, by path."""
        done = await self.git.ok("ls-tree", "-r", "-z", "-l", self._tree(commit))
        entries = done.out.decode("utf-8", "surrogateescape").split("\0")
        return {file.path: file for file in map(_tree_file, filter(None, entries))}

    async def read(self, commit: str, path: str) -> bytes:
        """The bytes of one file of the study. Raises `RepositoryError` if it is not there."""
        name = f"{commit}:{self.prefix}/{path}" if self.prefix else f"{commit}:{path}"
        done = await self.git("cat-file", "blob", name)
        if done.code != 0:
            raise RepositoryError(
                f"{path!r} is not in commit {commit[:12]}", next="name a file of that commit"
            )
        return done.out

    async def texts(self, commit: str, paths: Iterable[str] | None = None) -> dict[str, str]:
        """Path -> text, of all files or of ``paths``: equal where and only where files are equal.

        Bytes that are no UTF-8 are kept as surrogates; a file above `LARGEST_TEXT` stands by its
        hash.
        """
        files = await self.files(commit)
        wanted = [files[p] for p in (files if paths is None else paths) if p in files]
        small = [f for f in wanted if f.size <= LARGEST_TEXT and f.mode != _MODULE]
        found = {f.path: f"blob {f.blob}" for f in wanted}
        async for file, content in self._contents(small):
            found[file.path] = content.decode("utf-8", "surrogateescape")
        return found

    async def diff(self, parent: str, commit: str) -> str:
        """A unified diff of the study's files, with paths relative to the study."""
        words = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
        prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
        done = await self.git.ok(*words, *prefixes, self._tree(parent), self._tree(commit), "--")
        return done.out.decode("utf-8", "replace")

    async def export(self, commit: str, dest: Path, *, replace: bool = False) -> None:
        """Write the study's files at ``commit`` to ``dest``, all or none of them.

        Bytes are git's own: no line endings, filters or attributes apply. Raises `RepositoryError`
        for a symbolic link that leaves the study, and if ``dest`` holds something and ``replace``
        is not set.
        """
        if dest.exists() and not replace and any(dest.iterdir()):
            raise RepositoryError(f"{dest} is not empty", next="export to a new folder")
        files = await self.files(commit)
        for file in files.values():
            _check_path(file.path)
        dest.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent))
        try:
            partial.chmod(0o755)
            # Links last: nothing is ever written through one.
            ordered = sorted(files.values(), key=lambda f: f.mode == _LINK)
            async for file, content in self._contents(f for f in ordered if f.mode != _MODULE):
                _write(partial, file, content)
            if dest.exists():
                await asyncio.to_thread(shutil.rmtree, dest)
            partial.rename(dest)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    async def _contents(self, files: Iterable[TreeFile]) -> AsyncIterator[tuple[TreeFile, bytes]]:
        for lot in _lots(files):
            ask = "".join(f"{f.blob}\n" for f in lot).encode()
            out = memoryview((await self.git.ok("cat-file", "--batch", input=ask)).out)
            for file in lot:
                # "<hash> blob <size>\n<bytes>\n"
                start = len(f"{file.blob} blob {file.size}\n")
                yield file, bytes(out[start : start + file.size])
                out = out[start + file.size + 1 :]

    # ------------------------------------------------ writing commits

    async def commit_edits(self, parent: str, edits: Sequence[FileEdit], message: str) -> str:
        """A commit on ``parent`` with ``edits`` made. Raises `RepositoryError` for a path that
        leaves the study, comes twice, or is no plain file."""
        files = await self.files(parent)
        entries = [await self._entry(edit, files) for edit in edits]
        if len({edit.path for edit in edits}) < len(edits):
            raise RepositoryError("one file is edited twice", next="give one edit per file")

        async with _index() as env:
            await self.git.ok("read-tree", parent, env=env)
            lines = "".join(entries).encode()
            await self.git.ok("update-index", "-z", "--index-info", input=lines, env=env)
            return await self._commit(
                parent, (await self.git.ok("write-tree", env=env)).text, message
            )

    async def _entry(self, edit: FileEdit, files: Mapping[str, TreeFile]) -> str:
        _check_path(edit.path)
        present = files.get(edit.path)
        if present is not None and present.mode not in (_FILE, _PROGRAM):
            raise RepositoryError(f"{edit.path!r} is not a plain file", next="edit plain files")
        try:
            content = edit.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise RepositoryError(f"{edit.path!r}: {error}", next="give text") from error
        blob = (await self.git.ok("hash-object", "-w", "--stdin", input=content)).text
        path = f"{self.prefix}/{edit.path}" if self.prefix else edit.path
        return f"{present.mode if present else _FILE} {blob}\t{path}\0"

    async def _commit(self, parent: str, tree: str, message: str) -> str:
        head, _ = await self._raw(parent)
        date = re.search(r"^committer .*> (\d+ [+-]\d{4})$", head, re.MULTILINE)
        return await self._commit_tree(tree, parent, f"@{date[1] if date else '0 +0000'}", message)

    async def _raw(self, commit: str) -> tuple[str, str]:
        """(headers, message) of a commit."""
        raw = (await self.git.ok("cat-file", "commit", commit)).out.decode("utf-8", "replace")
        head, _, message = raw.partition("\n\n")
        return head, message

    async def _commit_tree(self, tree: str, parent: str, date: str, message: str) -> str:
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        words = ("commit-tree", tree, *(("-p", parent) if parent else ()), "-F", "-")
        text = message.replace("\0", "").encode("utf-8", "replace")
        return (await self.git.ok(*words, input=text, env=dates)).text

    async def rebase(self, candidate: str, onto: str, message: str = "") -> str | None:
        """What ``candidate`` changed in its parent, as a commit on ``onto``; None on a conflict.

        Lines that stand side by side conflict, as everywhere in git: a setting is better applied
        anew to the text of ``onto``. ``candidate`` itself if ``onto`` is its parent already and no
        other ``message`` is wanted.
        """
        parent = await self._parent(candidate)
        if parent == onto and not message:
            return candidate
        tree = await self._merged(parent, onto, candidate)
        if tree is None:
            return None
        return await self._commit(onto, tree, message or (await self._raw(candidate))[1])

    async def revert(self, candidate: str, onto: str, message: str) -> str | None:
        """``onto`` without what ``candidate`` changed in its parent, as a commit on ``onto``; None
        on a conflict: something that came later stands on the same lines."""
        tree = await self._merged(candidate, onto, await self._parent(candidate))
        return None if tree is None else await self._commit(onto, tree, message)

    async def adopt_tree(self, parent: str, tree_of: str, message: str) -> str:
        """A commit on ``parent`` with the very files of the commit ``tree_of``."""
        tree = (await self.git.ok("rev-parse", f"{tree_of}^{{tree}}")).text
        return await self._commit(parent, tree, message)

    async def same_tree(self, one: str, other: str) -> bool:
        """Whether two commits hold the same files."""
        done = await self.git.ok("rev-parse", f"{one}^{{tree}}", f"{other}^{{tree}}")
        return len(set(done.text.split())) == 1

    async def _parent(self, commit: str) -> str:
        return (await self.git.ok("rev-parse", f"{commit}^")).text

    async def _merged(self, base: str, ours: str, theirs: str) -> str | None:
        """The tree of a three-way merge of three commits' files; None on a conflict."""
        # merge-tree takes the merge base from history. These commits have just the history for
        # it, so that it is ``base``, whatever way led to the two sides.
        root = await self._commit_tree(f"{base}^{{tree}}", "", "@0 +0000", "base")
        sides = [
            await self._commit_tree(f"{side}^{{tree}}", root, "@0 +0000", "side")
            for side in (ours, theirs)
        ]
        words = ("merge-tree", "--write-tree", "--no-messages")
        done = await self.git(*words, *sides)
        if done.code == 1:
            return None
        if done.code != 0:
            raise failure(self.dir, words, done)
        return done.text

    # ------------------------------------------------ refs

    async def keep(self, ref: str, commit: str) -> None:
        """Point ``ref`` at ``commit``, so that git never collects it."""
        done = await self._update(_own(ref), commit)
        if done.code != 0:
            raise failure(self.dir, ("update-ref",), done)

    async def advance(self, ref: str, new: str, expected: str | None) -> bool:
        """Move ``ref`` from ``expected`` (None: from not being there) to ``new``, atomically.

        False, and nothing done, if it stands elsewhere. True also if it stands at ``new`` already:
        a step that was killed may be repeated. A branch that is checked out is refused.
        """
        await self._not_checked_out(_own(ref))
        done = await self._update(ref, new, expected or _NOWHERE)
        if done.code == 0:
            return True
        present = await self.resolve(ref)
        if present == expected:
            raise failure(self.dir, ("update-ref",), done)
        return present == new

    async def _update(self, ref: str, *words: str) -> Done:
        """The refs of a run are one process's alone: a lock that outlasts all tries was left by a
        git that was killed with an earlier one, and goes."""
        done = await self.git("update-ref", ref, *words)
        if done.code != 0 and f"{ref}.lock': File exists" in done.err:
            lock = await self.git.ok("rev-parse", "--git-path", f"{ref}.lock")
            (self.git.top / lock.text).unlink(missing_ok=True)
            done = await self.git("update-ref", ref, *words)
        return done

    async def _not_checked_out(self, ref: str) -> None:
        if not ref.startswith("refs/heads/"):
            return
        listed = await self.git.ok("worktree", "list", "--porcelain", "-z")
        if f"\0branch {ref}\0" in listed.out.decode("utf-8", "surrogateescape"):
            raise RepositoryError(
                f"the branch {ref.removeprefix('refs/heads/')} is checked out",
                next="check another branch out: moving this one would change files under you",
            )

    async def refs(self, prefix: str) -> dict[str, str]:
        """The refs below ``prefix``, with their commits."""
        done = await self.git.ok("for-each-ref", "--format=%(refname) %(objectname)", prefix)
        return dict(line.split(" ", 1) for line in done.text.splitlines())

    # ------------------------------------------------ worktrees

    @asynccontextmanager
    async def worktree(self, path: Path, commit: str) -> AsyncGenerator[Worktree]:
        """A real, detached worktree of ``commit`` at ``path``, gone afterwards.

        What an earlier process left at ``path`` is removed first, if it was a worktree of this
        repository; anything else there raises `RepositoryError`.
        """
        tree = await self.add_worktree(path, commit)
        try:
            yield tree
        finally:
            await asyncio.shield(self.remove_worktree(tree))

    async def add_worktree(self, path: Path, commit: str) -> Worktree:
        """The same, to outlive this process: end it with `remove_worktree`."""
        root = path.resolve()
        await self._discard(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        await self.git.ok("worktree", "add", "--detach", "--quiet", str(root), commit)
        return Worktree(root, root / self.prefix, commit)

    async def remove_worktree(self, tree: Worktree) -> None:
        await self._discard(tree.root)

    async def commit_worktree(self, worktree: Worktree, message: str) -> str:
        """What stands in the study's folder of ``worktree``, as a commit on the commit that it was
        made of. Ignored files are left out, and so is what was changed elsewhere."""
        async with _index() as env:
            # The worktree's own .git file may have been written by whoever worked there.
            env |= {"GIT_WORK_TREE": str(worktree.root)}
            await self.git.ok("read-tree", worktree.commit, env=env)
            where = f":(top,literal){self.prefix}" if self.prefix else ":(top)"
            await self.git.ok("-C", str(worktree.root), "add", "-A", "--", where, env=env)
            tree = (await self.git.ok("write-tree", env=env)).text
            return await self._commit(worktree.commit, tree, message)

    async def _discard(self, root: Path) -> None:
        if not await self._is_ours(root):
            return
        await self.git("worktree", "remove", "--force", "--force", str(root))
        if root.exists():
            await asyncio.to_thread(shutil.rmtree, root, onerror=_make_writable)
            # Its entry stays while the folder cannot be removed; now it can.
            await self.git("worktree", "remove", "--force", "--force", str(root))

    async def _is_ours(self, root: Path) -> bool:
        """Is there anything to remove at ``root``? Raises `RepositoryError` if it is not ours."""
        listed = (await self.git.ok("worktree", "list", "--porcelain", "-z")).out
        if f"worktree {root}\0".encode("utf-8", "surrogateescape") in listed:
            return True
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        raise RepositoryError(
            f"{root} is there and no worktree of {self.git.top}",
            next="move it away, or name another folder",
        )


# ---------------------------------------------------------------- small things


@asynccontextmanager
async def _index() -> AsyncGenerator[dict[str, str]]:
    """An index that nobody else sees."""
    with tempfile.TemporaryDirectory(prefix="manyhands-index-") as folder:
        yield {"GIT_INDEX_FILE": f"{folder}/index"}


def _tree_file(entry: str) -> TreeFile:
    meta, _, path = entry.partition("\t")
    mode, _, blob, size = meta.split()
    return TreeFile(path, mode, blob, 0 if size == "-" else int(size))


def _lots(files: Iterable[TreeFile]) -> Iterator[list[TreeFile]]:
    lot: list[TreeFile] = []
    for file in files:
        lot.append(file)
        if sum(f.size for f in lot) > _LOT or len(lot) >= 1000:
            yield lot
            lot = []
    if lot:
        yield lot


def _write(root: Path, file: TreeFile, content: bytes) -> None:
    place = root / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.mode == _LINK:
        target = content.decode("utf-8", "surrogateescape")
        landing = os.path.normpath(os.path.join(os.path.dirname(file.path), target))
        if os.path.isabs(target) or landing == ".." or landing.startswith("../"):
            raise RepositoryError(
                f"{file.path!r} is a link to {target!r}, which leaves the study",
                next="replace the link by the file itself, and commit",
            )
        place.symlink_to(target)
        return
    place.write_bytes(content)
    place.chmod(0o755 if file.mode == _PROGRAM else 0o644)


def _check_path(path: str) -> None:
    if not is_plain(path):
        raise RepositoryError(
            f"{path!r} is no plain path below the study", next="use relative paths without .."
        )


def _own(ref: str) -> str:
    if not _REF.match(ref) or ".." in ref or ref.endswith((".lock", "/", ".")):
        raise RepositoryError(
            f"{ref!r} is not a ref of ours", next="use refs/manyhands/… or refs/heads/manyhands/…"
        )
    return ref


def _said(entry: str) -> str:
    return f"{'untracked ' if entry.startswith('??') else ''}{entry[3:]}"


def _make_writable(function: Callable[[str], object], path: str, _error: object) -> None:
    """For rmtree: what a worker made unwritable is removed all the same."""
    os.chmod(os.path.dirname(path), 0o700)
    function(path)
