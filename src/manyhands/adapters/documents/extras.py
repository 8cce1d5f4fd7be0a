"""Packages of the extra ``answer``, imported when a document first needs them.

Invariant: one that is missing is a `ConfigError` that says what to install.
"""

from __future__ import annotations

import importlib
import logging
from types import ModuleType

from manyhands.errors import ConfigError


def need(module: str, what: str) -> ModuleType:
    """The module, or the error that says what to install in order to read ``what``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{what} cannot be read: the package {package} is missing ({error})",
            next="pip install 'manyhands[answer]'",
        ) from error


def quiet_pypdf() -> None:
    """pypdf warns of every oddity of a file, on stderr where nobody listens to its logger."""
    logger = logging.getLogger("pypdf")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
