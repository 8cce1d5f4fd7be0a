"""A race's report: curves of the true gain, the final gains beside their cost, and the tests.

Invariant: as for a study's page, everything that an agent wrote is data, and the same outcome gives
the same bytes. Arms differ in colour (Okabe and Ito's), in line style and in marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup
from matplotlib.figure import Figure

from manyhands.teams.lab import plots
from manyhands.teams.lab.contest import band, least_p, pairs_needed
from manyhands.teams.lab.ledger import duration, iso_time, plain
from manyhands.teams.lab.page import templates
from manyhands.teams.lab.plots import PRINT, Axes, Theme
from manyhands.teams.lab.race_records import Lane, RaceOutcome

_COLOURS = (
    *(plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE),
    *(plots.PURPLE, plots.SKY, plots.GREY),
)
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
_MARKERS = "osD^vPX"
#: Points of a curve: more show nothing more.
_POINTS = 120
_ALPHA = 0.05
#: How many failed runs an error names.
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm over its seeds: means, and the gain's 95 % interval. ``failed``: its lanes that did
    not come to their end."""

    arm: str
    gain: float
    low: float
    high: float
    holdout: float | None
    promotions: float
    runs: float
    seconds: float
    tokens: float
    usd: float
    seeds: int
    failed: int


def standings(outcome: RaceOutcome) -> list[Standing]:
    """The arms, the best first."""
    found: list[Standing] = []
    for arm in outcome.arms:
        lanes = lanes_of(outcome, arm)
        mean, low, high = band([x.gain for x in lanes])
        sealed = [x.holdout for x in lanes if x.holdout is not None]
        count = len(lanes)
        found.append(
            Standing(
                arm=arm,
                gain=mean,
                low=low,
                high=high,
                holdout=sum(sealed) / len(sealed) if sealed else None,
                promotions=sum(len(x.steps) - 1 for x in lanes) / count,
                runs=sum(x.runs for x in lanes) / count,
                seconds=sum(x.seconds for x in lanes) / count,
                tokens=sum(x.tokens for x in lanes) / count,
                usd=sum(x.usd for x in lanes) / count,
                seeds=count,
                failed=sum(bool(x.state) for x in lanes),
            )
        )
    return sorted(found, key=lambda s: (-s.gain, outcome.arms.index(s.arm)))


def lanes_of(outcome: RaceOutcome, arm: str) -> list[Lane]:
    return [lane for lane in outcome.lanes if lane.arm == arm]


def verdict(outcome: RaceOutcome) -> str:
    """What the tests say, in a sentence or two; and where the budgets were not equal."""
    return f"{_established(outcome)}{_unequal(outcome)}"


def _unequal(outcome: RaceOutcome) -> str:
    failed, count = len(outcome.failed), len(outcome.lanes)
    if not failed:
        return ""
    return f" {failed} of {count} runs failed, and had less than their budget."


def _established(outcome: RaceOutcome) -> str:
    if all(step.gain is None for lane in outcome.lanes for step in lane.steps):
        return "Nothing is established: no master could be judged, for its runs gave no metric."
    best, tests = standings(outcome)[0], _tests(outcome)
    need = pairs_needed(tests)
    lead = f"{plain(best.arm, 60)} gained most, {best.gain:.4g} of {outcome.metric}"
    if best.gain <= 0:
        lead = "No arm gained anything"
    if outcome.seeds < 2:
        return f"{lead}. With one seed no test is possible: give --seeds {need} or more."
    clear = [c for c in outcome.comparisons if c.corrected < _ALPHA]
    if clear:
        told = "; ".join(
            f"{plain(c.better, 60)} beats {plain(c.other, 60)} (p {c.corrected:.2g})" for c in clear
        )
        return f"{lead}. {told}."
    if outcome.seeds < need:
        return (
            f"{lead}. No difference is established, nor could one be: {outcome.seeds} seeds give "
            f"p {least_p(outcome.seeds):.2g} at best, and {tests} "
            f"comparison{'s are' if tests > 1 else ' is'} made; give --seeds {need} or more."
        )
    least = min((c.corrected for c in outcome.comparisons), default=1.0)
    return f"{lead}. No difference is established (smallest corrected p: {least:.2g})."


def failed_told(outcome: RaceOutcome) -> str:
    """Which runs have failed, and why; of many the first."""
    failed = outcome.failed
    told = [f"{plain(x.arm, 60)} seed {x.seed}: {plain(x.state, 200)}" for x in failed[:_TOLD]]
    more = f"; and {len(failed) - _TOLD} more" if len(failed) > _TOLD else ""
    return f"{len(failed)} of the race's {len(outcome.lanes)} runs failed: {'; '.join(told)}{more}"


def failed_next(outcome: RaceOutcome, race: str) -> str:
    """What to do about them."""
    mendable = [lane for lane in outcome.failed if lane.resumable]
    if mendable:
        return (
            f"see to the cause (manyhands show {mendable[0].run}), then try again, with all else "
            f"kept: manyhands lab race . --resume {race}"
        )
    return "see to the cause, then begin a new race: these runs cannot go on"


def _tests(outcome: RaceOutcome) -> int:
    count = len(outcome.arms)
    return count * (count - 1) // 2


# ---------------------------------------------------------------- plots


def curves_figure(outcome: RaceOutcome, theme: Theme = PRINT) -> Figure:
    """The true gain of each arm's master over the runs that it had used."""
    with plots.drawing(theme, 5.0) as (figure, axes):
        end = max([outcome.budget["runs"], *(lane.runs for lane in outcome.lanes)])
        at = [end * n / _POINTS for n in range(_POINTS + 1)]
        for number, arm in enumerate(outcome.arms):
            lanes = lanes_of(outcome, arm)
            bands = [band([lane.gain_at(x) for lane in lanes]) for x in at]
            means = [mean for mean, _, _ in bands]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(
                at,
                means,
                color=colour,
                linestyle=_LINES[number % len(_LINES)],
                linewidth=2.0,
                drawstyle="steps-post",
                marker=_MARKERS[number % len(_MARKERS)],
                markevery=(7 * number % 24, 24),
                markersize=5,
                label=plain(arm, 40),
            )
            if len(lanes) > 1:
                low, high = [b[1] for b in bands], [b[2] for b in bands]
                axes.fill_between(at, low, high, step="post", color=colour, alpha=0.07, linewidth=0)
                for edge in (low, high):
                    axes.plot(
                        at, edge, color=colour, linewidth=0.6, alpha=0.6, drawstyle="steps-post"
                    )
        axes.set_xlim(0, end)
        axes.axhline(0.0, color=theme.ink, linewidth=0.7)
        bands_said = "mean over seeds, 95 % bands" if outcome.seeds > 1 else "one seed, no bands"
        _finish(
            axes,
            f"{plain(outcome.study, 40)}: the master's true gain ({bands_said})",
            "training runs used",
            f"gain in {plain(outcome.metric, 40)}, judged afresh",
            theme,
        )
        _legend(figure, axes, theme)
        return figure


def cost_figure(outcome: RaceOutcome, theme: Theme = PRINT) -> Figure:
    """Each seed's final gain, the arm's mean and its interval."""
    ranked = standings(outcome)
    with plots.drawing(theme, 1.4 + 0.5 * len(ranked)) as (figure, axes):
        for row, standing in enumerate(ranked):
            number = outcome.arms.index(standing.arm)
            colour = _COLOURS[number % len(_COLOURS)]
            gains = [lane.gain for lane in lanes_of(outcome, standing.arm)]
            axes.plot(
                gains,
                [row + 0.18] * len(gains),
                linestyle="",
                marker=_MARKERS[number % len(_MARKERS)],
                color=colour,
                markersize=5,
                alpha=0.55,
                markeredgewidth=0,
            )
            axes.plot([standing.low, standing.high], [row, row], color=colour, linewidth=2.4)
            axes.plot(
                [standing.gain],
                [row],
                marker=_MARKERS[number % len(_MARKERS)],
                color=colour,
                markersize=9,
            )
        ends = [x for s in ranked for x in (s.low, s.high)]
        if min(ends) < max(ends) / 2:  # far from zero it would squash what is to be told apart
            axes.axvline(0.0, color=theme.ink, linewidth=0.7)
        axes.set_yticks(range(len(ranked)), [plain(s.arm, 34) for s in ranked])
        axes.set_ylim(len(ranked) - 0.5, -0.5)
        axes.grid(axis="x", color=theme.faint, linewidth=0.6)
        axes.grid(axis="y", visible=False)
        said = "mean, 95 % interval, and each seed (small)" if outcome.seeds > 1 else "one seed"
        label = f"gain in {plain(outcome.metric, 40)}, judged afresh"
        _finish(axes, f"Final gain: {said}", label, "", theme)
        return figure


def _finish(axes: Axes, title: str, x: str, y: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)


def _legend(figure: Figure, axes: Axes, theme: Theme) -> None:
    """Below the plot, where it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    widest = max(map(len, labels))
    cast(Any, figure).legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=4 if widest <= 16 else 2,
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9,
        handlelength=3.6,
    )


FIGURES: Mapping[str, Any] = {"curves": curves_figure, "gains": cost_figure}
_CAPTIONS = {
    "curves": "Every master that an arm promoted was measured again at the end, beside the common "
    "baseline, on seeds that no arm had seen; a curve is that gain from the run on in which it was "
    "promoted. It may fall: an arm can promote what is no better.",
    "gains": "The last master of each arm at each seed. An interval is Student's, over seeds.",
}


# ---------------------------------------------------------------- the page


def write_race(outcome: RaceOutcome, folder: Path, run_id: str, now: float) -> list[str]:
    """Write the page and the plots; returns the paths, the page's first."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "race.html"
    page.write_text(render(outcome, run_id, now), encoding="utf-8")
    figures = {name: draw(outcome) for name, draw in FIGURES.items()}
    return [str(page), *(str(path) for path in plots.save(folder, figures))]


def render(outcome: RaceOutcome, run_id: str, now: float) -> str:
    """The page's HTML text. The same outcome gives the same bytes."""
    template = templates().get_template("race.html")
    ranked = standings(outcome)
    return template.render(
        outcome=outcome,
        run_id=run_id,
        made=iso_time(now),
        verdict=verdict(outcome),
        budget=budget_told(outcome),
        figures=[
            (name, _CAPTIONS[name], Markup(plots.inline(draw(outcome, plots.PAGE), name, name)))
            for name, draw in FIGURES.items()
        ],
        standings=[_row(s) for s in ranked],
        comparisons=[
            {
                "better": c.better,
                "other": c.other,
                "wins": f"{c.wins} of {c.pairs}",
                "difference": f"{c.difference:+.4g}",
                "p": f"{c.p_value:.2g}",
                "corrected": f"{c.corrected:.2g}",
                "clear": c.corrected < _ALPHA,
            }
            for c in outcome.comparisons
        ],
        lanes=[_lane(lane) for lane in outcome.lanes],
        failed=failed_next(outcome, run_id) if outcome.failed else "",
        alpha=_ALPHA,
    )


def budget_told(outcome: RaceOutcome) -> str:
    units = {"runs": "{:.0f} runs", "tokens": "{:.0f} tokens", "usd": "{:g} dollars"}
    return ", ".join(units[name].format(value) for name, value in outcome.budget.items())


def _row(s: Standing) -> dict[str, str]:
    interval = f"{s.low:+.4g} to {s.high:+.4g}" if s.seeds > 1 else "–"
    return {
        "arm": s.arm,
        "gain": f"{s.gain:+.4g}",
        "interval": interval,
        "holdout": "–" if s.holdout is None else f"{s.holdout:+.4g}",
        "promotions": f"{s.promotions:.1f}",
        "runs": f"{s.runs:.0f}",
        "time": duration(s.seconds),
        "tokens": f"{s.tokens:,.0f}" if s.tokens else "none",
        "usd": f"{s.usd:.3g}" if s.usd else "none",
        "failed": f"{s.failed} of {s.seeds} seeds did not come to their end" if s.failed else "",
    }


def rows_of(outcome: RaceOutcome) -> Sequence[dict[str, str]]:
    """The standings as texts, the best first."""
    return [_row(s) for s in standings(outcome)]


def _lane(lane: Lane) -> dict[str, str]:
    return {
        "run": lane.run,
        "arm": lane.arm,
        "seed": str(lane.seed),
        "gain": f"{lane.gain:+.4g}",
        "promotions": str(len(lane.steps) - 1),
        "experiments": str(lane.experiments),
        "runs": str(lane.runs),
        "time": duration(lane.seconds),
        "state": lane.state or "ended by its budget",
    }
