"""What an agent is handed for its workspace: what it cannot do it has no tool for."""

from __future__ import annotations

from manyhands.agents.tools import Tool
from manyhands.agents.workspace.edit_tools import edit_tool, multi_edit_tool
from manyhands.agents.workspace.file_tools import read_tool, write_tool
from manyhands.agents.workspace.notes import read_more_tool, todo_tool
from manyhands.agents.workspace.search_tools import glob_tool, grep_tool
from manyhands.agents.workspace.shell_tool import bash_tool, stop_background_tool
from manyhands.agents.workspace.workspace import Workspace


def workspace_tools(workspace: Workspace) -> list[Tool]:
    """Those that write files are there only where the workspace is writable. In one that is not,
    ``bash`` may write, and what it writes is scratch: it reaches no state."""
    reading = [read_tool, glob_tool, grep_tool, bash_tool, stop_background_tool]
    writing = [write_tool, edit_tool, multi_edit_tool] if workspace.writable else []
    made = [make(workspace) for make in (*reading, *writing)]
    return [*made, todo_tool(), read_more_tool()]
