"""What is not finished yet: scopes (agents, delegated calls, all others), and steps in them.

Invariants: a scope is a span from its first event to its last; which span is around another is
known when the inner one begins, and does not change; what is kept of a scope is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from manyhands.agents.request import Attempt
from manyhands.runtime import Event
from manyhands.runtime.codec import object_of
from manyhands.telemetry.content import Told
from manyhands.telemetry.spans import Facts, Mark, Span

#: Marks of one span (as many again are kept for the run's own life); scopes that are open at once.
MOST_MARKS, MOST_SCOPES = 256, 4096

#: Where an agent's call of a tool stands, if it is the agent's: AGENT/turn/N/tool/I; once more,
#: when a person said so: AGENT/turn/N/retry/tool/I.
CALL = re.compile(r"/turn/\d+/(?:retry/)?tool/(\d+)(?=/|$)")


@dataclass(slots=True)
class Open:
    """An attempt at a step that has no end yet. ``end``: it will have none, and this is when it was
    last known to go on. ``actor``: the person who ordered it ('': nobody did)."""

    key: str
    scope: str
    attempt: int
    start: float
    seq: int
    effect: str
    cost: dict[str, int]
    actor: str = ""
    end: float | None = None

    @classmethod
    def of(cls, event: Event, scope: str) -> Open:
        data = event.data
        cost: dict[str, int] = object_of(data.get("cost"))
        attempt, effect = int(data.get("attempt", 1)), str(data.get("effect", ""))
        actor = str(data.get("actor", ""))
        return cls(event.key, scope, attempt, event.ts, event.seq, effect, cost, actor)

    @property
    def rest(self) -> str:
        """Its key inside of its scope."""
        return self.key.removeprefix(f"{self.scope}/")


@dataclass(slots=True)
class Chat:
    """A reply whose step is not over: what checks say of it may still come, and what the loop of
    turns found wrong with it (``fault``)."""

    span: Span
    attempt: Attempt
    fault: str = ""
    marks: list[Mark] = field(default_factory=list[Mark])


@dataclass(slots=True)
class Agent:
    """What is known of one agent's turn. ``context``: facts of the record that came last; ``told``:
    what that record added, to be told with the next request alone. ``rest``: it is paused, or a
    person (``driver``) is at its wheel."""

    role: str
    model: str
    context: Facts = field(default_factory=Facts)
    told: Told = field(default_factory=Told)
    attempt: Attempt | None = None
    where: str = ""
    chat: Chat | None = None
    rest: Open | None = None
    driver: str = ""


@dataclass(slots=True)
class Scope:
    """``parent``: its path. ``inner``: open scopes whose parent it is. ``agent``: whose it is;
    ``call``: of the agent around it, by index (None: it is none)."""

    path: str
    id: str
    parent: str
    start: float
    last: float
    agent: Agent | None = None
    call: int | None = None
    name: str = ""
    facts: Facts = field(default_factory=Facts)
    error: str = ""
    message: str = ""
    marks: list[Mark] = field(default_factory=list[Mark])
    dropped: int = 0
    inner: set[str] = field(default_factory=set[str])

    def mark(self, name: str, at: float, facts: Facts) -> None:
        most = MOST_MARKS * 2 if name.startswith("run.") else MOST_MARKS
        if len(self.marks) < most:
            self.marks.append(Mark(name, at, facts))
        else:
            self.dropped += 1


class Scopes:
    """Those that are open, by path, the one that was quiet for longest first; '' is the run."""

    def __init__(self, root: Scope) -> None:
        self._open: dict[str, Scope] = {"": root}
        self.root = root

    def __contains__(self, path: str) -> bool:
        return path in self._open

    def __iter__(self) -> Iterator[Scope]:
        return iter(list(self._open.values()))

    def get(self, path: str) -> Scope | None:
        return self._open.get(path)

    def agent(self, path: str) -> Agent | None:
        found = self._open.get(path)
        return found.agent if found is not None else None

    def add(self, scope: Scope) -> None:
        self._open[scope.path] = scope
        self._open[scope.parent].inner.add(scope.path)

    def touch(self, path: str, at: float) -> None:
        """Something happened in it, and so in all around it."""
        while path:
            scope = self._open.pop(path)
            scope.last = max(scope.last, at)
            self._open[path] = scope
            path = scope.parent
        self.root.last = max(self.root.last, at)

    def around(self, key: str) -> Scope:
        """The innermost open scope that a key is in."""
        path = key
        while path:
            path = path.rpartition("/")[0]
            found = self._open.get(path)
            if found is not None:
                return found
        return self.root

    def calls(self, path: str) -> Iterator[tuple[str, str, int]]:
        """The calls of known agents that a path is in, outermost first: path, agent, index."""
        for found in CALL.finditer(path):
            agent = path[: found.start()]
            if self.agent(agent) is not None:
                yield path[: found.end()], agent, int(found[1])

    def take(self, path: str) -> Iterator[Scope]:
        """The scope and all inside of it, innermost first; they are closed by that."""
        scope = self._open[path]
        for inner in sorted(scope.inner):
            yield from self.take(inner)
        if path:
            del self._open[path]
            self._open[scope.parent].inner.discard(path)
        yield scope

    def quiet(self) -> str:
        """A scope that there is no more room for ('': there is room): the one that was quiet for
        longest, and no agent's if that can be."""
        if len(self._open) <= MOST_SCOPES:
            return ""
        plain = (p for p, scope in self._open.items() if p and not scope.agent and not scope.inner)
        return next(plain, "") or next(path for path in self._open if path)
