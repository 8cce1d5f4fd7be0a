"""The corpus of what models print, read from ``cases/*.json``. README.md states the form.

A case never says more than the published format does: a field that is ``null`` is not compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases"
#: Any dialect will do: two of them share the form, or nothing tells them apart.
ANY = "*"
#: In ``errors``: these calls and no error, or no call and an error. Never other arguments.
OR = "or"
#: What every dialect must show, and what only one with markers, or without, can.
REQUIRED = frozenset(
    {"one", "several", "nested", "unicode", "markers", "think", "variant", "truncated"}
)
WITH_MARKERS = frozenset({"before", "unclosed-think"})
WITHOUT_MARKERS = frozenset({"not-alone"})
KINDS = (
    REQUIRED
    | WITH_MARKERS
    | WITHOUT_MARKERS
    | {"after", "unknown", "closed-think-call", "repaired", "broken", "prose"}
)


@dataclass(frozen=True)
class Case:
    """One text and what is in it. ``errors``: 0, "some", OR, or None where it is not compared."""

    file: str
    name: str
    kind: str
    text: str
    tools: dict[str, dict[str, Any]]
    named: str  # the dialect to name in the second run; "" for prose
    dialect: str  # the name to recognise; "" for none, ANY where it is not compared
    reasoning: str | None
    content: str | None
    calls: tuple[dict[str, Any], ...]
    errors: int | str | None
    why: str = ""

    @property
    def id(self) -> str:
        return f"{self.file}: {self.name}"


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for path in sorted(CASES.glob("*.json")) for case in _read(path))


def _read(path: Path) -> list[Case]:
    data = json.loads(path.read_text(encoding="utf-8"))
    named = data["dialect"] or ""
    return [
        Case(
            file=path.stem,
            name=raw["name"],
            kind=raw["kind"],
            text=raw["text"],
            tools=data["tools"],
            named=named,
            dialect=(raw.get("dialect", named) or ""),
            reasoning=raw["reasoning"],
            content=raw["content"],
            calls=tuple(raw["calls"]),
            errors=raw["errors"],
            why=raw.get("why", ""),
        )
        for raw in data["cases"]
    ]
