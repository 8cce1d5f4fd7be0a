"""The researcher as an algorithm: what may be worth a look, from documents, notes and settings.

Invariant: an idea names where it came from, and its title can be read back by ``read_hint``. What a
document says is a stranger's word: it orders the looks that are taken and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Literal

from manyhands.teams.lab.ledger import plain
from manyhands.teams.lab.records import Idea, Note
from manyhands.teams.lab.settings import Setting

Direction = Literal["", "up", "down"]

_UP = r"increas|rais|high|larg|big|more\b|long|wid|deep|doubl|grow|stronger|faster"
_DOWN = r"decreas|reduc|lower|small|short|less\b|fewer|halv|shrink|narrow|weaker|slower"
_WAYS = re.compile(rf"\b(?:(?P<up>{_UP})|(?P<down>{_DOWN}))", re.IGNORECASE)
_VALUE = r"\s*(?:=|:|\bto\b|\bof\b|\bat\b)\s*[`'\"]?(?P<value>-?\d[\d_]*\.?\d*(?:e[-+]?\d+)?|\w+)"
_SUGGESTING = re.compile(
    r"^(?:try|use|replace|add|remove|tie|share|initiali[sz]e|normali[sz]e|swap|switch)\b",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"^(?:untried|to try|worth trying|open|ideas?)\s*:\s*(?P<items>.+)$", re.IGNORECASE
)
#: What turns a sentence that names a setting into advice; without it, it is a description.
_ADVICE = re.compile(
    r"\b(?:try|tried|should|could|might|worth|help|pay|better|improv|suggest|recommend|promis|gain"
    r"|use|set|raise|increase|double|lower|reduce|decrease|halve|shrink|widen|deepen)\w*\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Experience:
    """What is said of settings whose name fits ``pattern``; ``weight`` orders the looks.

    ``way``: which way to look first. ``values``: choices to look at first, the first that exists.
    """

    pattern: str
    weight: float
    reason: str
    way: Direction = ""
    values: tuple[str, ...] = ()


#: General experience with small models. It orders looks; what counts is decided by measuring.
EXPERIENCE: tuple[Experience, ...] = (
    Experience(
        r"(^|_)(lr|learning_rate)",
        1.0,
        "the step size decides most, and is more often too low: too high is noticed",
        "up",
    ),
    Experience(
        r"optim",
        0.9,
        "adaptive steps gain most when the training is short",
        values=("adamw", "adam"),
    ),
    Experience(
        r"schedule|anneal|cooldown",
        0.8,
        "a decaying step size settles the end",
        values=("cosine", "linear"),
    ),
    Experience(r"init", 0.75, "the scale of the first weights decides the early progress"),
    Experience(r"batch", 0.7, "it trades the noise of a step against the number of steps"),
    Experience(
        r"width|hidden|d_model|embd|emb_|embed|dim", 0.65, "capacity, if the steps suffice for it"
    ),
    Experience(r"momentum|beta", 0.6, "averaging over steps, coupled with the step size"),
    Experience(r"activation|nonlin", 0.6, "a cheap swap", values=("gelu", "silu", "swish", "relu")),
    Experience(r"context|block_size|window|seq", 0.55, "how much the prediction may look at"),
    Experience(r"warmup", 0.5, "it guards large first steps, and costs some of them"),
    Experience(r"clip", 0.45, "it guards rare large steps, and slows all when too low"),
    Experience(r"depth|layer", 0.45, "capacity of another kind, harder to train"),
    Experience(r"decay|weight_decay|reg", 0.35, "it matters when the data repeat"),
    Experience(r"dropout", 0.3, "it helps only what overfits"),
)
NOTHING_KNOWN = Experience("", 0.1, "not looked at yet")


@dataclass(frozen=True, slots=True)
class Hint:
    """What an idea's words say of one setting, and why. ``value``: text as written, '' for none."""

    setting: str
    direction: Direction = ""
    value: str = ""
    why: str = ""


def ideas(
    documents: Mapping[str, str],
    notes: Sequence[Note],
    settings: Mapping[str, Setting],
    limit: int,
) -> tuple[Idea, ...]:
    """At most ``limit`` ideas, the most promising first, no two about the same thing.

    ``documents`` maps a name to its text. First what documents advise on a setting; then in turn
    the settings (near misses among the notes, then by name) and what else documents suggest.
    """
    advice, others = _from_documents(documents, settings)
    looks = [*_from_notes(notes, settings), *_from_names(settings)]
    turns = chain.from_iterable(zip_longest(looks, others))
    found: dict[tuple[str, str, str], Idea] = {}
    for idea in (*advice, *(idea for idea in turns if idea)):
        hint = read_hint(idea, settings)
        key = (hint.setting, hint.direction, hint.value) if hint else ("", "", idea.title.lower())
        vague = hint is not None and not hint.direction and not hint.value
        if not (vague and any(name == key[0] for name, _, _ in found)):
            found.setdefault(key, idea)
    return tuple(found.values())[: max(limit, 0)]


def read_hint(idea: Idea, settings: Mapping[str, Setting]) -> Hint | None:
    """The setting that ``idea`` is about, which way, and to which value; None for no setting.

    The title is read first; only if it names no setting, the rationale.
    """
    hint = _hint(idea.title, settings) or _hint(idea.rationale, settings)
    return replace(hint, why=plain(idea.rationale, 200)) if hint else None


def _hint(text: str, settings: Mapping[str, Setting]) -> Hint | None:
    places = [
        (match.start(), -len(name), name, match)
        for name in settings
        if (match := _named(name).search(text)) is not None
    ]
    if not places:
        return None
    _, _, name, match = min(places, key=lambda place: place[:3])
    follows = re.match(_VALUE, text[match.end() :], re.IGNORECASE)
    value = follows["value"] if follows and _is_value(follows["value"], settings[name]) else ""
    return Hint(name, _direction(text, match), value)


def _is_value(word: str, setting: Setting) -> bool:
    if setting.kind in ("int", "float"):
        return re.fullmatch(r"-?\d[\d_]*\.?\d*(?:e[-+]?\d+)?", word, re.IGNORECASE) is not None
    options = setting.choices or ((True, False) if setting.kind == "bool" else ())
    return word.lower() in {str(option).lower() for option in options}


def _direction(text: str, name: re.Match[str]) -> Direction:
    """The word of more or less that stands nearest to the name, within eight words of it."""
    nearest: tuple[int, Direction] = (60, "")
    for way in _WAYS.finditer(text):
        if way.start() >= name.start() and way.end() <= name.end():
            continue
        away = min(abs(way.start() - name.end()), abs(name.start() - way.end()))
        if away < nearest[0]:
            nearest = (away, "up" if way["up"] else "down")
    return nearest[1]


def _named(name: str) -> re.Pattern[str]:
    """``LEARNING_RATE`` is found as itself and as "learning rate"; a short name only as itself."""
    if len(name) < 4 and "_" not in name:
        return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    words = r"[ _-]".join(re.escape(part) for part in name.split("_") if part)
    return re.compile(rf"(?<!\w){words}s?(?!\w)", re.IGNORECASE)


def _from_documents(
    documents: Mapping[str, str], settings: Mapping[str, Setting]
) -> tuple[list[Idea], list[Idea]]:
    """Advice on settings, and suggestions that name none."""
    advice: list[Idea] = []
    others: list[Idea] = []
    for name in sorted(documents):
        source = plain(name, 120)
        for sentence in _sentences(documents[name]):
            why = plain(sentence, 400)
            hint = _hint(sentence, settings)
            listed = _LISTED.match(sentence)
            if listed:
                items = re.split(r"[,;]\s+", listed["items"].rstrip("."))
                others += [Idea(title=plain(i, 120), rationale=why, source=source) for i in items]
            elif hint is None and _SUGGESTING.match(sentence):
                others.append(Idea(title=plain(sentence, 120), rationale=why, source=source))
            elif hint and (hint.value or hint.direction) and _ADVICE.search(sentence):
                advice.append(Idea(title=_title(hint), rationale=why, source=source))
    return advice, others


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)", text):
        bare = re.sub(r"^\s*(?:[-*•#>]+|\d+[.)])\s+", "", paragraph)
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(bare.split())):
            if 8 <= len(sentence) <= 600:
                yield sentence


def _title(hint: Hint) -> str:
    if hint.value:
        return f"Try {hint.setting} = {hint.value}"
    return {"up": "Raise", "down": "Lower", "": "Look at"}[hint.direction] + f" {hint.setting}"


def _from_notes(notes: Sequence[Note], settings: Mapping[str, Setting]) -> Iterator[Idea]:
    for note in reversed(notes):
        name = note.fingerprint.partition("=")[0]
        if note.kind == "near_miss" and name in settings:
            yield Idea(
                title=f"Look at {name}",
                rationale=f"A near miss: {plain(note.text, 300)}",
                source=f"notes ({plain(note.experiment, 40)})",
            )


def _from_names(settings: Mapping[str, Setting]) -> Iterator[Idea]:
    known = {name: experience_with(name) for name in settings if settings[name].searched}
    for name in sorted(known, key=lambda n: (-known[n].weight, n)):
        setting, said = settings[name], known[name]
        there = {str(c).lower(): str(c) for c in setting.choices if c != setting.value}
        values = [there[v] for v in said.values if v in there]
        current = str(setting.value).lower() in said.values
        hint = Hint(name, said.way, values[0] if values and not current else "")
        yield Idea(title=_title(hint), rationale=said.reason, source="the setting's name")


def experience_with(name: str) -> Experience:
    """What is generally known of a setting with this name."""
    known = [e for e in EXPERIENCE if re.search(e.pattern, name.lower())]
    return max(known, key=lambda e: e.weight, default=NOTHING_KNOWN)
