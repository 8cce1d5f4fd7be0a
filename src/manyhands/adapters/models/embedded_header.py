"""The head of a GGUF file: enough to know that it is one, and how much memory it will ask for.

Invariant: nothing but the head is read, however large the file, and a head that lies about its own
size ends in an error. Only what is written there is told; whether the weights are whole is for
llama.cpp to say.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from manyhands.errors import ConfigError

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
#: struct formats of the scalar types, by their number in the format.
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_MOST = 1 << 26
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Header:
    """``context_length``: what the model was trained for, None where it is not said.

    ``kv_bytes``: of the context's cache, for each token of it, at 16 bits; an upper bound where
    only a part of the layers looks at the whole context. 0 where it is not known.
    """

    architecture: str
    context_length: int | None
    kv_bytes: int
    size: int


def read_header(path: Path) -> Header:
    """Raises `ConfigError` for a file that is not there, not readable or not a GGUF.

    Of a model in parts (``…-00001-of-00003.gguf``) the first is to be given; all must be there.
    """
    try:
        with path.open("rb") as file:
            values = dict(_values(file))
        size = sum(part.stat().st_size for part in parts_of(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {error.filename or path}",
            next="give the path of a .gguf file, or gguf:<hub repo>:<file> to download one",
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", next="give a readable .gguf file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not a GGUF file that can be used: {error}",
            next="give a model in the GGUF format; an incomplete download has to be fetched again",
        ) from error
    return _header(values, size)


def parts_of(path: Path) -> list[Path]:
    """All files of the model that begins in ``path``."""
    return [path.with_name(name) for name in part_names(path.name)]


def part_names(name: str) -> list[str]:
    """``name`` itself, or all parts where it is numbered as the first of several."""
    found = _PART.search(name)
    if found is None:
        return [name]
    stem = name[: found.start()]
    return [f"{stem}-{n:05}-of-{found[2]}.gguf" for n in range(1, int(found[2]) + 1)]


def _header(values: Mapping[str, Any], size: int) -> Header:
    architecture = str(values.get("general.architecture", ""))

    def number(key: str) -> int:
        """0 where it is not there. Some models give a number for each layer: the largest."""
        found = values.get(f"{architecture}.{key}")
        each = cast(list[Any], found) if isinstance(found, list) else [found]
        return max((n for n in each if isinstance(n, int)), default=0)

    heads, width = number("attention.head_count"), number("embedding_length")
    head = width // heads if heads else 0
    keys = number("attention.key_length") or head
    of_values = number("attention.value_length") or head
    per_layer = (number("attention.head_count_kv") or heads) * (keys + of_values) * 2
    return Header(
        architecture=architecture,
        context_length=number("context_length") or None,
        kv_bytes=number("block_count") * per_layer,
        size=size,
    )


def _values(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Keys and values, up to the tokenizer's, which come after the model's own."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic!r}, not {MAGIC!r}")
    version, _tensors, count = _unpack(file, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version} of the format, not 2 or 3")
    for _ in range(count):
        key = _string(file)
        if key.startswith("tokenizer."):
            return
        (kind,) = _unpack(file, "<I")
        yield key, _value(file, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = _unpack(file, "<IQ")
        if count > _MOST:
            raise ValueError(f"a list of {count} items in its head")
        return [_value(file, inner) for _ in range(count)]
    if kind not in _SCALARS:
        raise ValueError(f"a value of unknown type {kind} in its head")
    return _unpack(file, _SCALARS[kind])[0]


def _string(file: BinaryIO) -> str:
    (size,) = _unpack(file, "<Q")
    if size > _MOST:
        raise ValueError(f"a text of {size} bytes in its head")
    return _read(file, size).decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, _read(file, struct.calcsize(form)))


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends within its head")
    return data
