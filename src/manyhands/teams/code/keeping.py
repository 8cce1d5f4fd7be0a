"""What becomes of an item that is offered to the context store, in words for the orchestrator."""

from __future__ import annotations

from manyhands.errors import ToolError
from manyhands.runtime import Run
from manyhands.teams.code.case import Case
from manyhands.teams.code.store import Offer


async def keep(run: Run, case: Case, key: str, offer: Offer, producer: str) -> str:
    """Keep it, and say what it is to the items there are; or why it is not kept."""
    try:
        return str(await case.store.add(run, key, offer, producer))
    except ToolError as error:
        return f"{offer.id} is not kept: {error.what}"
