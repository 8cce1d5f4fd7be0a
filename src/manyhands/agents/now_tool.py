"""The time, as a tool. What it said is in the journal, so a replay hears the same."""

from __future__ import annotations

from datetime import UTC, datetime

from manyhands.agents.tools import tool
from manyhands.runtime import Effect


@tool(effect=Effect.IDEMPOTENT)
async def now() -> str:
    """The present date and time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
