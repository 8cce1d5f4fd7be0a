"""`manyhands check`: which steps of a trace are plausibly broken, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manyhands.agents.stepcheck import (
    STANDARD,
    Flag,
    Read,
    check_all,
    chosen,
    from_journal,
    read_trace,
)
from manyhands.cli.printing import out, print_json, table
from manyhands.cli.runs import AsJson, Journal, go, runtime_of
from manyhands.errors import ConfigError

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE…", help="Traces, each in one of three forms.", show_default=False),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="CHECK", help="Run this check and no other; repeatable."),
]


def check(
    files: Files = None,
    run_id: Annotated[str, typer.Option("--run", metavar="RUN", help="A run of the journal.")] = "",
    only: Only = None,
    fail_on_flag: Annotated[
        bool, typer.Option("--fail-on-flag", help="Exit with 1 where a step is flagged.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say what each check sees.")] = False,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Check every step of agents' traces, without a model: what is plausibly broken, and why.

    A FILE is JSON: a list of turns (`{"role" or "agent": …, "content": …}`), OpenAI messages (bare,
    or with `messages` and `tools`), or an OTLP trace with `gen_ai.*` attributes.

    Examples:

    `manyhands check trace.json`

    `manyhands check *.json --json --only claimed-test --only ignored-error`

    `manyhands check --run code-1a2b3c4d --fail-on-flag`
    """
    if list_:
        _list({name: (made.__doc__ or "").strip() for name, made in STANDARD.items()}, as_json)
        return
    checks = chosen(only or ())
    if bool(files) == bool(run_id):
        raise ConfigError(
            "give FILE…, or --run RUN, and not both",
            next="manyhands check trace.json",
        )
    if run_id:
        reads = {run_id: _of_run(run_id, journal)}
    else:
        reads = {str(path): read_trace(path) for path in files or ()}
    found = {name: (read, check_all(read, checks)) for name, read in reads.items()}
    if as_json:
        print_json([_as_data(name, *each) for name, each in found.items()])
    else:
        for name, each in found.items():
            _print(name, *each)
    if fail_on_flag and any(flags for _, flags in found.values()):
        raise typer.Exit(1)


def _of_run(run_id: str, journal: str | None) -> Read:
    async def work() -> Read:
        async with runtime_of(journal) as runtime:
            events = [event async for event in runtime.events(run_id)]
            return from_journal(events, runtime.journal.blob)

    return go(work())


def _as_data(name: str, read: Read, flags: tuple[Flag, ...]) -> dict[str, Any]:
    """Every step, with its flags: the steps without any count as well."""
    by_step: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for flag in flags:
        by_step.setdefault((flag.agent, flag.index), []).append(flag.to_json())
    return {
        "source": name,
        "form": read.form,
        "flagged": len(by_step),
        "steps": [
            {
                "agent": step.agent,
                "step": step.index,
                "at": step.at,
                "kind": step.kind,
                "flags": by_step.get((step.agent, step.index), []),
            }
            for step in read.steps
        ],
    }


def _print(name: str, read: Read, flags: tuple[Flag, ...]) -> None:
    flagged = len({(flag.agent, flag.index) for flag in flags})
    steps = f"{len(read.steps)} steps ({read.form})"
    out.print(f"{name}: {steps}, {flagged} flagged", markup=False, soft_wrap=True)
    if flags:
        table(
            ["agent", ">step", "at", "check", "severity", "why"],
            [(f.agent, f.index, f.at, f.check, f.severity, f.reason) for f in flags],
        )


def _list(checks: dict[str, str], as_json: bool) -> None:
    told = {name: " ".join(text.split()) for name, text in checks.items()}
    if as_json:
        print_json(told)
    else:
        table(["check", "what it sees"], told.items())
