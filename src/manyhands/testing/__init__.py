"""What tests of programs on Manyhands need: public, and used by the package's own tests."""

from manyhands.testing.chat_server import ChatServer
from manyhands.testing.check_library import LIBRARY_CHECKS, check_library
from manyhands.testing.check_models import MODEL_CHECKS, check_model
from manyhands.testing.check_papers import PAPER_CHECKS, check_papers
from manyhands.testing.check_sandboxes import SANDBOX_CHECKS, check_sandboxes
from manyhands.testing.check_tool_servers import TOOL_SERVER_CHECKS, check_tool_server
from manyhands.testing.clock import ManualClock
from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points, kill_at
from manyhands.testing.faults import FAULTS, Fault, FaultServer
from manyhands.testing.hub_server import HubServer
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
from manyhands.testing.tool_servers import FakeToolServer, PlayedTool

__all__ = [
    "FAULTS",
    "LIBRARY_CHECKS",
    "MODEL_CHECKS",
    "PAPER_CHECKS",
    "PERSONAS",
    "SANDBOX_CHECKS",
    "TOOL_SERVER_CHECKS",
    "ChatServer",
    "Conversation",
    "CrashPoint",
    "Ending",
    "Errand",
    "FakeToolServer",
    "Fault",
    "FaultServer",
    "HubServer",
    "ManualClock",
    "Persona",
    "PlayedTool",
    "Reply",
    "ScriptedModel",
    "StubbornModel",
    "Victims",
    "answer",
    "call",
    "calls",
    "check_library",
    "check_model",
    "check_papers",
    "check_sandboxes",
    "check_tool_server",
    "crash_points",
    "kill_at",
    "say",
]
