"""What tests of programs on Manyhands need: public, and used by the package's own tests."""

from manyhands.testing.chat_server import ChatServer
from manyhands.testing.check_models import MODEL_CHECKS, check_model
from manyhands.testing.clock import ManualClock
from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points, kill_at
from manyhands.testing.models import (
    Conversation,
    Reply,
    ScriptedModel,
    answer,
    call,
    calls,
    say,
)

__all__ = [
    "MODEL_CHECKS",
    "ChatServer",
    "Conversation",
    "CrashPoint",
    "Ending",
    "ManualClock",
    "Reply",
    "ScriptedModel",
    "Victims",
    "answer",
    "call",
    "calls",
    "check_model",
    "crash_points",
    "kill_at",
    "say",
]
