"""The history of one agent as checks need it: what is open, what was seen, what goes round.

Invariant: a step is taken in once, at a cost that depends on that step alone; nothing here grows
with the number of steps but sets of bounded size. `begin`, the checks, then `end`: checks see the
trace as it was before the step's own calls, and the step's acts as ``acts``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manyhands.agents.progress import LONGEST
from manyhands.agents.stepcheck.acts import Act, Does, acts_of, does
from manyhands.agents.stepcheck.norms import Norms
from manyhands.agents.stepcheck.records import Kind, Source, Step
from manyhands.agents.stepcheck.seen import Seen, base

#: Failures that are kept open, texts and results that are remembered.
MOST_OPEN, MOST_KEPT = 32, 20_000

_TOKEN = re.compile(r"[A-Za-z_]\w{2,}")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and for not but file line most recent call last error errors failed traceback exit "
        "code status after output bytes printed nothing none true false null path with from that "
        "this was are has module command text name value old new",
    )
)


@dataclass(frozen=True, slots=True)
class Failure:
    """``tokens``: words by which a later step can be told to be about it."""

    index: int
    act: Act
    tokens: frozenset[str]


@dataclass(slots=True)
class Bounded:
    """A set that forgets what came first."""

    most: int = MOST_KEPT
    _kept: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, value: int, index: int = 0) -> None:
        if value in self._kept:
            return
        if len(self._kept) >= self.most:
            del self._kept[next(iter(self._kept))]
        self._kept[value] = index

    def get(self, value: int) -> int | None:
        return self._kept.get(value)


@dataclass
class Trace:
    """One agent's steps so far. ``acted``: how many acts there were, by which edits and runs are
    put in order; ``norms``: what is usual for its role."""

    agent: str
    source: Source = field(default_factory=Source)
    norms: Norms = field(default_factory=Norms)
    before: Step | None = None
    acts: tuple[Act, ...] = ()
    seen: Seen = field(default_factory=Seen)
    texts: Bounded = field(default_factory=Bounded)
    results: Bounded = field(default_factory=Bounded)
    stale: int = 0
    marks: deque[int] = field(default_factory=lambda: deque[int](maxlen=LONGEST * 3))
    ignored: tuple[Failure, ...] = ()
    open: dict[str, Failure] = field(default_factory=dict[str, Failure])
    calls: int = 0
    worked: int = 0
    shown: int = 0
    acted: int = 0
    edits: int = 0
    commands: int = 0
    edited: dict[str, int] = field(default_factory=dict[str, int])
    last_edit: int = -1
    last_run: int = -1
    last_test: int = -1
    test_failed: Failure | None = None
    passed: dict[str, int] = field(default_factory=dict[str, int])
    trees: Bounded = field(default_factory=lambda: Bounded(2_000))
    tree: str = ""
    returns: int = 0

    # ---------------------------------------------------------------- what checks ask

    @property
    def has_tools(self) -> bool:
        return self.calls > 0 or bool(self.source.tools)

    def can(self, what: Does) -> bool:
        """Whether it has a tool for that, as far as is known."""
        if what is Does.COMMAND and self.commands:
            return True
        empty: Mapping[str, Any] = {}
        return any(does(name, empty) is what for name in self.source.tools or ())

    # ---------------------------------------------------------------- taking a step in

    def begin(self, step: Step) -> None:
        for text in step.given:
            self.seen.add(text)
        self.acts = tuple(acts_of(step))

    def end(self, step: Step) -> None:
        self.marks.append(mark_of(step))
        self._say(step)
        new = False
        for result in step.results:
            told = hash(result.text)
            new = new or self.results.get(told) is None
            self.results.add(told)
            self.seen.add(result.text)
        self._do(step)
        changed = bool(step.tree) and self.trees.get(hash(step.tree)) is None
        self.stale = 0 if new or changed or not step.calls else self.stale + 1
        self._stand(step)
        self.norms.add(step)
        self.before = step

    def _say(self, step: Step) -> None:
        if len(step.text) >= 40:
            self.texts.add(hash(" ".join(step.text.split())), step.index)
        self.calls += len(step.calls)
        if step.kind is not Kind.REPORT:
            self.shown += bool(step.results)
            for call in step.calls:
                self.seen.add(call.arguments)

    def _do(self, step: Step) -> None:
        failures: list[Failure] = []
        for act in self.acts:
            self.acted += 1
            if act.failed:
                failure = Failure(step.index, act, tokens_of(act))
                failures.append(failure)
                self._fail(failure)
            else:
                self.worked += 1
                self._succeed(act)
            if act.writes:
                self._wrote(act)
        several = len(self.acts) > len(failures) > 0
        self.ignored = tuple(f for f in failures if not several or not f.act.looks)

    def _fail(self, failure: Failure) -> None:
        act = failure.act
        if act.does is Does.COMMAND:
            self.commands += 1
            self.passed.pop(plain_command(act), None)
        if act.tests:
            self.test_failed = failure
            self.last_test = -1
        if (act.tests or act.does in (Does.EDIT, Does.DELEGATE)) and len(self.open) < MOST_OPEN:
            self.open[subject(act)] = failure

    def _succeed(self, act: Act) -> None:
        self.open.pop(subject(act), None)
        if act.does is not Does.COMMAND:
            return
        self.commands += 1
        self.last_run = self.acted
        self._keep(self.passed, plain_command(act))
        if act.tests:
            self.last_test, self.test_failed = self.acted, None
            self.open = {k: f for k, f in self.open.items() if not f.act.tests}

    def _wrote(self, act: Act) -> None:
        self.edits += 1
        if act.does is not Does.COMMAND:
            self.last_edit = self.acted
        for path in act.paths:
            self._keep(self.edited, base(path))
        if act.command:
            for token in _FILE.findall(act.command):
                self._keep(self.edited, base(token))

    def _keep(self, kept: dict[str, int], key: str) -> None:
        if len(kept) >= MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = self.acted

    def _stand(self, step: Step) -> None:
        if step.tree and step.tree != self.tree:
            self.returns += self.trees.get(hash(step.tree)) is not None
            self.trees.add(hash(step.tree), step.index)
            self.tree = step.tree


_FILE = re.compile(r"[\w./~+-]*\w\.\w+|(?<=[ /])[A-Z]\w+")


def mark_of(step: Step) -> int:
    """What a step did and what came of it; 0: it did nothing."""
    if not step.calls:
        return 0
    return hash((*((c.name, c.arguments) for c in step.calls), *(r.text for r in step.results)))


def tokens_of(act: Act) -> frozenset[str]:
    text = f"{act.arguments[:1000]} {act.text[:600]} {act.text[-600:]}"
    return words_of(text)


def words_of(text: str) -> frozenset[str]:
    return frozenset(_TOKEN.findall(text.lower())) - _COMMON


def subject(act: Act) -> str:
    if act.tests:
        return "tests"
    if act.does is Does.EDIT and act.paths:
        return f"edit {base(act.paths[0])}"
    return f"{act.name} {act.arguments[:500]}"


def plain_command(act: Act) -> str:
    return " ".join(act.command.split())
