"""The planner without a model: which setting to change next, and to what.

Invariant: a proposal is a pure function of the seed and of what is handed in. The sampler is built
anew from the history at each call, so a replay, or a resumed run, proposes the same.

Each trial is one setting moved away from the master, worth its gain in standard deviations of the
noise. ``random`` draws every point by chance, and is what the others have to beat. With ``tpe`` and
``cmaes`` new points come from two sources in turn: *looks*, which step along one setting at a time
and find the first gains in few experiments, and the sampler. On simulated landscapes of 11 settings
looks and TPE together reach in 25 experiments what TPE alone reaches in more than 40.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

from manyhands.teams.lab.axes import Axis
from manyhands.teams.lab.looks import STEP, Wish, looks, mixed
from manyhands.teams.lab.memory import value_text
from manyhands.teams.lab.records import Experiment, Hypothesis, Idea, Literalish, Master, Note
from manyhands.teams.lab.researcher import read_hint
from manyhands.teams.lab.samplers import ENOUGH, Kind, Sampler, sampler
from manyhands.teams.lab.settings import Setting
from manyhands.teams.lab.trials import Board

#: The names under which the ledger lists these planners as a role's filler.
FILLERS: Mapping[Kind, str] = {"random": "random", "tpe": "optuna-tpe", "cmaes": "optuna-cmaes"}


class Planner:
    """Fills the planner's role without a model. ``seed`` makes two studies differ, nothing else."""

    def __init__(self, seed: int, kind: Kind = "tpe") -> None:
        self._seed = seed
        self._kind: Kind = kind

    def propose(
        self,
        settings: Mapping[str, Setting],
        master: Master,
        history: Sequence[Experiment],
        ideas: Sequence[Idea],
        n: int,
        next_id: int,
        *,
        notes: Sequence[Note] = (),
        pending: Sequence[Hypothesis] = (),
    ) -> tuple[Hypothesis, ...]:
        """At most ``n`` hypotheses, best first; fewer when the space is exhausted.

        ``settings``: as they stand in the master. ``history``: all experiments, in any order.
        ``ideas``: they decide which settings are looked at first, which way, and to what value.
        ``pending``: queued or running; not proposed again, and kept clear of by TPE. Ids count
        on from ``next_id``: ``h0007``.
        """
        board = Board.of(settings, master, history, notes, pending)
        if not board.axes or n < 1:
            return ()
        seed = mixed(self._seed, next_id, len(history))
        wishes_of_looks = looks(board, [h for i in ideas if (h := read_hint(i, settings))], seed)
        if self._kind == "random":
            wishes_of_looks = iter(())
        source = sampler(self._kind, board, pending, seed)
        wishes = list(islice(_in_turn(board, wishes_of_looks, source), n))
        said = FILLERS[self._kind]
        return tuple(
            _hypothesis(board, wish, f"h{next_id + at:04d}", at, said)
            for at, wish in enumerate(wishes)
        )


def _in_turn(board: Board, steps: Iterator[Wish], source: Sampler) -> Iterator[Wish]:
    """Two looks, then one of the sampler's, as long as either has something new."""
    for turn in count(len(board.points)):
        sampled = turn >= ENOUGH and turn % 3 == 0
        wish = source.wish() if sampled else _next(board, steps)
        wish = wish or (_next(board, steps) if sampled else source.wish())
        if wish is None:
            return
        board.take(wish.axis, wish.value)
        if wish.source in ("look", "idea"):
            source.lie(wish.axis, wish.value)
        yield wish


def _next(board: Board, steps: Iterator[Wish]) -> Wish | None:
    return next((wish for wish in steps if board.free(wish.axis, wish.value)), None)


def _hypothesis(board: Board, wish: Wish, ident: str, rank: int, filler: str) -> Hypothesis:
    axis = wish.axis
    expected = _expected(board, axis, wish.value)
    return Hypothesis(
        id=ident,
        title=f"{axis.name} {_shown(axis.current)} → {_shown(wish.value)}",
        rationale=wish.why,
        kind="setting",
        parent=board.master.commit,
        setting=axis.name,
        value=wish.value,
        expected_gain=expected,
        source=f"{filler} ({wish.source})",
        rank=rank,
    )


def _shown(value: Literalish) -> str:
    return value if isinstance(value, str) else value_text(value)


def _expected(board: Board, axis: Axis, value: Literalish) -> float | None:
    """The mean gain of this setting's trials, weighted by nearness; None without any.

    The master's own value is one more trial, of gain 0.
    """
    known = [(p.value, p.gain) for p in board.points if p.axis.name == axis.name]
    known = [(v, g) for v, g in known if g is not None]
    if not known or axis.options:
        return next((g for v, g in reversed(known) if v == value), None)
    here = axis.place(value)
    weights = [
        (math.exp(-((axis.place(v) - here) ** 2) / (2 * STEP**2)), g)
        for v, g in [*known, (axis.current, 0.0)]
    ]
    return sum(w * g for w, g in weights) / max(sum(w for w, _ in weights), 1e-9)
