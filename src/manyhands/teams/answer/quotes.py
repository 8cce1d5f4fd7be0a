"""Where a quote stands in a passage.

Invariant: only the words count, in order and without a gap; punctuation, case, emphasis, line ends
and the spelling of quotes and dashes do not. An ellipsis stands for words left out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from manyhands.teams.answer.wording import Reading, plain, read

#: The characters that an ellipsis may stand for: more would join what does not belong together.
LONGEST_GAP = 600
_ELLIPSIS = re.compile(r"\[?\s?(?:\.\s?\.\s?\.|…)\s?\]?")


@dataclass(frozen=True, slots=True)
class Place:
    """``start`` to ``end`` in the passage's plain text."""

    start: int
    end: int


def locate(quote: str, passage: Reading, *, elisions: bool = True) -> Place | None:
    """The place of ``quote``; None: its words are not there."""
    pieces = _ELLIPSIS.split(plain(quote)) if elisions else [plain(quote)]
    parts = [read(p).line for p in pieces if read(p).words]
    if not parts:
        return None
    line = passage.line
    first, final = line.find(parts[0]), line.rfind(parts[-1])
    while 0 <= first <= final:
        last = _end(parts, line, first)
        if last is not None:
            return Place(
                passage.words[_word(passage, first + 1)].start,
                passage.words[_word(passage, last - 2)].end,
            )
        first = line.find(parts[0], first + 1)
    return None


def _end(parts: Sequence[str], line: str, first: int) -> int | None:
    """Where the last of ``parts`` ends, each following the one before it closely."""
    end = first + len(parts[0])
    for part in parts[1:]:
        # The space after one part may be the space before the next.
        at = line.find(part, end - 1, end + LONGEST_GAP + len(part))
        if at < 0:
            return None
        end = at + len(part)
    return end


def _word(passage: Reading, at: int) -> int:
    """The index of the word at ``at`` in the passage's line."""
    return bisect_right(passage.starts, at) - 1
