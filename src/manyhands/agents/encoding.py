"""Messages and schemas to bytes, and a model's JSON back.

Invariant: everything that is sent to a server is encoded here, each message once; what comes back
is accepted only as strict JSON (no NaN, no text after it), so that any server takes it again.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any, NoReturn, cast

from pydantic import BaseModel

from manyhands.errors import ToolError


def encode(value: Any) -> bytes:
    """JSON as UTF-8; what UTF-8 cannot hold (half a surrogate pair) is replaced."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


def clean(text: str) -> str:
    """``text`` with what UTF-8 cannot hold replaced, and halves of surrogate pairs joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def loads(text: str) -> Any:
    """Strict JSON. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def loads_object(text: str) -> dict[str, Any]:
    """Arguments of a call: a JSON object; nothing at all is an empty one. Raises `ToolError`."""
    try:
        found: object = loads(text) if text.strip() else {}
    except ValueError as error:
        raise ToolError(
            f"the arguments are not valid JSON: {error}; given: {text[:200]!r}",
            next="send one JSON object",
        ) from error
    if isinstance(found, dict):
        return cast(dict[str, Any], found)
    raise ToolError(
        f"the arguments are a {type(found).__name__}, not a JSON object; given: {text[:200]!r}",
        next="send one JSON object",
    )


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema without the titles that pydantic adds."""
    return _untitled(model.model_json_schema())


def delimit(label: str, text: str, salt: str) -> str:
    """``text`` as data between marks that it cannot forge: their hash depends on ``salt``."""
    mark = hashlib.sha256(clean(f"{salt}\n{label}\n{text}").encode()).hexdigest()[:8]
    return f"<{label} {mark}>\n{text}\n</{label} {mark}>"


def one_line(text: str, most: int = 120) -> str:
    """Text of an agent as a part of a line: nothing in it ends the line or steers a terminal."""
    shown = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    line = " ".join(shown.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """``names``: the keys are a user's own, such as a field that is called ``title``."""
    if isinstance(schema, dict):
        found = cast(dict[str, Any], schema)
        return {
            key: value
            if key in _VALUES and not names
            else _untitled(value, names=key in ("properties", "$defs") and not names)
            for key, value in found.items()
            if names or key != "title"
        }
    if isinstance(schema, list):
        return [_untitled(each) for each in cast(list[Any], schema)]
    return schema


#: Keywords of a schema that hold a user's values.
_VALUES = frozenset({"default", "const", "enum", "examples"})


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
