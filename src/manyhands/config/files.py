"""Finding and reading ``manyhands.toml``. What it says is never repeated where it may be secret."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from manyhands.config.schema import Config, JobsConfig, McpConfig, ModelConfig
from manyhands.errors import ConfigError

FILE = "manyhands.toml"
_TABLES = {"models": ModelConfig, "mcp": McpConfig, "jobs": JobsConfig}
_REFERENCE = "see docs/reference/configuration.md for the keys"


def home() -> Path:
    """Where journals live: ``MANYHANDS_HOME``, or the platform's folder for user data."""
    named = os.environ.get("MANYHANDS_HOME")
    return Path(named).expanduser() if named else platformdirs.user_data_path("manyhands")


def find_config(start: Path) -> Path | None:
    """``manyhands.toml`` of ``start`` or the nearest folder above it."""
    for folder in (start, *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def load_config(start: Path) -> Config:
    """What `find_config` finds, read; defaults where there is none. Raises `ConfigError`."""
    path = find_config(start)
    return Config() if path is None else _parse(path)


def _parse(path: Path) -> Config:
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Config.model_validate(raw).located(path.parent)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", next="mend the file, or move it away") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", next=error.next) from error
    except ValidationError as error:
        raise _explained(path, error.errors(include_url=False)[0]) from None


def _explained(path: Path, first: ErrorDetails) -> ConfigError:
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _TABLES.get(str(first["loc"][0]), Config) if len(first["loc"]) > 1 else Config
        return ConfigError(
            f"{path}: unknown key {where}; allowed: {', '.join(known.model_fields)}",
            next="correct or remove the key",
        )
    if first["type"] == "value_error":  # our own words; the input may be a whole table, or a key
        told = first["msg"].removeprefix("Value error, ")
        return ConfigError(f"{path}: {where}: {told}", next=_REFERENCE)
    # A text may be a key that went into the wrong place; a number is none.
    value = f" (found {first['input']})" if isinstance(first["input"], int | float) else ""
    return ConfigError(f"{path}: {where}: {first['msg']}{value}", next=_REFERENCE)
