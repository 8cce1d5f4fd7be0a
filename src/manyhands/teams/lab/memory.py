"""The memory-keeper: what the team need not learn twice.

Invariant: a note is made from an experiment's verdict alone, and what rules something out says for
how long. A clear loss of a number and a crash hold while the program's structure stands (its code
and its choices, whatever the numbers of its settings); a choice that lost, a loss that may be
noise, and a near miss hold only for the very program that they were measured against; words that
led to a broken rule are ruled out for ever.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from manyhands.teams.lab.ledger import finite, plain
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Literalish,
    Master,
    Note,
    Verdict,
)

#: What a note may rest on, before the hash: `Note.expires_with`.
PROGRAM, STRUCTURE = "program:", "structure:"
#: A screened loss of so many noise standard deviations needs no confirmation to count as clear.
CLEAR_LOSS = 4.0
#: So many notes of each kind are rendered, the newest; the rest are counted.
RENDERED = 40


def value_text(value: Literalish | None) -> str:
    """One spelling for equal values: ``2`` and ``2.0``, ``0.1`` and ``0.10000000001``."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.9g}" if isinstance(value, int | float) else f"'{value}'"


def fingerprint(hypothesis: Hypothesis) -> str:
    """The change itself, whatever its parent, title or reason."""
    if hypothesis.kind == "setting":
        return f"{hypothesis.setting}={value_text(hypothesis.value)}"
    words = " ".join(hypothesis.instructions.lower().split())
    return "words:" + hashlib.sha256(words.encode()).hexdigest()[:16]


def attempt(hypothesis: Hypothesis) -> str:
    """The change on its parent: what may be tried once."""
    return f"{fingerprint(hypothesis)}@{hypothesis.parent}"


def worth(hypothesis: Hypothesis) -> tuple[float, float, str]:
    """For sorting, best first: by expected gain per training run; then the cheaper first. Where
    nobody has an expectation, it is no gain."""
    gain, cost = finite(hypothesis.expected_gain) or 0.0, max(hypothesis.expected_cost, 1e-9)
    return -gain / cost, cost, hypothesis.id


def in_force(notes: Sequence[Note], master: Master) -> tuple[Note, ...]:
    """Those without an expiry, and those whose ground is the same in this master: its program, or
    its structure. A program that comes back, by whatever commit, brings its notes back."""
    grounds = ["", master.commit]
    grounds += [f"{PROGRAM}{master.program}"] * bool(master.program)
    grounds += [f"{STRUCTURE}{master.structure}"] * bool(master.structure)
    return tuple(note for note in notes if note.expires_with in grounds)


def keep(
    experiment: Experiment,
    rows: Sequence[LedgerRow],
    notes: Sequence[Note],
    *,
    noise_sd: float = 0.0,
    parent: Master | None = None,
) -> tuple[Note, ...]:
    """The new notes that ``experiment`` deserves, given those that exist.

    ``rows``: the experiment's ledger rows (how its runs ended). ``noise_sd``: of one run, in the
    metric's unit; 0 means not known, and then no screened loss counts as clear. ``parent``: the
    master that it was tried on, for what the note rests on (None: on its commit, or on nothing).
    """
    note = _note(experiment, rows, noise_sd, parent)
    if note is None or _known(note, notes):
        return ()
    return (note,)


def _note(
    experiment: Experiment, rows: Sequence[LedgerRow], noise_sd: float, parent: Master | None
) -> Note | None:
    known = parent is not None and bool(parent.program)
    program = f"{PROGRAM}{parent.program}" if parent and known else experiment.parent
    structure = f"{STRUCTURE}{parent.structure}" if parent and known else ""
    match experiment.verdict:
        case Verdict.PROMOTED:
            return _make(experiment, "insight", f"gained {_gain(experiment)}")
        case Verdict.INCONCLUSIVE:
            text = f"undecided: {_gain(experiment)}; worth another look on this master"
            return _make(experiment, "near_miss", text, program)
        case Verdict.NOT_BETTER:
            clear = _clearly_worse(experiment, noise_sd)
            text = f"{'worse' if clear else 'not better'}: {_gain(experiment)}"
            far = clear and not _is_choice(experiment.hypothesis)
            return _make(experiment, "do_not_repeat", text, structure if far else program)
        case Verdict.CRASHED | Verdict.TIMED_OUT:
            text = f"{experiment.verdict.value.replace('_', ' ')}{_ended(experiment, rows)}"
            return _make(experiment, "do_not_repeat", text, structure)
        case Verdict.REJECTED:
            # A setting's value is not to blame for a patch that broke a rule: the next master,
            # or another worker, may try it. Words that led to a broken rule lead there again.
            until = program if experiment.hypothesis.kind == "setting" else ""
            rule = f" by the rule {experiment.rule}" if experiment.rule else ""
            return _make(experiment, "do_not_repeat", f"rejected{rule}", until)
        case _:
            return None


def _make(experiment: Experiment, kind: str, text: str, expires_with: str = "") -> Note:
    title = plain(experiment.hypothesis.title, 160)
    return Note.model_validate(
        {
            "kind": kind,
            "text": f"{title}: {plain(text, 400)}",
            "experiment": experiment.id,
            "fingerprint": fingerprint(experiment.hypothesis),
            "expires_with": expires_with,
        }
    )


def _known(note: Note, notes: Sequence[Note]) -> bool:
    """An older note that says as much: same kind and change, and no earlier expiry."""
    return any(
        old.kind == note.kind
        and old.fingerprint == note.fingerprint
        and old.expires_with in ("", note.expires_with)
        for old in notes
    )


def _clearly_worse(experiment: Experiment, noise_sd: float) -> bool:
    decision = experiment.decision
    if decision is not None:
        return decision.high is not None and decision.high < 0
    screened = finite(experiment.screen_gain)
    return noise_sd > 0 and screened is not None and screened < -CLEAR_LOSS * noise_sd


def _is_choice(hypothesis: Hypothesis) -> bool:
    """An optimiser or a switch that loses now may win beside other settings."""
    return hypothesis.kind == "setting" and isinstance(hypothesis.value, str | bool)


def _gain(experiment: Experiment) -> str:
    if experiment.decision is not None:
        return _decision_text(experiment.decision)
    screened = finite(experiment.screen_gain)
    return "no measured gain" if screened is None else f"{screened:+.4g} on the screening run"


def _decision_text(decision: GateDecision) -> str:
    if decision.looks == 0:
        return plain(decision.reason, 200)
    low, high = finite(decision.low), finite(decision.high)
    interval = "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"
    return f"{decision.gain:+.4g}{interval} over {decision.pairs} pairs"


def _ended(experiment: Experiment, rows: Sequence[LedgerRow]) -> str:
    mine = [row for row in rows if row.experiment == experiment.id and row.metric is None]
    if not mine:
        return f" ({plain(experiment.rule, 80)})" if experiment.rule else ""
    return f" ({plain(mine[-1].exit, 40)})"


def render(notes: Sequence[Note], master: Master) -> str:
    """``notes.md``: what holds under ``master``; what expired is counted, not shown."""
    holding = in_force(notes, master)
    lines = ["# Notes", "", f"Under master {code(master.commit[:12])} ({code(master.experiment)})."]
    for kind, heading in (
        ("insight", "What helped"),
        ("near_miss", "Near misses"),
        ("do_not_repeat", "Do not repeat"),
    ):
        mine = [note for note in holding if note.kind == kind]
        lines += ["", f"## {heading}", ""]
        lines += [_line(note) for note in mine[-RENDERED:]] or ["- nothing yet"]
        if len(mine) > RENDERED:
            lines.append(f"- … and {len(mine) - RENDERED} earlier")
    expired = len(notes) - len(holding)
    if expired:
        lines += ["", f"{expired} notes expired with an earlier master."]
    return "\n".join(lines) + "\n"


def _line(note: Note) -> str:
    until = "" if not note.expires_with else " *(until the master changes)*"
    if note.expires_with.startswith(STRUCTURE):
        until = " *(until its code or a choice changes)*"
    return f"- {markdown(note.text)} ({code(note.experiment)}){until}"


def markdown(text: str) -> str:
    """One line of ``text`` that Markdown shows as it is: no markup, no HTML, no link.

    What cannot be markup stays unescaped, for those who read it in a terminal: an underscore
    within a word, a bracket that no link follows.
    """
    line = re.sub(r"([\\`*<>])", r"\\\1", plain(text))
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
    return re.sub(r"\](?=[(\[])", r"\\]", line)


def code(text: str) -> str:
    """``text`` as an inline code span that it cannot leave."""
    return "`" + plain(text).replace("`", "'") + "`"
