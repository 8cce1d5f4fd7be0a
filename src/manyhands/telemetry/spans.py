"""A finished span, and the ids of spans.

Invariant: an id depends on the run, on what it names (the key of a step, the path of a scope) and
on the attempt: never on the epoch, the process or the time of the export. The same journal gives
the same ids, whenever and however often it is read; a run that was resumed goes on in its trace.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from manyhands.agents.encoding import clean

#: Text, numbers, truth values, and lists of text.
Facts = dict[str, Any]

#: Of texts that are no content: names, messages of errors. In characters.
LONGEST = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def shown(text: object, most: int = LONGEST) -> str:
    """Text from anywhere as a name or a message: no control characters, valid Unicode, bounded."""
    found = _CONTROL.sub(" ", clean(str(text)[: most * 2]))
    return found if len(found) <= most else f"{found[: most - 1]}…"


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened while a span lasted. ``at``: unix seconds."""

    name: str
    at: float
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True)
class Link:
    """To a span of another trace."""

    trace: str
    span: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True)
class Span:
    """``trace``, ``id``, ``parent``: hexadecimal; ``parent`` '': the run's own. ``error``: its type
    ('': none). ``client``: a request to something outside. ``dropped``: marks that did not fit.
    ``final`` False: the run ended, and may be resumed; then the span comes again, longer.
    """

    trace: str
    id: str
    parent: str
    name: str
    start: float
    end: float
    facts: Facts = field(default_factory=Facts)
    marks: tuple[Mark, ...] = ()
    links: tuple[Link, ...] = ()
    error: str = ""
    message: str = ""
    client: bool = False
    dropped: int = 0
    final: bool = True


class Ids:
    """The ids of one run's trace. ``created``: the run's first moment, which a fork shares; so two
    runs that were given one name are two traces."""

    def __init__(self, run_id: str, created: float) -> None:
        self._created = created
        self.trace = _hex(f"{run_id}\x1f{created!r}", 16)

    def of(self, kind: str, key: str = "", attempt: int = 1) -> str:
        return _hex(f"{self.trace}\x1f{kind}\x1f{key}\x1f{attempt}", 8)

    @property
    def root(self) -> str:
        return self.of("run")

    def origin(self, run_id: str) -> Ids:
        """Of the run that this one was forked from."""
        return Ids(run_id, self._created)


def _hex(text: str, size: int) -> str:
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:size]
    return found.hex() if any(found) else "01" * size  # all zeros is no id
