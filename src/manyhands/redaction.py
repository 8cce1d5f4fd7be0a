"""Secrets taken out of what is written down.

Invariant: what a `Redactor` has gone over holds none of its secrets, also not in the form that JSON
gives them, nor cut in two by a stream.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

#: What stands in the place of a secret.
MARK = "***"
#: Shorter ones cannot be told from ordinary text.
SHORTEST = 8

_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|(^|_)PAT)(_|$)")
_WORD = re.compile(r"[A-Za-z_-]{,15}|[0-9.]{,15}")


def is_secret(value: str) -> bool:
    """Whether ``value`` can be looked for in text.

    It has 8 characters or more, and is not a plain word (``postgres``, ``lm-studio``) or number of
    less than 16: these are found everywhere, and would be taken out of what they belong to.
    """
    return len(value) >= SHORTEST and _WORD.fullmatch(value) is None


def secrets_of(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """The values of the environment's variables whose names say KEY, TOKEN, SECRET or PASSWORD,
    as far as they are secrets (`is_secret`) and not the paths of files."""
    found = os.environ if environment is None else environment
    return frozenset(
        value
        for name, value in found.items()
        if _NAME.search(name.upper()) and is_secret(value) and not _is_path(value)
    )


def _is_path(value: str) -> bool:
    try:
        return os.sep in value and Path(value).exists()
    except (OSError, ValueError):
        return False


class Redactor:
    """Replaces every one of ``secrets`` by ``***``. Without any it is false, and costs nothing."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self._texts = sorted(forms, key=lambda form: (-len(form), form))
        self._bytes = [form.encode() for form in self._texts]

    def __repr__(self) -> str:
        return f"Redactor({len(self._texts)} forms)"

    def __bool__(self) -> bool:
        return bool(self._texts)

    def text(self, text: str) -> str:
        for form in self._texts:
            if form in text:
                text = text.replace(form, MARK)
        return text

    def bytes(self, data: bytes) -> bytes:
        for form in self._bytes:
            if form in data:
                data = data.replace(form, MARK.encode())
        return data

    def held(self, text: str) -> int:
        """How many of the last characters of ``text`` may be the beginning of a secret."""
        return max((_overlap(text, form) for form in self._texts), default=0)


class Pieces:
    """Hands pieces of a text on without its secrets, also where one is cut in two.

    What may be the beginning of one is held back until more has come, or `end` says that none will.
    """

    def __init__(self, redactor: Redactor, on_text: Callable[[str], None]) -> None:
        self._redactor = redactor
        self._on_text = on_text
        self._held = ""

    def __call__(self, piece: str) -> None:
        text = self._redactor.text(self._held + piece)
        held = self._redactor.held(text)
        self._held = text[len(text) - held :]
        self._hand_on(text[: len(text) - held])

    def end(self) -> None:
        held, self._held = self._held, ""
        self._hand_on(held)

    def _hand_on(self, text: str) -> None:
        if text:
            self._on_text(text)


def _forms(secret: str) -> set[str]:
    """As it is, as JSON writes it, and as JSON in JSON (a tool call's arguments) does."""
    once = json.dumps(secret)[1:-1]
    plain = {secret, once, json.dumps(once)[1:-1]}
    return plain | {form.replace("/", "\\/") for form in plain}


def _overlap(text: str, form: str) -> int:
    for size in range(min(len(form) - 1, len(text)), 0, -1):
        if form.startswith(text[-size:]):
            return size
    return 0
