"""The page of one run as a file, where the extra `web` is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from manyhands.cli.printing import out
from manyhands.errors import ConfigError
from manyhands.runtime import Runtime


def export_timeline(runtime: Runtime, run_id: str, path: Path) -> None:
    """Write the page of one run to ``path``."""
    check_installed()
    from manyhands.web import export_html  # noqa: PLC0415 - of an extra

    size = export_html(runtime, run_id, path)
    out.print(f"{size} bytes in {path}", markup=False)


def check_installed() -> None:
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not installed", next="pip install 'manyhands[web]'"
        )
