"""Durable runs: journal, steps, budgets, artifacts, commands. No word of language models."""

from manyhands.runtime.artifacts import Artifact, ArtifactStatus, Evidence
from manyhands.runtime.aside import Aside, aside
from manyhands.runtime.budget import Amounts, Budget
from manyhands.runtime.clock import Clock, SkippingClock
from manyhands.runtime.commands import VERBS
from manyhands.runtime.events import ENDED, SCHEMA, Effect, Event, Status, Type
from manyhands.runtime.fold import CommandState, RunState, StepState
from manyhands.runtime.holds import Hold, Order
from manyhands.runtime.leases import Lease
from manyhands.runtime.reading import Reader, RunInfo
from manyhands.runtime.run import Run, Workflow
from manyhands.runtime.runtime import RunHandle, Runtime
from manyhands.runtime.step import Retry, Settled
from manyhands.runtime.transfer import export_run, import_run

__all__ = [
    "ENDED",
    "SCHEMA",
    "VERBS",
    "Amounts",
    "Artifact",
    "ArtifactStatus",
    "Aside",
    "Budget",
    "Clock",
    "CommandState",
    "Effect",
    "Event",
    "Evidence",
    "Hold",
    "Lease",
    "Order",
    "Reader",
    "Retry",
    "Run",
    "RunHandle",
    "RunInfo",
    "RunState",
    "Runtime",
    "Settled",
    "SkippingClock",
    "Status",
    "StepState",
    "Type",
    "Workflow",
    "aside",
    "export_run",
    "import_run",
]
