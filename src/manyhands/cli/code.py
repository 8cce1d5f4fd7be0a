"""`manyhands code …`: parse, call, print."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from manyhands.cli import orders
from manyhands.cli.code_progress import CodeProgress, print_outcome, print_verdict
from manyhands.cli.printing import err, plain, print_json
from manyhands.cli.runs import (
    AsJson,
    Journal,
    NewId,
    OfAll,
    Patience,
    Resumed,
    Tokens,
    Usd,
    go,
    named_models,
    result_of,
)
from manyhands.cli.tapes import Record, ReplayFrom, check_apart
from manyhands.config import Config
from manyhands.errors import ConfigError
from manyhands.evals.preparing import prepare
from manyhands.evals.solving import order_for, reward_of
from manyhands.evals.tasks import load_task
from manyhands.evals.verifying import Verdict
from manyhands.runtime import Budget, RunHandle, Runtime
from manyhands.teams.code.records import Order, Outcome
from manyhands.wiring import Endpoints
from manyhands.wiring.code import (
    CODE,
    PROGRAM,
    apply_outcome,
    code_roles,
    code_workflow,
    home_of,
)
from manyhands.wiring.roles import CODE_ROLES, models_for
from manyhands.wiring.sandboxes import make_sandboxes

OfRoles = Annotated[
    list[str] | None,
    typer.Option("--role", help=f"ROLE=MODEL, of {', '.join(CODE_ROLES)}. Repeatable."),
]
Repo = Annotated[
    Path, typer.Option("--repo", help="The folder to work on. It is copied, never written to.")
]
CheckCommand = Annotated[
    str, typer.Option("--check", help="A command that succeeds when the work is done.")
]
Protected = Annotated[
    list[str] | None,
    typer.Option("--protect", help="A glob of files that no change may touch: tests/. Repeatable."),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="A glob of files that are not copied: data/. Repeatable."),
]
TaskFolder = Annotated[
    Path | None,
    typer.Option("--task", help="A terminal task (Harbor's format) in place of an instruction."),
]
Apply = Annotated[
    bool, typer.Option("--apply", help="Write the change to the folder when the check passed.")
]
Unsafe = Annotated[
    bool, typer.Option("--unsafe-local", help="Run commands without any sandbox. Not unattended.")
]

Docker = Annotated[
    str, typer.Option("--docker", help="Run commands in containers of this image, with Docker.")
]


CommandSeconds = Annotated[
    float, typer.Option(help="Limit of one command, and of the check.", min=1)
]
MemoryMb = Annotated[int, typer.Option(help="Limit of one command's memory.", min=64)]


def code(
    instruction: Annotated[str, typer.Argument(help="What is to be done.")] = "",
    repo: Repo = Path("."),
    task: TaskFolder = None,
    check: CheckCommand = "",
    model: OfAll = "",
    role: OfRoles = None,
    apply: Apply = False,
    protect: Protected = None,
    exclude: Excluded = None,
    coders: Annotated[int, typer.Option(help="Agents at work at once.", min=1)] = 4,
    minutes: Annotated[float | None, typer.Option(help="Limit of time.", min=0.1)] = None,
    tokens: Tokens = None,
    requests: Annotated[int | None, typer.Option(help="Limit of requests.", min=0)] = None,
    usd: Usd = None,
    command_seconds: CommandSeconds = 300.0,
    memory_mb: MemoryMb = 2048,
    patience: Patience = 60.0,
    docker: Docker = "",
    unsafe_local: Unsafe = False,
    resume: Resumed = "",
    run_id: NewId = None,
    record: Record = None,
    replay: ReplayFrom = None,
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Change a repository until a check passes: an orchestrator, explorers, coders in sandboxes.

    The folder is copied; the result is a patch, which `--apply` writes to the folder.

    Examples:

    `manyhands code "Fix the failing tests" --check "pytest -q" --model ollama:qwen3-coder:30b`

    `manyhands code "Add a --json option to the list command" --repo ../tool --check "make test"
    --protect tests/ --model hf:Qwen/Qwen3-Coder-480B --apply`

    `manyhands code --task examples/tasks/page-count --model hf:Qwen/Qwen3-Coder-480B`

    `manyhands code --resume code-1a2b3c4d --apply`
    """
    if bool(instruction.strip()) + bool(resume) + (task is not None) != 1:
        raise _one_is_needed()
    seconds = None if minutes is None else minutes * 60
    budget = Budget(tokens=tokens, requests=requests, usd=usd, seconds=seconds)
    if resume:
        watch = _watch(apply, as_json)
        go(orders.resume(_TEAM, resume, watch, budget=budget, record=record, journal=journal))
        return
    given = {
        "models": named_models(model, role or []),
        "coders": coders,
        "sandbox": _sandbox(docker, unsafe_local),
        "image": docker,
        "patience": patience,
    }
    if task is not None:
        if apply or check or docker or unsafe_local:
            raise _not_with_task()
        order, budget = go(_order_of(task, budget, given))
    else:
        given |= {"instruction": instruction.strip(), "repo": str(_folder(repo)), "check": check}
        given |= {"protect": protect or (), "exclude": exclude or ()}
        given |= {"seconds": command_seconds, "memory_mb": memory_mb}
        order = Order.model_validate(given)
    begun = partial(orders.begin, _TEAM, order, _watch(apply, as_json), budget=budget)
    go(begun(run_id=run_id, record=record, replay=replay, journal=journal))


def _one_is_needed() -> ConfigError:
    return ConfigError(
        "one of an instruction, --task DIR and --resume RUN is needed",
        next='manyhands code "Fix the failing tests" --repo . --check "pytest -q"',
    )


def _not_with_task() -> ConfigError:
    return ConfigError(
        "--apply, --check, --docker and --unsafe-local do not go with --task: it has its own "
        "tests, and is prepared for this machine's programs",
        next="leave them out",
    )


def _sandbox(docker: str, unsafe_local: bool) -> str:
    if docker and unsafe_local:
        raise ConfigError(
            f"--docker {docker} and --unsafe-local do not go together", next="leave one of them out"
        )
    return "unsafe-local" if unsafe_local else "docker" if docker else "auto"


async def _order_of(folder: Path, budget: Budget, given: dict[str, Any]) -> tuple[Order, Budget]:
    """The task's own limit of time holds where no other is given."""
    task = load_task(folder)
    sandboxes = make_sandboxes(given["sandbox"])
    with err.status(f"preparing {escape(plain(task.name))}"):
        base = await prepare(task, sandboxes)
    if budget.seconds is None:
        budget = budget.model_copy(update={"seconds": task.agent_seconds})
    return order_for(task, base, project=Path.cwd(), **given), budget


def _folder(repo: Path) -> Path:
    found = repo.resolve()
    if not found.is_dir():
        raise ConfigError(f"--repo {str(repo)!r} is not a folder", next="give a folder")
    if found in (Path("/"), Path.home()):
        raise ConfigError(f"--repo {found} is no project", next="give the folder of one project")
    return found


async def _find_models(order: Order, config: Config, endpoints: Endpoints) -> None:
    """And sandboxes: where there are none, there is no run."""
    make_sandboxes(order.sandbox, image=order.image)
    await models_for(order.models, code_roles(order), config, endpoints, program=PROGRAM)


_TEAM = orders.Team(
    CODE,
    lambda config, tape: code_workflow(config, tape=tape),
    _find_models,
    lambda order, tape, run_id: check_apart(tape, home_of(order, "").parent, run_id),
)


def _watch(apply: bool, as_json: bool) -> orders.Watch:
    async def watch(runtime: Runtime, handle: RunHandle) -> None:
        with CodeProgress(runtime, handle.run_id, quiet=as_json) as progress:
            outcome: Outcome = await result_of(handle, progress.follow(), "manyhands code --resume")
        given = runtime.view(handle.run_id).input
        assert given is not None
        await _end(runtime, handle.run_id, runtime.value(given, Order), outcome, apply, as_json)

    return watch


async def _end(
    runtime: Runtime, run_id: str, order: Order, outcome: Outcome, apply: bool, as_json: bool
) -> None:
    """The patch on disk, the task's verdict, the result, and the change where it is wanted."""
    patch = home_of(order, run_id) / "changes.patch"
    patch.parent.mkdir(parents=True, exist_ok=True)
    patch.write_bytes(runtime.journal.blob(outcome.patch))
    verdict = await _verdict(runtime, order, outcome) if order.task else None
    if as_json:
        told = outcome.model_dump(mode="json") | {"run": run_id, "patch_file": str(patch)}
        if verdict is not None:
            told |= {"reward": verdict.reward, "verifier": asdict(verdict)}
        applied = await _apply(runtime, order, outcome, patch) if apply else False
        print_json(told | {"applied": applied})
        return
    given = (apply and outcome.complete) or verdict is not None
    print_outcome(outcome, run_id, None if given else patch)
    if verdict is not None:
        print_verdict(verdict)
    if apply:
        await _apply(runtime, order, outcome, patch)


async def _verdict(runtime: Runtime, order: Order, outcome: Outcome) -> Verdict:
    """What the task's tests say, which the team has not seen."""
    with err.status("the task's tests run"):
        sandboxes = make_sandboxes(order.sandbox, image=order.image)
        return await reward_of(
            load_task(Path(order.task)), sandboxes, outcome, runtime.journal.blob
        )


async def _apply(runtime: Runtime, order: Order, outcome: Outcome, patch: Path) -> bool:
    if not outcome.complete:
        err.print("[yellow]not applied[/]: the work is not complete", soft_wrap=True)
        err.print(f"→ git apply {patch}", markup=False, soft_wrap=True)
        return False
    done = await asyncio.to_thread(apply_outcome, order, outcome, runtime.journal.blob)
    count = len(done.written) + len(done.deleted)
    err.print(f"[green]applied[/] {count} files to {plain(order.repo)}", soft_wrap=True)
    return True
