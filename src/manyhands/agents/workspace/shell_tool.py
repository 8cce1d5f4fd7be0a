"""``bash``: a command in the workspace, told as it ended, with all that it printed kept.

Invariant: what the harness knows (exit code, limits, what is left out) stands above the output,
where no output can come; an act names the command, its exit code and the blob of its output, so
that a claim about it can be checked later.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field

from manyhands.agents.tools import Tool
from manyhands.agents.workspace.file_tools import MARGIN, RESULT_BYTES, said
from manyhands.agents.workspace.places import as_utf8, told
from manyhands.agents.workspace.shown import excerpt, middle_out, text_of_bytes, visible
from manyhands.agents.workspace.workspace import Act, Workspace
from manyhands.errors import ToolError
from manyhands.ports import ExecResult, Killed, Sandbox
from manyhands.runtime import Run

#: Of an output: what is kept as a blob (half of it from each end), and what is shown at once.
MOST_KEPT, HEAD, TAIL = 8_000_000, 8_000, 6_000
#: The kernel takes no longer argument.
MOST_COMMAND = 120_000
DEFAULT_SECONDS = 120.0

_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cDEHMNOZ])"
)
_IN_BACKGROUND = """
shell=/bin/bash; [ -x "$shell" ] || shell=/bin/sh
log=$(mktemp "${TMPDIR:-/tmp}/background.XXXXXX") || exit
"$shell" -c "$1" >"$log" 2>&1 </dev/null &
sleep 0.5
echo "what it prints goes to $log"
kill -0 $! 2>/dev/null && exit 0
wait $!; code=$?
echo "it has ended already; it printed:"; cat "$log"; exit $code
"""


@dataclass(slots=True)
class Tape:
    """What comes in: the first and the last half of ``most`` bytes, and how much in all."""

    most: int = MOST_KEPT
    total: int = 0
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> None:
        self.total += len(data)
        half = self.most // 2
        room = half - len(self._head)
        self._head += data[: max(0, room)]
        self._tail += data[max(0, room) :]
        if len(self._tail) > 2 * half:
            del self._tail[:-half]

    @property
    def missing(self) -> int:
        return max(0, self.total - self.most // 2 * 2)

    def content(self) -> bytes:
        tail = self._tail[-(self.most // 2) :]
        note = f"\n[{self.missing} bytes were not kept here]\n".encode() if self.missing else b""
        return bytes(self._head + note + tail)


def bash_tool(workspace: Workspace) -> Tool:
    async def bash(
        run: Run, command: str, timeout: float = DEFAULT_SECONDS, background: bool = False
    ) -> str:
        """Run a shell command in the workspace's folder; see its exit code and what it prints.

        There is no terminal to answer questions with, and no network but within the workspace.

        Args:
            command: What bash runs. Each call is a new shell: cd and variables end with it.
            timeout: Seconds until the command and all that it started is ended.
            background: Start it and return at once, for a server; it goes on between calls.
        """

        async def doing(sandbox: Sandbox, command: str, timeout: float, background: bool) -> Act:
            _check(command, timeout)
            tape = Tape()
            shell = ["/bin/sh", "-c", _IN_BACKGROUND, "sh", command] if background else command
            with told("."):
                result = await sandbox.exec(
                    shell, timeout=timeout, on_output=tape.add, background=background
                )
            blob = await run.blob(tape.content()) if tape.total else ""
            text = told_result(result, tape, blob, background=background)
            goes_on = background and result.survivors > 0
            code = None if goes_on or result.killed else result.code
            return Act(text=text, command=command, code=code, output=blob)

        seconds = min(max(0.0, timeout), workspace.ground.limits.seconds) + MARGIN
        return said(await workspace.act(run, doing, command, timeout, background, timeout=seconds))

    return Tool.from_function(bash, None, result_bytes=RESULT_BYTES)


def stop_background_tool(workspace: Workspace) -> Tool:
    async def doing(sandbox: Sandbox) -> Act:
        ended = await sandbox.end_background()
        return Act(text=f"{ended} processes were ended")

    async def stop_background(run: Run) -> str:
        """End all that commands have left running in the background."""
        return said(await workspace.act(run, doing, timeout=MARGIN))

    return Tool.from_function(stop_background, None)


def _check(command: str, timeout: float) -> None:
    size = len(as_utf8("command", command))
    if not command.strip() or "\0" in command:
        raise ToolError(
            f"{excerpt(command)} is no command: it is empty, or has a zero byte in it",
            next="give a command",
        )
    if size > MOST_COMMAND:
        raise ToolError(
            f"the command has {size} bytes; at most {MOST_COMMAND} can be run",
            next="put it into a file, and run that",
        )
    if not timeout > 0:
        raise ToolError(f"timeout={timeout:g}", next="give seconds, more than 0")


def told_result(result: ExecResult, tape: Tape, blob: str, *, background: bool) -> str:
    """How it ended, then what it printed."""
    data = tape.content()
    head, left, tail = middle_out(data, HEAD, TAIL)
    first, last = shown_output(head), shown_output(tail)
    about = [_ending(result, background=background)]
    if tape.total:
        about.append(f"{tape.total} bytes of output")
    if result.survivors:
        what = "go on in the background" if background else "that it left behind were ended"
        about.append(f"{result.survivors} processes {what}")
    notes = ["; ".join(about)]
    if tape.missing:
        notes.append(f"[{tape.missing} bytes of the middle were not kept at all]")
    changed = [each for each in (first[1], last[1]) if each]
    if left or changed:
        what = f"shown: the first {len(head)} and the last {len(tail)} bytes" if left else "shown"
        how = f"{what}{'; ' if changed else ''}{'; '.join(dict.fromkeys(changed))}"
        notes.append(f"[{how}; the whole is {blob}, for read_more]")
    if not tape.total:
        return "\n".join([*notes, "(it printed nothing)"])
    cut = [f"[… {left} bytes left out here …]"] if left else []
    return "\n".join([*notes, "output:", first[0], *cut, *([last[0]] if tail else [])])


def _ending(result: ExecResult, *, background: bool) -> str:
    seconds = f"after {result.seconds:.1f} s"
    detail = f": {result.detail}" if result.detail else ""
    if result.killed is Killed.TIME:
        return f"killed {seconds} with all that it started (time limit){detail}"
    if result.killed is not None:
        return f"killed {seconds} ({result.killed.value} limit){detail}"
    if background and result.survivors:
        return "started in the background; it has no exit code yet"
    if result.code is None:
        return f"ended {seconds}; its exit code is not known{detail}"
    if result.code < 0:
        return f"ended by signal {-result.code} ({_signal(-result.code)}) {seconds}{detail}"
    return f"exit code {result.code} {seconds}{detail}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def shown_output(data: bytes) -> tuple[str, str]:
    """As text, and what is not shown as it was: of a line that was written over (a bar of
    progress), the last state; no codes for a terminal's colours; all else hidden is escaped."""
    text = text_of_bytes(data).replace("\r\n", "\n") if b"\r\n" in data else text_of_bytes(data)
    crlf = data.count(b"\r\n")
    text, rewritten = _last_states(text)
    text, codes = _TERMINAL.subn("", text)
    text, hidden = visible(text)
    counted = {
        "CRLF line ends as LF": crlf,
        "lines that were written over, as at their end": rewritten,
        "codes for a terminal left out": codes,
        "hidden characters or bytes as \\xNN, \\uNNNN": hidden,
    }
    return text, ", ".join(f"{count} {what}" for what, count in counted.items() if count)


def _last_states(text: str) -> tuple[str, int]:
    """Without what was written over by what came after a carriage return; of how many lines."""
    if "\r" not in text:
        return text, 0
    lines = text.split("\n")
    count = 0
    for i, line in enumerate(lines):
        body = line.rstrip("\r")
        _, over, last = body.rpartition("\r")
        if over:
            lines[i] = last + line[len(body) :]
            count += 1
    return "\n".join(lines), count
