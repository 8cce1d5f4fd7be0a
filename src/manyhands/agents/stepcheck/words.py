"""What a text owns up to, announces and claims, told from its words (English).

Invariant: these are patterns, not understanding; each errs towards silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from manyhands.agents.stepcheck.acts import Does

_NO_FAILURE = re.compile(
    r"\b(?:no|without(?: any)?|0|zero|any) (?:\w+ )?(?:errors?|failures?|issues?|problems?)\b|"
    r"\berror-free\b|\bno longer fails?\b",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"\bfail|\berror|\bexception|\bcould ?n[o']t|\bcan ?n[o']t|\bcan't|\bunable|\bunresolved|"
    r"\bincomplete|\bpartial|\bremain|\bbroken|\bblocked|\bskip|\bmissing|\bstill\b|\bdid ?n[o']t|"
    r"\bdoes ?n[o']t exist|\bdo(?:es)? not (?:work|pass|exist|fit|match)|\bis ?n[o']t|\bnot (?:yet|"
    r"done|work|pass|fixed|found|finished|run|able|possible|available|verif|succe|there|exist)|"
    r"\bwrong\b|\binstead\b|\bretry|\btry (?:again|another)|\bproblem|\bissue|\bunfortunately|"
    r"\bnothing\b|\bno such\b|\btimed? ?out|\brefused|\bopen\b",
    re.IGNORECASE,
)
#: A span of code that is more than a name.
_COMMAND = re.compile(r"`[^`\n]*\s[^`\n]*`")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|;\s")
_NOT_SAID = re.compile(
    r"\bnot\b|n't\b|\bnothing\b|\bno\b|\bnever\b|\bwithout\b|\bshould\b|\bwould\b|\bcould\b|"
    r"\bwill\b|\bunless\b|\bif\b|\bonce\b|\buntil\b|\bso that\b|\bneeds? to\b|\bmust\b|"
    r"\bto (?:make|see|check)\b|\bfail|\bwhether\b",
    re.IGNORECASE,
)
_EDITED = (
    r"(?:edited|changed|updated|modified|fixed|mended|created|wrote|written|added|renamed|removed|"
    r"deleted|replaced|patched|refactored|implemented|corrected|rewrote)"
)
_EDIT = re.compile(
    r"^\W*(?:\d+[.)]\s*)?(?:(?:I|we)\b(?:['’]ve| have)?(?: (?:now|also|just|successfully|then))*|"
    rf"successfully|(?=(?:\W|\b){_EDITED}\b))\s*{_EDITED}\b",
    re.IGNORECASE,
)
_PASSED = re.compile(
    r"\b(?:tests?|test suite|suite|checks?|build)\b[^.\n]{0,40}?\b(?:pass(?:es|ed|ing)?|"
    r"succeed(?:s|ed)?|(?:is|are) green|works?)\b|"
    r"\bpass(?:es|ed)? (?:all|the|every)\b[^.\n]{0,20}\b(?:tests?|checks?)\b|"
    r"\b(?:I|we)\b[^.\n]{0,20}\b(?:ran|verified|tested|confirmed)\b",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"\b(?:I['’]ll|I will|I['’]m going to|I am going to|let me|let['’]s|next,? I(?:['’]ll)?)\s+"
    r"(?:(?:now|then|first|also|just|quickly|next|try to|go and)\s+)*"
    r"(?P<verb>\w+)\b(?P<rest>(?:[^.!?\n]|\.(?=\w))*)",
    re.IGNORECASE,
)
_VERBS = {
    Does.READ: "read open view look inspect search grep find fetch list query browse",
    Does.COMMAND: "run execute test rerun re-run start launch",
    Does.EDIT: "edit change fix modify update write create add replace patch rename remove delete",
    Does.DELEGATE: "delegate",
    Does.OTHER: "call use invoke",
}
_DOES = {verb: kind for kind, verbs in _VERBS.items() for verb in verbs.split()}


def owns_up(text: str) -> str:
    """The first word that admits that something went wrong ('': there is none)."""
    found = _FAILURE.search(_NO_FAILURE.sub(" ", text))
    return found[0] if found else ""


def sentences(text: str) -> Iterator[str]:
    return (each for each in _SENTENCE.split(text) if each.strip())


def edits_claimed(text: str) -> Iterator[str]:
    """Sentences in which the speaker says that it changed something, without commands in them."""
    for sentence in sentences(text):
        if _EDIT.search(sentence) and not _NOT_SAID.search(sentence):
            yield _COMMAND.sub("", sentence)


def pass_claimed(text: str) -> str:
    """The first sentence that says that tests have passed, or that it ran them ('': none)."""
    if not _PASSED.search(text):
        return ""
    for sentence in sentences(text):
        if _PASSED.search(sentence) and not _NOT_SAID.search(sentence):
            return sentence
    return ""


def announced(text: str) -> tuple[Does, str] | None:
    """What the end of a text says will be done next, and the words that say it."""
    last = text.strip()[-400:]
    every = list(_ANNOUNCED.finditer(last))
    if not every or len(last) - every[-1].end() > 3:
        return None
    found = every[-1]
    kind = _DOES.get(found["verb"].lower())
    return None if kind is None else (kind, found[0])
