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
Jobs = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Where training runs: local, hf (Hugging Face Jobs), slurm, ssh:[USER@]HOST[:PORT].",
    ),
]
JobOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="NAME=VALUE",
        help="An option of where training runs: partition=gpu, python=/opt/py/bin/python3, "
        "queue_seconds=7200, ... Repeatable; [jobs] of manyhands.toml holds those of every day.",
    ),
]
Cache = Annotated[
    str, typer.Option(metavar="FOLDER", help="Share what the study prepares in this folder.")
]
Flavor = Annotated[str | None, typer.Option(help="With --jobs hf: the hardware (cpu-basic).")]
Image = Annotated[str | None, typer.Option(help="With --jobs hf: an image that has uv.")]
Packages = Annotated[
    list[str] | None,
    typer.Option("--with", help="With --jobs hf: a package that training needs. Repeatable."),
]
JobUsd = Annotated[
    float | None, typer.Option(help="With --jobs hf: dollars that one job may cost (1).", min=0.0)
]
CampaignUsd = Annotated[
    float | None,
    typer.Option(help="With --jobs hf: dollars of all jobs of the campaign (10).", min=0.0),
]
UsdPerMinute = Annotated[
    float | None,
    typer.Option(help="With --jobs hf: the flavor's price, if the Hub has none.", min=0.0),
]
Silence = Annotated[
    float | None,
    typer.Option(help="Not here: seconds without output that end a job (1800).", min=1.0),
]
Tracked = Annotated[
    str,
    typer.Option(
        metavar="TRACKER",
        help="Show it in: trackio, trackio:OWNER/SPACE, or python:MODULE:NAME.",
    ),
]
