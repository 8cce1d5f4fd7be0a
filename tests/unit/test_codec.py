"""Values survive the journal: what is read back is what was written, or it is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from manyhands.errors import NotSerializable
from manyhands.runtime.codec import canonical, decode, digest, encode, hash_args


class Color(StrEnum):
    RED = "red"


class Point(BaseModel):
    model_config = ConfigDict(strict=True)

    x: float
    tags: tuple[str, ...] = ()
    color: Color = Color.RED
    at: datetime | None = None


@dataclass
class Pair:
    left: int
    right: Decimal


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.just("$float"),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$float", "$float$"]), inner)
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    """Equal, with equal types, and NaN equal to itself."""
    return repr(a) == repr(b)


@given(JSON)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(JSON)
def test_text_is_always_valid_utf8(value: Any) -> None:
    encode(value).encode()


@given(JSON)
def test_what_was_read_is_written_the_same_again(value: Any) -> None:
    text = encode(value)
    assert encode(decode(text)) == text


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(2**90),
        math.inf,
        -math.inf,
        "\ud800",
        {"\udfff": "é\ud800"},
        "\u2028\x00\x1f",
        {"$float": "nan"},
        {"$float$": {"$float": 1}},
        {"a": {"$float": None}},
        "",
        {"": ""},
    ],
)
def test_odd_values_come_back_as_they_were(value: Any) -> None:
    assert decode(encode(value)) == value


def test_nan_comes_back() -> None:
    assert math.isnan(decode(encode([math.nan]))[0])


@pytest.mark.parametrize(
    ("value", "returns"),
    [
        (Point(x=math.nan, tags=("a", "\u2028")), Point),
        (Point(x=1.5, at=datetime(2026, 1, 2, tzinfo=UTC)), Point),
        (Pair(1, Decimal("0.1")), Pair),
        ((1, (2, "x")), tuple[int, tuple[int, str]]),
        ({1, 2}, set[int]),
        (Path("a/b"), Path),
        (Color.RED, Color),
        (b"text", bytes),
        ({1: "a"}, dict[int, str]),
    ],
)
def test_typed_values_come_back_typed(value: Any, returns: Any) -> None:
    found = decode(encode(value), returns)
    assert found == value or same(found, value)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [object(), b"\xff", 10**5000, lambda: 0, {(1, 2): object()}],
    ids=["object", "bytes", "huge", "function", "nested"],
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(NotSerializable, match="cannot be written as JSON"):
        encode(value)


def test_a_value_in_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(NotSerializable):
        encode(circle)


def test_equal_arguments_have_equal_hashes() -> None:
    assert hash_args(({"a": 1, "b": 2},)) == hash_args(({"b": 2, "a": 1},))
    assert canonical({"b", "a", "c"}) == '["a","b","c"]'
    assert hash_args(()) == ""
    assert hash_args((1,)) != hash_args(("1",))


def test_the_hash_of_a_set_is_the_same_in_every_process() -> None:
    code = (
        "from manyhands.runtime.codec import hash_args;"
        "print(hash_args(({'a', 'b', 'c', 'd'}, frozenset({'x', 'y'}))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_a_digest_names_content() -> None:
    assert digest("é") == digest("é".encode())
    assert digest("").startswith("sha256:e3b0c442")
