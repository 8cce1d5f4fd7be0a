"""Values as models write them down: JSON, JSON as it often comes out, and Python's literals.

Invariant: what is read is what stands there. A value is repaired only where no character of a
string, number or word can be lost or moved (quotes, ``True``, a trailing comma, a closing bracket
that is missing before the closing mark of the call), and every repair is noted. Whatever ends
before it is complete raises `Broken` with ``cut``, and is never completed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn, cast

#: Containers inside each other. No tool needs more; recursion stays far from any limit.
MOST_DEPTH = 100
#: Longest text that is handed to json_repair, which takes quadratic time on some inputs.
_MOST_REPAIR = 4096
_WINDOW = 4096


class Broken(Exception):
    """``cut``: the text ended first. ``at``: where the reading stopped."""

    def __init__(self, why: str, *, at: int, cut: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.at = at
        self.cut = cut


@dataclass(frozen=True, slots=True)
class Read:
    """A value, where its text ends, and what was repaired."""

    value: Any
    end: int
    notes: tuple[str, ...] = ()


def read_json(text: str, start: int, stop: re.Pattern[str] | None = None) -> Read:
    """The JSON value that begins at ``start``.

    ``stop``: what cannot stand in JSON outside of a string, so that a bracket missing before it is
    missing and not cut off. Raises `Broken`.
    """
    for decoder, notes in ((_STRICT, ()), (_LENIENT, ("line breaks inside a string",))):
        try:
            value, end = _decoded(decoder, text, start)
        except (ValueError, RecursionError):
            continue
        if _deep(value):
            raise Broken(f"it is nested deeper than {MOST_DEPTH}", at=start)
        return Read(value, end, notes)
    reading = _Literal(text, python=False, stop=stop)
    try:
        value, end = reading.value(start, 0)
        return Read(value, end, tuple(dict.fromkeys(reading.notes)))
    except Broken as broken:
        repaired = None if broken.cut else _repaired(text, start, stop)
        if repaired is None:
            raise
        return repaired


def read_python(text: str, start: int) -> Read:
    """The Python literal that begins at ``start``; JSON's words count too. Raises `Broken`."""
    value, end = _Literal(text, python=True, stop=None).value(start, 0)
    return Read(value, end)


def loads_loosely(text: str) -> Any:
    """The one JSON or Python literal that ``text`` is. Raises `Broken`."""
    text = text.strip()
    try:
        found = read_json(text, 0)
        if found.end == len(text):
            return found.value
    except Broken:
        pass
    found = read_python(text, 0)
    if found.end != len(text):
        raise Broken("text follows the value", at=found.end)
    return found.value


def writable(value: Any) -> bool:
    """Whether UTF-8 can hold the value; half of a surrogate pair it cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def skip(text: str, at: int) -> int:
    """The first position from ``at`` on that is no white space."""
    return cast("re.Match[str]", _SPACE.match(text, at)).end()


# ---------------------------------------------------------------- strict JSON


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise ValueError(f"the key {key[:60]!r} is given twice, with different values")
            seen[key] = value
    return found


def _finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"the number {text[:40]} is too large")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _decoded(decoder: json.JSONDecoder, text: str, start: int) -> tuple[Any, int]:
    """`raw_decode`, whose errors count the lines before them: a long text is looked at in parts."""
    window = text[start : start + _WINDOW]
    try:
        value, end = decoder.raw_decode(window)
        return value, start + end
    except json.JSONDecodeError as error:
        inside = error.pos < _WINDOW - 100 and not error.msg.startswith("Unterminated")
        if inside or len(window) < _WINDOW:
            raise
    return decoder.raw_decode(text, start)


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_refuse)
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_finite, parse_constant=_refuse, strict=False
)


def _deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(cast(dict[str, Any], each).values())
            elif isinstance(each, list):
                inner.extend(cast(list[Any], each))
        if not inner:
            return False
        level = inner
    return True


# ---------------------------------------------------------------- one lenient reader

_SPACE = re.compile(r"\s*+")
_STRINGS = {
    '"': re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]++|\\.)*+)'", re.DOTALL),
    '"""': re.compile(r'"""((?:[^"\\]++|\\.|"(?!""))*+)"""', re.DOTALL),
    "'''": re.compile(r"'''((?:[^'\\]++|\\.|'(?!''))*+)'''", re.DOTALL),
}
_NUMBER = re.compile(
    r"[+-]?(?:(0|[1-9][0-9]{0,3999})(?![\w.])"
    r"|(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?(?![\w.]))"
)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[^\W\d]\w{0,99}")
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_CLOSES = {"{": "}", "[": "]", "(": ")"}


class _Literal:
    """A recursive descent over JSON and Python literals, bounded in depth.

    In JSON a string in double quotes has JSON's escapes; everywhere else a string has Python's.
    """

    def __init__(self, text: str, *, python: bool, stop: re.Pattern[str] | None) -> None:
        self.text = text
        self.python = python
        self.stop = stop
        self.notes: list[str] = []
        self._trailing = False  # whether a comma was the last thing of the container at hand

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        at = skip(self.text, at)
        first = self.text[at : at + 1]
        if depth > MOST_DEPTH:
            raise Broken(f"it is nested deeper than {MOST_DEPTH}", at=at)
        if first in _STRINGS:
            return self._string(at)
        if first == "{":
            return self._object(at, depth)
        if first == "[" or (first == "(" and self.python):
            return self._array(at, depth)
        number = _NUMBER.match(self.text, at)
        if number:
            self._whole(number.end())
            return self._number(number), number.end()
        return self._word(at)

    def _whole(self, end: int) -> None:
        """A number or word at the very end of the text may be the beginning of a longer one."""
        if end == len(self.text):
            raise Broken("the text ends inside the value", at=end, cut=True)

    def _number(self, found: re.Match[str]) -> int | float:
        if not self.python and not _JSON_NUMBER.fullmatch(found[0]):
            self.notes.append("a number that is not JSON")
        if found[1] is not None:
            return int(found[0])
        value = float(found[0])
        if not math.isfinite(value):
            raise Broken("a number is too large", at=found.start())
        return value

    def _word(self, at: int) -> tuple[Any, int]:
        found = _WORD.match(self.text, at)
        if found is None:
            cut = at >= len(self.text) or self.text[at:] in ("-", "+", ".")
            given = self.text[at : at + 20]
            raise Broken("a value is missing" if cut else f"no value at {given!r}", at=at, cut=cut)
        self._whole(found.end())
        if found[0] not in _WORDS:
            raise Broken(f"no value at {self.text[at : at + 20]!r}", at=at)
        if not self.python and found[0][0].isupper():
            self.notes.append("Python's True, False or None")
        return _WORDS[found[0]], found.end()

    def _string(self, at: int) -> tuple[str, int]:
        quote = self.text[at]
        if self.python and self.text.startswith(quote * 3, at):
            quote *= 3
        found = _STRINGS[quote].match(self.text, at)
        if found is None:
            raise Broken("a string is not closed", at=len(self.text), cut=True)
        if quote == '"' and not self.python:
            return self._json_string(found[0], at), found.end()
        if not self.python:
            self.notes.append("single quotes")
        text, end = _unescaped(found[1], at), found.end()
        following = skip(self.text, end)
        if self.python and self.text[following : following + 1] in ('"', "'"):
            more, end = self._strings(following)
            text += more
        return text, end

    def _json_string(self, quoted: str, at: int) -> str:
        """A backslash that is no escape stays, where none that is one leaves room for doubt."""
        letters = {each[1] for each in _BACKSLASH.findall(quoted)}
        if letters & set("bfnrt") and letters - _JSON_ESCAPES:
            raise Broken("a string has backslashes that must be doubled", at=at)
        fixed = _BACKSLASH.sub(lambda m: m[0] if m[0][1] in _JSON_ESCAPES else f"\\{m[0]}", quoted)
        if fixed != quoted:
            self.notes.append("a backslash that was not doubled")
        try:
            return json.loads(fixed, strict=False)
        except ValueError:
            raise Broken("a string has an escape that is not JSON", at=at) from None

    def _strings(self, at: int) -> tuple[str, int]:
        """Strings side by side are one string, in Python."""
        parts: list[str] = []
        end = at
        while self.text[at : at + 1] in ('"', "'") and at < len(self.text):
            quote = self.text[at]
            quote = quote * 3 if self.text.startswith(quote * 3, at) else quote
            found = _STRINGS[quote].match(self.text, at)
            if found is None:
                raise Broken("a string is not closed", at=len(self.text), cut=True)
            parts.append(_unescaped(found[1], at))
            end = found.end()
            at = skip(self.text, end)
        return "".join(parts), end

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        pairs: list[tuple[str, Any]] = []
        begin, at = at, at + 1
        while (end := self._closed(begin, at, bool(pairs), depth)) is None:
            at = skip(self.text, at)
            key, at = self.value(at, depth + 1)
            if not isinstance(key, str):
                raise Broken(f"the key {key!r} is not a string"[:80], at=at)
            at = skip(self.text, at)
            if self.text[at : at + 1] != ":":
                raise Broken("a colon is missing", at=at, cut=at >= len(self.text))
            value, at = self.value(at + 1, depth + 1)
            pairs.append((key, value))
            at = self._comma(begin, at)
        try:
            return _once(pairs), end
        except ValueError as error:
            raise Broken(str(error), at=end) from None

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        begin, at = at, at + 1
        while (end := self._closed(begin, at, bool(values), depth)) is None:
            value, at = self.value(at, depth + 1)
            values.append(value)
            at = self._comma(begin, at)
        return values, end

    def _comma(self, begin: int, at: int) -> int:
        """Past the comma after an element, or where the container closes."""
        at = skip(self.text, at)
        self._trailing = self.text[at : at + 1] == ","
        if self._trailing:
            return at + 1
        if self.text[at : at + 1] != _CLOSES[self.text[begin]] and not self._stopped(at):
            why = f"a comma or {_CLOSES[self.text[begin]]} is missing"
            raise Broken(why, at=at, cut=at >= len(self.text))
        return at

    def _closed(self, begin: int, at: int, filled: bool, depth: int) -> int | None:
        """Where the container ends, when it ends at ``at``; else None."""
        at = skip(self.text, at)
        close = _CLOSES[self.text[begin]]
        trailing = filled and self._trailing
        if self.text[at : at + 1] == close:
            if trailing and not self.python:
                self.notes.append("a trailing comma")
            return at + 1
        if filled and not trailing and self._stopped(at):
            self.notes.append(f"a missing {close}")
            return at
        if at >= len(self.text):
            raise Broken(f"a {close} is missing", at=at, cut=True)
        return None

    def _stopped(self, at: int) -> bool:
        return self.stop is not None and self.stop.match(self.text, at) is not None


_BACKSLASH = re.compile(r"\\.", re.DOTALL)
_JSON_ESCAPES = frozenset('"\\/bfnrtu')
_ESCAPE = re.compile(
    r"\\(?:(\n)|([\\'\"abfnrtv])|([0-7]{1,3})|x([0-9a-fA-F]{2})"
    r"|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unescaped(text: str, at: int) -> str:
    """A Python string's inside; an escape that Python does not know stays as it is."""
    if "\\" not in text:
        return text
    try:
        found = _ESCAPE.sub(_one, text)
    except (ValueError, OverflowError):
        raise Broken("a string has an escape that is no character", at=at) from None
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _one(found: re.Match[str]) -> str:
    line, letter, octal, *hexes = found.groups()
    if line is not None:
        return ""
    if letter is not None:
        return _ESCAPES.get(letter, letter)
    return chr(int(octal, 8) if octal else int(next(each for each in hexes if each), 16))


# ---------------------------------------------------------------- json_repair, held to account

_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+"|\'(?:[^\'\\]++|\\.)*+\'|-?[0-9][0-9.eE+-]*|[^\W\d]\w*|[{}\[\]]',
    re.DOTALL,
)
_COLON = re.compile(r"\s*+:")
_BRACKETS = frozenset("{}[]")
_MATTERS = re.compile(r"""["'{}\[\]()]""")
_BEFORE = frozenset("[{,:")
_BETWEEN = re.compile(r"[\s{}\[\],:]*+")


def _repaired(text: str, start: int, stop: re.Pattern[str] | None) -> Read | None:
    """What json_repair makes of the value, if everything that stands there is in it, in order."""
    end = _span(text, start, stop)
    if end is None or end - start > _MOST_REPAIR:
        return None
    # Only broken JSON needs it, and it is slow to import.
    import json_repair  # noqa: PLC0415 - imported when first needed

    source = text[start:end]
    try:
        value: Any = json_repair.loads(source, skip_json_loads=True)
        same = _flat(value) == _tokens(source)
    except (ValueError, RecursionError, TypeError, IndexError):
        return None
    return Read(value, end, ("JSON that was not valid, without loss",)) if same else None


def _span(text: str, start: int, stop: re.Pattern[str] | None) -> int | None:
    """Where the bracket at ``start`` closes, strings aside; None: not in reach, or not at all."""
    if text[start : start + 1] not in _CLOSES:
        return None
    limit = min(len(text), start + _MOST_REPAIR)
    stops = stop.search(text, start, limit) if stop is not None else None
    open_: list[str] = []
    at = start
    while (found := _MATTERS.search(text, at, limit)) is not None:
        first, at = found[0], found.end()
        if stops and stops.start() < at:
            return None
        before = text[max(start, at - 40) : at - 1].rstrip()[-1:] if first == "'" else ""
        if first == '"' or before in _BEFORE:
            string = _STRINGS[first].match(text, at - 1)
            if string is None:
                return None
            at = string.end()
            if stops and stop is not None and stops.start() < at:
                stops = stop.search(text, at, limit)
        elif first in _CLOSES:
            open_.append(_CLOSES[first])
        elif first != "'" and open_.pop() != first:
            return None
        if not open_ or len(open_) > MOST_DEPTH:
            return None if open_ else at
    return None


def _tokens(source: str) -> list[Any]:
    """The brackets, keys and scalars of ``source``, in order.

    Raises ValueError, also where two scalars have nothing between them: `[1 200]` may be one.
    """
    if not _BETWEEN.fullmatch(_TOKEN.sub("", source)):
        raise ValueError("something is no token")
    found: list[Any] = []
    before = -1  # where the last scalar ended
    for match in _TOKEN.finditer(source):
        token = match[0]
        if token in _BRACKETS:
            found.append((token,))
            continue
        key = _COLON.match(source, match.end()) is not None
        if not key and before >= 0 and not source[before : match.start()].strip():
            raise ValueError("nothing stands between two values")
        before = match.end()
        found.append(("key" if key else "value", _scalar(token, key=key)))
    return found


def _scalar(token: str, *, key: bool) -> str:
    if token[0] == '"':
        return "text " + json.loads(token, strict=False)
    if token[0] == "'":
        return "text " + _unescaped(token[1:-1], 0)
    if key:
        return "text " + token
    if token[0] == "-" or token[0].isdigit():
        return repr(_STRICT.decode(token))
    if token in _WORDS:
        return repr(_WORDS[token])
    raise ValueError("a word that is no key")


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        found: list[Any] = [("{",)]
        for key, inner in cast(dict[str, Any], value).items():
            found += [("key", f"text {key}"), *_flat(inner)]
        return [*found, ("}",)]
    if isinstance(value, list):
        parts = (part for each in cast(list[Any], value) for part in _flat(each))
        return [("[",), *parts, ("]",)]
    return [("value", f"text {value}" if isinstance(value, str) else repr(value))]
