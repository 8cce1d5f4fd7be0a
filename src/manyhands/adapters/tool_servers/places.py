"""Where a server is: a program to be started, or an address. Printing one shows no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. ``env``: variables beside `child.INHERITED`, with their values."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Streamable HTTP. ``token`` is sent as ``Authorization: Bearer``."""

    url: str
    token: SecretStr | None = None
