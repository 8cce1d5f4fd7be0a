"""The changes of one sandbox, brought into another; and sandboxes that begin as forks of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manyhands.errors import SandboxError
from manyhands.ports import Capabilities, ChangeKind, Sandbox, Sandboxes, SandboxLimits

#: Paths of one command.
BATCH = 400
GONE = 'for p; do rm -rf -- "$p" || exit 1; done'
#: In the source: which folders are not there any more.
WHICH = """for p; do [ -d "$p" ] || printf '%s\\0' "$p"; done"""
EMPTIED = 'for p; do if [ -d "$p" ]; then rmdir -- "$p"; fi; done 2>/dev/null; true'
#: A link that stands there must not be written through; a folder would be in the way.
CLEARED = 'for p; do if [ -L "$p" ] || [ -d "$p" ]; then rm -rf -- "$p" || exit 1; fi; done'
FOLDERS = 'while [ $# -gt 0 ]; do mkdir -p -- "$1" && chmod "$2" "$1" || exit 1; shift 2; done'
MODES = 'while [ $# -gt 0 ]; do chmod "$2" "$1" || exit 1; shift 2; done'
LINKS = """while [ $# -gt 0 ]; do
  mkdir -p -- "$(dirname -- "$1")" && rm -rf -- "$1" && ln -s -- "$2" "$1" || exit 1; shift 2
done"""


async def land(source: Sandbox, target: Sandbox) -> int:
    """Make in ``target`` what changed in ``source`` since its start; how many changes. Both began
    with the same files. What ``target`` has beside that stays. Nothing may run in either."""
    changes = await source.diff()
    gone = [change.path for change in changes if change.kind is ChangeKind.DELETED]
    there = [change for change in changes if change.kind is not ChangeKind.DELETED]
    files = [c for c in there if c.link is None and not c.folder and c.kind is not ChangeKind.MODE]
    links = [(change.path, change.link) for change in there if change.link is not None]
    folders = [(change.path, f"{change.mode:o}") for change in there if change.folder]
    modes = [(c.path, f"{c.mode:o}") for c in there if c.kind is ChangeKind.MODE]
    await _each(target, GONE, [(path,) for path in gone])
    above = {str(folder) for path in gone for folder in PurePosixPath(path).parents} - {"."}
    left = await _each(source, WHICH, [(path,) for path in sorted(above)])
    emptied = sorted(filter(None, left.decode(errors="surrogateescape").split("\0")), reverse=True)
    await _each(target, EMPTIED, [(path.removeprefix("./"),) for path in emptied])
    await _each(target, CLEARED, [(change.path,) for change in files])
    for change in files:
        await target.write(change.path, (await source.read(change.path)).data, mode=change.mode)
    await _each(target, FOLDERS, folders)
    await _each(target, MODES, modes)
    await _each(target, LINKS, links)
    return len(changes)


async def _each(sandbox: Sandbox, script: str, given: Sequence[tuple[str, ...]]) -> bytes:
    """Run it over all, some at a time; what it printed. A path that begins with a dash is none of
    its options."""
    printed = b""
    for at in range(0, len(given), BATCH):
        words = [word for path, *more in given[at : at + BATCH] for word in (f"./{path}", *more)]
        result = await sandbox.exec(["/bin/sh", "-c", script, "sh", *words])
        if result.code != 0:
            told = result.output.decode(errors="replace").strip()[-200:]
            raise SandboxError(
                f"what was changed could not be brought over: {told}",
                next="does a command still write there?",
            )
        printed += result.output
    return printed


@dataclass(frozen=True, slots=True)
class ForkedSandboxes:
    """Implements ``ports.Sandboxes`` over one sandbox: each begins as a fork of its present state.

    ``base`` and ``place`` must be those of the sandbox. ``env`` is given with each command.
    """

    parent: Sandbox
    made_by: Sandboxes

    @property
    def capabilities(self) -> Capabilities:
        return self.made_by.capabilities

    def open(
        self,
        base: Path,
        *,
        writable: bool = True,
        limits: SandboxLimits | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        place: str | None = None,
        scratch: Sequence[str] = (),
    ) -> AbstractAsyncContextManager[Sandbox]:
        """See ``ports.Sandboxes``."""
        asked = {str(base), place or str(base)}
        if asked != {self.parent.workspace} or readable or env:
            raise SandboxError(
                f"these sandboxes begin at {self.parent.workspace}, as they are there",
                next="open that folder, without env and readable",
            )
        return self.parent.fork(writable=writable, limits=limits, scratch=scratch)
