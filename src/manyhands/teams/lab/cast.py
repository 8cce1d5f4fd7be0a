"""The roles of the lab as typed contracts, and who fills them.

A role takes a `Run` scope (its steps are journaled there) and a `Brief`, and returns records. A
model, an algorithm or a person may fill it; the ledger says which by the filler's ``name``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Generic, TypeVar

from manyhands.runtime import Run
from manyhands.teams.lab.records import (
    Experiment,
    Hypothesis,
    Idea,
    LedgerRow,
    Master,
    Note,
    Patch,
    Review,
)
from manyhands.teams.lab.repository import Repository
from manyhands.teams.lab.settings import Setting, find_settings
from manyhands.teams.lab.study import Study

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Brief:
    """What every role may know: the study, the master's editable ``files``, and what was tried.

    ``attempts``: fingerprints of the changes that the ledger has. ``steers``: a person's messages.
    ``masters``: all so far, the present one last.
    """

    study: Study
    master: Master
    files: dict[str, str]
    history: tuple[Experiment, ...]
    pending: tuple[Hypothesis, ...]
    notes: tuple[Note, ...]
    documents: dict[str, str]
    steers: tuple[str, ...]
    attempts: frozenset[str]
    repository: Repository
    masters: tuple[Master, ...] = ()

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings found in the editable files, as they stand in the master."""
        return find_settings(self.files, self.study.config.settings)


@dataclass(frozen=True, slots=True)
class Filled(Generic[F]):
    """A role and who fills it: ``optuna-tpe``, ``rules``, ``templates``, ``model:<name>``, …"""

    name: str
    fill: F


Research = Callable[[Run, Brief, int], Awaitable[tuple[Idea, ...]]]
Plan = Callable[[Run, Brief, tuple[Idea, ...], int, int], Awaitable[tuple[Hypothesis, ...]]]
Judge = Callable[[Run, Brief, tuple[Hypothesis, ...]], Awaitable[tuple[Review, ...]]]
Work = Callable[[Run, Brief, Hypothesis, Path], Awaitable[Patch]]
Remember = Callable[[Run, Brief, Experiment, tuple[LedgerRow, ...]], Awaitable[tuple[Note, ...]]]
Narrate = Callable[[Run, Brief, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Cast:
    """All six roles. ``narrate`` is handed the facts as text and returns the report's text."""

    researcher: Filled[Research]
    planner: Filled[Plan]
    reviewer: Filled[Judge]
    worker: Filled[Work]
    memory: Filled[Remember]
    reporter: Filled[Narrate]

    @property
    def names(self) -> dict[str, str]:
        return {f.name: getattr(self, f.name).name for f in fields(self)}
