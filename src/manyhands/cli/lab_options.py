"""The options of `manyhands lab run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyhands.cli.runs import MODEL_FORMS

StudyFolder = Annotated[Path, typer.Argument(help="The folder that holds study.toml.")]
Runs = Annotated[int | None, typer.Option(help="Training runs in all.", min=1)]
Experiments = Annotated[int | None, typer.Option(help="Experiments in all.", min=1)]
Slots = Annotated[int | None, typer.Option(help="Runs at once.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of the study's own choices.", min=0)]
Campaign = Annotated[str, typer.Option(help="A label for the ledger.")]
Filler = Annotated[
    str,
    typer.Option(
        "--model", help=f"Fill researcher, planner and worker by this model: {MODEL_FORMS}"
    ),
]
Fillers = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="ROLE=MODEL, or ROLE=algorithm. The planner's algorithm is algorithm:tpe (default), "
        "algorithm:cmaes or algorithm:random; its model plans with Optuna (planner=MODEL), alone "
        "(single:MODEL), or with Optuna as a tool (advised:MODEL). Repeatable.",
    ),
]
Papers = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Where the researcher finds papers: hf, mcp:NAME, or a folder. It has to be a model.",
    ),
]
Jobs = Annotated[str, typer.Option(help="Where training runs: local, or hf (Hugging Face Jobs).")]
Flavor = Annotated[str, typer.Option(help="With --jobs hf: the hardware.")]
Image = Annotated[str, typer.Option(help="With --jobs hf: an image that has uv.")]
Packages = Annotated[
    list[str] | None,
    typer.Option("--with", help="With --jobs hf: a package that training needs. Repeatable."),
]
JobUsd = Annotated[
    float, typer.Option(help="With --jobs hf: dollars that one job may cost.", min=0.0)
]
CampaignUsd = Annotated[
    float, typer.Option(help="With --jobs hf: dollars of all jobs of the campaign.", min=0.0)
]
UsdPerMinute = Annotated[
    float | None,
    typer.Option(help="With --jobs hf: the flavor's price, if the Hub has none.", min=0.0),
]
Silence = Annotated[
    float, typer.Option(help="With --jobs hf: seconds without output that end a job.", min=1.0)
]
Tracked = Annotated[
    str, typer.Option(metavar="TRACKER", help="Show it in: trackio, or trackio:OWNER/SPACE.")
]
