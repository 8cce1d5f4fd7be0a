"""The parts of a question: what an answer must address, and how much of it can be split.

Invariant: rules over words only; a question has at least one part, itself. Each part stands in the
question's own words, so that what is not addressed can be named to a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from manyhands.teams.answer.wording import content_of, read

#: More parts than this are not a question but a form; the rest is left as one.
MOST_PARTS = 12

_NUMBERED = re.compile(r"(?m)^[ \t]*(?:\d{1,2}[.)]|[-*•]|\([a-z]\))\s+(\S.*)$")
_INLINE_NUMBERED = re.compile(r"(?:(?<=\s)|^)\(?[1-9a-f][.)]\s+")
_COMPARED = re.compile(
    r"\b(?:compare|contrast|differences? (?:between|among)|between|versus|choose between)\b\s*"
    r"(?P<list>.{1,400}?)"
    r"(?=\s+(?:for|in terms|with respect|regarding|when|on|by|as to|under|in)\b"
    r"|[?.;:]|$)",
    re.IGNORECASE | re.DOTALL,
)
_VERSUS = re.compile(r"\s+(?:vs\.?|versus)\s+", re.IGNORECASE)
_LIST = re.compile(
    r"\s*,\s*(?:and\s+|or\s+|with\s+|to\s+)?|\s+(?:and|or|with|to)\s+", re.IGNORECASE
)
_ASKING = r"(?:how|why|what|when|where|who|which|whether|does|do|is|are|can|should|will)"
_CLAUSES = re.compile(
    rf"\s*(?:[,;]\s*(?:and|or|but)?|\band\b|\bor\b)\s+(?={_ASKING}\b)", re.IGNORECASE
)
_SENTENCES = re.compile(r"(?<=[?!.])(?<!\bvs\.)\s+(?=\S)")
_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_ASKED_FOR = re.compile(
    r"(?:please )?"
    r"(?:compare|contrast|explain|describe|list|name|tell|give|show|find|summari[sz]e)\b",
    re.IGNORECASE,
)
_DECISION = re.compile(
    r"\b(?:should (?:i|we|one|they|my|our)|recommend\w*|best|better|decision|prefer\w*|worth"
    r"|advis\w+|suit(?:s|ed|able)?|opt for|go with"
    r"|(?:choose|choosing|decide|pick|select) (?:between|among))\b"
    r"|\bwhich\b.*\b(?:choose|pick|select|use|take|buy)\b",
    re.IGNORECASE,
)


def parts_of(question: str) -> tuple[str, ...]:
    """The parts in their order, each once; the question itself where nothing divides it."""
    whole = " ".join(question.split())
    # What stands in code asks nothing.
    codes = _CODE.findall(question)
    masked = _CODE.sub("\N{REPLACEMENT CHARACTER}", _BLOCK.sub(" ", question))
    found = _numbered(masked) or [p for asked in _questions(masked) for p in _parts_of_one(asked)]
    parts = [_trimmed(part) for part in _unmasked(found, codes)]
    parts = list(dict.fromkeys(part for part in parts if content_of(part) or part.istitle()))
    if len(parts) > MOST_PARTS:
        parts = [*parts[: MOST_PARTS - 1], "; ".join(parts[MOST_PARTS - 1 :])]
    return tuple(parts) or (_trimmed(whole) or whole,)


def _unmasked(parts: Sequence[str], codes: Sequence[str]) -> list[str]:
    """``parts`` with the code back in its places."""
    rest = iter(codes)
    return [
        re.sub("\N{REPLACEMENT CHARACTER}", lambda found: next(rest, found[0]), p) for p in parts
    ]


def _questions(text: str) -> list[str]:
    """The sentences that ask; what only tells the situation belongs to the next one that does."""
    sentences = _SENTENCES.split(" ".join(text.split()))
    if not any(sentence.endswith("?") for sentence in sentences):
        return sentences
    found: list[str] = []
    told = ""
    for sentence in sentences:
        if sentence.endswith("?") or _ASKED_FOR.match(sentence):
            found.append(f"{told} {sentence}".strip())
            told = ""
        else:
            told = f"{told} {sentence}"
    if told.strip():
        found[-1] += told
    return found


def unaddressed(question: str, text: str) -> tuple[str, ...]:
    """The parts of ``question`` that ``text`` leaves out, as far as that is plain.

    A text says much in other words. So a part is only named where no word of its own is there while
    those of another part are, and where it does not lean on that other part.
    """
    there = content_of(text)
    parts = parts_of(question)
    words = [content_of(part) for part in parts]
    # What all parts share says nothing about one of them.
    common = words[0].intersection(*words[1:]) if len(words) > 1 else words[0]
    silent = [not ((own - common) & there) for own in words]
    if all(silent):
        return ()
    return tuple(
        part for part, none in zip(parts, silent, strict=True) if none and not _refers_back(part)
    )


def wants_decision(question: str) -> bool:
    """Whether it asks for a choice and not only for facts."""
    return _DECISION.search(question) is not None


def independent_parts(question: str) -> int:
    """How many parts can be worked on without the answer to another."""
    parts = parts_of(question)
    return max(sum(not _refers_back(p) for p in parts[1:]) + 1, 1)


def _numbered(question: str) -> list[str]:
    lines = [str(line) for line in _NUMBERED.findall(question)]
    if len(lines) > 1:
        return lines
    pieces = [p for p in _INLINE_NUMBERED.split(question) if p.strip()]
    return pieces[1:] if len(pieces) > 2 else []


def _parts_of_one(sentence: str) -> list[str]:
    compared = _compared(sentence)
    if compared:
        return compared
    pieces = [p for p in _CLAUSES.split(sentence) if p.strip()]
    # "What X is and how": a piece without a word of its own belongs to the one before.
    parts: list[str] = []
    for piece in pieces:
        if parts and not content_of(piece):
            parts[-1] = f"{parts[-1]} {piece}"
        else:
            parts.append(piece)
    return parts


def _compared(sentence: str) -> list[str]:
    """The things that are compared, and what else the sentence asks."""
    match = _COMPARED.search(sentence)
    listed = match["list"] if match else ""
    if _VERSUS.search(sentence) and not match:
        listed = re.split(r"\s+(?:for|in|on|when)\s+|[?:]", sentence)[0]
    things = [t for piece in _VERSUS.split(listed) for t in _LIST.split(piece)]
    # "Go" is a name although "go" says nothing.
    things = [t.strip() for t in things if t and (content_of(t) or t.strip()[:1].isupper())]
    if len(things) < 2:
        return []
    after = sentence[match.end() :] if match else ""
    clauses = [p for p in _CLAUSES.split(after)[1:] if content_of(p)]
    return [*things, *clauses]


def _trimmed(part: str) -> str:
    return re.sub(r"\s+vs$", "", part.strip().strip("?!.;:,").strip())


def _refers_back(part: str) -> bool:
    """Whether it leans on what stands before: "how does it …", "which of them …"."""
    first = [t.text for t in read(part).tokens[:6]]
    return bool(
        {"it", "they", "them", "this", "that", "these", "those", "its", "their"} & set(first)
    )
