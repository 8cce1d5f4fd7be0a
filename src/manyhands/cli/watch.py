"""`manyhands watch`: the agents of a run as a tree in the terminal, while it goes on and after."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from manyhands.cli.agent_tree import AgentTree, Branch
from manyhands.cli.printing import STATUS_STYLE, err, one_line, out
from manyhands.cli.runs import Journal, RunId, go, runtime_of
from manyhands.runtime import Event, Reader, Status
from manyhands.runtime.codec import encode

#: Seconds between two drawings at least; of a long run's time, so much goes into drawing at most.
_BETWEEN, _SHARE = 0.25, 0.2
#: Agents of a tree that is printed to stay.
_PRINTED = 200
_POLL = 0.1

_SIGNS = {
    "running": ("▶", "cyan"),
    "waiting": ("·", "dim"),
    "complete": ("✓", "green"),
    "promoted": ("✓", "bold green"),
    "partial": ("–", "yellow"),
    "failed": ("✗", "red"),
    "crashed": ("✗", "red"),
    "timed_out": ("✗", "red"),
    "rejected": ("✗", "magenta"),
    "interrupted": ("‖", "yellow"),
    "paused": ("‖", "yellow"),
    "pausing": ("‖", "yellow"),
    "human": ("☺", "magenta"),
    "resuming": ("▶", "cyan"),
    "asks a person": ("?", "bold magenta"),
}


def watch(
    run_id: RunId,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events as lines of JSON, then the tree as one.")
    ] = False,
    journal: Journal = None,
) -> None:
    """Show the agents of a run as a tree, live: what each does, has spent and has left.

    Ends when the run does, or when no process drives it any more; Ctrl-C ends the watching, and no
    run.

    Examples: `manyhands watch answer-1a2b3c4d`, `manyhands watch lab-1a2b3c4d --json | jq .type`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            runtime.holder(run_id)
            tree = AgentTree(runtime, run_id)
            if as_json:
                await _lines(runtime, tree)
            else:
                await _drawn(runtime, tree)

    go(work())


async def _events(reader: Reader, run_id: str) -> AsyncGenerator[Event | None]:
    """The run's events, and None whenever all that there are have been told; until it is over, or
    left by the process that drove it."""
    after = 0
    while True:
        held = reader.holder(run_id) is not None
        async for event in reader.events(run_id, after):
            after = event.seq
            yield event
        yield None
        if not held:
            return
        await asyncio.sleep(_POLL)


async def _lines(reader: Reader, tree: AgentTree) -> None:
    """ASCII alone: no terminal obeys it, whatever agents wrote."""
    run_id = tree.state.run_id
    async for event in _events(reader, run_id):
        if event is None:
            sys.stdout.flush()
            continue
        tree.apply(event)
        about = {"seq": event.seq, "ts": event.ts, "type": event.type, "key": event.key}
        print(json.dumps(json.loads(encode(about | {"data": event.data}))))
    print(json.dumps(tree.to_json(reader.status(run_id))))


async def _drawn(reader: Reader, tree: AgentTree) -> None:
    run_id = tree.state.run_id
    live = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else None
    due, status = 0.0, Status.RUNNING
    try:
        with live if live is not None else nullcontext():
            async for event in _events(reader, run_id):
                if event is not None:
                    tree.apply(event)
                    continue
                status = reader.status(run_id)
                if live is not None and time.monotonic() >= due:
                    began = time.monotonic()
                    live.update(_picture(tree, status, max(4, out.height - 5)), refresh=True)
                    due = began + max(_BETWEEN, (time.monotonic() - began) / _SHARE)
    finally:
        out.print(_picture(tree, status, _PRINTED))
    if status is Status.INTERRUPTED:
        err.print(f"no process drives it; → manyhands resume {run_id}", markup=False)
    elif status is Status.BLOCKED:
        err.print(f"a person decides; → manyhands show {run_id}", markup=False)


# -------------------------------------------------------------------- how it looks


def _picture(tree: AgentTree, status: Status, rows: int) -> Group:
    tree.settle()
    now = time.time()
    shown = _chosen(tree, rows)
    drawn = Tree(_head(tree, status), guide_style="dim")
    nodes: dict[str, Tree] = {"": drawn}
    for branch in tree.walk():
        if branch.parent is not None and branch.path in shown:
            above = nodes[branch.parent.path]
            nodes[branch.path] = above.add(_line(tree, branch, status, now))
    hidden = sum(1 for each in tree.walk() if each.path) - len(shown)
    more = Text(f"  … and {hidden} more", style="dim") if hidden > 0 else Text("")
    return Group(drawn, more) if hidden > 0 else Group(drawn)


def _chosen(tree: AgentTree, rows: int) -> set[str]:
    """Paths of those that are shown: first who is at work, then who was last; and their parents."""
    order = sorted(tree.walk(), key=lambda b: (not b.at_work, -b.touched))
    chosen: set[str] = set()
    for branch in order:
        line: list[str] = []
        above: Branch | None = branch
        while above is not None and above.path and above.path not in chosen:
            line.append(above.path)
            above = above.parent
        if len(chosen) + len(line) <= rows:
            chosen.update(line)
    return chosen


def _head(tree: AgentTree, status: Status) -> Text:
    state, root = tree.state, tree.root
    word = tree.word(root, status)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(word, STATUS_STYLE.get(word, "yellow"))
    line.append(f" {one_line(state.run_id, 60)}", "bold")
    line.append(f" · {one_line(state.workflow, 40)} · {state.active:.1f} s · ")
    line.append(_spent(root))
    line.append(_left(tree, root), "magenta")
    doing, since = tree.doing(root)
    if since is not None and status is Status.RUNNING:
        line.append(f"\n  {doing}", "dim")
    return line


def _line(tree: AgentTree, branch: Branch, status: Status, now: float) -> Text:
    word = tree.word(branch, status)
    sign, style = _SIGNS.get(word, ("•", "dim"))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{sign} ", style)
    line.append(one_line(branch.role or branch.name, 40), "bold")
    place = _place(branch)
    if place:
        line.append(f" {place}", "dim")
    line.append(f" · {word}", style)
    doing, since = tree.doing(branch)
    if doing and not branch.status:
        line.append(f" · {doing}")
        if since is not None and status is Status.RUNNING:
            line.append(f" {max(0.0, now - since):.0f} s", "cyan")
    if any(branch.spent.values()):
        line.append(f" · {_spent(branch)}", "dim")
    line.append(_left(tree, branch), "magenta")
    return line


def _place(branch: Branch) -> str:
    """Where it is below its parent, if its name does not say so."""
    rest = branch.path
    if branch.parent is not None and branch.parent.path:
        rest = rest.removeprefix(f"{branch.parent.path}/")
    skipped = {"agent", "work", "tasks", "turn", "tool", branch.role}
    parts = [part for part in rest.split("/") if part not in skipped and not part.isdigit()]
    return one_line("/".join(parts[-3:]), 40) if branch.role else ""


def _spent(branch: Branch) -> str:
    requests = branch.spent["requests"]
    told = [f"{branch.spent['tokens']:,} tokens", f"{requests:,} request{'s' * (requests != 1)}"]
    if branch.spent["micro_usd"]:
        told.append(f"${branch.spent['micro_usd'] / 1e6:.4f}")
    return ", ".join(told)


def _left(tree: AgentTree, branch: Branch) -> str:
    told: list[str] = []
    for unit, amount in tree.left(branch).items():
        if unit == "micro_usd":
            told.append(f"${amount / 1e6:.4f}")
        elif unit == "seconds":
            told.append(f"{amount:.0f} s")
        else:
            told.append(f"{amount:,.0f} {one_line(unit, 20)}")
    return f" · left: {', '.join(told)}" if told else ""
