"""Live progress of a code run, from its journal: who works on what, what came of it; and the result
in a terminal. What agents wrote is printed inert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from manyhands.cli.following import Following
from manyhands.cli.printing import err, out, plain, table
from manyhands.cli.spending import spent_told
from manyhands.evals.verifying import Verdict
from manyhands.runtime import Event, Runtime
from manyhands.teams.code.records import Check, Outcome

_MARKS = {
    "complete": "[green]✓[/]",
    "partial": "[yellow]–[/]",
    "failed": "[red]✗[/]",
    "timed out": "[red]✗[/]",
    "waiting": "[dim]·[/]",
}
_MERGES = {
    "merged": "[green]merged[/]",
    "conflict": "[red]conflict[/]",
    "held back": "[yellow]held back[/]",
    "refused": "[red]refused[/]",
}
_KINDS = {"added": "[green]+[/]", "changed": "[yellow]~[/]", "deleted": "[red]-[/]"}
#: Tools whose calls are shown as they begin.
_SHOWN = frozenset({"bash", "write", "edit", "multi_edit"})


class CodeProgress(Following):
    def __init__(self, runtime: Runtime, run_id: str, *, quiet: bool = False) -> None:
        self._running: dict[str, str] = {}
        super().__init__(runtime, run_id, quiet=quiet)

    def show(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "code:sandbox":
                lacking = ", ".join(data["not_enforced"])
                more = f" [dim]· not enforced here: {escape(lacking)}[/]" if lacking else ""
                self.say(f"[dim]sandbox[/] {data['backend']}{more}")
            case "code:plan":
                for step in data["steps"]:
                    self.say(f"  [dim]{step['status']:>8}[/] {escape(plain(step['text']))}")
            case "code:waiting":
                self.say(
                    f"[cyan]{data['id']}[/] {data['role']} [bold]{escape(plain(data['title']))}[/]"
                )
            case "code:running":
                self._running[data["id"]] = data["id"]
            case "code:task":
                self._ended(data)
            case _:
                pass

    def now(self) -> str:
        names = ", ".join(self._running.values()) or "the orchestrator thinks"
        return f"{escape(names)} [dim]{spent_told(dict(self.state.spent()))}[/]"

    def _ended(self, task: dict[str, Any]) -> None:
        self._running.pop(task["id"], None)
        told = [task["state"]]
        if task["merge"] in _MERGES:
            files = len(task["changed"])
            told.append(f"{_MERGES[task['merge']]} [dim]{files} file{'s' * (files != 1)}[/]")
        if task["unsupported"]:
            told.append(f"[yellow]{len(task['unsupported'])} claims without evidence[/]")
        if task["detail"]:
            told.append(f"[dim]{escape(plain(task['detail']))[:140]}[/]")
        self.say(f"{_MARKS.get(task['state'], ' ')} {task['id']} {' · '.join(told)}")


def print_outcome(outcome: Outcome, run_id: str, patch: Path | None) -> None:
    """What was done, the check's word, what is not in it, what it cost, and the next command."""
    out.print()
    if outcome.summary:
        out.print(plain(outcome.summary), markup=False, soft_wrap=True)
        out.print()
    for change in outcome.files:
        out.print(f"  {_KINDS[change.kind]} {escape(plain(change.path))}", soft_wrap=True)
    if not outcome.files:
        out.print("  [dim]nothing was changed[/]")
    out.print()
    _print_check(outcome.check)
    for each in outcome.left:
        err.print(f"not in it: {plain(each)}", markup=False, soft_wrap=True)
    for note in outcome.notes:
        err.print(f"note: {plain(note)}", markup=False, soft_wrap=True)
    table(
        ["agent", "model", ">s", ">requests", ">tokens", "ended"],
        [
            (_name(a.agent), a.model, f"{a.seconds:.1f}", a.requests, a.tokens, a.status)
            for a in outcome.agents
        ],
    )
    money = {"tokens": outcome.tokens, "requests": outcome.requests, "micro_usd": outcome.micro_usd}
    state = "[green]complete[/]" if outcome.complete else "[yellow]partial[/]"
    out.print(f"{state} · {spent_told(money)} · {outcome.seconds:.1f} s · run {run_id}")
    if patch is not None and outcome.files:
        out.print(f"→ git apply {patch}", markup=False, soft_wrap=True)
    out.print(f"→ manyhands show {run_id}", markup=False)


def print_verdict(verdict: Verdict) -> None:
    """What a task's tests said."""
    if verdict.passed:
        out.print("[green]✓[/] reward 1 [dim]the task's own tests[/]")
        return
    told = plain(verdict.problem) or "the task's own tests"
    out.print(f"[red]✗[/] reward {verdict.reward:g} [dim]{escape(told)}[/]", soft_wrap=True)
    for line in verdict.output.splitlines()[-20:]:
        out.print(f"    {plain(line)}", markup=False, soft_wrap=True)


def _print_check(check: Check | None) -> None:
    if check is None:
        out.print("[dim]no check was given: nothing says that it is right[/]")
    elif check.passed:
        out.print(f"[green]✓[/] {escape(plain(check.command))}", soft_wrap=True)
    else:
        out.print(f"[red]✗[/] {escape(plain(check.command))}", soft_wrap=True)
        for line in check.output.splitlines()[-20:]:
            out.print(f"    {plain(line)}", markup=False, soft_wrap=True)


def _name(scope: str) -> str:
    """Of an agent: its task and role, without the places of calls between them."""
    parts = scope.split("/")
    if "tasks" in parts:
        return "/".join(parts[parts.index("tasks") + 1 :])
    return scope
