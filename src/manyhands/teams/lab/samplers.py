"""Where new points come from: chance, TPE, or CMA-ES, each built anew from the trials.

Invariant: what is sampled is a function of the board and of the seed. A sampler lives as long as
one round's proposals; nothing that it learns is kept anywhere but in the trials.

A hypothesis is one setting's new value, so each sampler gives that: TPE chooses the setting and
then the value, as two dimensions of one space. CMA-ES has no choices and moves all numbers at once;
of each of its points the coordinate is taken that moved, the likelier the further it did, and
choices are left to chance as often as there are such settings.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from manyhands.teams.lab.axes import Axis
from manyhands.teams.lab.looks import Wish
from manyhands.teams.lab.records import Hypothesis, Literalish
from manyhands.teams.lab.trials import Board, Point

#: Which sampler fills the planner.
Kind = Literal["random", "tpe", "cmaes"]
#: Gains beyond so many standard deviations tell a sampler nothing more; a crash counts as -CLIP.
CLIP = 8.0
#: From so many trials on a sampler has a word. Earlier it is no better than chance.
ENOUGH = 12
#: How often in a row a sampler may propose something that was tried already.
PATIENCE = 24


class Sampler(Protocol):
    """A source of points of a board."""

    def lie(self, axis: Axis, value: Literalish) -> None:
        """A trial runs there: keep clear of it, where the method can."""
        ...

    def wish(self) -> Wish | None:
        """The next point that is free, or None if ``PATIENCE`` samples in a row were not."""
        ...


def sampler(kind: Kind, board: Board, pending: Sequence[Hypothesis], seed: int) -> Sampler:
    if kind == "random":
        return Chance(board, seed)
    return Tpe(board, pending, seed) if kind == "tpe" else Cmaes(board, seed)


# ---------------------------------------------------------------- chance


class Chance:
    """Uniform over the declared space: a setting, then a value (on its own scale)."""

    def __init__(self, board: Board, seed: int) -> None:
        self._board = board
        self._axes = list(board.axes.values())
        self._random = random.Random(seed)

    def lie(self, axis: Axis, value: Literalish) -> None:
        """Chance keeps clear of nothing but what the board has."""

    def wish(self) -> Wish | None:
        for _ in range(10 * PATIENCE):
            axis = self._random.choice(self._axes)
            value = drawn(axis, self._random)
            if self._board.free(axis, value):
                return Wish(axis, value, "drawn by chance", "chance")
        return None


def drawn(axis: Axis, source: random.Random) -> Literalish:
    """A value of ``axis``, all as likely as each other on its own scale."""
    values = axis.options or axis.grid
    return source.choice(values) if values else axis.at(source.random())


# ---------------------------------------------------------------- TPE


class Tpe:
    """Where good trials were denser than bad ones (Bergstra et al., "Algorithms for Hyper-Parameter
    Optimization", 2011, as Optuna implements it)."""

    def __init__(self, board: Board, pending: Sequence[Hypothesis], seed: int) -> None:
        self._board = board
        self._names = list(board.axes)
        way = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=ENOUGH // 2, multivariate=False, constant_liar=True
        )
        with _quiet():
            self._study = optuna.create_study(direction="maximize", sampler=way)
        self._study.add_trials([self._told(p) for p in board.points if not _is_master(p)])
        for change in pending:
            axis = board.axes.get(change.setting)
            if axis is not None and change.value is not None and axis.has(change.value):
                self.lie(axis, change.value)

    def lie(self, axis: Axis, value: Literalish) -> None:
        """Leave a running trial there, which the sampler's constant liar keeps clear of."""
        self._study.enqueue_trial({"setting": axis.name, _key(axis): axis.inside(value)})
        self._suggest(self._study.ask())

    def wish(self) -> Wish | None:
        for _ in range(PATIENCE):
            trial = self._study.ask()
            axis, value = self._suggest(trial)
            if self._board.free(axis, value):
                return Wish(axis, value, "good trials were denser here than bad ones", "tpe")
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None

    def _suggest(self, trial: optuna.Trial) -> tuple[Axis, Literalish]:
        axis = self._board.axes[trial.suggest_categorical("setting", self._names)]
        key = _key(axis)
        if axis.options:
            choice = trial.suggest_categorical(key, axis.options)
            return axis, axis.current if choice is None else choice
        if axis.whole:
            whole = trial.suggest_int(key, int(axis.low), int(axis.high), log=axis.log)
            return axis, axis.tidy(whole) if axis.grid else whole
        return axis, axis.tidy(trial.suggest_float(key, axis.low, axis.high, log=axis.log))

    def _told(self, point: Point) -> optuna.trial.FrozenTrial:
        return optuna.trial.create_trial(
            params={"setting": point.axis.name, _key(point.axis): point.axis.inside(point.value)},
            distributions={
                "setting": CategoricalDistribution(self._names),
                _key(point.axis): _distribution(point.axis),
            },
            value=_worth(self._board, point),
        )


# ---------------------------------------------------------------- CMA-ES


class Cmaes:
    """Near the best trials, as widely as they lie (Hansen, "The CMA Evolution Strategy", 2016; as
    Optuna and cmaes implement it), with its first distribution fitted to the best tenth of all
    trials (Nomura et al., "Warm Starting CMA-ES for Hyperparameter Optimization", 2021).

    The trials are relative to a master that changes, so the distribution is fitted anew each time
    instead of being carried on from generation to generation.
    """

    def __init__(self, board: Board, seed: int) -> None:
        self._board = board
        self._random = random.Random(seed)
        self._numbers = [axis for axis in board.axes.values() if not axis.options]
        self._choices = [axis for axis in board.axes.values() if axis.options]
        self._spaces = {axis.name: _distribution(axis) for axis in self._numbers}
        told = [self._told(p) for p in board.points if not p.axis.options and not _is_master(p)]
        told.append(self._trial({}, 0.0))
        self._study = self._begun(told, seed) if len(self._numbers) > 1 and len(told) > 9 else None

    def _begun(self, told: list[optuna.trial.FrozenTrial], seed: int) -> optuna.Study:
        with _quiet():
            way = optuna.samplers.CmaEsSampler(
                seed=seed % 2**16, source_trials=told, warn_independent_sampling=False
            )
            study = optuna.create_study(direction="maximize", sampler=way)
        # The sampler takes its space from the trials of the study.
        study.add_trial(told[-1])
        return study

    def lie(self, axis: Axis, value: Literalish) -> None:
        """A population is spread out by itself."""

    def wish(self) -> Wish | None:
        for _ in range(PATIENCE):
            axis, value = self._moved()
            if self._board.free(axis, value):
                return Wish(axis, value, "near the best trials, as widely as they lie", "cmaes")
        return None

    def _moved(self) -> tuple[Axis, Literalish]:
        share = len(self._choices) / len(self._board.axes)
        if self._study is None or self._random.random() < share:
            axis = self._random.choice(self._choices or self._numbers)
            return axis, drawn(axis, self._random)
        found = self._study.ask(self._spaces).params
        values = {axis.name: axis.tidy(found[axis.name]) for axis in self._numbers}
        moves = [(a.place(values[a.name]) - a.place(a.current)) ** 2 for a in self._numbers]
        if not any(moves):
            return self._numbers[0], self._numbers[0].current
        axis = self._random.choices(self._numbers, moves)[0]
        return axis, values[axis.name]

    def _told(self, point: Point) -> optuna.trial.FrozenTrial:
        return self._trial({point.axis.name: point.value}, _worth(self._board, point))

    def _trial(self, changed: dict[str, Literalish], worth: float) -> optuna.trial.FrozenTrial:
        """The master with one value ``changed``."""
        values = {a.name: a.inside(changed.get(a.name, a.current)) for a in self._numbers}
        return optuna.trial.create_trial(params=values, distributions=self._spaces, value=worth)


# ---------------------------------------------------------------- what both take of Optuna


def _worth(board: Board, point: Point) -> float:
    """The gain in standard deviations of the noise."""
    gain = -CLIP if point.gain is None else point.gain / board.unit
    return min(max(gain, -CLIP), CLIP)


def _is_master(point: Point) -> bool:
    """A trial of the master's own value: its gain was made already, and must not draw more."""
    return point.axis.same(point.value, point.axis.current)


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.options:
        return CategoricalDistribution(axis.options)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _key(axis: Axis) -> str:
    return f"value of {axis.name}"


@contextmanager
def _quiet() -> Generator[None]:
    """Optuna announces each study in the log; the team's log is not the place for it. It calls the
    warm start experimental, which our tests would notice changing."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
