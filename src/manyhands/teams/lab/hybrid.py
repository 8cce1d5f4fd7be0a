"""A model and an optimiser plan together: the model the space and the structure, Optuna the
numbers.

Invariant: whatever a model says of the space, each number lies in the range that the study
declares; and a quarter of the numbers comes from the whole space, so that a model that is wrong
about where to look slows a study down and does not end it.

A model that plans alone may have the optimiser as a tool instead: what `suggest_settings` gives is
data, which the model takes over, alters, or leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from manyhands.agents.tools import Tool
from manyhands.errors import ToolError
from manyhands.runtime import Effect
from manyhands.teams.lab.axes import Axis
from manyhands.teams.lab.cast import Brief
from manyhands.teams.lab.literals import as_kind
from manyhands.teams.lab.planner import Planner
from manyhands.teams.lab.records import (
    Experiment,
    Hypothesis,
    Idea,
    Literalish,
    Master,
    Note,
)
from manyhands.teams.lab.settings import Setting

#: How a model plans: with Optuna for the numbers, alone, or alone with Optuna as a tool.
Manner = Literal["hybrid", "single", "advised"]
MANNERS: tuple[Manner, ...] = get_args(Manner)
#: What the model is asked for in place of hypotheses.
TASK = """\
Plan at most {count} experiments together with an optimiser: you give the space, it gives the
numbers.

- `settings`: the settings most worth changing now, best first, each with the narrower range (`low`
  and `high`) or the `choices` in which a better value should lie. Leave both out to search all of
  its range. Leave out settings that should not matter.
- `structural`: changes to the program that no setting can express, at most {structural}; none is
  a good answer.
- `optimiser`: `tpe`, or `cmaes` where several numbers have been tried often already."""
#: One proposal of so many is drawn from the whole space.
WIDE_EVERY = 4
#: How many proposals the tool gives at once.
_MOST = 12


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Said):
    """Where a setting is worth changing: between ``low`` and ``high``, or among ``choices``; with
    neither, in all of its declared range."""

    setting: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Literalish, ...] = ()
    why: str = ""


class Structural(_Said):
    title: str
    rationale: str
    instructions: str
    expected_gain: float | None = None


class Space(_Said):
    """What a model plans beside an optimiser."""

    settings: tuple[Range, ...] = ()
    structural: tuple[Structural, ...] = ()
    optimiser: Literal["tpe", "cmaes"] = "tpe"


# ---------------------------------------------------------------- narrowing


def narrowed(
    settings: Mapping[str, Setting], ranges: Iterable[Range]
) -> tuple[dict[str, Setting], list[str]]:
    """The settings that ``ranges`` name, within them; and a line on each range that cannot be."""
    found: dict[str, Setting] = {}
    wrong: list[str] = []
    for asked in ranges:
        setting = settings.get(asked.setting)
        if setting is None or not setting.searched:
            wrong.append(f"{asked.setting!r} is no setting that is searched")
            continue
        within = _within(setting, asked)
        if within is None:
            wrong.append(f"{asked.setting}: nothing of its range lies in what was asked for")
        elif asked.setting not in found:
            found[asked.setting] = within
    return found, wrong


def _within(setting: Setting, asked: Range) -> Setting | None:
    """``setting`` in the part of its range that was asked for; None where there is no such part."""
    low = -float("inf") if asked.low is None else asked.low
    high = float("inf") if asked.high is None else asked.high
    if setting.choices:
        named = {as_kind(choice, setting.kind) for choice in asked.choices} - {None}
        kept = tuple(
            choice
            for choice in setting.choices
            if (not named or choice in named)
            and (isinstance(choice, bool | str) or low <= choice <= high)
        )
        return replace(setting, choices=kept) if set(kept) - {setting.value} else None
    assert setting.low is not None
    assert setting.high is not None
    numbers = [float(c) for c in asked.choices if not isinstance(c, str)]
    low = max(low, setting.low, min(numbers, default=-float("inf")))
    high = min(high, setting.high, max(numbers, default=float("inf")))
    return replace(setting, low=low, high=high) if low < high else None


def _inside(setting: Setting) -> Idea | None:
    """The middle of the range, where the present value lies outside of it."""
    if setting.low is None or setting.high is None or isinstance(setting.value, str):
        return None
    if setting.low <= setting.value <= setting.high:
        return None
    low, high = setting.low, setting.high
    axis = Axis(setting.name, setting.value, setting.kind, low, high, setting.log and low > 0)
    return Idea(title=f"{setting.name} = {axis.at(0.5)}", rationale="the planner's range")


class Hybrid:
    """A planner whose space a model has said; ``propose`` is `Planner`'s, and as pure."""

    def __init__(self, seed: int, space: Space) -> None:
        self._seed = seed
        self._space = space

    def propose(
        self,
        settings: Mapping[str, Setting],
        master: Master,
        history: Sequence[Experiment],
        ideas: Sequence[Idea],
        n: int,
        next_id: int,
        *,
        notes: Sequence[Note] = (),
        pending: Sequence[Hypothesis] = (),
    ) -> tuple[Hypothesis, ...]:
        """Three numbers in four from the model's space, the rest from the whole one."""
        space, _ = narrowed(settings, self._space.settings)
        inside = [idea for each in space.values() if (idea := _inside(each))]
        found: list[Hypothesis] = []
        narrow = Planner(self._seed, self._space.optimiser)
        for planner, where, hints, most in (
            (narrow, space, (*inside, *ideas), n - n // WIDE_EVERY),
            (Planner(self._seed), settings, ideas, n),
        ):
            found += planner.propose(
                where,
                master,
                history,
                hints,
                most - len(found),
                next_id + len(found),
                notes=notes,
                pending=(*pending, *found),
            )
        return tuple(h.model_copy(update={"rank": at}) for at, h in enumerate(found))


# ---------------------------------------------------------------- the tool


def suggest_tool(brief: Brief, seed: int) -> Tool:
    """`suggest_settings`: what an optimiser would try next."""
    settings = brief.settings

    def suggest_settings(
        names: list[str],
        count: int = 4,
        method: Literal["tpe", "cmaes"] = "tpe",
        ranges: dict[str, tuple[float, float]] | None = None,
    ) -> str:
        """Ask an optimiser (Optuna) which values of some settings to try next, by all that was
        tried so far. Take them over, alter them, or leave them.

        Args:
            names: The settings to choose among.
            count: How many proposals, at most 12.
            method: tpe, or cmaes where several numbers have been tried often already.
            ranges: Narrower ranges, as name -> [low, high].
        """
        ends = ranges or {}
        asked = [
            Range(setting=name, low=low, high=high)
            for name in dict.fromkeys(names)
            for low, high in (ends.get(name, (None, None)),)
        ]
        space, wrong = narrowed(settings, asked)
        if not space:
            known = ", ".join(name for name, each in settings.items() if each.searched)
            raise ToolError("; ".join(wrong) or "no setting is named", next=f"searched: {known}")
        found = Planner(seed, method).propose(
            space,
            brief.master,
            brief.history,
            (),
            max(1, min(count, _MOST)),
            len(brief.history) + 1,
            notes=brief.notes,
            pending=brief.pending,
        )
        told = [
            {
                "setting": h.setting,
                "value": h.value,
                "why": h.rationale,
                "expected_gain": h.expected_gain,
            }
            for h in found
        ]
        return json.dumps({"proposals": told, "left_out": wrong}, ensure_ascii=False)

    return Tool.from_function(suggest_settings, Effect.PURE)
