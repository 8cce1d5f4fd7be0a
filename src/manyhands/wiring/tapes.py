"""Recordings of a program's models, and what must be in no file.

Invariant: one tape serves a whole program: every endpoint of it is recorded, or none is contacted.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from manyhands.adapters.models.recording import Recording
from manyhands.adapters.models.recording_replay import Replay
from manyhands.config import Config
from manyhands.errors import ConfigError
from manyhands.redaction import is_secret, secrets_of
from manyhands.wiring import keys

#: What a program's models are recorded to, or replayed from.
Tape = Recording | Replay


@contextmanager
def open_tape(config: Config, record: Path | None, replay: Path | None) -> Generator[Tape | None]:
    """None where neither is asked for. Raises `ConfigError`, `RecordingError`."""
    if record is not None and replay is not None:
        raise ConfigError("--record and --replay exclude each other", next="give one of them")
    secrets = secrets_known(config)
    if record is not None:
        tape = Recording(record, secrets=secrets)
        try:
            yield tape
        finally:
            tape.close()
    else:
        yield None if replay is None else Replay(replay, secrets=secrets)


def secrets_known(config: Config) -> frozenset[str]:
    """The keys of all endpoints, what servers of tools are handed, and the environment's values
    that look like secrets."""
    named = [keys.variable(each.api_key_env) for each in config.models.values()]
    named += [keys.variable(each.token_env) for each in config.mcp.values()]
    found = (*named, keys.variable(keys.OWN), *keys.hub_tokens())
    told = (key.get_secret_value() for key in found if key is not None)
    handed = {name for each in config.mcp.values() for name in each.env}
    # Whatever they are called; but a folder's path is in many a text, and none of its secrets.
    given = {f"{name}_SECRET": os.environ.get(name, "").strip() for name in handed}
    return secrets_of() | secrets_of(given) | {key for key in told if is_secret(key)}
