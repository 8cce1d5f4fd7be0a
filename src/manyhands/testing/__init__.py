"""What tests of programs on Manyhands need: public, and used by the package's own tests."""

from manyhands.testing.chat_server import ChatServer
from manyhands.testing.check_models import MODEL_CHECKS, check_model
from manyhands.testing.clock import ManualClock
from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points, kill_at
from manyhands.testing.faults import FAULTS, Fault, FaultServer
from manyhands.testing.models import (
    Conversation,
    Reply,
    ScriptedModel,
    answer,
    call,
    calls,
    say,
)
from manyhands.testing.personas import PERSONAS, Errand, Persona, StubbornModel

__all__ = [
    "FAULTS",
    "MODEL_CHECKS",
    "PERSONAS",
    "ChatServer",
    "Conversation",
    "CrashPoint",
    "Ending",
    "Errand",
    "Fault",
    "FaultServer",
    "ManualClock",
    "Persona",
    "Reply",
    "ScriptedModel",
    "StubbornModel",
    "Victims",
    "answer",
    "call",
    "calls",
    "check_model",
    "crash_points",
    "kill_at",
    "say",
]
