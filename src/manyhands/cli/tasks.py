"""`manyhands tasks …`: terminal tasks in Harbor's format, without Docker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from manyhands.cli.printing import complain, err, plain, print_json, table
from manyhands.cli.runs import AsJson, go
from manyhands.errors import ManyhandsError, SandboxError, TaskError
from manyhands.evals.tasks import Task, find_tasks, load_task
from manyhands.evals.verifying import Verdict, check
from manyhands.wiring.sandboxes import make_sandboxes

app = typer.Typer(
    help="Terminal tasks in Harbor's format: list them, and check that they can be solved.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES = Path("examples/tasks")
#: Of the end of a failed verifier's output, what is shown below the table.
_SHOWN = 600


class Agent(StrEnum):
    ORACLE = "oracle"
    NOP = "nop"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one task. ``reward`` is None where nothing was verified."""

    task: str
    path: str
    reward: float | None = None
    seconds: float = 0.0
    problem: str = ""
    next: str = ""
    output: str = ""


@app.command("list")
def list_tasks(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A task, or a folder of tasks.")
    ] = EXAMPLES,
    as_json: AsJson = False,
) -> None:
    """List the tasks of a folder, and for each whether it can be run here, or why not.

    Examples:

    `manyhands tasks list`

    `manyhands tasks list ~/terminal-bench --json | jq '.[] | select(.problem == "") | .task'`
    """
    rows = [_listed(path) for path in find_tasks(folder)]
    if as_json:
        print_json(rows)
        return
    columns = ("task", "difficulty", ">seconds", "workdir", "runs here")
    table(columns, [_shown(row) for row in rows])


@app.command("check")
def check_tasks(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Tasks, or folders of tasks.")
    ],
    agent: Annotated[
        Agent, typer.Option(help="oracle: the reference solution. nop: nobody does anything.")
    ] = Agent.ORACLE,
    as_json: AsJson = False,
) -> None:
    """Prepare tasks in sandboxes, let the reference solution (or nobody) do them, and verify that.

    A good task gives 1 to the oracle, and 0 to nobody. Ends with 0 if each did so, else with 1.

    Examples:

    `manyhands tasks check examples/tasks`

    `manyhands tasks check examples/tasks/page-count --agent nop --json`
    """
    paths = [path for folder in folders for path in find_tasks(folder)]
    rows = go(_check_all(paths, agent))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _show(rows, agent)
    if not all(_as_it_should(row, agent) for row in rows):
        raise typer.Exit(1)


async def _check_all(paths: Iterable[Path], agent: Agent) -> list[Row]:
    sandboxes = make_sandboxes()
    found: list[Row] = []
    todo = list(paths)
    with err.status("") as status:
        for number, path in enumerate(todo, 1):
            _tell(status, f"{number} of {len(todo)}: {path.name}")
            try:
                verdict = await check(load_task(path), sandboxes, agent.value)
                found.append(_row(path, verdict))
            except (TaskError, SandboxError) as error:
                found.append(Row(path.name, str(path), problem=error.what, next=error.next))
    return found


def _tell(status: Status, text: str) -> None:
    """A spinner where there is a terminal, else a line."""
    if err.is_terminal:
        status.update(escape(plain(text)))
    else:
        err.print(escape(plain(text)))


def _row(path: Path, verdict: Verdict) -> Row:
    seconds = round(verdict.seconds, 2)
    return Row(
        path.name, str(path), verdict.reward, seconds, verdict.problem, output=verdict.output
    )


def _as_it_should(row: Row, agent: Agent) -> bool:
    """Nobody's work must have been verified, too: a test that breaks tells nothing."""
    if row.reward is None or row.problem:
        return False
    return row.reward >= 1 if agent is Agent.ORACLE else row.reward < 1


def _show(rows: list[Row], agent: Agent) -> None:
    table(
        ("task", ">reward", ">seconds", "verdict"),
        [(r.task, _reward(r), f"{r.seconds:.1f}", _verdict(r, agent)) for r in rows],
    )
    for row in rows:
        if row.reward is None:
            complain(ManyhandsError(f"{row.task}: {row.problem}", next=row.next))
        elif not _as_it_should(row, agent) and row.output:
            err.print(f"[bold]{escape(plain(row.task))}[/]: its tests said last")
            for line in row.output[-_SHOWN:].splitlines():
                err.print(f"  {escape(plain(line))}", soft_wrap=True)


def _reward(row: Row) -> str:
    return "-" if row.reward is None else f"{row.reward:g}"


def _verdict(row: Row, agent: Agent) -> Text:
    if row.reward is None:
        return Text("not run, see below", style="red")
    if _as_it_should(row, agent):
        return Text("as it should be", style="green")
    least = "1" if agent is Agent.ORACLE else "less than 1"
    return Text(row.problem or f"should be {least}", style="red")


# ---------------------------------------------------------------- list


def _listed(path: Path) -> dict[str, object]:
    try:
        task = load_task(path)
    except TaskError as error:
        return {"task": path.name, "path": str(path), "problem": error.what, "next": error.next}
    return {"path": str(path), "problem": "", "next": "", **dict(_facts(task))}


def _facts(task: Task) -> Iterator[tuple[str, object]]:
    yield "task", task.name
    yield "difficulty", task.difficulty
    yield "seconds", task.agent_seconds
    yield "workdir", task.workdir
    yield "oracle", task.solution is not None


def _shown(row: dict[str, object]) -> tuple[object, ...]:
    problem = str(row["problem"])
    runs = Text("yes", style="green") if not problem else Text(plain(problem), style="yellow")
    seconds = f"{row['seconds']:g}" if "seconds" in row else ""
    return (row["task"], row.get("difficulty", ""), seconds, row.get("workdir", ""), runs)
