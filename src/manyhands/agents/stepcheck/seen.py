"""What an agent has been shown, kept so that a number, a path or a quote can be looked up.

Invariants: a text is read once, and only where something is looked up; looking up costs the same
after ten steps and after ten thousand; memory is bounded, and where the bound is reached the index
says that it knows no more (`full`), so that nothing is called unseen that was only forgotten.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

#: Entries of one kind that are kept; characters of one text that are read, and of texts that wait.
MOST_ENTRIES, MOST_READ, MOST_WAITING = 200_000, 40_000, 64_000

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
#: In what is shown commas and points may as well stand between numbers.
_NUMBER = re.compile(r"[0-9][0-9,.]*")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?")
#: A number that a report states: not part of a name, a path, a date or a version.
_STATED = re.compile(
    rf"(?<![\w.,#/:\-@])[$€£]?({_DIGITS})(?:(?=(?:ms|s|x|×|k|K|MB|GB|KB)\b)|(?![\w#/:\-@]|[.,]\d))"
)
_WORD = re.compile(r"\w+")
_URL = re.compile(r"\b\w+://\S+")
_EXTENSIONS = (
    "py|pyi|md|rst|txt|json|jsonl|toml|ya?ml|jsx?|tsx?|cc?|h|hpp|cpp|rs|go|java|kt|rb|php|sh|csv|tsv|"
    "ini|cfg|conf|html?|css|sql|lock|log|ipynb|xml|proto|swift|scala|lua|diff|patch|pdf|png|svg"
)
_PATH = re.compile(
    r"(?<![\w/.@:-])(?:[~.]{0,2}/)?(?:[\w.+-]+/)*[\w+-][\w.+-]*\.(?:" + _EXTENSIONS + r")\b(?!\w)"
)
_QUOTE = re.compile(r'"([^"\n]{12,400})"|“([^”\n]{12,400})”|«([^»\n]{12,400})»')
_GAP = re.compile(r"\s*(?:…|\.\.\.|\[…\]|\[\.\.\.\])\s*")
#: Whole numbers up to this are counted by hand: nobody was shown the "3" of "3 files".
_SMALL = 20


class Seen:
    """Numbers, paths and runs of three words that an agent has been shown, or has written."""

    def __init__(self) -> None:
        self._numbers: set[str] = set()
        self._last: deque[str] = deque(maxlen=24)
        self._paths: set[str] = set()
        self._words: set[int] = set()
        self._later: list[str] = []
        self._waiting = 0
        self.full = False

    def add(self, text: str) -> None:
        """Kept as it is, until something is looked up or much has come."""
        if self.full or len(text) > MOST_READ:
            self.full = True
            self._later.clear()
            return
        self._later.append(text)
        self._waiting += len(text)
        if self._waiting > MOST_WAITING:
            self._read_all()

    def _read_all(self) -> None:
        later, self._later, self._waiting = self._later, [], 0
        for text in later:
            self._read(text)

    def _read(self, text: str) -> None:
        for found in set(_NUMBER.findall(text)) - self._numbers:
            self._number(found.rstrip(".,"))
        for part in text.split():
            if "." in part:
                self._paths.update(map(base, _PATH.findall(part)))
        words = _WORD.findall(text.lower())
        self._words.update(map(hash, zip(words, words[1:], words[2:], strict=False)))
        if max(len(self._numbers), len(self._paths), len(self._words)) > MOST_ENTRIES:
            self.full = True
            for kept in (self._numbers, self._paths, self._words):
                kept.clear()

    def _number(self, found: str) -> None:
        if len(found) > 40:
            return
        if "," in found or found.count(".") > 1:
            for part in _PLAIN.findall(found):
                self._one(part)
            found = found.replace(",", "")
        if found.count(".") < 2:
            self._one(canonical(found))

    def _one(self, number: str) -> None:
        self._numbers.add(number)
        self._last.append(number)
        whole, _, decimals = number.partition(".")
        if not decimals:
            return
        value = float(number)
        for places in range(min(len(decimals), 6)):
            self._numbers.add(canonical(f"{value:.{places}f}"))
        if whole == "0":
            for places in range(3):
                self._numbers.add(canonical(f"{value * 100:.{places}f}"))

    def has_number(self, number: str, *, derived: bool) -> bool:
        """``derived``: also as a sum, difference, ratio or share of two that came last."""
        self._read_all()
        return number in self._numbers or (derived and self._follows(number))

    def _follows(self, number: str) -> bool:
        places = len(number.partition(".")[2])
        wanted = float(number)
        last = [float(each) for each in self._last]
        close = 0.5 * 10.0**-places + 1e-9
        if abs(sum(last) - wanted) <= close:
            return True
        for a in last:
            for b in last:
                if abs(a + b - wanted) <= close or abs(a - b - wanted) <= close:
                    return True
                if b and (abs(a / b - wanted) <= close or abs(100 * a / b - wanted) <= close):
                    return True
                if b and abs(100 * (a - b) / b - wanted) <= close:
                    return True
        return False

    def has_path(self, path: str) -> bool:
        self._read_all()
        return base(path) in self._paths

    def has_quote(self, quote: str) -> bool:
        """Nine in ten of its runs of three words were seen; gaps that it shows are left out."""
        self._read_all()
        total = missing = 0
        for piece in _GAP.split(quote):
            words = _WORD.findall(piece.lower())
            for run in zip(words, words[1:], words[2:], strict=False):
                total += 1
                missing += hash(run) not in self._words
        return missing * 10 <= total


def canonical(number: str) -> str:
    """``9,100.50`` as ``9100.5``."""
    plain = number.replace(",", "")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    if plain[:1] == "0" and plain[1:2].isdigit():
        plain = plain.lstrip("0")
    return plain or "0"


def numbers(text: str) -> Iterable[tuple[str, str]]:
    """Numbers that a text states: as it writes them, and in their one form."""
    for found in _STATED.findall(text):
        number = canonical(found)
        if "." in number or (len(number) < 30 and int(number) > _SMALL):
            yield found, number


def paths(text: str) -> list[str]:
    return _PATH.findall(_URL.sub(" ", text))


def quotes(text: str) -> list[str]:
    return ["".join(found) for found in _QUOTE.findall(text)]


def base(path: str) -> str:
    """The last part of a path, by which files are compared: traces name them in many ways."""
    return path.strip().split(":", 1)[0].rstrip("/").rsplit("/", 1)[-1]
