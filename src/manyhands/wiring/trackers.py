"""Trackers by one word: ``trackio``, ``trackio:SPACE``, or ``python:MODULE:NAME`` of others."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from typing import Any

from manyhands.adapters.trackers.foreign import FORM, load
from manyhands.adapters.trackers.trackio import TrackioTracker, check_installed
from manyhands.adapters.trackers.trackio_dashboard import TrackioDashboard
from manyhands.errors import ConfigError
from manyhands.ports import Tracker
from manyhands.runtime import Event, Runtime

__all__ = ["TrackioDashboard", "check_installed", "events_of", "tracker_of"]

FORMS = f"trackio, trackio:OWNER/SPACE, {FORM}"


def tracker_of(spec: str, *, patience: float = math.inf) -> Tracker:
    """``patience``: seconds to wait for another process that tells of the same run. Raises
    `ConfigError`."""
    name, _, space = spec.partition(":")
    if name == "python":
        return load(space)
    if name != "trackio" or (":" in spec and not space):
        raise ConfigError(f"{spec!r} is no tracker", next=f"write {FORMS}")
    return TrackioTracker(space, patience=patience)


async def events_of(
    runtime: Runtime, run_id: str, *, follow: bool
) -> AsyncGenerator[tuple[Event, Any]]:
    """The run's events with the values of those that a team wrote."""
    async for event in runtime.events(run_id, follow=follow):
        yield event, runtime.value(event) if event.type.startswith("lab:") else None
