"""The message of a commit that holds a surviving change: what was measured, and where it is from.

Invariant: words of agents and of papers stand in one bounded line each, indented, never in the last
paragraph: that one is ours, so nobody's words can pass for a trailer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manyhands.teams.lab.ledger import finite, plain
from manyhands.teams.lab.records import Ablated, Experiment
from manyhands.teams.lab.state import Lab

_SUBJECT = 72
#: Signs of an agent's or a paper's words that a message quotes.
QUOTED = 300


def message_of(lab: Lab, changes: Sequence[Experiment], *, whole: bool = False) -> str:
    """For one change, or for several that cannot be told apart. ``whole``: they are all that the
    branch has, because rebuilt one by one they do not make the master's files."""
    lines = [_subject(changes), ""]
    if len(changes) > 1 or whole:
        lines += ["These changes stand on the same lines and are one commit.", ""]
    for change in changes:
        lines += [*_about(lab, change), ""]
    lines += [f"Lab-Run: {lab.run_id}", f"Lab-Study: {lab.study.name}"]
    lines += [f"Lab-Experiment: {change.id} {change.candidate}" for change in changes]
    return "\n".join(lines) + "\n"


def _subject(changes: Sequence[Experiment]) -> str:
    if len(changes) == 1:
        return plain(f"{changes[0].id}: {plain(changes[0].hypothesis.title)}", _SUBJECT)
    return plain(f"{', '.join(change.id for change in changes)}: together", _SUBJECT)


def _about(lab: Lab, change: Experiment) -> Iterator[str]:
    metric, decision = lab.study.config.metric, change.decision
    way = "lower" if metric.direction == "lower" else "higher"
    if decision is not None:
        yield (
            f"{change.id}: {metric.name} {decision.gain:+.4g}{interval_text(decision)} better "
            f"({way} is better) than the master before it,"
        )
        yield (
            f"over {decision.pairs} fresh pairs of runs, p {decision.p_value:.3g}, "
            f"alpha {decision.alpha:g} per decision."
        )
    if change.holdout_gain is not None:
        yield f"On the sealed split: {change.holdout_gain:+.4g}."
    line = ablated(lab, change.id)
    if line is not None:
        yield f"Taken out at the end: {line.fate}; {plain(line.why, QUOTED)}."
    for name, text in _words(change):
        if said := plain(text, QUOTED):
            yield f"    {name}: {said}"


def _words(change: Experiment) -> Iterator[tuple[str, str]]:
    hypothesis = change.hypothesis
    yield "Hypothesis", f"{hypothesis.id} {hypothesis.rationale}"
    yield "Proposed by", hypothesis.source
    if (cited := hypothesis.citation) is not None:
        yield "Paper", f"{cited.passage} {cited.title} {cited.url}"
        yield "It says", cited.quote


def ablated(lab: Lab, experiment: str) -> Ablated | None:
    lines = lab.ablation.lines if lab.ablation is not None else ()
    return next((line for line in lines if line.experiment == experiment), None)


def interval_text(bounds: object) -> str:
    """`` [low, high]`` of what has both, or ''."""
    low, high = finite(getattr(bounds, "low", None)), finite(getattr(bounds, "high", None))
    return "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"
