"""Settings: the top-level ``NAME = literal`` of an editable Python file, found, ranged, replaced.

A setting is a number, a bool or a string that stands alone at the top level of its file, under an
UPPER_CASE or an annotated name that nothing else in the file binds. Arithmetic of literals is a
number (``2**19``); each number of a short tuple is a setting of its own (``ADAM_BETAS[0]``).

Invariant: `apply` changes the bytes of exactly one literal; reading what it wrote gives the value
that was asked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from manyhands.errors import StudyError
from manyhands.teams.lab.literals import Kind, Site, as_kind, find_sites, kind_of
from manyhands.teams.lab.records import Literalish
from manyhands.teams.lab.schema import FILE, SettingRange

_SEED = re.compile(r"(^|_)SEED", re.IGNORECASE)
_SHARE = re.compile(r"RATIO|FRAC|DROPOUT|PROB|SHARE", re.IGNORECASE)
_NEAR_ONE = re.compile(r"BETA|MOMENTUM|EMA", re.IGNORECASE)
_POWER = re.compile(r"(?P<base>2\s*\*\*\s*|1\s*<<\s*)\d+\Z")
#: From here on a number is a constant of nature or of a machine, not a knob.
_HUGE = 1e9


@dataclass(frozen=True)
class Setting:
    """A setting as it stands in one version of the files, and where it is searched.

    ``low``/``high`` (``log``: on a logarithmic scale) or ``choices`` are its range; with neither it
    is not searched. ``inferred``: the range was made from the present value and is not from
    study.toml. ``note`` says how it was made, or why there is none.
    """

    name: str
    value: Literalish
    kind: Kind
    path: str
    line: int
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Literalish, ...] = ()
    inferred: bool = True
    note: str = ""

    @property
    def searched(self) -> bool:
        return bool(self.choices) or self.low is not None


# ---------------------------------------------------------------- finding


def find_settings(
    files: Mapping[str, str], ranges: Mapping[str, SettingRange] | None = None
) -> dict[str, Setting]:
    """All settings of ``files`` (path -> text; what is not Python is passed over), by name.

    ``ranges`` are those of study.toml; every other setting gets an inferred range or none. A name
    that stands in two files is ambiguous and no setting. Raises `StudyError` where a range names no
    setting or does not fit the setting's present value, or where a file is not valid Python.
    """
    ranges = ranges or {}
    sites = [(path, site) for path, text in files.items() for site in _sites_in(path, text)]
    count = Counter(site.name for _, site in sites)
    found: dict[str, Setting] = {}
    for path, site in sites:
        if count[site.name] == 1:
            plain = Setting(site.name, site.value, kind_of(site.value), path, site.line)
            given = ranges.get(site.name)
            found[site.name] = _declared(plain, given) if given else _inferred(plain)
    for name in ranges:
        if name not in found:
            where = ", ".join(sorted(files)) or "any editable file"
            why = "stands in several files" if count[name] else f"is no setting of {where}"
            raise StudyError(
                f"{FILE}: settings.{name}: {name} {why}",
                next=f"use one of: {', '.join(sorted(found)) or 'none found'}; or take it out",
            )
    return found


def _sites_in(path: str, text: str) -> Iterator[Site]:
    if path.endswith(".py"):
        try:
            yield from find_sites(text).values()
        except (SyntaxError, ValueError) as error:
            raise StudyError(
                f"{path}: not valid Python: {error}", next=f"mend {path} and commit it"
            ) from error


# ---------------------------------------------------------------- ranges


def range_problem(setting: Setting, value: Literalish) -> str:
    """Why ``value`` is outside of the setting's range; '' if it is inside, or there is none."""
    fitting = as_kind(value, setting.kind)
    if fitting is None:
        return f"{setting.name} is {setting.kind}, and {value!r} is not"
    if setting.choices and fitting not in setting.choices:
        listed = ", ".join(map(repr, setting.choices))
        return f"{setting.name} = {fitting!r} is none of {listed}"
    if setting.low is None or setting.high is None or isinstance(fitting, str):
        return ""
    if not setting.low <= fitting <= setting.high:
        limits = f"[{setting.low:g}, {setting.high:g}]"
        return f"{setting.name} = {fitting!r} is outside of {limits}"
    return ""


def value_problem(
    name: str, present: Literalish, value: Literalish, given: SettingRange | None
) -> str:
    """Why setting ``name``, now ``present``, must not become ``value``; '' if it may.

    ``given`` is its range in study.toml; without one only the type counts, as written: 8.0 is no
    int, 8 may stand for a float.
    """
    plain = Setting(name, present, kind_of(present), "", 0)
    if plain.kind == "int" and kind_of(value) == "float":
        return f"{name} is int, and {value!r} is not"
    return range_problem(_ranged(plain, given) if given else plain, value)


def _declared(setting: Setting, given: SettingRange) -> Setting:
    choices = tuple(as_kind(c, setting.kind) for c in given.choices)
    ends = tuple(as_kind(e, setting.kind) for e in (given.low, given.high) if e is not None)
    wrong = [
        w
        for w, fit in zip((*given.choices, given.low, given.high), (*choices, *ends))
        if fit is None
    ]
    if wrong or (ends and setting.kind in ("bool", "str")):
        shown = ", ".join(map(repr, wrong)) or "a range"
        raise StudyError(
            f"{FILE}: settings.{setting.name}: {shown} does not fit {setting.value!r} "
            f"({setting.kind}) in {setting.path}:{setting.line}",
            next=f"give values of type {setting.kind}",
        )
    ranged = _ranged(setting, given)
    problem = range_problem(ranged, setting.value)
    if problem:
        raise StudyError(
            f"{FILE}: settings.{setting.name}: {problem}, and that is its value in "
            f"{setting.path}:{setting.line}",
            next="widen the range, or change the value and commit it",
        )
    return ranged


def _ranged(setting: Setting, given: SettingRange) -> Setting:
    choices = (as_kind(choice, setting.kind) for choice in given.choices)
    return replace(
        setting,
        low=None if given.low is None else float(given.low),
        high=None if given.high is None else float(given.high),
        log=given.log,
        choices=tuple(choice for choice in choices if choice is not None),
        inferred=False,
        note="from study.toml",
    )


def _inferred(setting: Setting) -> Setting:
    if _SEED.search(setting.name):
        return replace(setting, note="not searched: a seed is noise, not a knob")
    value = setting.value
    if isinstance(value, bool):
        return replace(setting, choices=(False, True), note="both")
    if isinstance(value, str):
        return replace(setting, note="not searched: a text needs choices in study.toml")
    if abs(value) >= _HUGE or value < 0:
        why = "negative" if value < 0 else f"not below {_HUGE:g}"
        return replace(setting, note=f"not searched: {value:g} is {why}; give a range")
    return _whole(setting, value) if isinstance(value, int) else _real(setting, value)


def _whole(setting: Setting, value: int) -> Setting:
    if value == 0:
        return replace(setting, note="not searched: 0 gives no scale; give a range")
    if value >= 4 and value & (value - 1) == 0:
        powers = tuple(p for p in (value // 4, value // 2, value, value * 2, value * 4))
        return replace(setting, choices=powers, note="powers of two, ÷4 to ×4")
    if value >= 4:
        low, high = float(max(1, round(value / 4))), float(value * 4)
        return replace(setting, low=low, high=high, log=True, note="÷4 to ×4")
    return replace(setting, low=1.0, high=float(value * 4), note="1 to ×4")


def _real(setting: Setting, value: float) -> Setting:
    if value == 0.0:
        if _SHARE.search(setting.name):
            return replace(setting, low=0.0, high=1.0, note="a share, by its name")
        return replace(setting, note="not searched: 0 gives no scale; give a range")
    if 0.5 <= value < 1 and _NEAR_ONE.search(setting.name):
        low, high = max(0.0, 1 - (1 - value) * 10), 1 - (1 - value) / 10
        return replace(setting, low=low, high=high, note="distance from 1 ÷10 to ×10")
    if value < 1:
        high = min(1.0, value * 10)
        return replace(setting, low=value / 10, high=high, log=True, note="÷10 to ×10, at most 1")
    return replace(setting, low=value / 10, high=value * 10, log=True, note="÷10 to ×10")


# ---------------------------------------------------------------- replacing


def apply(text: str, name: str, value: Literalish) -> str:
    """``text`` with the literal of setting ``name`` replaced by ``value``; every other byte stays.

    Raises `StudyError` if ``name`` is absent or ambiguous, or if ``value`` is of another kind.
    """
    sites = find_sites(text)
    site = sites.get(name)
    if site is None:
        known = ", ".join(sites) or "there is none"
        raise StudyError(f"{name} is not one unambiguous setting", next=f"use one of: {known}")
    fitting = as_kind(value, kind_of(site.value))
    if fitting is None:
        raise StudyError(
            f"{name} is {kind_of(site.value)} ({site.value!r}), and {value!r} is not",
            next=f"give a value of type {kind_of(site.value)}",
        )
    if fitting == site.value:
        return text
    raw = text.encode()
    literal = _written(fitting, raw[site.start : site.end].decode())
    changed = (raw[: site.start] + literal.encode() + raw[site.end :]).decode()
    again = find_sites(changed).get(name)
    if again is None or again.value != fitting:
        raise StudyError(f"{name} = {value!r} cannot be written", next="give a plain literal")
    return changed


def _written(value: Literalish, old: str) -> str:
    """``value`` in the way in which ``old`` was written, where that is possible."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if old.endswith('"') else repr(value)
    power = _POWER.match(old)
    if power and isinstance(value, int) and value > 0 and value & (value - 1) == 0:
        return f"{power['base']}{value.bit_length() - 1}"
    if "_" in old and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return repr(value)
