"""`--record FILE` and `--replay FILE`: a run's requests to models, kept or answered from a file."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from manyhands.cli.printing import err, plain
from manyhands.config import Config
from manyhands.errors import ConfigError, ManyhandsError
from manyhands.wiring import Recording, Replay, Tape, open_tape

Record = Annotated[
    Path | None,
    typer.Option("--record", help="Keep every request to a model, and its answer, in this file."),
]
ReplayFrom = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        help="Answer from a recording: no server, no key, no waits. Says where it differs.",
    ),
]
#: How many of what was not used are listed.
_LISTED = 5


@contextmanager
def taped(config: Config, record: Path | None, replay: Path | None) -> Generator[Tape | None]:
    """The tape, or None. Ends with what a replay has to say of itself.

    Raises `ReplayDiverged` where the run asked for what was not recorded, however it ended.
    """
    with open_tape(config, record, replay) as tape:
        if isinstance(tape, Replay) and tape.torn:
            err.print(f"[yellow]note[/] {tape.torn} line(s) of {tape.path} are cut: a crash")
        try:
            yield tape
        except ManyhandsError as error:
            _check(tape, error)
            raise
        _check(tape, None)


def run_id_of(tape: Tape | None, asked: str | None, workflow: str) -> str | None:
    """The id of a run to begin. A recording is told of it; a replay has that of its recording.

    What an agent is shown depends on it: the marks around data are made from it.
    """
    if isinstance(tape, Replay):
        return asked or tape.about.get("run")
    if isinstance(tape, Recording):
        asked = asked or f"{workflow}-{secrets.token_hex(4)}"
        tape.note(run=asked)
    return asked


@contextmanager
def journal_of(tape: Tape | None, named: str | None) -> Generator[str | None]:
    """The journal of the run. A replay has one of its own that goes when it ends, unless one is
    ``named``: the recorded run's id is in the user's own already."""
    if named is None and isinstance(tape, Replay):
        with TemporaryDirectory(prefix="manyhands-replay-") as folder:
            yield str(Path(folder) / "journal.db")
    else:
        yield named


def check_apart(tape: Tape | None, folder: Path, run_id: str | None) -> None:
    """A replay has the id of the recorded run: it must not write over what that one left."""
    left = folder / (run_id or "")
    if isinstance(tape, Replay) and run_id is not None and left.exists():
        raise ConfigError(
            f"{left} is there: the replay would write over what the recorded run left",
            next="replay in a clone of the repository at the same commit, or move that folder away",
        )


def _check(tape: Tape | None, error: ManyhandsError | None) -> None:
    if not isinstance(tape, Replay):
        return
    unused = tape.unused()
    if tape.divergences:
        first, *more = tape.divergences
        if more:
            err.print(f"{len(more)} more requests were not recorded; the first is below")
        raise first from error
    if unused and error is None:
        err.print(f"[yellow]note[/] {len(unused)} recorded requests were not asked for:")
        for each in unused[:_LISTED]:
            err.print(f"  {plain(each)}", markup=False)
        if len(unused) > _LISTED:
            err.print(f"  and {len(unused) - _LISTED} more")
