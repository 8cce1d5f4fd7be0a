"""The reviewer by rules: which hypotheses may cost a run.

Invariant: a refusal names one rule and says why in a sentence; what no rule refuses is accepted.
The rules are cheap and read words only. What a worker's patch really changes is judged later, by
the preflight, on the patch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from manyhands.teams.lab.ledger import plain
from manyhands.teams.lab.literals import as_kind
from manyhands.teams.lab.memory import attempt, fingerprint, in_force, value_text
from manyhands.teams.lab.records import Hypothesis, Literalish, Master, Note, Review
from manyhands.teams.lab.settings import Setting, range_problem

#: Fewer words than this tell a worker nothing to do.
LEAST_WORDS = 3

_CHANGING = (
    r"edit|chang|modif|rewrit|patch|overwrit|delet|remov|replac|touch|renam|mov|disabl|bypass|mock"
)
_ASSIGNING = r"(?<!\w){name}(?!\w)\s*(?:=|:|to\b|from\b|by\b)"
_ENUMERATED = re.compile(r"(?m)^\s*(?:\d+[.)]|[-*•])\s+\S")
_HOLDOUT = re.compile(r"\b(?:sealed|hold-?out)\b", re.IGNORECASE)
_TRAIN_ON_VALIDATION = re.compile(
    r"\btrain\w*\s+(?:\w+\s+){0,3}?(?:on|with|from)\s+(?:(?:the|its|all|our)\s+)?(?:val\b|validation)",
    re.IGNORECASE,
)
_FAKED_METRIC = re.compile(
    r"\b(?:print|write|return|report|hard-?cod)\w*\s+(?:\w+\s+){0,4}?"
    r"(?:fake|false|fixed|constant|better|lower|higher)\s+(?:\w+\s+){0,2}?(?:metric|val_\w+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every rule may look at. ``tried`` grows with each hypothesis that is accepted."""

    master: Master
    settings: Mapping[str, Setting]
    ruled_out: frozenset[str]
    protected: tuple[str, ...]
    seen: Collection[str]
    waiting: frozenset[str]


def review(
    hypotheses: Sequence[Hypothesis],
    *,
    master: Master,
    seen_fingerprints: Collection[str],
    settings: Mapping[str, Setting],
    notes: Sequence[Note],
    active: Sequence[Hypothesis],
    protected: Sequence[str] = (),
) -> tuple[Review, ...]:
    """One review per hypothesis, in order; the first of two equals passes, the second does not.

    ``seen_fingerprints``: ``memory.attempt(h)`` of all that the ledger has (the change on its
    parent). ``active``: what is queued or runs now. ``settings``: as they stand in the master.
    ``protected``: paths or globs that no worker may change.
    """
    holding = in_force(notes, master)
    desk = _Desk(
        master=master,
        settings=settings,
        ruled_out=frozenset(n.fingerprint for n in holding if n.kind == "do_not_repeat"),
        protected=tuple(protected),
        seen=seen_fingerprints,
        waiting=frozenset(attempt(h) for h in active),
    )
    accepted: set[str] = set()
    reviews: list[Review] = []
    for hypothesis in hypotheses:
        result = _first_refusal(hypothesis, desk, accepted)
        if result.accepted:
            accepted.add(attempt(hypothesis))
        reviews.append(result)
    return tuple(reviews)


def _first_refusal(hypothesis: Hypothesis, desk: _Desk, accepted: set[str]) -> Review:
    rules = RULES if attempt(hypothesis) not in accepted else (("duplicate", _in_batch), *RULES)
    for rule, refuses in rules:
        reason = refuses(hypothesis, desk)
        if reason:
            return Review(hypothesis=hypothesis.id, accepted=False, rule=rule, reason=reason)
    return Review(hypothesis=hypothesis.id, accepted=True, reason="no rule refuses it")


def _in_batch(hypothesis: Hypothesis, desk: _Desk) -> str:
    return f"{fingerprint(hypothesis)} is proposed twice in this batch."


def _stale_parent(hypothesis: Hypothesis, desk: _Desk) -> str:
    if hypothesis.parent == desk.master.commit:
        return ""
    parent, master = plain(hypothesis.parent[:12]), desk.master.commit[:12]
    return f"Its parent {parent or '(none)'} is not the master {master}."


def _one_change(hypothesis: Hypothesis, desk: _Desk) -> str:
    if hypothesis.kind == "structural":
        if hypothesis.setting or hypothesis.value is not None:
            return "It is structural and sets a setting as well: that is two changes."
        if len(_ENUMERATED.findall(hypothesis.instructions)) > 1:
            return "Its instructions list several changes; one hypothesis is one change."
        named = _assigned(hypothesis.instructions, desk.settings)
        if len(named) > 1:
            return f"Its instructions set {', '.join(named)}; one hypothesis is one change."
        return ""
    others = [
        n for n in _assigned(hypothesis.instructions, desk.settings) if n != hypothesis.setting
    ]
    return f"It sets {hypothesis.setting} and also {', '.join(others)}." if others else ""


def _assigned(text: str, settings: Mapping[str, Setting]) -> list[str]:
    """The settings that ``text`` assigns: ``NAME = …``, ``NAME to …``, ``NAME by …``."""
    return [n for n in settings if re.search(_ASSIGNING.format(name=re.escape(n)), text)]


def _unknown_setting(hypothesis: Hypothesis, desk: _Desk) -> str:
    if hypothesis.kind != "setting" or hypothesis.setting in desk.settings:
        return ""
    return f"{plain(hypothesis.setting, 60) or '(no name)'} is not a setting of the editable files."


def _wrong_kind(hypothesis: Hypothesis, desk: _Desk) -> str:
    setting = _setting(hypothesis, desk)
    if setting is None or _fitting(hypothesis, setting) is not None:
        return ""
    shown = plain(value_text(hypothesis.value), 60)
    return f"{setting.name} is {setting.kind} and the value {shown} is not."


def _fitting(hypothesis: Hypothesis, setting: Setting) -> Literalish | None:
    value = hypothesis.value
    return None if value is None else as_kind(value, setting.kind)


def _out_of_range(hypothesis: Hypothesis, desk: _Desk) -> str:
    setting = _setting(hypothesis, desk)
    if setting is None or hypothesis.value is None:
        return ""
    problem = range_problem(setting, hypothesis.value)
    return f"{plain(problem, 240)}." if problem else ""


def _current_value(hypothesis: Hypothesis, desk: _Desk) -> str:
    setting = _setting(hypothesis, desk)
    if setting is None or value_text(setting.value) != value_text(hypothesis.value):
        return ""
    return f"{setting.name} is {plain(value_text(setting.value), 60)} already: it changes nothing."


def _setting(hypothesis: Hypothesis, desk: _Desk) -> Setting | None:
    return desk.settings.get(hypothesis.setting) if hypothesis.kind == "setting" else None


def _missing_instructions(hypothesis: Hypothesis, desk: _Desk) -> str:
    if hypothesis.kind == "setting" or len(hypothesis.instructions.split()) >= LEAST_WORDS:
        return ""
    return "It is structural and does not say what to edit."


def _hard_rule(hypothesis: Hypothesis, desk: _Desk) -> str:
    text = f"{hypothesis.title}\n{hypothesis.instructions}"
    for sentence in re.split(r"(?<=[.!?;])\s+|\n", text):
        path = _protected_path(sentence, desk.protected)
        if path:
            return f"It would change {plain(path, 80)}, which is protected."
        if _HOLDOUT.search(sentence):
            return "It speaks of the sealed holdout, which no worker may use."
        if _TRAIN_ON_VALIDATION.search(sentence):
            return "It would train on the validation data."
        if _FAKED_METRIC.search(sentence):
            return "It would report a metric that was not measured."
    return ""


def _protected_path(sentence: str, protected: Sequence[str]) -> str:
    """The path that a verb of change has for its object, if it is protected."""
    for verb in re.finditer(rf"\b(?:{_CHANGING})\w*\s+", sentence, re.IGNORECASE):
        words = re.findall(r"[\w./*-]+", sentence[verb.end() :])[:6]
        paths = [name for name in (word.strip("./") for word in words) if re.search(r"[./]", name)]
        if paths and any(fnmatch(paths[0], p) or fnmatch(paths[0], f"*/{p}") for p in protected):
            return paths[0]
    return ""


def _ruled_out(hypothesis: Hypothesis, desk: _Desk) -> str:
    mark = fingerprint(hypothesis)
    return f"A note still in force rules {plain(mark, 80)} out." if mark in desk.ruled_out else ""


def _duplicate(hypothesis: Hypothesis, desk: _Desk) -> str:
    mark = attempt(hypothesis)
    shown = plain(fingerprint(hypothesis), 80)
    if mark in desk.waiting:
        return f"{shown} is queued or running on this master already."
    return f"{shown} was tried on this master already." if mark in desk.seen else ""


#: In the order in which they are asked; the first that refuses is the one named.
RULES: tuple[tuple[str, Callable[[Hypothesis, _Desk], str]], ...] = (
    ("stale-parent", _stale_parent),
    ("more-than-one-change", _one_change),
    ("unknown-setting", _unknown_setting),
    ("wrong-kind", _wrong_kind),
    ("out-of-range", _out_of_range),
    ("current-value", _current_value),
    ("missing-instructions", _missing_instructions),
    ("hard-rule", _hard_rule),
    ("duplicate", _duplicate),
    ("ruled-out", _ruled_out),
)
