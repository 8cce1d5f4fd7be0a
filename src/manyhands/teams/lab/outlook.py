"""The end of a campaign in words: what was dropped, what interacts, and what to try next.

Invariant: every sentence follows from a record; nothing is advised that no number stands behind.
Titles of agents are inert text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manyhands.teams.lab.ledger import finite, plain, shown_number
from manyhands.teams.lab.memory import code, markdown
from manyhands.teams.lab.records import (
    Ablated,
    Ablation,
    Experiment,
    Factorial,
    Master,
    Verdict,
)
from manyhands.teams.lab.schema import SettingRange

#: At most so many pieces of advice, the first being the best founded.
ADVICE = 8
#: A setting so near an end of its range, as a share of it, stands at that end.
_EDGE = 0.02
#: Pairs to show a gain of one standard deviation of a pair with 90 % at the default error rate.
_PAIRS_AT_ONE = 8.6


@dataclass(frozen=True, slots=True)
class Campaign:
    """What the advice is drawn from. ``ranges``: of study.toml. ``reason``: why it ended."""

    experiments: Sequence[Experiment]
    master: Master | None
    ablation: Ablation | None
    factorials: Sequence[Factorial]
    ranges: Mapping[str, SettingRange]
    reason: str = ""


def ablation_text(ablation: Ablation) -> Iterator[str]:
    """Sentences about the leave-one-out, the result first."""
    if ablation.skipped:
        yield f"Not measured: {plain(ablation.skipped)}."
        return
    dropped = [line.experiment for line in ablation.lines if line.fate == "dropped"]
    count = len(ablation.lines)
    told = f"{len(dropped)} of {count} promoted changes {'was' if len(dropped) == 1 else 'were'}"
    yield (
        f"{told} dropped{': ' + ', '.join(dropped) if dropped else ''}. Each was taken out of the "
        f"final master by itself and measured on fresh seeds; {ablation.runs} runs."
    )
    decision = ablation.confirmation
    if decision is not None:
        high = finite(decision.high)
        most = (
            f"; they cost at most {high:.4g} ({1 - decision.alpha:.0%} bound)"
            if high is not None
            else ""
        )
        yield (
            f"All drops together were asked again over {decision.pairs} pairs: with them "
            f"the master gains {decision.gain:+.4g}, which is not shown to be a gain{most}."
        )
    short = [line for line in ablation.lines if line.fate == "undecided"]
    if short:
        yield (
            f"{len(short)} could not be decided with the {ablation.left} runs that were left, and "
            f"stayed: {', '.join(line.experiment for line in short)}."
        )


def interaction_text(found: Factorial) -> str:
    """One pair, as a sentence."""
    names = f"{found.first} and {found.second} ({plain(found.kind)})"
    if found.interaction is None:
        return f"{names}: not measured; {plain(found.why, 200) or 'no runs were left'}."
    bounds = bounds_text(found.low, found.high) or " (too few seeds for bounds)"
    told = f"{found.interaction:+.4g}{bounds} over {found.seeds} seeds"
    if not found.evidence:
        return f"{names}: interaction {told}, no evidence of any."
    way = "help each other" if found.interaction > 0 else "stand in each other's way"
    return f"{names}: they {way}, {told}."


def bounds_text(low: float | None, high: float | None) -> str:
    low, high = finite(low), finite(high)
    return "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"


def end_markdown(campaign: Campaign) -> list[str]:
    """The sections of the report in Markdown; none while the rounds go on."""
    if campaign.ablation is None:
        return []
    lines = ["", "## Ablation", ""]
    lines += [f"- {markdown(text)}" for text in ablation_text(campaign.ablation)]
    lines += [_fate_line(line) for line in campaign.ablation.lines]
    lines += ["", "## Interactions", ""]
    lines += [f"- {markdown(interaction_text(f))}" for f in campaign.factorials] or [
        "- none measured"
    ]
    lines += ["", "## What to try next", ""]
    lines += [f"- {markdown(text)}" for text in advice(campaign)] or [
        "- nothing follows from the numbers"
    ]
    return lines


def _fate_line(line: Ablated) -> str:
    gain = shown_number(line.gain, "+.4g")
    return (
        f"  - {code(line.experiment)} {markdown(plain(line.title, 120))}: **{line.fate}**, gain "
        f"{gain}{bounds_text(line.low, line.high)}; {markdown(line.why)}"
    )


# ---------------------------------------------------------------- what to try next


def advice(campaign: Campaign) -> list[str]:
    """What the facts suggest, best founded first; inert text, one line each."""
    parts = (_undecided, _synergies, _near, _edges, _untried, _ending)
    return [text for part in parts for text in part(campaign)][:ADVICE]


def _undecided(campaign: Campaign) -> Iterator[str]:
    lines = campaign.ablation.lines if campaign.ablation is not None else ()
    names = [line.experiment for line in lines if line.fate == "undecided"]
    if names:
        yield (
            f"Decide whether {', '.join(names)} {'is' if len(names) == 1 else 'are'} needed: the "
            "runs ended first. A larger [ablation] share or more --runs would do."
        )


def _synergies(campaign: Campaign) -> Iterator[str]:
    for found in campaign.factorials:
        if found.evidence and found.interaction is not None:
            first, second = (plain(title, 60) for title in found.titles)
            if found.interaction > 0:
                yield f"Tune “{first}” and “{second}” together: each gives more beside the other."
            else:
                yield f"“{first}” and “{second}” do the same work: look for one in their place."


def _near(campaign: Campaign) -> Iterator[str]:
    sd = campaign.master.noise_sd if campaign.master is not None else 0.0
    undecided = [
        e
        for e in campaign.experiments
        if e.verdict is Verdict.INCONCLUSIVE and e.decision is not None and e.decision.gain > 0
    ]
    for e in sorted(undecided, key=lambda e: -(e.decision.gain if e.decision else 0.0))[:2]:
        assert e.decision is not None
        size = e.decision.gain / (math.sqrt(2) * sd) if sd > 0 else 0.0
        need = f", about {math.ceil(_PAIRS_AT_ONE / size**2)} pairs if the gain is true" * (
            size > 0.1
        )
        yield (
            f"Confirm “{plain(e.hypothesis.title, 60)}” ({e.id}) with more pairs: it gained "
            f"{e.decision.gain:+.4g} over {e.decision.pairs} and was not decided{need}."
        )
    waiting = [e for e in campaign.experiments if e.rule == "not-confirmed"]
    if waiting:
        best = max(waiting, key=lambda e: e.screen_gain or 0.0)
        yield (
            f"{len(waiting)} screened changes were never confirmed; the best is "
            f"“{plain(best.hypothesis.title, 60)}” ({best.id}), {best.screen_gain or 0.0:+.4g} in "
            "its screening."
        )


def _edges(campaign: Campaign) -> Iterator[str]:
    dropped = (
        {e.experiment for e in campaign.ablation.lines if e.fate == "dropped"}
        if (campaign.ablation)
        else set[str]()
    )
    for e in campaign.experiments:
        change = e.hypothesis
        limits = campaign.ranges.get(change.setting)
        value = change.value
        if e.verdict is not Verdict.PROMOTED or e.id in dropped or limits is None:
            continue
        if (
            isinstance(value, bool | str)
            or value is None
            or limits.low is None
            or limits.high is None
        ):
            continue
        room = _EDGE * (limits.high - limits.low)
        low, high = value <= limits.low + room, value >= limits.high - room
        end = "low" if low else "high" if high else ""
        if end and not (limits.log and end == "low" and value > limits.low * 1.2):
            yield (
                f"Widen the range of {plain(change.setting, 60)}: it won at {value:g}, the {end} "
                "end of what may be searched."
            )


def _untried(campaign: Campaign) -> Iterator[str]:
    tried = {e.hypothesis.setting for e in campaign.experiments}
    left = [name for name in campaign.ranges if name not in tried]
    if left:
        yield f"Never tried: {', '.join(plain(name, 60) for name in left[:6])}."


def _ending(campaign: Campaign) -> Iterator[str]:
    verdicts = [e.verdict for e in campaign.experiments]
    count = len(verdicts)
    recent = verdicts[-max(4, count // 5) :]
    if "runs used" in campaign.reason and Verdict.PROMOTED in recent:
        yield "It still gained when the runs ended: give it more --runs."
    elif "plateau" in campaign.reason or "nothing is left" in campaign.reason:
        yield "The settings seem used up: structural changes (a model as worker, papers) come next."
    lost = sum(v in (Verdict.CRASHED, Verdict.TIMED_OUT) for v in verdicts)
    if count >= 5 and lost > 0.2 * count:
        yield f"{lost} of {count} experiments crashed or timed out: narrow the ranges or limits."
