"""What a study's history says about each setting, as trials against the present master.

Invariant: a trial's gain is against the master as it is now. One measured against an earlier master
is carried over: what the promotions since then gained by the same setting is taken off it, and the
gains of different settings are taken to add up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from manyhands.teams.lab.axes import Axis, axis_of, read_value
from manyhands.teams.lab.ledger import finite
from manyhands.teams.lab.memory import in_force, value_text
from manyhands.teams.lab.pruning import PRUNED
from manyhands.teams.lab.records import Experiment, Hypothesis, Literalish, Master, Note, Verdict
from manyhands.teams.lab.settings import Setting

#: What was ended early for falling behind counts as so many standard deviations worse.
BEHIND = 8.0
_FAILED = (Verdict.CRASHED, Verdict.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Point:
    """A trial: ``gain`` in the metric's unit against the current master; None for a failure."""

    axis: Axis
    value: Literalish
    gain: float | None
    fresh: bool
    promoted: bool = False
    undecided: bool = False
    before: Literalish | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """What is known: the axes, the trials, and what must not be proposed again.

    ``taken`` grows with what is proposed; ``barred`` holds fingerprints that notes rule out;
    ``unit`` is one standard deviation of the noise, in the metric's unit.
    """

    axes: dict[str, Axis]
    points: tuple[Point, ...]
    taken: list[tuple[str, Literalish]]
    barred: Collection[str]
    master: Master
    unit: float

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Setting],
        master: Master,
        history: Sequence[Experiment],
        notes: Sequence[Note],
        pending: Sequence[Hypothesis],
    ) -> Board:
        axes = {name: axis for name in sorted(settings) if (axis := axis_of(settings[name]))}
        points = _points(axes, master, sorted(history, key=lambda e: e.id))
        held = [n.fingerprint for n in in_force(notes, master) if n.kind == "do_not_repeat"]
        unit = _unit(master, points)
        taken = [(h.setting, h.value) for h in pending if h.value is not None]
        taken += [(p.axis.name, p.value) for p in points if _settled(p, unit)]
        taken += [
            (e.hypothesis.setting, e.hypothesis.value)
            for e in history
            if e.verdict is Verdict.REJECTED and e.parent == master.commit and e.hypothesis.setting
            if e.hypothesis.value is not None
        ]
        return cls(axes, points, taken, frozenset(held), master, unit)

    def free(self, axis: Axis, value: Literalish) -> bool:
        """Whether this value may be proposed: new, allowed, and not what the master has."""
        if axis.same(value, axis.current) or f"{axis.name}={value_text(value)}" in self.barred:
            return False
        return not any(name == axis.name and axis.same(value, old) for name, old in self.taken)

    def knows(self, name: str) -> bool:
        """Whether this setting was tried, or is about to be."""
        tried = any(point.axis.name == name for point in self.points)
        return tried or any(taken == name for taken, _ in self.taken)

    def take(self, axis: Axis, value: Literalish) -> None:
        self.taken.append((axis.name, value))


def _settled(point: Point, unit: float) -> bool:
    """Tried on this master, or so bad on an earlier one that it need not be tried again.

    A choice (an optimiser, a schedule) may well win beside other settings, and has no neighbours
    through which to come back: an earlier master's loss does not settle it.
    """
    lost = point.gain is not None and point.gain < -unit and not point.axis.options
    return point.fresh or point.gain is None or lost


def _unit(master: Master, points: Sequence[Point]) -> float:
    """One standard deviation of the noise, or a stand-in where it is not known."""
    if master.noise_sd > 0 and math.isfinite(master.noise_sd):
        return master.noise_sd
    gains = sorted(abs(p.gain) for p in points if p.gain)
    return gains[len(gains) // 2] if gains else 1.0


def _points(
    axes: Mapping[str, Axis], master: Master, history: Sequence[Experiment]
) -> tuple[Point, ...]:
    since = _gained_since(master, history)
    found: list[Point] = []
    for experiment in history:
        change = experiment.hypothesis
        axis = axes.get(change.setting) if change.kind == "setting" else None
        if axis is None or change.value is None or not axis.has(change.value):
            continue
        gain = -BEHIND * master.noise_sd if experiment.rule == PRUNED else _gain(experiment)
        if gain is None and not _failed(experiment):
            continue
        later = since.get(experiment.parent, {}).get(change.setting, 0.0)
        found.append(
            Point(
                axis,
                change.value,
                None if gain is None else gain - later,
                fresh=experiment.parent == master.commit,
                promoted=experiment.verdict is Verdict.PROMOTED,
                undecided=experiment.verdict is Verdict.INCONCLUSIVE,
                before=_before(axis, experiment),
            )
        )
    return tuple(found)


def _gain(experiment: Experiment) -> float | None:
    if _failed(experiment):
        return None
    decided = experiment.decision
    if decided is not None and decided.pairs > 0:
        return finite(decided.gain)
    return finite(experiment.screen_gain)


def _failed(experiment: Experiment) -> bool:
    """A crash, or a confirmation given up because a run of the candidate failed (no look)."""
    decided = experiment.decision
    gave_up = decided is not None and decided.looks == 0 and decided.gain == 0
    return experiment.verdict in _FAILED or gave_up


def _gained_since(master: Master, history: Sequence[Experiment]) -> dict[str, dict[str, float]]:
    """For each commit that was the master: what each setting gained from there to the present."""
    promoted = {e.candidate: e for e in history if e.verdict is Verdict.PROMOTED}
    gained: dict[str, float] = {}
    since: dict[str, dict[str, float]] = {master.commit: {}}
    commit = master.commit
    while commit in promoted and promoted[commit].parent not in since:
        step = promoted[commit]
        name = step.hypothesis.setting
        gained[name] = gained.get(name, 0.0) + (_gain(step) or 0.0)
        commit = step.parent
        since[commit] = dict(gained)
    return since


def _before(axis: Axis, experiment: Experiment) -> Literalish | None:
    """The value that the experiment moved away from: by its title's arrow, or by its diff."""
    name = re.escape(axis.name)
    arrow = re.search(rf"(?<!\w){name}\s+(\S+)\s*→", experiment.hypothesis.title)
    taken = re.search(rf"(?m)^-\s*{name}\s*(?::[^=]*)?=\s*([^\s#]+)", experiment.diff)
    values = (read_value(axis, said[1]) for said in (arrow, taken) if said and not axis.options)
    return next((value for value in values if value is not None), None)
