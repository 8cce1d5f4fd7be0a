"""Early stopping: a screening whose own curve falls behind those of the master is ended.

A screening is ended at a rung (an eighth, a quarter, a half of its training) if two judges agree:
asynchronous successive halving over the screenings before it (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", 2020, as Optuna implements it), and the master's own runs, of which
it must be clearly worse than all. The first alone would end half of the small gains; the second
alone knows nothing of what the others reached.

Invariant: it ends screenings and nothing else, and what it ends is never promoted. A curve is what
a training says of itself: it can end the training that printed it, and no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, cast

from manyhands.teams.lab.curves import curve_of

if TYPE_CHECKING:
    import optuna

#: How a training ends that fell behind, and one whose loss rose or is no number any more.
PRUNED, DIVERGED = "pruned", "diverged"
#: Shares of a training at which it is looked at; eighths of it are the halving's resource.
RUNGS = (1 / 8, 1 / 4, 1 / 2)
#: Of each rung, the part before it whose losses are averaged.
WINDOW = 0.2
#: A curve is clearly worse when it is so many standard deviations above the master's mean.
MARGIN = 3.0
#: Fewer runs of the master say nothing of how far its curves lie apart.
FEWEST = 3
#: So many of the latest screenings are halved.
LATEST = 60
#: A loss that has risen to so many times its lowest, and above its first, diverges.
RISEN = 2.0

#: The mean loss at each rung that was reached, None where nothing was printed there.
Rungs = tuple[float | None, ...]


class Ended(Exception):
    """The training is not worth its rest. ``exit``: ``pruned`` or ``diverged``."""

    def __init__(self, exit: str, why: str) -> None:
        super().__init__(why)
        self.exit = exit
        self.why = why


@dataclass(slots=True)
class Watcher:
    """Reads a training's output as it comes; raises `Ended` where that is to be ended.

    ``master``: the rungs of the master's runs on the same kind of machine; ``others``: those of
    screenings before. Without both it only reads (`rungs`), and ends what diverges.
    """

    master: Sequence[Rungs] = ()
    others: Sequence[Rungs] = ()
    prunes: bool = False
    _rest: bytes = b""
    _points: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _reached: int = 0
    _trial: Any = None

    def __call__(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > 100_000:
            self._rest = b""
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if not line.startswith(b'{"step"'):
            return
        if (why := _not_finite(line)) and self.prunes:
            raise Ended(DIVERGED, why)
        for step, numbers in curve_of([line.decode("utf-8", "replace")]):
            loss, left = numbers.get("train/loss"), numbers.get("train/remaining_steps")
            if loss is None or left is None or step + left <= 0:
                continue
            share = step / (step + left)
            if self._points and share <= self._points[-1][0]:
                continue
            self._points.append((share, loss))
            while self._reached < len(RUNGS) and share >= RUNGS[self._reached]:
                self._reached += 1
                if self.prunes:
                    self._look(self._reached - 1)

    @property
    def rungs(self) -> Rungs:
        """The mean loss at each rung that was reached."""
        return tuple(self._at(rung) for rung in RUNGS[: self._reached])

    def _at(self, rung: float) -> float | None:
        near = [loss for share, loss in self._points if rung * (1 - WINDOW) <= share <= rung]
        return fmean(near) if near else None

    def _look(self, at: int) -> None:
        mine = self._at(RUNGS[at])
        if mine is None:
            return
        first = self._points[0][1]
        lowest = min(loss for _, loss in self._points)
        if mine > first and lowest > 0 and mine > RISEN * lowest:
            why = f"the loss rose to {mine:.4g} from {lowest:.4g}"
            raise Ended(DIVERGED, why)
        halved, behind = self._halved(at, mine), self._behind(at, mine)
        if halved and behind:
            raise Ended(PRUNED, f"after {RUNGS[at]:.0%} of its training {behind}")

    def _behind(self, at: int, mine: float) -> str:
        """How it is clearly worse than the master there; '' where it is not."""
        known = _known(self.master, at)
        if len(known) < FEWEST:
            return ""
        bound = fmean(known) + MARGIN * stdev(known) * (1 + 1 / len(known)) ** 0.5
        if mine <= max(bound, *known):
            return ""
        worst = f"the master's {fmean(known):.4g}, {max(known):.4g} at worst"
        return f"its loss was {mine:.4g}, {worst}"

    def _halved(self, at: int, mine: float) -> bool:
        """Whether successive halving would end it at this rung."""
        if self._trial is None:
            self._trial = _trial_after([*self.master, *self.others[-LATEST:]])
        self._trial.report(mine, round(8 * RUNGS[at]))
        return self._trial.should_prune()


def _known(curves: Sequence[Rungs], at: int) -> list[float]:
    return [v for rungs in curves if at < len(rungs) and (v := rungs[at]) is not None]


def _trial_after(curves: Sequence[Rungs]) -> optuna.Trial:
    """A trial of a study that has seen these curves."""
    import optuna  # noqa: PLC0415 - slow to load, and only a screening with a curve needs it

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        study = optuna.create_study(direction="minimize", pruner=pruner)
        for rungs in curves:
            trial, pruned = study.ask(), False
            for at, value in enumerate(rungs):
                if value is not None and not pruned:
                    trial.report(value, round(8 * RUNGS[at]))
                    pruned = trial.should_prune()
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return study.ask()
    finally:
        optuna.logging.set_verbosity(level)


def _not_finite(line: bytes) -> str:
    """Why the training has diverged: its loss is no number any more ('': it is)."""
    try:
        told: Any = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    loss = cast(dict[str, Any], told).get("loss") if isinstance(told, dict) else None
    if isinstance(loss, float) and not math.isfinite(loss):
        return f"its loss is {loss} at step {cast(dict[str, Any], told).get('step')}"
    return ""
