"""How far each run has been sent to one endpoint: a small file, so that another process goes on.

Invariants: what the file says was acknowledged by the collector; it is replaced whole, after each
batch; two processes do not share one. Lost or torn, it only means that spans are sent again, with
the ids that they had.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from manyhands.errors import ConfigError


class Cursor:
    """Use as a context manager. ``folder``: where the files of all endpoints lie. ``fresh``: this
    journal was never sent there."""

    def __init__(self, folder: Path, journal: Path, endpoint: str) -> None:
        self._about = {"journal": str(journal.resolve()), "endpoint": endpoint}
        text = "\n".join(self._about.values())
        name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.path = folder / f"{name}.json"
        self.fresh = False
        self._runs: dict[str, tuple[float, int]] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self.path.with_suffix(".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process sends {self._about['journal']} to {self._about['endpoint']}",
                next="leave it to that one, or end it",
            ) from None
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.path}: {error}", next="name another MANYHANDS_HOME"
            ) from error
        self.fresh = not self.path.exists()
        self._runs = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def _read(self) -> dict[str, tuple[float, int]]:
        try:
            found: Any = json.loads(self.path.read_text())
            runs = cast(dict[str, list[Any]], found["runs"])
            return {name: (float(at), int(seq)) for name, (at, seq) in runs.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def sent(self, run_id: str, created: float, last: int) -> int:
        """The event up to which the run was sent. One that began at another time, or is shorter
        than that, is another run of that name."""
        at, seq = self._runs.get(run_id, (created, 0))
        return seq if at == created and seq <= last else 0

    def keep(self, run_id: str, created: float, seq: int) -> None:
        self._runs[run_id] = (created, seq)
        self.save()

    def save(self) -> None:
        partial = self.path.with_suffix(".partial")
        try:
            with partial.open("w") as out:
                json.dump(self._about | {"runs": self._runs}, out)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.path}: {error}", next="free some space; nothing is lost"
            ) from error
