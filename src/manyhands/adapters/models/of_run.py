"""A model as one of several runs asks it that share it, such as the arms of a race.

Invariant: what is asked is untouched; only who asks is told apart, where requests wait, are
recorded and are replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from manyhands.ports import Model, ModelReply, ModelRequest, Price


@dataclass(frozen=True, slots=True)
class ModelOfRun:
    """``model``, whose agents are called ``run/agent``. Equal where both are."""

    model: Model
    run: str

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def price(self) -> Price | None:
        return self.model.price

    @property
    def context_length(self) -> int | None:
        return self.model.context_length

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        return await self.model.request(
            replace(request, agent=f"{self.run}/{request.agent}"), on_text
        )

    async def close(self) -> None:
        await self.model.close()
