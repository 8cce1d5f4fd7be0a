"""Checks on every step: a step in one form, checks over it, and readers of traces.

`Checker.see` takes a step and returns its flags; `read_trace` and `from_journal` read steps from
files and from a run.
"""

from manyhands.agents.stepcheck.checking import STANDARD, Checker, StepCheck, check_all, chosen
from manyhands.agents.stepcheck.files import read_document, read_trace
from manyhands.agents.stepcheck.journal import from_journal
from manyhands.agents.stepcheck.records import (
    Call,
    Evidence,
    Flag,
    Kind,
    Read,
    Result,
    Source,
    Step,
)
from manyhands.agents.stepcheck.trace import Trace

__all__ = [
    "STANDARD",
    "Call",
    "Checker",
    "Evidence",
    "Flag",
    "Kind",
    "Read",
    "Result",
    "Source",
    "Step",
    "StepCheck",
    "Trace",
    "check_all",
    "chosen",
    "from_journal",
    "read_document",
    "read_trace",
]
