"""Arguments against a tool's JSON schema, with lossless coercions only.

Invariant: a value is changed only where the schema refuses it as it is, only from text to the one
value that the text writes down, and every change is noted. Nothing is filled in, dropped, rounded
or wrapped. Nothing is fetched: a ``$ref`` resolves inside the schema or not at all.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import islice
from typing import Any, cast

from manyhands.agents.encoding import loads_object
from manyhands.agents.literals import Broken, loads_loosely, writable
from manyhands.errors import ToolError

#: Violations that one error lists, and validations that one `fit` may run.
MOST_LINES = 50
_MOST_WORK = 400

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})")
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,999}))\.0{1,99}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "True": True, "false": False, "False": False}


@dataclass(frozen=True, slots=True)
class Fitted:
    """Arguments that fit. ``notes``: one line per value that was coerced."""

    arguments: dict[str, Any]
    notes: tuple[str, ...] = ()


def fit(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> Fitted:
    """The arguments as the schema takes them; the input is left as it is.

    Coercions: ``"3"`` and ``"3.0"`` to an integer, ``"2.5"`` to a number, ``"true"`` to a boolean,
    ``"null"`` to null, JSON text to an object or an array. Raises `ToolError`, written for the
    model, with every violation. A schema that is no JSON schema checks nothing, and a note says so.
    """
    value: dict[str, Any] = copy.deepcopy(dict(arguments))
    try:
        validator = _validator(json.dumps(schema, sort_keys=True, default=str))
        fitting = _Fitting()
        fitted = cast(dict[str, Any], fitting.settle(validator, value, ()))
        errors = _errors(validator, fitted) if fitting.failed else []
    except _unusable() as error:
        return Fitted(value, (f"not checked: the tool's schema is unusable: {_why(error)}",))
    if errors:
        raise ToolError(
            "the arguments do not fit the tool's schema:\n" + "\n".join(_lines(errors)),
            next="correct these, and call again with all arguments",
        )
    return Fitted(fitted, tuple(fitting.notes))


def schema_problem(schema: object) -> str:
    """Why ``schema`` is no JSON schema; empty when it is one."""
    try:
        _validator(json.dumps(schema, sort_keys=True, default=str))
    except _unusable() as error:
        return _why(error)
    return ""


def _why(error: Exception) -> str:
    return _cut(str(getattr(error, "message", error)), 200)


class _Fitting:
    """One `fit`: coerces until the validator is content, or nothing more can be coerced."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failed = False
        self._work = 0

    def settle(self, validator: Any, value: Any, path: tuple[str | int, ...]) -> Any:
        while self._work < _MOST_WORK:
            self._work += 1
            errors = _errors(validator, value)
            if not errors:
                self.failed = False
                return value
            changed = False
            for error in errors:
                found = self._coerce(validator, error, path)
                if found is not None:
                    value = _replaced(value, list(error.absolute_path), found[0])
                    changed = True
            if not changed:
                break
        self.failed = True
        return value

    def _coerce(self, validator: Any, error: Any, path: tuple[str | int, ...]) -> tuple[Any] | None:
        """The one value that replaces ``error.instance``, in a tuple; None: there is none."""
        only = validator.evolve(schema={error.validator: error.validator_value})
        where = (*path, *error.absolute_path)
        given = error.instance
        readings = _readings(given, _wanted(error)) if isinstance(given, str) else (given,)
        for found in readings:
            kept = len(self.notes)
            if found is not given:
                self.notes.append(f"{_dotted(where)}: the text {_short(given)} as {_short(found)}")
            if found is not given and only.is_valid(found):
                return (found,)
            if error.validator in ("anyOf", "oneOf") and isinstance(found, (dict, list)):
                inner = self._branch(validator, error, only, copy.deepcopy(cast(Any, found)), where)
                if inner is not None:
                    return inner
            del self.notes[kept:]
        return None

    def _branch(
        self, validator: Any, error: Any, only: Any, found: Any, where: tuple[str | int, ...]
    ) -> tuple[Any] | None:
        """``found`` coerced until it fits one of the alternatives."""
        for branch in error.validator_value:
            kept = len(self.notes)
            inner = self.settle(validator.evolve(schema=branch), copy.deepcopy(found), where)
            if not self.failed and only.is_valid(inner):
                return (inner,)
            del self.notes[kept:]
        return None


def _errors(validator: Any, value: Any) -> list[Any]:
    found: Any = validator.iter_errors(value)
    return list(islice(found, 1000))


def _wanted(error: Any) -> set[str]:
    """The types that would have been accepted where ``error`` stands."""
    if error.validator == "type":
        named = error.validator_value
        return {named} if isinstance(named, str) else set(named)
    if error.validator == "const":
        return {_type(error.validator_value)}
    if error.validator == "enum":
        return {_type(each) for each in error.validator_value}
    if error.validator in ("anyOf", "oneOf"):
        found: set[str] = set()
        for each in error.context:
            if each.absolute_path == error.absolute_path:
                found |= _wanted(each)
        return found
    return set()


def _readings(text: str, wanted: set[str]) -> Iterable[Any]:
    """What ``text`` writes down, for each wanted type; every one of them without loss."""
    word = text.strip()
    if "null" in wanted and word in ("null", "None"):
        yield None
    if "boolean" in wanted and word in _WORDS:
        yield _WORDS[word]
    if "integer" in wanted or "number" in wanted:
        whole = _WHOLE.fullmatch(word)
        if _INTEGER.fullmatch(word):
            yield int(word)
        elif whole and "integer" in wanted:
            yield int(whole[1])
        elif "number" in wanted and _NUMBER.fullmatch(word) and _exact(word):
            yield float(word)
    if wanted & {"object", "array"} and word[:1] in ("{", "["):
        try:
            found = loads_loosely(word)
        except Broken:
            return
        if _type(found) in wanted:
            yield found


def _exact(text: str) -> bool:
    """Whether a float holds the decimal number that ``text`` writes down, as it would print it."""
    try:
        return Decimal(text) == Decimal(repr(float(text)))
    except (InvalidOperation, OverflowError):
        return False


def _replaced(value: Any, path: Sequence[str | int], found: Any) -> Any:
    if not path:
        return found
    inner = value
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = found
    return value


# ---------------------------------------------------------------- errors, for the model


def _lines(errors: Sequence[Any]) -> list[str]:
    lines = list(dict.fromkeys(_line(each) for each in errors))
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"- and {len(lines) - MOST_LINES} more"]
    return lines


def _line(error: Any) -> str:
    where = _dotted(tuple(error.absolute_path))
    given = _short(error.instance)
    told: dict[str, Callable[[], str]] = {
        "type": lambda: f"{given} is not of type {' or '.join(sorted(_wanted(error)))}",
        "enum": lambda: f"{given} is not one of {_short(error.validator_value, 300)}",
        "const": lambda: f"{given} is not {_short(error.validator_value)}",
        "anyOf": lambda: f"{given} fits none of the allowed forms{_forms(error)}",
        "oneOf": lambda: f"{given} does not fit exactly one of the allowed forms{_forms(error)}",
    }
    if error.validator == "required":
        name = error.message.removesuffix(" is a required property")
        return f"- {where}: {name} is missing"
    text = told[error.validator]() if error.validator in told else _cut(error.message, 300)
    return f"- {where}: {text}"


def _forms(error: Any) -> str:
    types = sorted(_wanted(error))
    inner = [_line(each)[2:] for each in error.context if each.validator != "type"][:3]
    return (f" ({' or '.join(types)})" if types else "") + "".join(f"; {each}" for each in inner)


def _dotted(path: tuple[str | int, ...]) -> str:
    return _cut(".".join(str(part) for part in path), 120) or "(arguments)"


def _short(value: Any, most: int = 80) -> str:
    """Of a long value only the beginning is even printed."""
    if isinstance(value, str):
        return _cut(json.dumps(value[: most + 1], ensure_ascii=False), most)
    try:
        return _cut(json.dumps(value, ensure_ascii=False), most)
    except (TypeError, ValueError):
        return _cut(repr(value), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(cast(Any, type(value)), "null")


# ---------------------------------------------------------------- the library


def violation(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What the schema refuses first, in the library's words ('': nothing). Nothing is coerced; a
    schema that is no JSON schema refuses nothing."""
    try:
        validator = _validator(json.dumps(schema, sort_keys=True, default=str))
        error: Any = next(validator.iter_errors(dict(arguments)), None)
    except _unusable():
        return ""
    return "" if error is None else error.message


@lru_cache(maxsize=512)
def _validator(text: str) -> Any:
    """A validator of the schema that ``text`` is, checked once. Raises one of `_unusable`."""
    # jsonschema takes a tenth of a second to import, which the command line need not pay.
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - imported when first needed
    from jsonschema.validators import validator_for  # noqa: PLC0415 - imported when first needed
    from referencing import Registry  # noqa: PLC0415 - imported when first needed

    schema = json.loads(text)
    chosen: Any = validator_for(schema, default=Draft202012Validator)
    chosen.check_schema(schema)
    # An empty registry: the default one would fetch what a ``$ref`` names.
    return chosen(schema, registry=cast(Any, Registry)())


@lru_cache(maxsize=1)
def _unusable() -> tuple[type[Exception], ...]:
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - imported when first needed
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - imported when first needed

    return (SchemaError, Unresolvable, RecursionError, re.error, TypeError)


def read_arguments(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments of a call as a server handed them over, and what was mended.

    Nothing at all is no arguments; an object that was encoded twice is taken out of its string;
    JSON as models often write it is read where that loses nothing. Raises `ToolError`.
    """
    found, notes = _read_arguments(text)
    if not writable(found):
        raise ToolError(
            "the arguments hold half of a surrogate pair, which is no character",
            next="call again, with the whole character",
        )
    return found, notes


def _read_arguments(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        return loads_object(text), ()
    except ToolError as error:
        refused = error
    notes = ["read as JSON that is loosely written"]
    try:
        found = loads_loosely(text)
        if isinstance(found, str):
            found, notes = loads_loosely(found), ["it was encoded twice"]
    except Broken:
        raise refused from None
    if not isinstance(found, dict):
        raise refused
    return cast(dict[str, Any], found), tuple(notes)
