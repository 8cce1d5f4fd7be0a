"""The scripted model and what to write its answers with: see `manyhands.adapters.models.scripted`.

It is an adapter like any other, so that ``script:FILE`` can stand wherever a model is named; tests
take it from here.
"""

from manyhands.adapters.models.scripted import (
    ANSWER,
    Conversation,
    Reply,
    Scripted,
    ScriptedModel,
    answer,
    call,
    calls,
    say,
)

__all__ = [
    "ANSWER",
    "Conversation",
    "Reply",
    "Scripted",
    "ScriptedModel",
    "answer",
    "call",
    "calls",
    "say",
]
