"""Values to JSON text and back, and their hashes. JSON, never pickle.

Invariant: `decode(encode(v))` is what a replay sees, so it is also what the live call returns.
Non-finite floats, which JSON cannot hold, are written as ``{"$float": "nan"}``.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from manyhands.errors import NotSerializable

_FLOAT = "$float"


def encode(value: Any) -> str:
    """JSON text of plain values, pydantic models, dataclasses, dates, paths, enums, bytes.

    Raises `NotSerializable` for anything else.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _dumps(_plain(value), sort_keys=False)


def canonical(value: Any) -> str:
    """As `encode`, with sorted keys: equal values have equal text."""
    return _dumps(_plain(value), sort_keys=True)


def _dumps(value: Any, *, sort_keys: bool) -> str:
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=sort_keys
    )


def _plain(value: Any) -> Any:
    try:
        return _tag(to_jsonable_python(value, inf_nan_mode="constants"))
    except (ValueError, RecursionError) as error:
        raise NotSerializable(
            f"a {type(value).__name__} cannot be written as JSON: {error}",
            next="return plain values, pydantic models or dataclasses from steps",
        ) from error


def _tag(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, dict):
        return {k: _tag(v) for k, v in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_tag(v) for v in cast(list[Any], value)]
    return value


def _untag(item: dict[str, Any]) -> Any:
    if len(item) == 1 and _FLOAT in item:
        return float(item[_FLOAT])
    return item


@lru_cache(maxsize=256)
def _adapter(returns: Any) -> TypeAdapter[Any]:
    return TypeAdapter(returns)


def decode(text: str, returns: Any = None) -> Any:
    """The value; ``returns`` is any type that pydantic can validate (None: plain JSON)."""
    value = json.loads(text, object_hook=_untag if _FLOAT in text else None)
    return value if returns is None else _adapter(returns).validate_python(value)


def digest(text: str | bytes) -> str:
    """``sha256:<hex>`` of UTF-8 text or bytes."""
    data = text.encode() if isinstance(text, str) else text
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hash_args(args: tuple[Any, ...]) -> str:
    """A short hash (64 bits) that tells a step's arguments apart between runs of the program."""
    return hashlib.sha256(canonical(list(args)).encode()).hexdigest()[:16] if args else ""
