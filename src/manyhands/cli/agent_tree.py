"""A run as a tree of its agents, folded from its events: who works, at what, and what it has cost.

Invariants: an agent stands below the innermost one whose path its own begins with; amounts are
those of the run's fold, each agent's with all below it; what agents wrote is one line of inert
text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from manyhands.agents.standing import Agent, Stand, Standings
from manyhands.cli.printing import one_line
from manyhands.runtime import Event, Reader, Status, Type

_REQUEST = re.compile(r"(?:^|turn/(\d+)/)(?:request|summary)/\d+$")
_TOOL = re.compile(r"^(?:.*/)?turn/(\d+)/tool/(\d+)(?:/act)?$")
_CHECK = re.compile(r"(?:^|[/-])check/([^/]+)$")
_KEEPING = re.compile(r"(?:^|/)(?:stopping|killed|steers|inbox|begin|left|time|now|budget-left)$")
#: A study's experiment in the key of a step of it: a branch of its own, with or without agents.
_EXPERIMENT = re.compile(r"(?:^|[/-])(e\d{4,})(?:/|$)")
_UNITS = ("requests", "tokens", "micro_usd")


@dataclass(slots=True)
class Branch:
    """An agent, an experiment of a study, or (path '') the run itself.

    ``open``: its steps without an end, and since when. ``status``: how it ended ('': it has not).
    ``named``: the latest request that called tools. ``spent``: with all below it.
    """

    path: str
    name: str
    parent: Branch | None = None
    role: str = ""
    status: str = ""
    latest: str = ""
    touched: int = 0
    open: dict[str, float] = field(default_factory=dict[str, float])
    below: list[Branch] = field(default_factory=list["Branch"])
    named: Event | None = None
    spent: Counter[str] = field(default_factory=Counter[str])

    @property
    def at_work(self) -> bool:
        return bool(self.open) or any(each.at_work for each in self.below)


class AgentTree:
    def __init__(self, reader: Reader, run_id: str) -> None:
        self._standings = Standings(run_id, reader.value)
        self._stands: dict[str, Agent] = {}
        self.state = self._standings.state
        self.root = Branch("", run_id)
        self._reader = reader
        self._branches: dict[str, Branch] = {"": self.root}
        self._found: dict[str, Branch] = {}

    def apply(self, event: Event) -> None:
        self._standings.feed((event,))
        match event.type:
            case Type.STEP_STARTED:
                self._start(event)
            case Type.STEP_DONE | Type.STEP_FAILED:
                self._end(event)
            case Type.RUN_OPENED:
                for branch in self._branches.values():
                    branch.open.clear()
            case "agent:end":
                self._branch(str(event.data.get("agent", ""))).status = str(event.data["status"])
            case "lab:experiment":
                branch = self._experiment(str(event.data.get("id", "")))
                branch.status = str(event.data.get("verdict", ""))
            case _:
                pass

    def _start(self, event: Event) -> None:
        scope = str(event.data.get("scope", ""))
        if event.key == f"{scope}/begin" and scope not in self._branches:
            self._add(scope, scope.rpartition("/")[2], self._of(scope))
        branch = self._of(event.key, scope)
        branch.open[event.key] = event.ts
        branch.touched = event.seq
        if not _KEEPING.search(event.key):
            branch.latest = event.key

    def _end(self, event: Event) -> None:
        step = self.state.steps[event.key]
        branch = self._of(event.key, step.scope)
        branch.open.pop(event.key, None)
        branch.touched = event.seq
        if event.type != Type.STEP_DONE:
            return
        if event.key == f"{branch.path}/begin":
            value = self._reader.value(event)
            about = cast(dict[str, Any], value) if isinstance(value, dict) else {}
            branch.role = str(about.get("role", ""))
        elif _REQUEST.search(event.key):
            branch.named = event

    # ------------------------------------------------------------------ whose a step is

    def _add(self, path: str, name: str, parent: Branch) -> Branch:
        branch = Branch(path, name, parent)
        parent.below.append(branch)
        self._branches[path] = branch
        self._found.clear()
        return branch

    def _of(self, key: str, scope: str = "") -> Branch:
        """The innermost agent around a step; in a study, the experiment that it belongs to."""
        branch = self._branch(scope or key)
        if self.state.workflow == "lab" and not branch.path:
            found = _EXPERIMENT.search(key)
            if found or key.startswith("baseline/"):
                return self._experiment(found[1] if found else "baseline")
        return branch

    def _experiment(self, name: str) -> Branch:
        path = f"experiment {name}"
        return self._branches.get(path) or self._add(path, name, self.root)

    def _branch(self, scope: str) -> Branch:
        known = self._found.get(scope)
        if known is not None:
            return known
        path = scope
        while path not in self._branches:
            path = path.rpartition("/")[0]
        self._found[scope] = self._branches[path]
        return self._branches[path]

    # ------------------------------------------------------------------ what it comes to

    def settle(self) -> None:
        """Sum up what was spent, and look how each agent stands, as of now."""
        self._stands = self._standings.now().agents
        for branch in self._branches.values():
            branch.spent.clear()
        for step in self.state.steps.values():
            if step.used or step.lost:
                branch = self._of(step.key, step.scope)
                branch.spent.update(step.used)
                branch.spent.update(step.lost)
        for branch in reversed(list(self.walk())):
            if branch.parent is not None:
                branch.parent.spent.update(branch.spent)

    def walk(self) -> Iterator[Branch]:
        """All branches, each before what is below it."""
        waiting = [self.root]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting.extend(reversed(branch.below))

    def left(self, branch: Branch) -> dict[str, float]:
        """Unit -> what is left of the branch's own limits."""
        budget, since = self.state.budget, 0.0
        if branch.path:
            if branch.path not in self.state.scopes:
                return {}
            budget, since = self.state.scopes[branch.path]
        found: dict[str, float] = {
            unit: limit - branch.spent[unit] for unit, limit in budget.limits().items()
        }
        if budget.seconds is not None:
            found["seconds"] = round(budget.seconds - (self.state.active - since), 1)
        return found

    def word(self, branch: Branch, status: Status) -> str:
        """How it is with a branch; ``status``: how it is with the run."""
        if branch is self.root:
            return "paused" if self.state.paused and status is Status.RUNNING else str(status)
        if branch.status:
            return one_line(branch.status, 40)
        if status is not Status.RUNNING:
            return "interrupted" if branch.open else "not ended"
        agent = self._stands.get(branch.path)
        if agent is not None and agent.stand not in (Stand.RUNNING, Stand.ENDED):
            return "asks a person" if agent.stand is Stand.WAITING else str(agent.stand)
        return "running" if branch.at_work else "waiting"

    def doing(self, branch: Branch) -> tuple[str, float | None]:
        """What is under way, and since when; what was last, where nothing is."""
        under_way = [key for key in branch.open if not _KEEPING.search(key)]
        if under_way:
            more = f" and {len(under_way) - 1} more" if len(under_way) > 1 else ""
            key = under_way[-1]
            return self._title(branch, key) + more, branch.open[key]
        return (self._title(branch, branch.latest) if branch.latest else ""), None

    def _title(self, branch: Branch, key: str) -> str:
        rest = key.removeprefix(f"{branch.path}/")
        if request := _REQUEST.search(rest):
            return f"turn {request[1]} · model" if request[1] else "model"
        if tool := _TOOL.search(rest):
            return f"turn {tool[1]} · {self._tool(branch, int(tool[2]))}"
        if check := _CHECK.search(rest):
            return f"check {one_line(check[1], 40)}"
        return one_line("/".join(rest.split("/")[-3:]), 60)

    def _tool(self, branch: Branch, at: int) -> str:
        value: Any = self._reader.value(branch.named) if branch.named is not None else None
        try:
            return one_line(value["calls"][at]["name"], 40)
        except (TypeError, KeyError, IndexError):
            return f"tool {at}"

    def to_json(self, status: Status) -> dict[str, Any]:
        """The whole tree as plain data."""
        self.settle()
        return {
            "run": self.state.run_id,
            "workflow": self.state.workflow,
            "status": self.word(self.root, status),
            "events": self.state.seq,
            "seconds": round(self.state.active, 3),
            "spent": _amounts(self.root.spent),
            "left": self.left(self.root),
            "agents": [self._plain(each, status) for each in self.walk() if each.path],
        }

    def _plain(self, branch: Branch, status: Status) -> dict[str, Any]:
        return {
            "agent": branch.path,
            "role": branch.role,
            "parent": branch.parent.path if branch.parent else None,
            "state": self.word(branch, status),
            "step": next(reversed(branch.open), None),
            "spent": _amounts(branch.spent),
            "left": self.left(branch),
        }


def _amounts(spent: Counter[str]) -> dict[str, int]:
    return {unit: spent[unit] for unit in (*_UNITS, *sorted(set(spent) - {*_UNITS}))}
