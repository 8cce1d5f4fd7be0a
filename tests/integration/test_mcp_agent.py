"""An agent with the tools of a real MCP server: what it is told, and what the journal holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from manyhands.adapters.tool_servers.mcp_server import McpServer
from manyhands.adapters.tool_servers.places import Program
from manyhands.agents.offered import offered_tools
from manyhands.agents.role import Role
from manyhands.agents.tools import Toolbox
from manyhands.agents.turn import run_agent
from manyhands.runtime import Effect, Event, Run, Runtime, Workflow
from manyhands.testing import Conversation, ScriptedModel, call, say

RUDE = Path(__file__).parents[1] / "rude_server.py"
TOOLS = [
    {"name": name, "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    for name in ("ok", "die")
]


async def test_a_call_that_may_have_happened_is_told_and_not_made_again(tmp_path: Path) -> None:
    program = Program(sys.executable, (str(RUDE), json.dumps({"tools": TOOLS})))
    server = McpServer("rude", program)
    found = offered_tools(server, await server.offers(), repeatable=lambda offer: False)
    toolbox = Toolbox.of(*found.tools)
    role = Role("finder", "Finds.", "You find.", tools=tuple(toolbox.tools), max_turns=8)
    model = ScriptedModel(
        [call("rude_die", n="7"), call("rude_ok"), say("It is not known whether it happened.")]
    )

    async def workflow(run: Run, _: None) -> Any:
        report = await run_agent(run, role, "Find.", model=model, output=None, toolbox=toolbox)
        return report.value

    async with Runtime.open(tmp_path / "journal.db") as runtime:
        await runtime.run(Workflow("test", workflow), run_id="r")
        events = [event async for event in runtime.events("r")]
    await server.close()

    told = [Conversation.of(each).last for each in model.requests[1:]]
    assert "it may have happened all the same" in told[0]
    assert "ok" in told[1]
    started = [each for each in events if _is(each, "step.started", "tool/0")]
    assert [each.data["effect"] for each in started] == [Effect.ONCE, Effect.ONCE]
    assert [each.data["notes"] for each in events if "notes" in each.data] == [
        ['n: the text "7" as 7']
    ]


def _is(event: Event, type: str, key: str) -> bool:
    return event.type == type and str(event.key).endswith(key)
