"""The project's settings: one frozen schema, read from ``manyhands.toml`` and the environment.

Unknown keys are refused. Secrets are named by the environment variable that holds them and are
never written down.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manyhands.errors import ConfigError

FILE = "manyhands.toml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Frozen):
    """An OpenAI-compatible endpoint. Prices are US dollars per million tokens."""

    base_url: str
    model: str
    api_key_env: str = ""
    input_per_million: float | None = Field(default=None, ge=0)
    output_per_million: float | None = Field(default=None, ge=0)
    context_length: int | None = Field(default=None, gt=0)
    concurrency: int = Field(default=16, gt=0)


class Config(_Frozen):
    """``journal``: path or sqlite URL ('' = the user's own). ``roles``: role -> model name."""

    journal: str = ""
    models: dict[str, ModelConfig] = Field(default_factory=dict)
    roles: dict[str, str] = Field(default_factory=dict)


def home() -> Path:
    """Where journals live: ``MANYHANDS_HOME``, or the platform's folder for user data."""
    named = os.environ.get("MANYHANDS_HOME")
    return Path(named).expanduser() if named else platformdirs.user_data_path("manyhands")


def load_config(start: Path) -> Config:
    """``manyhands.toml`` of ``start`` or the nearest folder above it; defaults where none is."""
    for folder in (start, *start.resolve().parents):
        path = folder / FILE
        if path.is_file():
            return _parse(path)
    return Config()


def _parse(path: Path) -> Config:
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Config.model_validate(raw)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", next="mend the file, or move it away") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where}: {first['msg']} (found {first['input']!r})",
            next="see docs/reference/configuration.md for the keys",
        ) from error
