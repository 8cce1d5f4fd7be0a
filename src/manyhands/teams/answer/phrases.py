"""Turns of phrase whose words mean something else together, put into words that a rule can read.

Invariant: what comes out says the same in lower case; limits are written ``atcap`` and
``atfloor``, so that "no more than 5", "up to 5" and "at most 5" read alike.
"""

from __future__ import annotations

import re

from manyhands.teams.answer.lexicon import SIDES, STOP

_MORE = r"(?:more|larger|greater|bigger|longer|higher|later|older|wider|thicker|heavier)"
_LESS = r"(?:less|fewer|smaller|shorter|lower|younger|thinner|lighter)"
_NUMBER = (
    r"(?=(?:an? |the )?(?:[$£€]?\d|-\d"
    r"|(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|a hundred|half|one third|a third|one quarter|a quarter|twenty|thirty|ninety)\b))"
)
#: In order: later ones see what earlier ones wrote.
_PHRASES = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"\bnot only\b(?=.*\bbut\b)", "also"),
        (r"\b(in|of|at|to|for|from|by|with|on|under|over|through) which\b", r"\1 what"),
        (r"\b(?:rule|ruled|rules) out\b", "excluded"),
        (r"\b(otherwise|else),", r"\1"),
        (r"\b(not|no|never|cannot|nobody|nothing)\b([^.;]*), not even\b", r"\1\2,"),
        # What is left is a number that is not odd.
        (r"\b(?<!is )(?<!are )(?<!an )even\b", ""),
        (r"\bno longer\b(?! than)", "not"),
        (r"\b(?:fail|fails|failed|failing|refuse|refuses|refused) to\b", "not"),
        (r"\((?:not|that (?:have|has|are|is) not) [^)]{1,60}\)|\bor not \w+", ""),
        (r"\boff by default\b", "disabled by default"),
        (r"\bon by default\b", "enabled by default"),
        (r"\b(?:go|goes|gone|went) (?:back )?down\b", "decreased"),
        (r"\b(?:go|goes|gone|went) up\b(?! to)", "increased"),
        (r"\b(?:keep|keeps|kept)((?: \w+){0,5}) from\b", r"\1 not"),
        (r"\bas long as\b", "if"),
        (r"\bno ?one\b", "nobody"),
        (r"\bno-(?=\w)", "no_"),
        (r"\b(?:left|leave|leaves|leaving) out\b", "omitted"),
        (r"\b(?:turn|switch)(?:s|es|ed|ing)?((?: \w+){0,2}) off\b", r"\1 disabled"),
        (r"\b(?:turn|switch)(?:s|es|ed|ing)?((?: \w+){0,2}) on\b", r"\1 enabled"),
        (r"\b(?:rather than|instead of|as opposed to|and not)\b|, not\b", ", not"),
        (r"\bthan (?:any|all) other\b", "than no other"),
        (rf"\bno {_MORE} than\b", "atcap"),
        (rf"\bno {_LESS} than\b", "atfloor"),
        (r"\b(?<!went )(?<!rose )up to\b", "atcap"),
        (r"\b(?:at (?:the )?most|a maximum of|capped at|limited to)\b", "atcap"),
        (rf"\bwithin {_NUMBER}", "atcap "),
        (r"\b(?:at (?:the )?least|a minimum of)\b", "atfloor"),
        (rf"\b(?:over|above|{_MORE} than|exceed\w*) {_NUMBER}", "atfloor "),
        (rf"\b(?:under|below|{_LESS} than) {_NUMBER}", "atcap "),
        (r"\bor (?:more|over|above)\b", "atfloor"),
        (r"\bor (?:less|fewer|below|under)\b", "atcap"),
    )
)
_COMPARED = re.compile(r"\b(\w{3,})er than\b")
_GRADED = re.compile(f"{_MORE}|{_LESS}")


def in_other_words(sentence: str) -> str:
    """``sentence``, plain text, in lower case and with its turns of phrase resolved."""
    # "None" is a value of Python; "none" denies.
    words = re.sub(r"\bNone\b(?! of\b)", "nonevalue", sentence)
    words = " ".join(words.split()).lower().replace("non-", "non ")
    words = _COMPARED.sub(_more, words)
    for pattern, meaning in _PHRASES:
        words = pattern.sub(meaning, words)
    return words


def _more(found: re.Match[str]) -> str:
    """A comparative that no axis knows, as "more" and the word."""
    whole = f"{found[1]}er"
    known = whole in SIDES or whole in STOP or _GRADED.fullmatch(whole)
    return found[0] if known else f"more {found[1]} than"
