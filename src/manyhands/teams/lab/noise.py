"""How often the gate is wrong, how often it finds a gain, and what that costs: by simulation.

Invariant: equal arguments give equal numbers (every draw comes from ``seed``), and one run of every
noise model has standard deviation 1, so gains are in standard deviations of a single run.

``python -m manyhands.teams.lab.noise`` prints the table of ``docs/explanation/promotion.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from manyhands.teams.lab import gate
from manyhands.teams.lab.gate import Floats, GateSettings


class Noise(StrEnum):
    """``HEAVY_TAILED``: Student's t with 3 degrees of freedom.

    ``BIMODAL_HOSTS``: two kinds of hosts as in 10,000 re-runs of one program on H100s (means
    0.963589 and 0.964270, sd 0.00017 and 0.00012, 43 % on the worse kind); candidate and master
    land on hosts independently, which is the worst case. ``BIMODAL_PAIRED``: on one host per pair.
    """

    GAUSSIAN = "gaussian"
    HEAVY_TAILED = "heavy_tailed"
    BIMODAL_HOSTS = "bimodal_hosts"
    BIMODAL_PAIRED = "bimodal_paired"


@dataclass(frozen=True)
class SimulationResult:
    """``low``/``high``: Wilson's 95 % interval of ``promoted_fraction`` (the gate alone).

    ``end_to_end_fraction``: passed the screen and the gate. ``lower_once_fraction``: one run of the
    candidate beat one run of the master. ``gain_promoted``: mean reported gain of the promoted,
    which is above ``gain_sd`` because a test that may stop early stops on lucky gains (NaN: none).
    """

    noise: Noise
    gain_sd: float
    candidates: int
    promoted_fraction: float
    low: float
    high: float
    end_to_end_fraction: float
    lower_once_fraction: float
    inconclusive_fraction: float
    pairs_mean: float
    pairs_median: float
    gain_promoted: float


_BASELINE_RUNS = 4
_HOSTS = ((0.963589, 0.00017), (0.964270, 0.00012))
_WORSE_HOSTS = 0.43


def simulate(
    settings: GateSettings,
    noise: Noise,
    *,
    gain_sd: float = 0.0,
    candidates: int = 1000,
    seed: int = 0,
) -> SimulationResult:
    """Decides on ``candidates`` programs whose true gain is ``gain_sd``; 0 is A/A.

    The screen is the default one: one run against a master's run on the same seed, with the noise
    estimated from four baseline runs.
    """
    rng = np.random.default_rng([seed, list(Noise).index(noise)])
    candidate, master = _draw(noise, (candidates, settings.max_pairs), rng)
    gains = candidate - master + gain_sd
    trials = gate.decide_many(settings, gains)
    promoted = trials.outcome == gate.PROMOTED
    passed = _screened(noise, candidates, gain_sd, settings.min_gain, rng)
    once, recorded = _draw(noise, (candidates, 1), rng)
    reported = [gains[i, : trials.pairs[i]].mean() for i in np.flatnonzero(promoted)]
    low, high = wilson(int(promoted.sum()), candidates)
    return SimulationResult(
        noise=noise,
        gain_sd=gain_sd,
        candidates=candidates,
        promoted_fraction=float(promoted.mean()),
        low=low,
        high=high,
        end_to_end_fraction=float((promoted & passed).mean()),
        lower_once_fraction=float((once + gain_sd > recorded).mean()),
        inconclusive_fraction=float((trials.outcome == gate.CAPPED).mean()),
        pairs_mean=float(trials.pairs.mean()),
        pairs_median=float(np.median(trials.pairs)),
        gain_promoted=float(np.mean(reported)) if reported else math.nan,
    )


def power_table(
    settings: GateSettings | None = None,
    *,
    candidates: int = 1000,
    seed: int = 0,
    gains_sd: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
) -> list[dict[str, float | str]]:
    """One row per noise model and true gain, for a table or as JSON (no NaN, no nesting)."""
    settings = settings or GateSettings()
    rows: list[dict[str, float | str]] = []
    for noise in Noise:
        for gain_sd in gains_sd:
            result = simulate(settings, noise, gain_sd=gain_sd, candidates=candidates, seed=seed)
            rows.append(
                {
                    "noise": noise.value,
                    "gain_sd": gain_sd,
                    "candidates": candidates,
                    "lower_once": result.lower_once_fraction,
                    "promoted": result.promoted_fraction,
                    "promoted_low": result.low,
                    "promoted_high": result.high,
                    "end_to_end": result.end_to_end_fraction,
                    "pairs_mean": result.pairs_mean,
                    "pairs_median": result.pairs_median,
                }
            )
    return rows


def render_power(rows: Sequence[dict[str, float | str]]) -> str:
    """`power_table` as text, shares in percent."""
    lines = [
        f"{'noise':<15}{'true gain':>10}{'lower once':>12}{'promoted':>10}{'95 % interval':>16}"
        f"{'with screen':>13}{'pairs: mean':>13}{'median':>8}"
    ]
    for row in rows:
        share = {key: 100 * value for key, value in row.items() if not isinstance(value, str)}
        lines.append(
            f"{row['noise']:<15}{row['gain_sd']:>7} sd{share['lower_once']:>11.1f}%"
            f"{share['promoted']:>9.1f}%"
            f"{share['promoted_low']:>8.1f} to {share['promoted_high']:>4.1f}%"
            f"{share['end_to_end']:>12.1f}%{row['pairs_mean']:>13.1f}{row['pairs_median']:>8.0f}"
        )
    return "\n".join(lines)


def wilson(hits: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a share (Wilson, JASA 22, 1927); ``z`` is 95 % by default."""
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _screened(
    noise: Noise, candidates: int, gain_sd: float, min_gain: float, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which candidates pass the screen of a study with four baseline runs and one screening run."""
    reference, _ = _draw(noise, (candidates, _BASELINE_RUNS), rng)
    run, _ = _draw(noise, (candidates, 1), rng)
    passed = [
        gate.screen([one + gain_sd - runs[0]], gate.estimate_noise(runs), min_gain=min_gain)
        for one, runs in zip(run[:, 0].tolist(), reference.tolist(), strict=True)
    ]
    return np.array(passed, dtype=np.bool_)


def _draw(noise: Noise, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Runs of the candidate and of the master, by pair, as improvements: higher is better."""
    if noise is Noise.GAUSSIAN:
        return rng.standard_normal(shape), rng.standard_normal(shape)
    if noise is Noise.HEAVY_TAILED:
        scale = math.sqrt(3.0)  # the standard deviation of t with 3 degrees of freedom
        return rng.standard_t(3, shape) / scale, rng.standard_t(3, shape) / scale
    hosts = rng.random(shape) < _WORSE_HOSTS
    other = hosts if noise is Noise.BIMODAL_PAIRED else rng.random(shape) < _WORSE_HOSTS
    return _on_hosts(hosts, rng), _on_hosts(other, rng)


def _on_hosts(
    worse: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rng: np.random.Generator
) -> Floats:
    (good, good_sd), (bad, bad_sd) = _HOSTS
    share = _WORSE_HOSTS
    within = (1 - share) * good_sd**2 + share * bad_sd**2
    sd = math.sqrt(within + share * (1 - share) * (bad - good) ** 2)
    metric = np.where(worse, bad, good) + rng.standard_normal(worse.shape) * np.where(
        worse, bad_sd, good_sd
    )
    return ((1 - share) * good + share * bad - metric) / sd


def _by_cap(caps: Sequence[int], candidates: int) -> str:
    """What ``max_pairs`` costs and finds, under Gaussian noise."""
    names = ("pairs, no gain", "promoted at 0 sd", "1 sd", "1.5 sd", "2 sd")
    lines = ["max_pairs" + "".join(f"{name:>{len(name) + 4}}" for name in names)]
    for cap in caps:
        ends = [
            simulate(
                GateSettings(max_pairs=cap), Noise.GAUSSIAN, gain_sd=gain, candidates=candidates
            )
            for gain in (0.0, 1.0, 1.5, 2.0)
        ]
        shares = [f"{100 * end.promoted_fraction:.1f}%" for end in ends]
        cells = (f"{ends[0].pairs_mean:.1f}", *shares)
        lines.append(
            f"{cap:<9}"
            + "".join(f"{cell:>{len(name) + 4}}" for name, cell in zip(names, cells, strict=True))
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(render_power(power_table(candidates=10_000)), end="\n\n")
    print(_by_cap((8, 12, 20, 28, 40, 60), candidates=10_000))
