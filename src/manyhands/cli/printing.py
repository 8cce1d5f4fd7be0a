"""How things look in a terminal: tables, times, errors. What agents wrote is printed inert."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from manyhands.errors import ManyhandsError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Controls, and marks that turn or hide the direction of writing.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff]"
)


def plain(text: object) -> str:
    """Without control characters: a title cannot move the cursor, change a colour, or turn the
    writing around."""
    return _CONTROL.sub("�", str(text))


def one_line(text: object, most: int) -> str:
    """`plain`, without line breaks, and of at most ``most`` characters."""
    words = " ".join(plain(str(text)[: most * 4]).split())
    return words if len(words) <= most else f"{words[: most - 1]}…"


def complain(error: ManyhandsError) -> None:
    err.print(f"[bold red]error[/] {escape(plain(error.what))}", soft_wrap=True)
    if error.next:
        err.print(f"  [bold]→[/] {escape(plain(error.next))}", soft_wrap=True)


def print_json(value: Any) -> None:
    """``value``: JSON, or a model of pydantic's. Who reads a pipe has it at once."""
    value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table; columns whose name begins with ``>`` are aligned to the right."""
    grid = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for at, name in enumerate(columns):
        grid.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            header_style="bold",
            no_wrap=at < len(columns) - 1,
            overflow="ellipsis",
        )
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else escape(plain(cell)) for cell in row))
    out.print(grid)


def ago(then: float, now: float | None = None) -> str:
    seconds = max(0, int((now or time.time()) - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


STATUS_STYLE = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "interrupted": "yellow",
    "blocked": "magenta",
    "stopped": "blue",
    "killed": "red",
    "damaged": "bold red",
}


def status(word: str) -> Text:
    return Text(word, style=STATUS_STYLE.get(word, ""))
