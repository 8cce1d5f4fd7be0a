"""The report of a study as one self-contained HTML file.

Invariant: everything that an agent wrote is data. The template escapes every value; only the plots,
which `plots.inline` made, are taken as markup. The page loads nothing, runs nothing, and its own
content security policy forbids both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from manyhands.teams.lab import plots
from manyhands.teams.lab.ledger import (
    duration,
    finite,
    iso_time,
    kept_rows,
    plain,
    shown_number,
    status,
)
from manyhands.teams.lab.memory import in_force
from manyhands.teams.lab.outlook import Campaign, ablation_text, advice
from manyhands.teams.lab.records import (
    Anomaly,
    Citation,
    Experiment,
    Hypothesis,
    LedgerRow,
    Master,
    Note,
    Verdict,
)
from manyhands.teams.lab.reporter import MARKS, PromotionLine, Summary, ended

#: The page shows so many experiments and ledger rows, the newest; promotions are always shown.
EXPERIMENTS = 400
ROWS = 300
#: A longer diff is cut; the whole is in git.
DIFF_LINES = 400
_CAPTIONS = {
    "metric": "Every experiment at its number: the mean of its confirmation runs, or its screening "
    "run. The line is the master, the band twice the noise of a single run. Arrows lie off the "
    "scale; marks in the strip at the foot have no metric, whatever their height.",
    "delta": "The same experiments as differences from the master that each was measured against; "
    "bars are confidence intervals of confirmed gains. The strip at the foot as above.",
    "workers": "Every run as a bar in the slot that it ran in.",
    "ablation": "Each promoted change taken out of the final master by itself: how much better the "
    "master is with it, on fresh seeds. A cross marks what was dropped. No bar: too few seeds for "
    "bounds.",
    "interactions": "What two changes give together beyond the sum of what each gives: both - "
    "first - second + neither. Bars that cross the line are no evidence.",
}


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the report shows. Texts are shown as they are; times are unix seconds.

    ``state``: how the run stands, in words. ``environment``: name -> value (Python, data, limits,
    isolation). ``told``: the reporter's own text. ``campaign``: its end,
    where it is over. ``alpha``/``max_pairs``: the promotion settings.
    ``whole``: where everything is that the page leaves out.
    """

    summary: Summary
    objective: str
    state: str
    rows: Sequence[LedgerRow]
    experiments: Sequence[Experiment]
    masters: Sequence[Master]
    notes: Sequence[Note] = ()
    anomalies: Sequence[Anomaly] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    told: str = ""
    campaign: Campaign | None = None
    alpha: float = 0.05
    max_pairs: int = 28
    whole: str = "results.tsv"
    run_id: str = ""
    made_at: float = 0.0


def render(dossier: Dossier) -> str:
    """The page's HTML text. The same dossier gives the same bytes."""
    template = templates().get_template("page.html")
    summary = dossier.summary
    shown = _newest(dossier.experiments)
    rows = sorted(dossier.rows, key=lambda row: row.row)
    kept = kept_rows(rows)
    return template.render(
        dossier=dossier,
        summary=summary,
        headline=headline(summary),
        figures=_figures(dossier),
        tiles=list(_tiles(summary)),
        experiments=[_experiment(e) for e in reversed(shown)],
        hidden_experiments=len(dossier.experiments) - len(shown),
        promotions=[_promotion(line) for line in summary.promotions],
        rows=[_row(row, status(row, kept)) for row in reversed(rows[-ROWS:])],
        hidden_rows=max(len(rows) - ROWS, 0),
        notes=_notes(dossier),
        end=_end(dossier),
        verdicts=[
            (MARKS[v], v.value, _word(v.value)) for v in Verdict if v.value in _seen(dossier)
        ],
        made=iso_time(dossier.made_at),
        told=block(dossier.told),
    )


def templates() -> Environment:
    """Where templates come from: everything that they are handed is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["plain"] = plain
    return environment


def _shown(value: Any) -> Any:
    """Every value that the template prints passes here: a text nobody cleaned is cleaned."""
    return block(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def block(text: str) -> str:
    """``text`` with its lines kept and nothing in it that is invisible or acts on a terminal."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).split("\n")
    return "\n".join(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        for line in lines
    )


def headline(summary: Summary) -> str:
    """The result in one sentence, with what it rests on."""
    name, way = plain(summary.metric), f"{summary.direction} is better"
    if summary.baseline_metric is None:
        return f"No run has given {name} yet."
    start, now = shown_number(summary.baseline_metric), shown_number(summary.best_metric)
    dropped = sum(line.fate == "dropped" for line in summary.promotions)
    count = len(summary.promotions) - dropped
    if not summary.promotions:
        return f"{name} stands at {start} ({way}); no experiment was promoted."
    times = "1 promotion" if count == 1 else f"{count} promotions"
    times += f" ({dropped} more not needed and dropped)" * (dropped > 0)
    gain = shown_number(summary.confirmed_gain, ".4g")
    in_sd = f", {summary.confirmed_gain / summary.noise_sd:.1f} sd of a run" * (
        summary.noise_sd > 0
    )
    return f"{name} went from {start} to {now} ({way}): {times}, confirmed gain {gain}{in_sd}."


def _figures(dossier: Dossier) -> list[tuple[str, str, Markup]]:
    summary = dossier.summary
    story = plots.Story(
        study=summary.study,
        metric=summary.metric,
        direction=summary.direction,
        rows=dossier.rows,
        experiments=dossier.experiments,
        masters=dossier.masters,
        ablation=dossier.campaign.ablation if dossier.campaign is not None else None,
        factorials=dossier.campaign.factorials if dossier.campaign is not None else (),
    )
    # Markup is right here and nowhere else: matplotlib escaped every text that it drew.
    return [
        (
            name,
            _CAPTIONS[name],
            Markup(plots.inline(draw(story, plots.PAGE), name, _CAPTIONS[name])),
        )
        for name, draw in plots.figures_of(story).items()
    ]


def _tiles(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Name, value, a word of explanation."""
    dropped = sum(line.fate == "dropped" for line in summary.promotions)
    out = f", {dropped} dropped at the end" * (dropped > 0)
    yield "promotions", str(len(summary.promotions)), f"of {summary.experiments} experiments{out}"
    yield (
        "confirmed gain",
        shown_number(summary.confirmed_gain, "+.4g"),
        "from confirmation runs only",
    )
    yield "noise", shown_number(summary.noise_sd, ".3g"), "sd of one run of the master"
    sealed = [line.holdout for line in summary.promotions if line.holdout is not None]
    confirmed = sum(one.confirmed for one in sealed)
    yield (
        "sealed holdout",
        f"{confirmed} of {len(sealed)}" if sealed else "–",
        "promotions that it confirms" if sealed else "not measured",
    )
    pace = summary.runs_per_hour
    yield (
        "runs",
        str(summary.runs),
        ended(summary) + (f", {pace:.0f} per hour" if pace is not None else ""),
    )
    yield "time", duration(summary.elapsed), f"{duration(summary.cpu_seconds)} of CPU in runs"
    cost = f"${summary.cost_usd:.2f}" if summary.cost_usd else "$0"
    yield "model cost", cost, "US dollars"
    yield "anomalies", str(summary.anomaly_count), "to look at" if summary.anomaly_count else "none"


def _newest(experiments: Sequence[Experiment]) -> list[Experiment]:
    first = len(experiments) - EXPERIMENTS
    return [e for at, e in enumerate(experiments) if at >= first or e.verdict is Verdict.PROMOTED]


def _seen(dossier: Dossier) -> set[str]:
    return {e.verdict.value for e in dossier.experiments}


def _word(value: str) -> str:
    return value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class _Line:
    """An experiment as text, ready to show."""

    id: str
    verdict: str
    mark: str
    word: str
    title: str
    rule: str
    screened: str
    gain: str
    interval: str
    pairs: str
    holdout: str
    facts: tuple[tuple[str, str], ...]
    diff: tuple[tuple[str, str], ...]


def _experiment(experiment: Experiment) -> _Line:
    decision = experiment.decision if experiment.decision and experiment.decision.looks else None
    change = experiment.hypothesis
    facts = (
        ("why", plain(change.rationale, 600)),
        ("instructions", plain(change.instructions, 1200)),
        ("proposed by", plain(change.source, 120)),
        ("not a duplicate", plain(experiment.new, 200)),
        ("expected", _expected(change)),
        *_paper(change.citation),
        ("worker says", plain(experiment.comment, 600)),
        ("decision", plain(experiment.decision.reason, 400) if experiment.decision else ""),
        ("p value", shown_number(decision.p_value, ".3g") if decision else ""),
        ("parent", experiment.parent[:12]),
        ("candidate", experiment.candidate[:12]),
        ("rebased from", experiment.rebased_from[:12]),
    )
    return _Line(
        id=experiment.id,
        verdict=experiment.verdict.value,
        mark=MARKS[experiment.verdict],
        word=_word(experiment.verdict.value),
        title=plain(change.title, 200),
        rule="" if experiment.rule == experiment.verdict.value else plain(experiment.rule, 80),
        screened=shown_number(experiment.screen_gain, "+.4g"),
        gain=shown_number(decision.gain if decision else None, "+.4g"),
        interval=_interval(decision.low, decision.high) if decision else "",
        pairs=str(decision.pairs) if decision else "–",
        holdout=shown_number(experiment.holdout_gain, "+.4g"),
        facts=tuple((name, value) for name, value in facts if value),
        diff=tuple(_diff(experiment.diff)),
    )


def _expected(change: Hypothesis) -> str:
    if change.expected_gain is None:
        return ""
    return f"gain {change.expected_gain:+.4g} for {change.expected_cost:g} runs"


def _paper(citation: Citation | None) -> tuple[tuple[str, str], ...]:
    if citation is None:
        return ()
    named = " · ".join(each for each in (citation.title, citation.url) if each)
    return (
        ("paper", plain(f"{citation.passage} {named}", 400)),
        ("it says", plain(citation.quote, 1200)),
    )


def _interval(low: float | None, high: float | None) -> str:
    low, high = finite(low), finite(high)
    return "" if low is None or high is None else f"[{low:+.4g}, {high:+.4g}]"


def _diff(text: str) -> Iterator[tuple[str, str]]:
    """Each line of a unified diff with its class."""
    lines = block(text.rstrip()).split("\n") if text.strip() else []
    for line in lines[:DIFF_LINES]:
        kind = {"+": "plus", "-": "minus", "@": "hunk"}.get(line[:1], "")
        yield ("file" if line.startswith(("+++", "---", "diff ")) else kind), line
    if len(lines) > DIFF_LINES:
        yield "hunk", f"… {len(lines) - DIFF_LINES} more lines"


def _promotion(line: PromotionLine) -> dict[str, str]:
    sealed = line.holdout
    return {
        "id": line.experiment,
        "title": plain(line.title, 200),
        "gain": f"{line.gain:+.4g}",
        "interval": _interval(line.low, line.high),
        "pairs": str(line.pairs),
        "fate": line.fate,
        "holdout": "not measured" if sealed is None else f"{sealed.gain:+.4g}",
        "sealed": "" if sealed is None else ("confirmed" if sealed.confirmed else "not confirmed"),
    }


def _end(dossier: Dossier) -> dict[str, Any]:
    """The sections about the end of the campaign; {} while it goes on."""
    campaign = dossier.campaign
    if campaign is None or campaign.ablation is None:
        return {}
    return {
        "told": list(ablation_text(campaign.ablation)),
        "lines": [
            {
                "id": line.experiment,
                "title": plain(line.title, 200),
                "fate": line.fate,
                "gain": shown_number(line.gain, "+.4g"),
                "interval": _interval(line.low, line.high),
                "seeds": str(len(line.gains)) if line.gains else "–",
                "why": plain(line.why, 300),
            }
            for line in campaign.ablation.lines
        ],
        "factorials": [
            {
                "pair": f"{found.first} × {found.second}",
                "titles": " × ".join(plain(title, 100) for title in found.titles),
                "kind": found.kind,
                "interaction": shown_number(found.interaction, "+.4g"),
                "interval": _interval(found.low, found.high),
                "seeds": str(found.seeds) if found.seeds else "–",
                "evidence": ("yes" if found.evidence else "no") if found.seeds else "–",
                "experiment": found.experiment,
                "why": plain(found.why, 300),
            }
            for found in campaign.factorials
        ],
        "advice": advice(campaign),
    }


def _row(row: LedgerRow, kept: str) -> dict[str, str]:
    return {
        "row": str(row.row),
        "experiment": row.experiment,
        "phase": row.phase.value,
        "seed": str(row.seed) if row.seed >= 0 else "–",
        "metric": shown_number(row.metric, ".6g"),
        "delta": shown_number(row.delta, "+.4g"),
        "holdout": shown_number(row.holdout, ".6g"),
        "seconds": f"{row.duration:.1f}",
        "cpu": f"{row.cpu_seconds:.1f}",
        "memory": f"{row.peak_memory_mb:.0f}",
        "exit": plain(row.exit, 40),
        "verdict": row.verdict.value,
        "mark": MARKS[row.verdict],
        "word": _word(row.verdict.value),
        "status": kept,
        "commit": plain(row.candidate[:7]) or "–",
    }


def _notes(dossier: Dossier) -> list[tuple[str, str, str]]:
    """What holds now: kind, text, the experiment that it comes from; the newest first."""
    holding = in_force(dossier.notes, dossier.masters[-1]) if dossier.masters else dossier.notes
    return [(_word(n.kind), plain(n.text, 400), n.experiment) for n in reversed(holding)][:60]
