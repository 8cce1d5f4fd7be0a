"""What `study.toml` may say, as frozen models. What it must not say is in `contradictions`.

Invariant: an unknown key is an error; a default that a study relies on is written here and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FILE = "study.toml"
#: Which placeholders a command may hold. Training never sees the sealed data.
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "prepare.command": ("data", "sealed"),
    "train.command": ("seed", "data", "out"),
    "metric.evaluate": ("out", "data"),
    "metric.holdout": ("out", "data", "sealed"),
}


class Section(BaseModel):
    """Frozen, and closed to unknown keys: a typo is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class About(Section):
    """``python``: the interpreter that `python` in a command stands for, absolute, below ``~`` or
    relative to the study's folder; '' for the one that runs manyhands."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    objective: Annotated[str, Field(min_length=1)]
    python: str = ""


class Files(Section):
    """Globs relative to the study's folder; ``*`` stays within a folder, ``**`` does not. Whatever
    ``edit`` does not match is protected, named in ``protect`` or not."""

    edit: Annotated[tuple[str, ...], Field(min_length=1)]
    protect: tuple[str, ...] = ()


class Prepare(Section):
    command: Annotated[str, Field(min_length=1)]


class Train(Section):
    """``env`` is added to the environment of training; its values may hold placeholders
    and begin with ``~``."""

    command: Annotated[str, Field(min_length=1)]
    env: dict[str, str] = {}


class Metric(Section):
    """``min``/``max``: the plausible range; a value outside of it is a crash, never a result."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    direction: Literal["lower", "higher"]
    evaluate: Annotated[str, Field(min_length=1)]
    holdout: str = ""
    min: float | None = None
    max: float | None = None


class Data(Section):
    """``read``: what jobs may read beyond their own folder and {data}. ``hidden``: what training
    must not read; the evaluator, which is protected code, may."""

    read: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class Papers(Section):
    """``source``: where the researcher, if it is a model, finds papers: `hf`, `mcp:NAME`, or a
    folder of the study; '' for nowhere."""

    source: str = ""


class Limits(Section):
    """Per run, on the whole process tree: seconds of wall time, and MB of 2**20 bytes."""

    seconds: Annotated[float, Field(gt=0)] = 600.0
    memory_mb: Annotated[int, Field(gt=0)] = 4096
    output_mb: Annotated[float, Field(gt=0)] = 8.0
    disk_mb: Annotated[int, Field(gt=0)] = 1024


class Slots(Section):
    """``count``: runs at once; ``auto`` is the number of cores that this process may use.
    ``overlap``: whether a round is begun before the one before it is landed; ``auto``: where a
    model fills a role that a round waits for."""

    count: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    overlap: bool | Literal["auto"] = "auto"


class StudyBudget(Section):
    """``runs``: trainings in all. ``plateau``: experiments in a row without a promotion."""

    runs: Annotated[int, Field(ge=1)] = 60
    plateau: Annotated[int, Field(ge=1)] = 12
    experiments: Annotated[int, Field(ge=1)] | None = None


class Promotion(Section):
    """``alpha``: the chance that one decision promotes a candidate that is no better.
    ``min_gain``: in units of the metric."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    max_pairs: Annotated[int, Field(ge=5)] = 28
    baseline_seeds: Annotated[int, Field(ge=2)] = 4
    screen_seeds: Annotated[int, Field(ge=1)] = 1
    min_gain: Annotated[float, Field(ge=0)] = 0.0


class AblationRules(Section):
    """The end of a campaign: promoted changes that are not shown to help are dropped.

    ``share``: of the budget's runs, held back once something is promoted, if that suffices to test
    one change. ``alpha``: the chance that a change which does nothing is kept. ``max_pairs``: seeds
    per change. ``interactions``: at most so many pairs of changes are measured with and without
    each other, on ``interaction_seeds`` seeds (0: none). ``when_stopped``: also when a person ends
    the campaign.
    """

    enabled: bool = True
    share: Annotated[float, Field(ge=0, le=0.8)] = 0.25
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    max_pairs: Annotated[int, Field(ge=12, le=200)] = 28
    interactions: Annotated[int, Field(ge=0, le=12)] = 6
    interaction_seeds: Annotated[int, Field(ge=12, le=200)] = 12
    when_stopped: bool = False


class Drift(Section):
    """``every``: after so many runs on one kind of machine without one of the master, the master is
    run there again (0: never)."""

    every: Annotated[int, Field(ge=0)] = 25


class Pruning(Section):
    """``enabled``: screenings whose own curve falls far behind the master's are ended early. Needs
    a training that prints ``{"step": …, "loss": …, "remaining_steps": …}``."""

    enabled: bool = True


class SettingRange(Section):
    """Where a setting is searched: between ``low`` and ``high``, or among ``choices``."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[bool | int | float | str, ...] = ()


class StudyConfig(Section):
    study: About
    files: Files
    prepare: Prepare | None = None
    train: Train
    metric: Metric
    data: Data = Data()
    papers: Papers = Papers()
    limits: Limits = Limits()
    slots: Slots = Slots()
    budget: StudyBudget = StudyBudget()
    promotion: Promotion = Promotion()
    ablation: AblationRules = AblationRules()
    drift: Drift = Drift()
    pruning: Pruning = Pruning()
    settings: dict[str, SettingRange] = {}
