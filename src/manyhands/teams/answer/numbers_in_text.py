"""The quantities that a text states, with value, unit and what is counted.

Invariant: two ways to write one quantity compare equal (4,812 and 4812; half and 50%; 1.5 hours and
90 minutes; ten and 10), two different ones never do. A version number equals only itself: 3.1 is
not 3.10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from manyhands.teams.answer.lexicon import MONTHS, SIDES, STOP
from manyhands.teams.answer.wording import Token, key

_UNITS = """
%:% 1 percent pct
time:ms 1/1000 millisecond milliseconds; s 1 sec secs second seconds; min 60 mins minute minutes;\
 h 3600 hr hrs hour hours; day 86400 days; week 604800 weeks
years:year 1 years yr yrs; decade 10 decades; century 100 centuries
months:month 1 months
length:mm 1/1000 millimetre millimetres millimeter millimeters; cm 1/100 centimetre centimetres\
 centimeter centimeters; m 1 metre metres meter meters; km 1000 kilometre kilometres kilometer\
 kilometers
miles:mile 1 miles
mass:mg 1/1000 milligram milligrams; g 1 gram grams; kg 1000 kilogram kilograms kilo kilos;\
 tonne 1000000 tonnes ton tons
volume:ml 1/1000 millilitre millilitres milliliter milliliters; litre 1 litres liter liters l
bytes:byte 1 bytes; kb 1000; mb 1000000; gb 1000000000; tb 1000000000000
bibytes:kib 1; mib 1024; gib 1048576
area:hectare 1 hectares ha
power:mw 1/1000 milliwatt milliwatts; w 1 watt watts; kw 1000
voltage:v 1 volt volts
current:a 1 amp amps ampere amperes
temperature:°c 1 °; °f 1; degree 1 degrees
$:$ 1 dollar dollars usd
£:£ 1 pound pounds gbp
€:€ 1 euro euros eur
cents:cent 1 cents
times:times 1
"""


def _units() -> dict[str, tuple[str, Fraction]]:
    table: dict[str, tuple[str, Fraction]] = {}
    for line in _UNITS.strip().splitlines():
        dimension, _, rest = line.partition(":")
        for group in rest.split(";"):
            name, factor, *aliases = group.split()
            for alias in (name, *aliases):
                table[alias] = dimension, Fraction(factor)
    return table


UNITS = _units()
_MONEY = frozenset("$£€")
_SIGNS = _MONEY | {"-", "+"}
_SCALES = {"k": 3, "thousand": 3, "million": 6, "m": 6, "mn": 6, "bn": 9, "billion": 9} | {
    "trillion": 12,
    "hundred": 2,
}
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_NAMED = (
    {name: Fraction(i) for i, name in enumerate(_SMALL.split())}
    | {name: Fraction(10 * i) for i, name in enumerate(_TENS.split(), 3)}
    | {"dozen": Fraction(12)}
)
#: Words that are numbers and nothing else.
NUMBERS = frozenset(_NAMED)
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINAL = {name: Fraction(i) for i, name in enumerate(_ORDINALS.split(), 3)}
_SHARES = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4} | {
    "fifth": 5,
    "fifths": 5,
    "tenth": 10,
    "tenths": 10,
}
#: Said in passing so often that a finding may use them without a number in what it cites.
_WEAK = {"one": 1, "first": 1, "once": 1, "a": 1, "an": 1, "single": 1, "sole": 1, "only": 1} | {
    "both": 2,
    "pair": 2,
    "second": 2,
}
_MULTIPLES = {"twice": 2, "double": 2, "doubled": 2, "doubles": 2, "twofold": 2} | {
    "triple": 3,
    "tripled": 3,
    "treble": 3,
    "threefold": 3,
    "quadrupled": 4,
    "tenfold": 10,
}
_HALVED = frozenset(["halved", "halves", "halving"])
_ABOUT = frozenset(
    ["about", "around", "roughly", "nearly", "approximately", "almost", "some", "over", "circa"]
)
#: Words before the number of a version.
VERSION = frozenset(["version", "python", "v", "release", "since", "from", "firmware", "versions"])
_ADJOINING = "- of the those these all a an its their per given other"
_BEFORE_NOUN = frozenset(_ADJOINING.split())
_DIGITS = re.compile(r"\d{1,30}(?:[.,]\d{1,30}){0,8}")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """``raw``: the number; ``value``: in the base unit of ``dimension`` ('' where there is none).

    ``noun``: the key of what is counted. ``lead``: the word before it. ``at`` to ``end``: its
    tokens.

    ``weak``: a finding may say it although no number is in what it cites. ``also``: another value
    that the same words may mean.
    """

    value: Fraction
    raw: Fraction
    dimension: str
    noun: str
    lead: str
    text: str
    at: int
    end: int
    weak: bool = False
    version: tuple[str, ...] = ()
    about: bool = False
    also: Fraction | None = None
    scale: Fraction = Fraction(1)

    def equals(self, other: Quantity) -> bool:
        if {self.dimension, other.dimension} == {"%", "share"}:
            return self._as_share() == other._as_share()
        if self.dimension and other.dimension and self.dimension != other.dimension:
            return False
        if self.version and other.version and (self.value == other.value or self.is_version):
            return _trimmed(self.version) == _trimmed(other.version)
        if self.dimension and other.dimension:
            return self.value == other.value or self._rounds(other)
        counting = other if self.dimension else self
        dimension = self.dimension or other.dimension
        if dimension and dimension != "times" and counting.noun:
            return False
        raw = {self.raw, self.also or self.raw}
        return bool(raw & {other.raw, other.also or other.raw}) or self._rounds(other)

    @property
    def is_version(self) -> bool:
        return len(self.version) > 2

    def _as_share(self) -> Fraction:
        return self.value / 100 if self.dimension == "%" else self.value

    def _rounds(self, exact: Quantity) -> bool:
        """ "About 3.4 million" may be said of 3,402,113; not of 3,502,113."""
        if not self.about or self.raw < 10 or exact.raw <= 0 or self.raw.denominator != 1:
            return False
        whole = str(self.raw.numerator)
        step = Fraction(10) ** (len(whole) - len(whole.rstrip("0")))
        off = abs(exact.raw - self.raw)
        return step > 1 and off * 2 <= step and off * 20 <= exact.raw


def _trimmed(version: tuple[str, ...]) -> tuple[str, ...]:
    while len(version) > 1 and version[-1] == "0":
        version = version[:-1]
    return version


def quantities(tokens: Sequence[Token], text: str) -> list[Quantity]:
    """All that ``tokens``, read from ``text``, state, in order."""
    found: list[Quantity] = []
    at = 0
    while at < len(tokens):
        quantity, after = _quantity(tokens, at, text)
        if quantity is not None:
            found.append(quantity)
        at = max(after, at + 1)
    return _ranges(found, tokens)


def _ranges(found: list[Quantity], tokens: Sequence[Token]) -> list[Quantity]:
    """In "3 to 8 °C" the unit belongs to both."""
    for i in range(len(found) - 2, -1, -1):
        low, high = found[i], found[i + 1]
        joined = high.at == low.end + 1 and tokens[low.end].text in ("-", "to", "and", "or")
        if joined and not low.dimension and not low.noun and not low.weak and high.raw:
            # "3.9 to 5.3 billion": so is the scale.
            raw = low.raw * (high.scale if low.raw < 1000 else 1)
            value = raw * high.value / high.raw
            found[i] = replace(low, raw=raw, value=value, dimension=high.dimension, noun=high.noun)
    return found


def _quantity(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    token = tokens[at]
    if token.text[0].isdigit():
        return _written(tokens, at, text)
    if token.text in _NAMED and (token.text != "one" or _word(tokens, at + 3) == "half"):
        return _named(tokens, at, text)
    return _passing(tokens, at, text)


def _written(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    """A number in digits, with its sign and scale."""
    digits = tokens[at].text
    if not _DIGITS.fullmatch(digits) or not digits.isascii():
        return None, at + 1
    value, parts = _value(digits)
    if _is_negative(tokens, at, text):
        value = -value
    version = parts if _is_version(tokens, at, parts) else ()
    return _with_unit(tokens, at, at + 1, value, text, version=version)


def _value(digits: str) -> tuple[Fraction, tuple[str, ...]]:
    if _GROUPED.fullmatch(digits):
        return Fraction(digits.replace(",", "")), ()
    parts = tuple(re.split(r"[.,]", digits))
    if len(parts) == 1:
        return Fraction(digits), ()
    value = Fraction(f"{parts[0]}.{parts[1]}")
    return value, parts if "," not in digits else ()


def _is_version(tokens: Sequence[Token], at: int, parts: tuple[str, ...]) -> bool:
    before = tokens[at - 1].text if at else ""
    return len(parts) > 2 or (len(parts) == 2 and before in VERSION)


def _is_negative(tokens: Sequence[Token], at: int, text: str) -> bool:
    """A minus that touches the digits and, before it, no word."""
    if not at or tokens[at - 1].text != "-" or tokens[at - 1].end != tokens[at].start:
        return False
    minus = tokens[at - 1].start
    return minus == 0 or not (text[minus - 1].isalnum() or text[minus - 1] in ")]_")


def _named(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    """A number in words: nineteen, thirty-eight, two hundred, a share such as two thirds."""
    value, after = _NAMED[tokens[at].text], at + 1
    following = _word(tokens, after)
    if value >= 20 and value % 10 == 0 and 0 < _NAMED.get(following, Fraction(0)) < 10:
        value, after = value + _NAMED[following], _past(tokens, after)
    share = _SHARES.get(_word(tokens, after))
    if share and value < share:
        end = _past(tokens, after)
        return _made(tokens, at, end, value / share, "share"), end
    if _word(tokens, after) == "in" and _NAMED.get(_word(tokens, after + 1)):
        return _made(tokens, at, after, value, ""), after
    return _with_unit(tokens, at, after, value, text)


def _word(tokens: Sequence[Token], at: int) -> str:
    """The word at ``at``, over a hyphen."""
    if at < len(tokens) and tokens[at].text == "-":
        at += 1
    return tokens[at].text if at < len(tokens) else ""


def _past(tokens: Sequence[Token], at: int) -> int:
    return at + (2 if at < len(tokens) and tokens[at].text == "-" else 1)


def _passing(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    """Half, third, twice, once, both: numbers that are also ordinary words."""
    word, following = tokens[at].text, _word(tokens, at + 1)
    if word in _HALVED:
        return _made(tokens, at, at + 1, Fraction(1, 2), "share"), at + 1
    if word == "half":
        return _half(tokens, at, text)
    if word in ("one", "a", "an") and following in _SHARES and following != "second":
        end = _past(tokens, at + 1)
        share = Fraction(1, _SHARES[following])
        return _made(tokens, at, end, share, "share", weak=following == "quarter"), end
    if word in _ORDINAL:
        share = Fraction(1, _SHARES[word]) if word in _SHARES else None
        return _made(tokens, at, at + 1, _ORDINAL[word], "", also=share), at + 1
    if word in _MULTIPLES:
        return _made(tokens, at, at + 1, Fraction(_MULTIPLES[word]), "times", weak=True), at + 1
    if word in ("decade", "century", "quarter", "minute", "hour", "million", "hundred"):
        return _counted_once(tokens, at, text)
    if word in _WEAK and not (word == "second" and _word(tokens, at - 1) in ("a", "per")):
        return _made(tokens, at, at + 1, Fraction(_WEAK[word]), "", weak=True), at + 1
    return None, at + 1


def _half(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    after = at + 1
    while _word(tokens, after) in ("a", "an", "of"):
        after += 1
    unit = UNITS.get(_word(tokens, after))
    if unit:
        return _with_unit(tokens, at, after, Fraction(1, 2), text)
    return _made(tokens, at, at + 1, Fraction(1, 2), "share"), at + 1


def _counted_once(tokens: Sequence[Token], at: int, text: str) -> tuple[Quantity | None, int]:
    """ "A minute" is 60 seconds, "a hundred" is 100, "a quarter" 1/4; in passing all the same."""
    word = tokens[at].text
    if word == "quarter":
        return _made(tokens, at, at + 1, Fraction(1, 4), "share", weak=True), at + 1
    if word in _SCALES:
        return _with_unit(tokens, at, at + 1, Fraction(10) ** _SCALES[word], text, weak=True)
    dimension, factor = UNITS[word]
    return _made(tokens, at, at + 1, factor, dimension, weak=True), at + 1


def _with_unit(
    tokens: Sequence[Token],
    at: int,
    after: int,
    value: Fraction,
    text: str,
    *,
    version: tuple[str, ...] = (),
    weak: bool = False,
) -> tuple[Quantity | None, int]:
    """The quantity of ``value`` whose words end before ``after``; scale and unit may follow."""
    if [t.text for t in tokens[after : after + 3]] == ["and", "a", "half"]:
        value, after = value + Fraction(1, 2), after + 3
    sign = tokens[at - 1].text if at else ""
    money = sign if sign in _MONEY else ""
    after, power = _scale(tokens, at, after, bool(money))
    scale = Fraction(10) ** power
    raw = value * scale
    after, unit = (after, None) if money else _unit(tokens, after)
    dimension, factor = unit or (money, Fraction(1))
    made = _made(tokens, at, after, raw * factor, dimension, version=version, weak=weak)
    return replace(made, raw=raw, scale=scale), after


def _scale(tokens: Sequence[Token], at: int, after: int, money: bool) -> tuple[int, int]:
    word = _word(tokens, after)
    attached = after < len(tokens) and tokens[after].start == tokens[after - 1].end
    if word in ("k", "m", "mn", "bn") and not (money or word == "bn" or (word == "k" and attached)):
        return after, 0
    scale = 0
    while _word(tokens, after) in _SCALES and (scale == 0 or _word(tokens, after) not in "km"):
        scale += _SCALES[_word(tokens, after)]
        after = _past(tokens, after)
    return after, scale


def _unit(tokens: Sequence[Token], after: int) -> tuple[int, tuple[str, Fraction] | None]:
    if _word(tokens, after) in ("more", "another", "further", "extra", "additional"):
        after += 1
    word = _word(tokens, after)
    if word == "°":
        following = _word(tokens, after + 1)
        return after + 1 + (following in ("c", "f")), UNITS[
            f"°{following}" if following == "f" else "°c"
        ]
    if word == "per" and _word(tokens, after + 1) == "cent":
        return after + 2, UNITS["%"]
    if word == "a" or word not in UNITS:
        return after, None
    return _past(tokens, after), UNITS[word]


def _made(
    tokens: Sequence[Token],
    at: int,
    after: int,
    value: Fraction,
    dimension: str,
    *,
    version: tuple[str, ...] = (),
    weak: bool = False,
    also: Fraction | None = None,
) -> Quantity:
    lead = _lead(tokens, at)
    shown = " ".join(t.text for t in tokens[at:after])
    return Quantity(
        value=value,
        raw=value,
        dimension=dimension,
        noun=_noun(tokens, after),
        lead=lead,
        text=shown,
        at=at,
        end=after,
        weak=weak,
        version=version,
        about=lead in _ABOUT or (at > 1 and tokens[at - 2].text in _ABOUT),
        also=also,
    )


def _lead(tokens: Sequence[Token], at: int) -> str:
    """The word before the number, over its sign."""
    before = [t.text for t in tokens[max(at - 2, 0) : at]]
    while before and before[-1] in _SIGNS:
        before.pop()
    return before[-1] if before else ""


def _noun(tokens: Sequence[Token], after: int) -> str:
    """What is counted: the next word that means something, if it is near."""
    for before, token in pairwise(tokens[after - 1 : after + 4]):
        if token.start - before.end > 1:
            break  # past a comma, it is counted no more
        if token.text in MONTHS:
            return token.text
        if token.is_word and token.text not in STOP and token.text not in SIDES:
            return key(token.text)
        if token.text not in _BEFORE_NOUN and token.text not in SIDES:
            break
    return ""
