"""Live progress of an answer, from its journal: who works on what, and what it has cost so far; and
the answer in a terminal. What agents wrote is printed inert."""

from __future__ import annotations

from typing import Any

from rich.markdown import Markdown
from rich.markup import escape

from manyhands.cli.following import Following
from manyhands.cli.printing import err, out, plain, table
from manyhands.cli.spending import spent_told
from manyhands.runtime import Event, Runtime
from manyhands.teams.answer.records import Outcome

_MARKS = {
    "complete": "[green]✓[/]",
    "partial": "[yellow]–[/]",
    "failed": "[red]✗[/]",
}


class AnswerProgress(Following):
    def __init__(self, runtime: Runtime, run_id: str, *, quiet: bool = False) -> None:
        self._at_work: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        super().__init__(runtime, run_id, quiet=quiet)

    def show(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "answer:index":
                self.say(f"[dim]{data['files']} files, {data['passages']} passages[/]")
            case "answer:route":
                self.say(
                    f"[bold]{data['way']}[/] [dim]{escape(plain(data['reason']))} ({data['by']})[/]"
                )
            case "answer:plan":
                self._plan(data)
            case "answer:work":
                self._work(data)
            case "answer:critique":
                self._critique(data)
            case "answer:revision":
                ran = ", ".join(data["ran"])
                self.say(
                    f"[bold]revision {data['number']}[/] of {escape(ran)}: "
                    f"{data['issues_before']} → {data['issues_after']} issues"
                )
            case "agent:end":
                self._at_work.pop(data["agent"], None)
            case "step.started" if event.key.endswith("/begin"):
                agent = event.key.removesuffix("/begin")
                self._at_work[agent] = self._name(agent)
            case _:
                pass

    def _name(self, agent: str) -> str:
        parts = [part for part in agent.split("/") if part not in ("agent", "work")]
        return self._titles.get(parts[-1], parts[-1])

    def now(self) -> str:
        names = ", ".join(self._at_work.values()) or "thinking"
        return f"{escape(plain(names))} [dim]{spent_told(dict(self.state.spent()))}[/]"

    def _plan(self, plan: dict[str, Any]) -> None:
        if plan["fallback"]:
            self.say(f"[yellow]{escape(plain(plan['fallback']))}[/]")
        for task in plan["subtasks"]:
            self._titles[task["id"]] = task["title"]
            if len(plan["subtasks"]) > 1:
                needs = f" [dim]after {', '.join(task['needs'])}[/]" if task["needs"] else ""
                self.say(f"  [cyan]{task['id']}[/] {escape(plain(task['title']))}{needs}")

    def _work(self, work: dict[str, Any]) -> None:
        told = f"{len(work['findings'])} findings"
        if work["detail"]:
            told += f", {plain(work['detail'])[:120]}"
        self.say(f"  {_MARKS[work['status']]} {work['subtask']} [dim]{escape(told)}[/]")

    def _critique(self, critique: dict[str, Any]) -> None:
        by = critique["by"] or "the checks alone"
        issues = len(critique["issues"])
        verdict = "ship" if critique["verdict"] == "ship" else f"revise: {issues} issues"
        self.say(f"[bold]critic[/] {verdict} [dim]draft {critique['draft']}, {escape(by)}[/]")


def print_outcome(outcome: Outcome, run_id: str) -> None:
    """The answer, its sources, what it cost, and the next command."""
    out.print()
    if out.is_terminal:
        out.print(Markdown(plain_lines(outcome.answer)))
    else:
        out.print(plain_lines(outcome.answer), markup=False, soft_wrap=True)
    if outcome.sources:
        out.print()
        out.print("[bold]Sources[/]")
        for source in outcome.sources:
            quote = " ".join(plain(source.quote).split())
            shown = quote if len(quote) <= 160 else quote[:157] + "…"
            out.print(
                f"  {source.number:>2} {plain(source.passage)} “{shown}”",
                markup=False,
                soft_wrap=True,
            )
    for each in outcome.dropped:
        err.print(f"left out: {plain(each.text)} ({plain(each.why)})", markup=False, soft_wrap=True)
    for note in outcome.notes:
        err.print(f"note: {plain(note)}", markup=False, soft_wrap=True)
    out.print()
    table(
        ["agent", "model", ">s", ">requests", ">tokens", "ended"],
        [
            (a.agent, a.model, f"{a.seconds:.1f}", a.requests, a.tokens, a.status)
            for a in outcome.agents
        ],
    )
    money = {"tokens": outcome.tokens, "requests": outcome.requests, "micro_usd": outcome.micro_usd}
    out.print(f"{spent_told(money)} · {outcome.seconds:.1f} s · run {run_id}", markup=False)
    out.print(f"→ manyhands show {run_id}", markup=False)


def plain_lines(text: str) -> str:
    return "\n".join(plain(line) for line in text.splitlines())
