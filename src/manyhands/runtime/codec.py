"""Values to JSON text and back, and their hashes. JSON, never pickle.

Invariant: `decode(encode(v))` is what a replay sees, so it is also what the live call returns; the
text is always valid UTF-8. Non-finite floats, which JSON cannot hold, are written as
``{"$float": "nan"}``; where a value has that form itself, its key gets one more ``$``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from functools import lru_cache
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from manyhands.errors import NotSerializable

_FLOAT = "$float"


def _encoder(*, sort_keys: bool, ensure_ascii: bool = False) -> json.JSONEncoder:
    return json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        allow_nan=False,
        sort_keys=sort_keys,
        separators=(",", ":"),
    )


_PLAIN = _encoder(sort_keys=False)
_SORTED = _encoder(sort_keys=True)


def encode(value: Any) -> str:
    """JSON text of plain values, pydantic models, dataclasses, dates, paths, enums, UTF-8 bytes.

    Raises `NotSerializable` for anything else.
    """
    return _text(value, _PLAIN)


def canonical(value: Any) -> str:
    """As `encode`, with keys and sets in order: equal values have equal text in every process."""
    return _text(value, _SORTED)


def _text(value: Any, encoder: json.JSONEncoder) -> str:
    try:
        text = encoder.encode(value)
        if _FLOAT not in text:
            return text if _utf8(text) else _escaped(value, encoder)
    except (TypeError, ValueError, RecursionError):
        pass
    return _slow(value, encoder)


def _utf8(text: str) -> bool:
    """False: a lone surrogate is in it, which only a JSON escape can carry."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(value: Any, encoder: json.JSONEncoder) -> str:
    return _encoder(sort_keys=encoder.sort_keys, ensure_ascii=True).encode(value)


def _slow(value: Any, encoder: json.JSONEncoder) -> str:
    try:
        source = _ordered(value) if encoder.sort_keys else value
        plain = _tag(to_jsonable_python(source, inf_nan_mode="constants"))
        text = encoder.encode(plain)
        return text if _utf8(text) else _escaped(plain, encoder)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotSerializable(
            f"a {type(value).__name__} cannot be written as JSON: {error}",
            next="return plain values, pydantic models or dataclasses from steps",
        ) from error


def _ordered(value: Any) -> Any:
    """Sets as sorted lists: their own order changes from process to process."""
    if isinstance(value, BaseModel):
        return _ordered(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _ordered(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: _ordered(v) for k, v in cast(dict[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_ordered(v) for v in cast(list[Any], value)]
    if isinstance(value, (set, frozenset)):
        return sorted((_ordered(v) for v in cast(set[Any], value)), key=canonical)
    return value


def _tag(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, dict):
        tagged = {k: _tag(v) for k, v in cast(dict[str, Any], value).items()}
        return {k + "$": v for k, v in tagged.items()} if _like_tag(tagged) else tagged
    if isinstance(value, list):
        return [_tag(v) for v in cast(list[Any], value)]
    return value


def _like_tag(item: dict[str, Any]) -> bool:
    return len(item) == 1 and next(iter(item)).rstrip("$") == _FLOAT


def _untag(item: dict[str, Any]) -> Any:
    if not _like_tag(item):
        return item
    ((key, value),) = item.items()
    return float(value) if key == _FLOAT else {key[:-1]: value}


@lru_cache(maxsize=256)
def _adapter(returns: Any) -> TypeAdapter[Any]:
    return TypeAdapter(returns)


def _adapter_of(returns: Any) -> TypeAdapter[Any]:
    try:
        return _adapter(returns)
    except TypeError:  # an annotation that cannot be hashed
        return TypeAdapter(returns)


def decode(text: str, returns: Any = None) -> Any:
    """The value; ``returns`` is any type that pydantic can validate (None: plain JSON).

    Raises `pydantic.ValidationError` (a `ValueError`) when the value is not of that type.
    """
    if returns is None:
        return json.loads(text, object_hook=_untag if _FLOAT in text else None)
    adapter = _adapter_of(returns)
    if "\\ud" in text:  # a lone surrogate, which only Python's reader takes
        return adapter.validate_python(decode(text))
    return adapter.validate_json(json.dumps(decode(text)) if _FLOAT in text else text)


def digest(text: str | bytes) -> str:
    """``sha256:<hex>`` of UTF-8 text or bytes."""
    data = text.encode() if isinstance(text, str) else text
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hash_args(args: tuple[Any, ...]) -> str:
    """A short hash (64 bits) that tells a step's arguments apart between runs of the program."""
    return hashlib.sha256(canonical(args).encode()).hexdigest()[:16] if args else ""


def object_of(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one where it is something else."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
