"""A scripted cast of a team. Every reply depends on the request alone, so a resumed run hears the
same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from manyhands.ports import ModelRequest
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted

Part = Callable[[ModelRequest, Conversation], Scripted]


@dataclass(kw_only=True)
class Casting:
    """The base of a team's cast, which has a `Part` for every role by the role's name. ``delay``:
    seconds of every request."""

    delay: float = 0.0

    def model(self) -> ScriptedModel:
        def script(request: ModelRequest) -> Scripted:
            conversation = Conversation.of(request)
            part: Part = getattr(self, conversation.role)
            return part(request, conversation)

        return ScriptedModel(script, delay=self.delay)


def asked(model: ScriptedModel, role: str) -> list[ModelRequest]:
    """The requests of a role, in the order of arrival."""
    return [r for r in model.requests if Conversation.of(r).role == role]
