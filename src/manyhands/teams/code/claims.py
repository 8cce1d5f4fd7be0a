"""What a sub-agent says it did, held against what it did.

Invariant: nothing that it says makes a claim true; only the events of its workspace do. (The checks
of steps look for the same in the words of any agent, and may be mistaken; these decide.)
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence

from manyhands.agents.workspace.tree import blob_name
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.runtime import Evidence, Run
from manyhands.teams.code.records import CoderAnswer, Found


def unsupported(
    workspace: Workspace, answer: CoderAnswer, changed: Collection[str], checks: Collection[str]
) -> list[str]:
    """The claims of edits and of passed commands that no event bears out, each with why.

    ``changed``: what did change; ``checks``: commands that the harness saw pass on the final state.
    """
    found: list[str] = []
    for path in answer.changed:
        if _plain(workspace, path) not in changed:
            found.append(f"that it changed {path}: it is as it was")
    for command in answer.passed:
        if _words(command) in map(_words, checks):
            continue
        if why := _not_passed(workspace.acts, command, changed):
            found.append(f"that `{command}` passed: {why}")
    silent = sorted(set(changed) - {_plain(workspace, path) for path in answer.changed})
    if silent:
        shown = ", ".join(silent[:10])
        found.append(f"(not said) that it also changed {shown}" + ("…" if silent[10:] else ""))
    return found


def _not_passed(acts: Sequence[Act], command: str, changed: Collection[str]) -> str:
    """Why that command did not succeed on the final state ('': it did). What later commands leave
    in files that are no part of the change, such as caches, counts for nothing."""
    runs = [at for at, act in enumerate(acts) if _words(act.command) == _words(command)]
    if not runs:
        return "it was never run"
    last = acts[runs[-1]]
    if last.code != 0:
        return f"it ended with {last.code}"
    if any(path in changed for act in acts[runs[-1] + 1 :] for path in act.delta):
        return "files were changed after it"
    return ""


def _words(command: str) -> str:
    return " ".join(command.split())


def evidence_of(run: Run, workspace: Workspace, found: Found) -> tuple[list[Evidence], str]:
    """What a finding rests on, with hashes, and what is wrong with what it names ('': nothing)."""
    evidence: list[Evidence] = []
    wrong: list[str] = []
    if found.file:
        path = _plain(workspace, found.file)
        content = workspace.ground.content(workspace.tree, path, run.read_blob)
        if content is None:
            wrong.append(f"there is no file {found.file}")
        else:
            evidence.append(Evidence(kind="file", source=path, hash=blob_name(content)))
            if not any(path in act.paths for act in workspace.acts):
                wrong.append(f"{found.file} was never opened")
    if found.command:
        wanted = _words(found.command)
        runs = [act for act in workspace.acts if _words(act.command) == wanted]
        if runs:
            evidence.append(Evidence(kind="command", source=wanted, hash=runs[-1].output))
        else:
            wrong.append(f"`{found.command}` was never run")
    return evidence, "; ".join(wrong)


def _plain(workspace: Workspace, path: str) -> str:
    """As the workspace names it: relative, without ``./``; a line number after it is left out."""
    path = workspace.ground.plain(path.strip().split(":", 1)[0])
    return posixpath.normpath(path).removeprefix("./")
