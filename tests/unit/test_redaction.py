"""Secrets in text, in JSON, in bytes and in pieces; and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyhands.redaction import Pieces, Redactor, is_secret, secrets_of

KEY = 'hf_q"Wert/y\\uiop9876'
OTHER = "sk-another-key-0123456789"


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("hf_abcdefghijklmnop", True),
        ("hunter22", True),
        ("p@ssword", True),
        ("x" * 16, True),
        ("postgres", False),
        ("lm-studio", False),
        ("changeme", False),
        ("EMPTY", False),
        ("16000000", False),
        ("a1b2c3", False),
        ("", False),
    ],
)
def test_what_can_be_told_from_ordinary_text(value: str, secret: bool) -> None:
    assert is_secret(value) is secret


def test_secrets_of_the_environment_go_by_name_and_value(tmp_path: Path) -> None:
    keyfile = tmp_path / "key.pem"
    keyfile.touch()
    environment = {
        "HF_TOKEN": "hf_0123456789",
        "OPENAI_API_KEY": "sk-0123456789",
        "OPENAIKEY": "sk-x123456789",
        "aws_secret_access_key": "aB3/dE5fG7",
        "PGPASSWORD": "hunter2hunter2",
        "GITHUB_PAT": "ghp_0123456789",
        "POSTGRES_PASSWORD": "postgres",
        "SSH_KEY": str(keyfile),
        "MAX_TOKENS": "sk-not-by-its-name-1",
        "KEYBOARD": "sk-not-by-its-name-2",
        "PATH": "/usr/bin:/bin:/x1",
    }
    assert secrets_of(environment) == {
        "hf_0123456789",
        "sk-0123456789",
        "sk-x123456789",
        "aB3/dE5fG7",
        "hunter2hunter2",
        "ghp_0123456789",
    }


def test_every_form_that_a_secret_takes() -> None:
    redactor = Redactor([KEY, OTHER, ""])
    arguments = json.dumps({"key": KEY})
    for text in (
        f"a {KEY} b {OTHER}",
        arguments,
        json.dumps({"arguments": arguments}),
        arguments.replace("/", "\\/"),
    ):
        hidden = redactor.text(text)
        assert "uiop" not in hidden
        assert "another" not in hidden
        assert "***" in hidden
        assert redactor.bytes(text.encode()) == hidden.encode()
    assert redactor.text("nothing of that kind") == "nothing of that kind"
    assert "uiop" not in repr(redactor)


def test_a_secret_within_another_goes_with_it() -> None:
    assert Redactor(["abcd1234", "xx-abcd1234-yy"]).text("xx-abcd1234-yy abcd1234") == "*** ***"


def test_no_secrets_no_work() -> None:
    assert not Redactor()
    assert Redactor(["x1234567"])
    assert Redactor().text("a") == "a"


@pytest.mark.parametrize("size", range(1, 40))
def test_a_secret_that_a_stream_cuts_in_two(size: int) -> None:
    text = f"{OTHER[:5]} so {OTHER} and {OTHER}{OTHER} and sk-another-ke"
    shown: list[str] = []
    pieces = Pieces(Redactor([OTHER]), shown.append)
    for at in range(0, len(text), size):
        pieces(text[at : at + size])
        assert OTHER not in "".join(shown)
    pieces.end()
    assert "".join(shown) == Redactor([OTHER]).text(text)
    assert all(shown)


def test_pieces_are_not_held_back_for_nothing() -> None:
    shown: list[str] = []
    pieces = Pieces(Redactor([OTHER]), shown.append)
    for piece in ("Hel", "lo. ", "It is", " done"):
        pieces(piece)
    assert "".join(shown) == "Hello. It is done"
