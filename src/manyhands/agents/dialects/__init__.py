"""Tool calls that a model printed as text, in its own dialect, as typed calls.

Invariants: nothing raises on any text; prose about a tool is no call; a payload is whole or it is
an error; what cannot be read or does not fit its tool is reported to the model and never run.
"""

from __future__ import annotations

from manyhands.agents.dialects.outcome import Parsed, ParsedCall
from manyhands.agents.dialects.reading import check, parse
from manyhands.agents.dialects.stream import Piece, StreamParser
from manyhands.agents.dialects.table import DIALECTS

__all__ = ["DIALECTS", "Parsed", "ParsedCall", "Piece", "StreamParser", "check", "parse"]
