"""Simulated worlds: studies without training, whose optimum, noise and useless settings are known.

A world is a table of one curve per setting, of interactions between settings, and of noise. What an
arm is in a world is what it is in the lab (`Planner`, `Hybrid`, the screening, the promotion test);
simulated are the training runs, and, for the hybrid, the model: see `Persona`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from manyhands.teams.lab.gate import CRASHED, GateSettings, decide, next_pairs
from manyhands.teams.lab.gate import screen as worth_confirming
from manyhands.teams.lab.hybrid import Hybrid, Range, Space
from manyhands.teams.lab.planner import Planner
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    Literalish,
    Master,
    Verdict,
)
from manyhands.teams.lab.settings import Setting

#: Of the lab, at a study that was made for a race of few runs.
GATE = GateSettings(max_pairs=12)
NOISE = 1.0

Values = dict[str, Literalish]


@dataclass(frozen=True)
class World:
    """``weights``: what each setting is worth at its best, in standard deviations of one run (0: it
    is useless). ``best``: where that is, 0 to 1 along its range. ``curves``: how the loss grows
    away from there: a bowl, a narrow basin with a plateau around it, or a bowl with a cliff above
    it. ``pairs``: two settings that must move together, and what that is worth. ``heavy``: noise
    with heavy tails."""

    name: str
    settings: dict[str, Setting]
    weights: dict[str, float]
    best: dict[str, float]
    curves: dict[str, str]
    pairs: tuple[tuple[str, str, float], ...]
    heavy: bool

    def loss(self, values: Values) -> float:
        """Without noise, in standard deviations of a run; 0 at the optimum."""
        away = {name: self._away(name, values[name]) for name in self.settings}
        alone = sum(self.weights[n] * _curve(self.curves[n], away[n]) for n in self.settings)
        together = sum(w * (away[a] - away[b]) ** 2 for a, b, w in self.pairs)
        return alone + together

    def _away(self, name: str, value: Literalish) -> float:
        """From the best place, 0 to 1, on the setting's own scale."""
        setting = self.settings[name]
        if not setting.low:
            at = list(setting.choices).index(value) / (len(setting.choices) - 1)
        else:
            at = math.log(float(value) / setting.low) / math.log(setting.high / setting.low)
        return (at - self.best[name]) / max(self.best[name], 1 - self.best[name])

    def noise(self, source: random.Random) -> float:
        if not self.heavy:
            return source.gauss(0, NOISE)
        chi = sum(source.gauss(0, 1) ** 2 for _ in range(3))
        return NOISE * source.gauss(0, 1) / math.sqrt(chi)  # t with 3 degrees, over its sd

    @property
    def start(self) -> Values:
        return {name: setting.value for name, setting in self.settings.items()}


def _curve(kind: str, away: float) -> float:
    match kind:
        case "basin":
            return min(1.0, (away / 0.4) ** 2)
        case "cliff" if away > 0.3:
            return 1.0 + 2.0 * away
        case _:
            return away**2


def world(number: int) -> World:
    """The ``number``-th world: 8 to 14 settings, a third of them useless, one to three that must
    move together; every third one has heavy tails. Names say nothing."""
    draw = random.Random(f"world {number}")
    count = draw.randint(8, 14)
    settings: dict[str, Setting] = {}
    weights: dict[str, float] = {}
    best: dict[str, float] = {}
    curves: dict[str, str] = {}
    for at in range(count):
        name = f"X{at}"
        if draw.random() < 0.3:
            options = tuple("abcd"[: draw.randint(2, 4)])
            settings[name] = Setting(
                name, draw.choice(options), "str", "train.py", at, choices=options
            )
            best[name] = draw.randrange(len(options)) / (len(options) - 1)
        else:
            low = 10.0 ** draw.randint(-5, 0)
            high = low * 10.0 ** draw.randint(2, 4)
            value = float(f"{low * (high / low) ** draw.uniform(0.1, 0.9):.3g}")
            settings[name] = Setting(
                name, value, "float", "train.py", at, low=low, high=high, log=True
            )
            best[name] = draw.uniform(0.05, 0.95)
        curves[name] = draw.choice(("bowl", "basin", "cliff"))
        weights[name] = 0.0 if at < count // 3 else draw.choice((2.0, 4.0, 8.0, 16.0))
    useful = [name for name, weight in weights.items() if weight]
    pairs = tuple(
        (*draw.sample(useful, 2), draw.choice((2.0, 6.0))) for _ in range(draw.randint(1, 3))
    )
    return World(f"world-{number}", settings, weights, best, curves, pairs, number % 3 == 2)


# ---------------------------------------------------------------- arms

Propose = Callable[
    [World, dict[str, Setting], Master, list[Experiment], int, int, int, list], tuple
]


def plain(kind: str) -> Propose:
    def propose(world, settings, master, history, n, next_id, seed, pending):
        planner = Planner(seed, kind)
        return planner.propose(settings, master, history, (), n, next_id, pending=pending)

    return propose


@dataclass(frozen=True)
class Persona:
    """A simulated model that plans beside an optimiser. It is told the truth with noise: a useful
    setting is named with the probability ``right``, a useless one with 1 - ``right``; of a number
    that it names it gives the half of the range that holds the optimum with the probability
    ``right``, and else the other half. At ``right`` = 0.5 it knows nothing. No language model is
    asked."""

    right: float

    def space(self, world: World, next_id: int, seed: int) -> Space:
        draw = random.Random(f"{world.name} {seed} {next_id}")
        ranges: list[Range] = []
        for name, setting in world.settings.items():
            useful = world.weights[name] > 0
            if draw.random() >= (self.right if useful else 1 - self.right):
                continue
            if not setting.low:
                ranges.append(Range(setting=name))
                continue
            middle = math.sqrt(setting.low * setting.high)
            upper = (world.best[name] >= 0.5) == (draw.random() < self.right)
            ends = {"low": middle} if upper else {"high": middle}
            ranges.append(Range(setting=name, **ends))
        draw.shuffle(ranges)
        return Space(settings=tuple(ranges[:6]))


def hybrid(persona: Persona) -> Propose:
    def propose(world, settings, master, history, n, next_id, seed, pending):
        space = persona.space(world, next_id, seed)
        return Hybrid(seed, space).propose(
            settings, master, history, (), n, next_id, pending=pending
        )

    return propose


ARMS: dict[str, Propose] = {
    "random": plain("random"),
    "tpe": plain("tpe"),
    "cmaes": plain("cmaes"),
    "hybrid": hybrid(Persona(0.75)),
}


#: Arms with someone who thinks: there rounds overlap.
THINKING = ("hybrid",)


# ---------------------------------------------------------------- one study in a world


@dataclass(frozen=True)
class _Now:
    """A master of a simulated study. ``reference``: its run that screenings are held against."""

    values: Values
    reference: float
    version: int = 0
    commit: str = "m0"

    @property
    def master(self) -> Master:
        return Master(
            commit=self.commit,
            experiment="e0",
            version=self.version,
            reference={},
            noise_sd=NOISE,
        )


@dataclass
class Course:
    """How a study goes in a world. ``used``: simulated training runs."""

    world: World
    seed: int
    runs: int
    slots: int = 2
    overlap: bool = False

    def run(self, arm: Propose) -> float:
        """The share of the possible gain that the last master has: of the true loss, no noise.

        The lab's own rounds: two screenings for each slot, landed a round later where rounds
        overlap; the clearest candidates confirmed first, a promotion only by the promotion test,
        within ``runs`` training runs.
        """
        draw = random.Random(f"{self.world.name} {self.seed}")
        now = _Now(self.world.start, self.world.loss(self.world.start) + self.world.noise(draw))
        first = self.world.loss(now.values)
        history: list[Experiment] = []
        waiting: list[tuple[float, Hypothesis]] = []
        screening: deque[tuple[_Now, Hypothesis]] = deque()
        number, used = 0, 4
        while (left := self.runs - used - len(screening)) >= 2 * GATE.first or screening:
            proposed: tuple[Hypothesis, ...] = ()
            spare = left - 2 * GATE.first - 2 * GATE.max_pairs * bool(screening)
            if (room := min(2 * self.slots, spare)) > 0:
                settings = {
                    n: replace(s, value=now.values[n]) for n, s in self.world.settings.items()
                }
                pending = [h for _, h in (*waiting, *screening)]
                proposed = arm(
                    self.world, settings, now.master, history, room, number + 1, self.seed, pending
                )
            number += len(proposed)
            screening.extend((now, change) for change in proposed)
            fresh = bool(screening)
            while len(screening) > (len(proposed) if self.overlap else 0):
                then, change = screening.popleft()
                used += 1
                gain = then.reference - self._loss(then.values, change) - self.world.noise(draw)
                if worth_confirming([gain], NOISE):
                    waiting.append((gain, change))
                else:
                    history.append(_told(change, Verdict.NOT_BETTER, then.master.commit, gain))
            waiting.sort(key=lambda w: (-w[0], w[1].id))
            left = self.runs - used - len(screening)
            clear = [w for w in waiting if w[0] >= NOISE or not fresh]
            tested = clear[:1] if left >= 2 * GATE.first else []
            for gain, change in tested:
                waiting = [w for w in waiting if w[1] is not change]
                decision, spent = self._confirm(now.values, change, draw, left)
                used, verdict = used + spent, Verdict(decision.verdict)
                told = _told(change, verdict, now.master.commit, gain, decision)
                history.append(told)
                if verdict is Verdict.PROMOTED:
                    values = now.values | {change.setting: change.value}
                    reference = self.world.loss(values) + self.world.noise(draw)
                    now = _Now(values, reference, now.master.version + 1, told.candidate)
            if not fresh and not tested:
                break
        return 1 - self.world.loss(now.values) / first

    def _loss(self, values: Values, change: Hypothesis) -> float:
        assert change.value is not None
        return self.world.loss(values | {change.setting: change.value})

    def _confirm(
        self, values: Values, change: Hypothesis, draw: random.Random, left: int
    ) -> tuple[GateDecision, int]:
        true = self.world.loss(values) - self._loss(values, change)
        gains: list[float] = []
        while (decision := decide(GATE, gains)) is None:
            more = next_pairs(GATE, gains)
            if 2 * (len(gains) + more) > left:
                decision = decide(GATE, [*gains, CRASHED])
                assert decision is not None
                return decision.model_copy(update={"verdict": "inconclusive"}), 2 * len(gains)
            gains += [true + self.world.noise(draw) - self.world.noise(draw) for _ in range(more)]
        return decision, 2 * len(gains)


def _told(
    change: Hypothesis,
    verdict: Verdict,
    parent: str,
    gain: float,
    decision: GateDecision | None = None,
) -> Experiment:
    return Experiment(
        id=change.id.replace("h", "e"),
        hypothesis=change.model_copy(update={"parent": parent}),
        candidate=f"m-{change.id}",
        parent=parent,
        verdict=verdict,
        screen_gain=gain,
        decision=decision,
    )


def contest(
    arms: dict[str, Propose], worlds: Sequence[int], seeds: Sequence[int], runs: int
) -> dict[str, dict[str, float]]:
    """Arm -> "world/seed" -> the share of the possible gain that it found."""
    return {
        name: {
            f"{number}/{seed}": Course(world(number), seed, runs, overlap=name in THINKING).run(arm)
            for number in worlds
            for seed in seeds
        }
        for name, arm in arms.items()
    }
