"""A person in the place of a model: the agent waits to be driven, and nothing is requested."""

from __future__ import annotations

from collections.abc import Callable

from manyhands.errors import ModelRefused
from manyhands.ports import ModelReply, ModelRequest, Price


class PersonModel:
    """The `Model` called ``human``. A request that an agent makes all the same is refused."""

    name = "human"
    price = Price(0.0, 0.0)
    context_length = None

    async def request(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        raise ModelRefused(
            f"the role of {request.agent or 'this agent'} is filled by a person, who makes no "
            "requests",
            next="name a model after it, to go on by itself: human,MODEL",
        )

    async def close(self) -> None:
        return None
