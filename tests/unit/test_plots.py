"""The plots: the same bytes for the same records, inert text, and no shape that breaks them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from manyhands.teams.lab import plots
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Master,
    Phase,
    Verdict,
)

HOSTILE = "<script>alert(1)</script> $\\frac{1}{0}$ ]]> --> \x1b[31m\t\x00 &amp; \"x' #010203"
SVG = "{http://www.w3.org/2000/svg}"
#: What matplotlib draws with. Anything else (script, a, foreignObject) would be news.
DRAWN = {"svg", "g", "defs", "style", "path", "clipPath", "rect", "use", "text", "tspan", "image",
         "pattern"}  # fmt: skip


def story(
    count: int = 12, *, title: str = "RATE 0.1 → 0.2", crashed: bool = False, slot: int = 0
) -> plots.Story:
    """``count`` experiments in turn promoted, not better, inconclusive, crashed, …, one far off."""
    rows: list[LedgerRow] = []
    experiments: list[Experiment] = []
    masters = [Master(commit="m0", experiment="e0000", version=0, reference={}, noise_sd=0.0)]
    if not crashed:
        rows.append(_row(1, "e0000", 2.6, Phase.BASELINE, Verdict.BASELINE, slot))
        masters[0] = masters[0].model_copy(update={"reference": {1: 2.6}, "noise_sd": 0.01})
    kinds = list(plots.LOOKS)
    for n in range(1, count + 1):
        verdict = Verdict.CRASHED if crashed else kinds[n % len(kinds)]
        ran = verdict not in (Verdict.CRASHED, Verdict.TIMED_OUT, Verdict.REJECTED)
        metric = (9.0 if n == 2 else 2.6 - 0.01 * n) if ran else None
        rows.append(_row(n + 1, f"e{n:04d}", metric, Phase.SCREEN, verdict, slot))
        experiments.append(_experiment(n, verdict, title, metric))
        if verdict is Verdict.PROMOTED:
            assert metric is not None
            masters.append(
                Master(commit=f"m{n}", experiment=f"e{n:04d}", version=n, reference={n: metric},
                       noise_sd=0.01)
            )  # fmt: skip
    return plots.Story(title, "val_bpb", "lower", rows, experiments, masters)


def _row(
    number: int, experiment: str, metric: float | None, phase: Phase, verdict: Verdict, slot: int
) -> LedgerRow:
    return LedgerRow(
        row=number, campaign="", experiment=experiment, hypothesis="", title="", phase=phase,
        parent="", candidate="", seed=number, worker="", fillers={}, metric=metric, delta=None,
        holdout=None, duration=5.0, cpu_seconds=5.0, peak_memory_mb=1.0,
        exit="ok" if metric is not None else "failed", verdict=verdict,
        started_at=1000.0 + 3.0 * number, slot=slot,
    )  # fmt: skip


def _experiment(n: int, verdict: Verdict, title: str, metric: float | None) -> Experiment:
    gain = None if metric is None else 2.6 - metric
    decision = None
    if verdict in (Verdict.PROMOTED, Verdict.INCONCLUSIVE):
        decision = GateDecision.model_validate(
            {"verdict": verdict.value, "pairs": 5, "looks": 1, "gain": gain, "low": 0.0,
             "high": 0.2, "p_value": 0.1, "alpha": 0.05, "reason": ""}
        )  # fmt: skip
    return Experiment(
        id=f"e{n:04d}", candidate="", parent="", verdict=verdict, screen_gain=gain,
        decision=decision,
        hypothesis=Hypothesis(id="h", title=title, rationale="", kind="setting", parent=""),
    )  # fmt: skip


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("name", list(plots.FIGURES))
def test_the_same_records_give_the_same_bytes(name: str) -> None:
    draw = plots.FIGURES[name]
    one, two = plots.svg(draw(story())), plots.svg(draw(story()))
    assert one == two
    assert "<metadata" not in one


def test_equal_studies_give_equal_pngs() -> None:
    one, two = plots.png(plots.gantt_figure(story(3))), plots.png(plots.gantt_figure(story(3)))
    assert one == two


@pytest.mark.parametrize("name", list(plots.FIGURES))
@pytest.mark.parametrize(
    "told",
    [plots.Story("s", "m", "lower", (), (), ()), story(0), story(6, crashed=True)],
    ids=["nothing", "baseline", "all crashed"],
)
def test_no_study_is_too_small_or_too_bad(name: str, told: plots.Story) -> None:
    figure = plots.FIGURES[name](told)
    ElementTree.fromstring(plots.svg(figure))


def test_without_slots_runs_that_overlap_get_lanes_of_their_own() -> None:
    assert "slot 1" in texts(plots.svg(plots.gantt_figure(story(14, slot=-1))))


def test_the_metric_plot_names_the_direction_and_counts_the_verdicts() -> None:
    found = texts(plots.svg(plots.metric_figure(story(14))))
    assert "val_bpb (lower is better)" in found
    assert "promoted (2)" in found
    assert "crashed (2)" in found
    assert "experiment (0: the baseline)" in found
    higher = plots.Story("s", "acc", "higher", *(getattr(story(), n) for n in
                         ("rows", "experiments", "masters")))  # fmt: skip
    assert "acc (higher is better)" in texts(plots.svg(plots.metric_figure(higher)))
    assert "Δ acc (above 0 is better)" in texts(plots.svg(plots.delta_figure(higher)))


def test_the_gantt_says_its_unit_and_how_busy_the_slots_were() -> None:
    found = texts(plots.svg(plots.gantt_figure(story(3))))
    assert "seconds since the first run" in found
    assert any(text.startswith("4 runs in 1 slot, busy") for text in found)


def test_one_diverged_run_does_not_squash_the_rest() -> None:
    figure = plots.metric_figure(story(20))
    low, high = figure.axes[0].get_ylim()
    assert high - low < 1.0


@pytest.mark.parametrize("name", list(plots.FIGURES))
def test_hostile_text_is_drawn_as_text(name: str) -> None:
    told = story(14, title=HOSTILE)
    text = plots.inline(plots.FIGURES[name](told, plots.PAGE), name, HOSTILE)
    assert "\x1b" not in text
    root = ElementTree.fromstring(text)
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= DRAWN
    for node in root.iter():
        for key, value in node.attrib.items():
            assert not key.lower().startswith("on")
            assert not key.endswith("href") or value.startswith(("#", "data:image/png;base64,"))


def test_a_title_is_never_read_as_mathematics() -> None:
    figure = plots.metric_figure(story(14, title=HOSTILE))
    assert any("frac" in text for text in texts(plots.svg(figure)))
    plots.png(figure)


def test_an_inline_plot_takes_the_pages_colours_and_keeps_its_ids_apart() -> None:
    drawn = [plots.inline(draw(story(), plots.PAGE), n, n) for n, draw in plots.FIGURES.items()]
    ids: list[str] = []
    for text in drawn:
        assert "var(--ink)" in text
        assert "#010203" not in text
        root = ElementTree.fromstring(text)
        mine = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        ids += mine
        for node in root.iter():
            for key, value in node.attrib.items():
                if key.endswith("href") and value.startswith("#"):
                    assert value[1:] in mine
    assert len(ids) == len(set(ids))


def test_a_large_study_stays_light() -> None:
    told = story(1600)
    assert len(plots.svg(plots.metric_figure(told))) < 400_000
    assert len(plots.svg(plots.gantt_figure(told))) < 400_000


def test_files_are_written_as_png_and_svg(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    written = plots.write_plots(tmp_path, story())
    assert sorted(p.name for p in written) == [
        "delta.png", "delta.svg", "metric.png", "metric.svg", "workers.png", "workers.svg",
    ]  # fmt: skip
    head = (tmp_path / "metric.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert width >= 900
    assert height >= 400
    assert dict(mpl.rcParams) == before


def test_verdicts_differ_in_shape_and_failures_in_colour_from_the_rest() -> None:
    of_runs_alone = {Verdict.BASELINE, Verdict.KEPT, Verdict.DROPPED, Verdict.MEASURED}
    assert set(plots.LOOKS) == set(Verdict) - of_runs_alone
    assert len({look.marker for look in plots.LOOKS.values()}) == len(plots.LOOKS)


@pytest.mark.parametrize("figure", [plots.metric_figure, plots.delta_figure])
def test_marks_without_a_metric_stand_in_a_strip_that_says_so(figure: Callable[..., Any]) -> None:
    assert "no metric" in texts(plots.svg(figure(story(14))))
    whole = story(2)
    assert "no metric" not in texts(plots.svg(figure(whole)))
