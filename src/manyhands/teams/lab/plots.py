"""Plots of a study: the metric over experiments, the delta of each, who ran when, and its end.

Invariant: the same records give the same bytes (no date, no random ids), and text of agents is
drawn as text. Verdicts differ in shape and in colour; the colours are those of Okabe and Ito, which
colour-blind readers tell apart. Matplotlib is used through its objects, so no global figure, no
display and no state is left behind.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from manyhands.teams.lab.anomalies import Direction
from manyhands.teams.lab.ledger import NOT_RUN, finite, plain
from manyhands.teams.lab.records import (
    Ablation,
    Experiment,
    Factorial,
    LedgerRow,
    Master,
    Phase,
    Verdict,
)

#: Matplotlib's stubs leave its keyword arguments unknown, so a strict check sees nothing in them.
Axes = Any

ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"


@dataclass(frozen=True, slots=True)
class Look:
    """How a verdict is drawn: a matplotlib marker, a colour, a size in points squared, a word."""

    marker: str
    colour: str
    size: float
    word: str


LOOKS: Mapping[Verdict, Look] = {
    Verdict.PROMOTED: Look("^", GREEN, 70, "promoted"),
    Verdict.NOT_BETTER: Look("o", SKY, 18, "not better"),
    Verdict.INCONCLUSIVE: Look("D", ORANGE, 26, "inconclusive"),
    Verdict.CRASHED: Look("x", VERMILION, 34, "crashed"),
    Verdict.TIMED_OUT: Look("+", VERMILION, 44, "timed out"),
    Verdict.REJECTED: Look("|", PURPLE, 44, "rejected"),
    Verdict.STALE: Look("s", BLUE, 18, "stale"),
}
PHASES: Mapping[Phase, tuple[str, str]] = {
    Phase.BASELINE: (GREY, "baseline"),
    Phase.SCREEN: (SKY, "screening"),
    Phase.CANARY: (VERMILION, "canary"),
    Phase.CONFIRM: (BLUE, "confirmation"),
    Phase.HOLDOUT: (PURPLE, "holdout"),
    Phase.ABLATE: (ORANGE, "ablation"),
    Phase.FACTORIAL: (GREEN, "interactions"),
}
#: Beyond so many marks an SVG holds them as an image: as shapes they would weigh megabytes.
DENSE = 1500
#: The part of a plot's height kept for marks that have no value.
FOOT = 0.08
NO_METRIC = "no metric"
#: With more promotions than this the points carry no text.
LABELLED = 8


def _arrow(way: int) -> Outline:
    points = [(0, -way), (0, way), (-0.6, 0.3 * way), (0, way), (0.6, 0.3 * way)]
    return Outline(points, [1, 2, 1, 2, 2])


UP, DOWN = _arrow(1), _arrow(-1)


@dataclass(frozen=True, slots=True)
class Theme:
    """``ink`` for text and axes, ``faint`` for the grid, ``paper`` behind (``none``: nothing)."""

    ink: str
    faint: str
    paper: str


PRINT = Theme(ink="#222222", faint="#d9d9d9", paper="white")
#: Colours that `inline` turns into the page's own, so that one SVG serves light and dark.
PAGE = Theme(ink="#010203", faint="#040506", paper="none")
_OF_PAGE = {PAGE.ink: "var(--ink)", PAGE.faint: "var(--faint)"}


@dataclass(frozen=True, slots=True)
class Story:
    """What is plotted. ``masters``: every master so far, the present one last."""

    study: str
    metric: str
    direction: Direction
    rows: Sequence[LedgerRow]
    experiments: Sequence[Experiment]
    masters: Sequence[Master]
    ablation: Ablation | None = None
    factorials: Sequence[Factorial] = ()


@contextmanager
def _settings() -> Generator[None]:
    """No mathematics in text (a title may hold a ``$``), text as text, ids from a fixed salt."""
    with cast(Any, mpl).rc_context(
        {
            "text.parse_math": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "manyhands",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "axes.unicode_minus": True,
            "hatch.linewidth": 0.6,
        }
    ):
        yield


# ---------------------------------------------------------------- the metric over experiments


def metric_figure(story: Story, theme: Theme = PRINT) -> Figure:
    """Each experiment's metric, the master's line with its noise band, and the failures."""
    with _settings():
        figure, axes = _canvas(theme)
        values = _metrics(story)
        lines = _master_line(story)
        _scale(axes, story, values, [y for _, y, _ in lines], theme)
        _draw_master(axes, story, lines, theme)
        _draw_verdicts(axes, story, values, theme)
        _label_promotions(axes, story, values, theme)
        better = "lower" if story.direction == "lower" else "higher"
        axes.set_ylabel(f"{_short(story.metric)} ({better} is better)")
        count = _counted(len(story.experiments), "experiment")
        title = f"{_short(story.study)}: the master (line, ±2 sd of a run) and {count}"
        _finish(axes, title, story, values, theme)
        return figure


def _short(text: str) -> str:
    return plain(text, 40)


def _canvas(theme: Theme, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.0, height), dpi=110, layout="constrained", facecolor=theme.paper)
    axes: Axes = figure.add_subplot()
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.ink)
        spine.set_linewidth(0.7)
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


@contextmanager
def drawing(theme: Theme, height: float = 4.2) -> Generator[tuple[Figure, Axes]]:
    """A figure and its axes as all plots have them, to be drawn while the context lasts."""
    with _settings():
        yield _canvas(theme, height)


def _metrics(story: Story) -> dict[int, float]:
    """Experiment number -> its metric: the mean of its confirmation runs, or of its screening."""
    runs: dict[str, dict[Phase, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in story.rows:
        value = finite(row.metric)
        if value is not None and row.verdict is not Verdict.BASELINE:
            runs[row.experiment][row.phase].append(value)
    found: dict[int, float] = {}
    for number, experiment in enumerate(story.experiments, 1):
        mine = runs.get(experiment.id, {})
        values = mine.get(Phase.CONFIRM) or mine.get(Phase.SCREEN)
        if values:
            found[number] = fmean(values)
    return found


def _master_line(story: Story) -> list[tuple[int, float, float]]:
    """Where each master begins (its experiment's number; 0: the baseline; one more than there are:
    what the ablation left), its mean, its noise."""
    number = {e.id: at for at, e in enumerate(story.experiments, 1)}
    last = len(story.experiments) + 1
    return [
        (
            number.get(master.experiment, last if master.version else 0),
            fmean(master.reference.values()),
            master.noise_sd,
        )
        for master in story.masters
        if master.reference
    ]


def _noise(story: Story) -> float:
    return story.masters[-1].noise_sd if story.masters else 0.0


def _limits(values: Sequence[float], keep: Sequence[float], noise: float) -> tuple[float, float]:
    """A range that shows all of ``keep`` and the bulk of ``values`` (Tukey's fences, 1.5 spreads).

    One diverged run must not squash the rest; what lies outside is drawn as an arrow at the edge.
    """
    ordered = sorted(values)
    ends = [*keep]
    if ordered:
        first, third = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
        reach = max(1.5 * (third - first), 4.0 * noise)
        ends += [max(ordered[0], first - reach), min(ordered[-1], third + reach)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = max((high - low) * 0.06, 2.5 * noise) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def _scale(
    axes: Axes,
    story: Story,
    values: Mapping[int, float],
    keep: Sequence[float],
    theme: Theme,
) -> None:
    """The y range, with a strip at the foot for experiments without a value, if there are any."""
    won = [values[n] for n, _ in _promoted(story) if n in values]
    low, high = _limits(list(values.values()), [*keep, *won], _noise(story))
    room = 0.07 * (high - low) if won else 0.0
    low, high = (low - room, high) if story.direction == "lower" else (low, high + room)
    foot = low
    if len(values) < len(story.experiments):
        low -= (high - low) * FOOT / (1 - FOOT)
        axes.axhspan(low, foot, color=theme.faint, alpha=0.6, linewidth=0, zorder=0)
        # Where lower is better, a mark at the foot would pass for the best of all.
        where = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        axes.text(0.995, (low + foot) / 2, NO_METRIC, color=theme.ink, fontsize=8, **where)
    axes.set_ylim(low, high)
    ticks = [t for t in axes.get_yticks() if foot <= t <= high] if values or keep else []
    axes.set_yticks(ticks)


def _promoted(story: Story) -> list[tuple[int, Experiment]]:
    numbered = enumerate(story.experiments, 1)
    return [(n, e) for n, e in numbered if e.verdict is Verdict.PROMOTED]


def _draw_master(
    axes: Axes, story: Story, lines: Sequence[tuple[int, float, float]], theme: Theme
) -> None:
    if not lines:
        return
    end = len(story.experiments) + (0.9 if lines[-1][0] > len(story.experiments) else 0.5)
    xs = [x - 0.5 if x else 0.0 for x, _, _ in lines] + [end]
    ys = [y for _, y, _ in lines]
    ys.append(ys[-1])
    sds = [sd for _, _, sd in lines]
    sds.append(sds[-1])
    lower = [y - 2 * sd for y, sd in zip(ys, sds, strict=True)]
    upper = [y + 2 * sd for y, sd in zip(ys, sds, strict=True)]
    axes.fill_between(xs, lower, upper, step="post", color=GREY, alpha=0.28, linewidth=0, zorder=1)
    axes.step(xs, ys, where="post", color=theme.ink, linewidth=1.6, zorder=3)


def _draw_verdicts(axes: Axes, story: Story, values: Mapping[int, float], theme: Theme) -> None:
    """A mark per experiment, by its number: at its value, off scale at the edge, else at the foot.

    The foot is for what has no value: crashed, timed out, rejected.
    """
    dense = len(story.experiments) > DENSE
    low, high = axes.get_ylim()
    if len(values) < len(story.experiments):
        low += (high - low) * FOOT
    entries: list[Line2D] = []
    for verdict, look in LOOKS.items():
        numbers = [n for n, e in enumerate(story.experiments, 1) if e.verdict is verdict]
        if not numbers:
            continue
        valued = [n for n in numbers if n in values]
        inside = [n for n in valued if low <= values[n] <= high]
        _scatter(axes, inside, [values[n] for n in inside], look, dense)
        below = [n for n in valued if values[n] < low]
        above = [n for n in valued if values[n] > high]
        inset = 0.02 * (high - low)
        _arrows(axes, below, low + inset, look, DOWN)
        _arrows(axes, above, high - inset, look, UP)
        foot = [n for n in numbers if n not in values]
        _scatter(axes, foot, [FOOT / 2] * len(foot), look, dense, at_foot=True)
        entries.append(_entry(look, f"{look.word} ({len(numbers)})"))
    _legend(axes, entries, theme)


def _scatter(
    axes: Axes,
    xs: Sequence[float],
    ys: Sequence[float],
    look: Look,
    dense: bool,
    *,
    at_foot: bool = False,
) -> None:
    if not xs:
        return
    where = {"transform": axes.get_xaxis_transform()} if at_foot else {}
    axes.scatter(
        xs,
        ys,
        s=look.size / (2 if dense and look.size < 60 else 1),
        c=look.colour,
        marker=look.marker,
        linewidths=1.3 if look.marker in "x+|" else 0,
        alpha=0.6 if dense and look.marker == "o" else 1.0,
        zorder=6 if look.marker == "^" else 4,
        clip_on=False,
        rasterized=dense,
        **where,
    )


def _arrows(axes: Axes, xs: Sequence[float], y: float, look: Look, arrow: Outline) -> None:
    """Marks for what lies beyond the edge."""
    if xs:
        axes.scatter(
            xs,
            [y] * len(xs),
            s=60,
            marker=arrow,
            facecolors="none",
            edgecolors=look.colour,
            linewidths=1.2,
            zorder=5,
            clip_on=False,
        )


def _entry(look: Look, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="",
        marker=look.marker,
        color=look.colour,
        label=label,
        markersize=math.sqrt(look.size) * 0.9,
        markeredgewidth=1.3 if look.marker in "x+|" else 0,
    )


def _legend(axes: Axes, entries: Sequence[Line2D | Patch], theme: Theme) -> None:
    if not entries:
        return
    axes.figure.legend(
        handles=list(entries),
        loc="outside lower left",
        ncols=min(len(entries), 6),
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.4,
    )


def _label_promotions(axes: Axes, story: Story, values: Mapping[int, float], theme: Theme) -> None:
    promoted = [(n, e) for n, e in _promoted(story) if n in values]
    if len(promoted) > LABELLED:
        return
    side = -1 if story.direction == "lower" else 1
    for number, experiment in promoted:
        late = number > 0.7 * len(story.experiments)
        axes.annotate(
            plain(experiment.hypothesis.title, 34),
            (number, values[number]),
            xytext=(-6 if late else 6, 9 * side),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top" if side < 0 else "bottom",
            fontsize=8,
            color=theme.ink,
        )


def _finish(
    axes: Axes, title: str, story: Story, values: Mapping[int, float], theme: Theme
) -> None:
    count = len(story.experiments)
    axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set_xlabel("experiment (0: the baseline)", color=theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.set_xlim(-0.6, max(count, 1) + 0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    if not values:
        _say(axes, "no experiment gave a metric" if count else "no experiment yet", theme)


def _say(axes: Axes, text: str, theme: Theme) -> None:
    axes.text(0.5, 0.92, text, transform=axes.transAxes, ha="center", color=theme.ink)


# ---------------------------------------------------------------- the delta of each experiment


def delta_figure(story: Story, theme: Theme = PRINT) -> Figure:
    """Each experiment's metric minus its master's, with the confidence interval where one is."""
    with _settings():
        figure, axes = _canvas(theme)
        sign = -1.0 if story.direction == "lower" else 1.0
        deltas = _deltas(story, sign)
        noise = _noise(story)
        _scale(axes, story, deltas, [0.0] if deltas else [], theme)
        band = 2 * math.sqrt(2) * noise
        axes.axhspan(-band, band, color=GREY, alpha=0.28, linewidth=0, zorder=1)
        axes.axhline(0.0, color=theme.ink, linewidth=1.2, zorder=2)
        _draw_intervals(axes, story, sign)
        _draw_verdicts(axes, story, deltas, theme)
        better = "below" if sign < 0 else "above"
        axes.set_ylabel(f"Δ {_short(story.metric)} ({better} 0 is better)")
        title = "Difference from the master of its time; grey: ±2 sd of one pair"
        _finish(axes, title, story, deltas, theme)
        return figure


def _deltas(story: Story, sign: float) -> dict[int, float]:
    """Experiment number -> delta: of its confirmation runs, or else of its screening."""
    found: dict[int, float] = {}
    for number, experiment in enumerate(story.experiments, 1):
        decision = experiment.decision
        decided = decision.gain if decision is not None and decision.looks else None
        gain = finite(experiment.screen_gain if decided is None else decided)
        if gain is not None:
            found[number] = sign * gain
    return found


def _draw_intervals(axes: Axes, story: Story, sign: float) -> None:
    dense = len(story.experiments) > DENSE
    for number, experiment in enumerate(story.experiments, 1):
        decision = experiment.decision
        if decision is None or decision.low is None or decision.high is None:
            continue
        ends = [sign * decision.low, sign * decision.high]
        colour = LOOKS.get(experiment.verdict, LOOKS[Verdict.STALE]).colour
        axes.plot([number] * 2, ends, color=colour, linewidth=1.1, zorder=3, rasterized=dense)


# ---------------------------------------------------------------- who ran when


def gantt_figure(story: Story, theme: Theme = PRINT) -> Figure:
    """Every run as a bar in its slot's lane; failures are hatched in another colour."""
    with _settings():
        ran = [r for r in story.rows if r.exit != NOT_RUN and r.started_at > 0 and r.duration >= 0]
        lanes = _lanes(ran)
        count = max(lanes.values(), default=0) + 1
        figure, axes = _canvas(theme, height=1.7 + 0.42 * min(count, 16))
        axes.grid(visible=False)
        start = min((r.started_at for r in ran), default=0.0)
        unit, name = _unit_of(max((r.started_at + r.duration for r in ran), default=0.0) - start)
        dense = len(ran) > DENSE
        entries: list[Line2D | Patch] = []
        for label, colour, hatch, rows in _kinds(ran):
            bars: dict[int, list[tuple[float, float]]] = defaultdict(list)
            for row in rows:
                bars[lanes[row.row]].append(((row.started_at - start) / unit, row.duration / unit))
            for lane, spans in bars.items():
                _bars(axes, lane, spans, colour, hatch, dense)
            entries.append(_swatch(f"{label} ({len(rows)})", colour, hatch))
        _finish_gantt(axes, ran, count, name, unit, theme)
        _legend(axes, entries, theme)
        return figure


def _bars(
    axes: Axes,
    lane: int,
    spans: Sequence[tuple[float, float]],
    colour: str,
    hatch: str,
    dense: bool,
) -> None:
    axes.broken_barh(
        list(spans),
        (lane - 0.38, 0.76),
        facecolor=colour,
        edgecolor="white",
        linewidth=0.0 if dense else 0.5,
        hatch="" if dense else hatch,
        rasterized=dense,
    )


def _swatch(label: str, colour: str, hatch: str) -> Patch:
    return Patch(facecolor=colour, edgecolor="white", hatch=hatch, label=label, linewidth=0)


def _kinds(ran: Sequence[LedgerRow]) -> list[tuple[str, str, str, list[LedgerRow]]]:
    good: dict[Phase, list[LedgerRow]] = defaultdict(list)
    bad: list[LedgerRow] = []
    for row in ran:
        (bad if finite(row.metric) is None else good[row.phase]).append(row)
    kinds = [(w, c, "", good[p]) for p, (c, w) in PHASES.items() if good[p]]
    return [*kinds, ("failed", VERMILION, "////", bad)] if bad else kinds


def _lanes(ran: Sequence[LedgerRow]) -> dict[int, int]:
    """Row number -> lane: its slot, or, where no slot is known, the first lane that is free."""
    ends: list[float] = []
    lanes: dict[int, int] = {}
    for row in sorted(ran, key=lambda r: r.started_at):
        lane = row.slot
        if lane < 0:
            free = (at for at, end in enumerate(ends) if end <= row.started_at)
            lane = next(free, len(ends))
            ends += [0.0] * (lane + 1 - len(ends))
            ends[lane] = row.started_at + row.duration
        lanes[row.row] = lane
    return lanes


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _unit_of(seconds: float) -> tuple[float, str]:
    for size, name, least in ((3600.0, "hours", 7200.0), (60.0, "minutes", 180.0)):
        if seconds > least:
            return size, name
    return 1.0, "seconds"


def _finish_gantt(
    axes: Axes, ran: Sequence[LedgerRow], count: int, name: str, unit: float, theme: Theme
) -> None:
    start = min((r.started_at for r in ran), default=0.0)
    span = max((r.started_at + r.duration for r in ran), default=0.0) - start
    busy = sum(r.duration for r in ran) / (span * count) if span > 0 else 0.0
    runs, slots = _counted(len(ran), "run"), _counted(count, "slot")
    title = f"{runs} in {slots}, busy {busy:.0%} of the time" if ran else "Runs"
    axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set_xlabel(f"{name} since the first run", color=theme.ink)
    axes.set_ylim(count - 0.45, -0.55)
    axes.set_xlim(0.0, span / unit * 1.01 or 1.0)
    every = math.ceil(count / 16)
    axes.set_yticks(range(0, count, every), [f"slot {at}" for at in range(0, count, every)])
    if not ran:
        _say(axes, "no run yet", theme)


# ---------------------------------------------------------------- the end of a campaign


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a forest plot: its name, single values, their bounds, and how it is drawn."""

    name: str
    mean: float
    low: float | None
    high: float | None
    look: Look
    values: Sequence[float] = ()


#: What became of a change that was taken out: shape, colour and word.
FATES: Mapping[str, Look] = {
    "kept": Look("o", GREEN, 50, "kept"),
    "dropped": Look("X", VERMILION, 60, "dropped"),
    "undecided": Look("D", ORANGE, 40, "undecided"),
    "inseparable": Look("s", GREY, 40, "inseparable"),
}
_SEEN = Look("o", BLUE, 50, "evidence of an interaction")
_UNSEEN = Look("o", GREY, 40, "no evidence")


def ablation_figure(story: Story, theme: Theme = PRINT) -> Figure:
    """Per promoted change: how much better the final master is with it than without it."""
    ablation = story.ablation
    lines = [
        _Line(_change(e.experiment, e.title), e.gain, e.low, e.high, FATES[e.fate], e.gains)
        for e in (ablation.lines if ablation is not None else ())
        if e.gain is not None
    ]
    title = "What each change gives the final master (dots: single seeds; bars: bounds)"
    return _forest(lines, title, f"{_short(story.metric)}: better with the change →", theme)


def interaction_figure(story: Story, theme: Theme = PRINT) -> Figure:
    """Per pair of changes: both - first - second + neither."""
    lines = [
        _Line(
            f"{_change(f.first, f.titles[0])}\n× {_change(f.second, f.titles[1])}",
            f.interaction,
            f.low,
            f.high,
            _SEEN if f.evidence else _UNSEEN,
        )
        for f in story.factorials
        if f.interaction is not None
    ]
    title = "Interactions: what two changes give beyond the sum of each"
    return _forest(
        lines,
        title,
        f"← in each other's way · {_short(story.metric)} · they help each other →",
        theme,
    )


def _change(experiment: str, title: str) -> str:
    return f"{experiment} {plain(title, 34)}"


def _forest(lines: Sequence[_Line], title: str, label: str, theme: Theme) -> Figure:
    """One row per line, the first at the top, with a mark at its mean and a bar for its bounds."""
    with _settings():
        rows = sum(1 + line.name.count("\n") * 0.5 for line in lines)
        figure, axes = _canvas(theme, height=1.7 + 0.42 * max(rows, 1))
        axes.grid(visible=False)
        axes.grid(axis="x", color=theme.faint, linewidth=0.6)
        axes.axvline(0.0, color=theme.ink, linewidth=1.2, zorder=2)
        for at, line in enumerate(lines):
            colour = line.look.colour
            if line.values:
                dots = [at - 0.2] * len(line.values)
                axes.scatter(line.values, dots, s=10, c=colour, alpha=0.45, linewidths=0, zorder=3)
            if line.low is not None and line.high is not None:
                axes.plot([line.low, line.high], [at] * 2, color=colour, linewidth=2.2, zorder=4)
            size, marker = line.look.size, line.look.marker
            axes.scatter([line.mean], [at], s=size, c=colour, marker=marker, zorder=5)
        axes.set_yticks(range(len(lines)), [line.name for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
        axes.set_xlabel(label, color=theme.ink)
        looks = {line.look.word: line.look for line in lines}
        _legend(axes, [_entry(look, word) for word, look in looks.items()], theme)
        return figure


# ---------------------------------------------------------------- files and the page


FIGURES: Mapping[str, Any] = {
    "metric": metric_figure,
    "delta": delta_figure,
    "workers": gantt_figure,
}


def figures_of(story: Story) -> Mapping[str, Any]:
    """Those of every study, and those of the end of a campaign where there is something in them."""
    found = dict(FIGURES)
    if story.ablation is not None and any(line.gains for line in story.ablation.lines):
        found["ablation"] = ablation_figure
    if any(f.interaction is not None for f in story.factorials):
        found["interactions"] = interaction_figure
    return found


def png(figure: Figure) -> bytes:
    return _saved(figure, "png", ("Software",))


def svg(figure: Figure) -> str:
    """A standalone SVG file's text."""
    return _saved(figure, "svg", ("Creator", "Date", "Format", "Type")).decode()


def _saved(figure: Figure, form: str, without: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with _settings():
        cast(Any, figure).savefig(buffer, format=form, metadata=dict.fromkeys(without))
    return buffer.getvalue()


def inline(figure: Figure, name: str, label: str) -> str:
    """An ``<svg>`` element for an HTML page, drawn with ``PAGE``: its colours are the page's.

    ``name`` (letters) keeps its ids apart from those of other figures; ``label`` is for readers
    who do not see it.
    """
    text = svg(figure)
    text = text[text.index("<svg") :].strip()
    box = re.search(r'viewBox="[^"]*"', text)
    body = text[text.index(">") + 1 :]
    for before, after in (('id="', f'id="{name}-'), ("url(#", f"url(#{name}-")):
        body = body.replace(before, after)
    body = body.replace('xlink:href="#', f'xlink:href="#{name}-')
    for colour, variable in _OF_PAGE.items():
        body = body.replace(colour, variable)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0] if box else ""} role="img" aria-label="{html.escape(plain(label))}">{body}'
    )


def write_plots(folder: Path, story: Story) -> list[Path]:
    """``figures_of`` the story as PNG and SVG into ``folder``, which must exist."""
    return save(folder, {name: draw(story) for name, draw in figures_of(story).items()})


def save(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Each figure as ``name.png`` and ``name.svg`` into ``folder``, which must exist."""
    written: list[Path] = []
    for name, figure in figures.items():
        for path, content in (
            (folder / f"{name}.png", png(figure)),
            (folder / f"{name}.svg", svg(figure).encode()),
        ):
            path.write_bytes(content)
            written.append(path)
    return written
