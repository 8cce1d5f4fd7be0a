"""Commands that the harness itself runs: the order's check, a delegation's checks, the survey.

Invariant: they run in a sandbox of their own over a given state, so that whatever they leave behind
is no part of anybody's work; how they ended is the exit status, not what they print.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.agents.tools import cut
from manyhands.agents.workspace.ground import Ground
from manyhands.agents.workspace.tree import Tree
from manyhands.errors import SandboxError
from manyhands.ports import ExecResult, Sandbox
from manyhands.runtime import Run
from manyhands.teams.code.records import Check

#: Bytes of a check's output that are shown.
SHOWN = 4_000
_SURVEY = r"""
echo "# Folders and files (two levels)"; find . -mindepth 1 -maxdepth 2 -not -path './.git/*' \
  -not -path './node_modules/*' -not -path './.venv/*' | sort | head -n 150
echo "# Kinds of files"; find . -type f -not -path './.git/*' -not -path './.venv/*' \
  -not -path './node_modules/*' | sed -n 's/.*\.\([A-Za-z0-9]\{1,8\}\)$/\1/p' | sort | uniq -c \
  | sort -rn | head -n 12
if [ -d .git ]; then echo "# Last commits"; git --no-pager log --oneline -n 8 2>&1 | cut -c1-120; fi
echo "# Programs"; for each in python3 pytest node npm gcc make cargo go java git rg sqlite3; do
  command -v "$each" >/dev/null 2>&1 && printf '%s ' "$each"; done; echo
for each in README.md README README.rst README.txt; do
  [ -f "$each" ] && { echo "# $each (its beginning)"; head -c 3000 "$each"; break; }; done
true
"""


async def run_check(run: Run, ground: Ground, tree: Tree, command: str, seconds: float) -> Check:
    """The command over ``tree``. Call it in a step."""
    return (await run_checks(run, ground, tree, [command], seconds))[0]


async def run_checks(
    run: Run, ground: Ground, tree: Tree, commands: Sequence[str], seconds: float
) -> tuple[Check, ...]:
    """One after another, until the first that fails."""
    found: list[Check] = []
    try:
        async with ground.at(tree, run.read_blob) as sandbox:
            for command in commands:
                found.append(await _check(run, sandbox, command, seconds))
                if not found[-1].passed:
                    break
    except SandboxError as error:
        at = commands[len(found)] if len(found) < len(commands) else commands[-1]
        found.append(Check(command=at, passed=False, output=f"it could not be run: {error.what}"))
    return tuple(found)


async def _check(run: Run, sandbox: Sandbox, command: str, seconds: float) -> Check:
    result = await sandbox.exec(command, timeout=seconds)
    output = result.output.decode("utf-8", "replace")
    blob = await run.blob(output.encode())
    if result.omitted:
        output += f"\n[{result.omitted} bytes of the middle were not kept]"
    shown = cut(output, SHOWN, blob)
    return Check(
        command=command,
        passed=result.code == 0 and result.killed is None,
        code=result.code,
        output=f"{shown.rstrip()}\n[{ending(result, seconds)}]",
        blob=blob,
    )


def ending(result: ExecResult, seconds: float) -> str:
    if result.timed_out:
        return f"ended by the limit of {seconds:g} s"
    if result.killed is not None:
        return f"ended by the limit on {result.killed}: {result.detail}"
    return result.detail or f"exit status {result.code}"


async def survey(run: Run, ground: Ground) -> str:
    """What is in the workspace and what runs there, as a text. Call it in a step."""
    async with ground.at(Tree(), run.read_blob, writable=False) as sandbox:
        result = await sandbox.exec(["/bin/sh", "-c", _SURVEY], timeout=60)
        return f"Workspace: {sandbox.workspace}\n" + result.output.decode("utf-8", "replace")
