"""`manyhands agents | takeover | resume-as | approve | budget`: a person in an agent's place.

Invariant: what is done here is done by the run's own process, as an event; this one only asks for
it, keeps the lease alive, and shows what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from manyhands.agents.context import context_of
from manyhands.agents.driving import DONE, STATE
from manyhands.agents.standing import Agent, Stand, Standing, Standings
from manyhands.cli.printing import err, out, plain, print_json, table
from manyhands.cli.repl import Command, parse_line, usage
from manyhands.cli.runs import AsJson, Journal, RunId, go, runtime_of
from manyhands.config import home
from manyhands.errors import ConfigError, LeaseLost
from manyhands.runtime import Budget, Event, Lease, Runtime, Status

AgentPath = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="See `manyhands agents RUN`; the end of its path does."),
]
Note = Annotated[str, typer.Option("--note", help="What the agent is told.")]
Name = Annotated[str, typer.Option("--as", help="Who drives. Default: your user name.")]
#: Seconds within which an agent is expected to do what it is told, before a word is said of it.
_PATIENCE = 5.0


def standing_of(runtime: Runtime, run_id: str) -> Standing:
    runtime.view(run_id)  # raises for a run that is not there
    return Standings(run_id, runtime.value).feed(runtime.journal.events(run_id)).now()


def agents(run_id: RunId, journal: Journal = None, as_json: AsJson = False) -> None:
    """List the agents of a run, how each of them stands, and what waits for a person.

    Example: `manyhands agents code-1a2b3c4d`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            found = standing_of(runtime, run_id)
            if as_json:
                waiting = [_waiting(runtime, w) for w in found.waiting]
                print_json(
                    {"agents": [_shown(a) for a in found.agents.values()], "waiting": waiting}
                )
                return
            if not found.agents:
                out.print(f"{run_id} has no agents yet.")
                return
            table(
                ["agent", "role", "model", "state", ""],
                [
                    (a.path, a.role, a.model, a.stand, a.owner or a.ending)
                    for a in found.agents.values()
                ],
            )
            for each in found.waiting:
                _print_waiting(runtime, run_id, each)

    go(work())


def _shown(agent: Agent) -> dict[str, Any]:
    found = asdict(agent)
    del found["driven"]
    return found


def _waiting(runtime: Runtime, each: Any) -> dict[str, Any]:
    asked = runtime.value(each.asked) if each.kind == "decision" else each.asked.data["question"]
    return {"agent": each.agent, "wait": each.wait, "kind": each.kind, "asked": asked}


def _print_waiting(runtime: Runtime, run_id: str, each: Any) -> None:
    told = _waiting(runtime, each)
    asked = told["asked"] if isinstance(told["asked"], str) else json.dumps(told["asked"])
    out.print(f"\nwaits for you: {plain(asked)[:400]}", markup=False)
    how = f"approve {run_id} {each.wait}" + (" --deny WHY" if each.kind == "decision" else "")
    if each.kind == "question":
        how = f"approve {run_id} {each.wait} --answer TEXT"
    out.print(f"→ manyhands {how}", markup=False)


# -------------------------------------------------------------------- driving


@dataclass
class Wheel:
    """A lease that is kept alive, and what the agent under it tells."""

    runtime: Runtime
    lease: Lease
    agent: str
    seen: int

    async def keep(self) -> None:
        """Heartbeats, until it is cancelled or the lease has ended."""
        while True:
            await asyncio.sleep(self.lease.seconds / 3)
            try:
                await self.runtime.renew(self.lease)
            except LeaseLost as error:
                err.print(f"\n{plain(error.what)}", markup=False)
                return

    async def until(self, type: str, **data: Any) -> Event:
        """The next event of that type about this agent."""
        waited = asyncio.create_task(self._patience())
        try:
            async for event in self.runtime.events(self.lease.run_id, self.seen, follow=True):
                if event.type == type and data.items() <= event.data.items():
                    self.seen = max(self.seen, event.seq) if type == STATE else self.seen
                    return event
        finally:
            waited.cancel()
        raise ConfigError(
            f"run {self.lease.run_id} ended before {self.agent} came to rest",
            next=f"manyhands show {self.lease.run_id}",
        )

    async def _patience(self) -> None:
        await asyncio.sleep(_PATIENCE)
        held = self.runtime.view(self.lease.run_id).status is Status.RUNNING
        why = "it ends what it is at (--now cuts that off)"
        if not held:
            why = f"no process holds the run: manyhands resume {self.lease.run_id}"
        err.print(f"[dim]waiting for {plain(self.agent)}: {why}[/]")

    async def act(self, what: dict[str, Any]) -> tuple[bool, str]:
        id = await self.runtime.act(self.lease, what, to=self.agent)
        event = await self.until(DONE, order=id)
        return bool(event.data["ok"]), str(self.runtime.value(event) or "")

    async def state(self) -> dict[str, Any]:
        event = await self.until(STATE, agent=self.agent, state="human")
        return event.data | cast(dict[str, Any], self.runtime.value(event))

    def messages(self) -> list[dict[str, Any]]:
        """What the agent's model would be shown now."""
        events = list(self.runtime.journal.events(self.lease.run_id))
        found = Standings(self.lease.run_id, self.runtime.value).feed(events).now()
        view = context_of(events, found.agents[self.agent].context)
        return [json.loads(each) for each in view.messages(self.runtime.journal.blob)]


def _lease_file(runtime: Runtime, run_id: str, target: str) -> Path:
    name = f"{runtime.journal.path}\n{run_id}\n{target}"
    return home() / "leases" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"


def _keep_lease(runtime: Runtime, lease: Lease) -> None:
    path = _lease_file(runtime, lease.run_id, lease.target)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(lease)))


def _kept_lease(runtime: Runtime, run_id: str, target: str) -> Lease:
    path = _lease_file(runtime, run_id, target)
    if not path.is_file():
        raise ConfigError(
            f"you do not drive {target or 'the run'} of {run_id}",
            next=f"manyhands takeover {run_id} {target}",
        )
    return Lease(**json.loads(path.read_text()))


async def _still_mine(runtime: Runtime, run_id: str, target: str, owner: str) -> Lease | None:
    """The lease that an earlier command of this person has left."""
    with contextlib.suppress(ConfigError, LeaseLost):
        lease = _kept_lease(runtime, run_id, target)
        if lease.owner == owner:
            await runtime.renew(lease)
            return lease
    return None


def _since(found: Standing, agent: str) -> int:
    """Where to read on from, so that what the agent told when it was taken is read, too."""
    standing = found.agents.get(agent)
    if standing is not None and standing.stand is Stand.HUMAN and standing.driven is not None:
        return standing.driven.seq - 1
    return found.state.seq


def _path_of(found: Standing, named: str) -> str:
    """The agent that is called so, or whose path alone ends so."""
    ends = [path for path in found.agents if path.endswith(f"/{named}")]
    return ends[0] if named not in found.agents and len(ends) == 1 else named


@asynccontextmanager
async def _at_the_wheel(
    runtime: Runtime,
    run_id: str,
    agent: str,
    owner: str,
    *,
    now: bool,
    subtree: bool,
    seconds: float,
    limit: float,
    then: str,
) -> AsyncGenerator[Wheel]:
    found = standing_of(runtime, run_id)
    agent = agent if subtree else _path_of(found, agent)
    if not subtree and agent not in found.agents:
        known = ", ".join(p for p, a in found.agents.items() if a.stand is not Stand.ENDED)
        raise ConfigError(
            f"run {run_id} has no agent {agent!r}; at work: {known or 'none'}",
            next=f"manyhands agents {run_id}",
        )
    if not subtree and found.agents[agent].stand is Stand.ENDED:
        raise ConfigError(
            f"agent {agent} has ended ({found.agents[agent].ending})",
            next=f"an edit of the past is a fork: manyhands fork {run_id} --before STEP",
        )
    who = owner or getpass.getuser()
    lease = await _still_mine(runtime, run_id, agent, who) or await runtime.take(
        run_id,
        agent,
        who,
        seconds=seconds,
        most=limit,
        then=then,
        alone=not subtree,
        decided_on=found.state.seq,
    )
    _keep_lease(runtime, lease)
    if now:
        told = f"{lease.owner} took over"
        await runtime.command(run_id, "interrupt", target=agent, message=told)
    wheel = Wheel(runtime, lease, agent, _since(found, agent))
    beating = asyncio.create_task(wheel.keep())
    try:
        yield wheel
    finally:
        beating.cancel()


Orders = Annotated[
    list[str] | None,
    typer.Option("--do", help="An order, as at the prompt; may be given again and again."),
]
Back = Annotated[str, typer.Option("--back", help="Hand back: continue, retry, replace or finish.")]
Now = Annotated[
    bool, typer.Option("--now", help="Cut off what it is at, instead of waiting for its end.")
]
Subtree = Annotated[bool, typer.Option("--subtree", help="With all agents below it.")]
Seconds = Annotated[
    float,
    typer.Option(help="Your lease ends so long after this program's last sign of life.", min=1),
]
Most = Annotated[float, typer.Option(help="And after so many seconds in any case.")]
Then = Annotated[
    str, typer.Option(help="When it ends by itself, the agent is on hold, or to continue.")
]


def takeover(
    run_id: RunId,
    agent: AgentPath = "",
    do: Orders = None,
    back: Back = "",
    note: Note = "",
    owner: Name = "",
    now: Now = False,
    subtree: Subtree = False,
    seconds: Seconds = 60.0,
    limit: Most = 3_600.0,
    then: Then = "hold",
    journal: Journal = None,
    as_json: AsJson = False,
) -> None:
    """Stop one agent, drive with its own tools, and hand it back. All others go on.

    Without AGENT: lists the agents. At the prompt `help` says what there is; what you do is in the
    journal as yours, and the agent is told when you hand it back.

    Examples:

    `manyhands takeover code-1a2b3c4d orchestrator`

    `manyhands takeover RUN AGENT --do 'bash {"command": "make test"}' --back continue --note "…"`
    """
    if not agent and not subtree:
        agents(run_id, journal, as_json)
        return
    orders = [parse_line(each) for each in do or []]
    if as_json and not do and not back:
        raise ConfigError("--json without --do or --back", next="say what is to be done with --do")

    async def work() -> None:
        async with (
            runtime_of(journal) as runtime,
            _at_the_wheel(
                runtime,
                run_id,
                agent,
                owner,
                now=now,
                subtree=subtree,
                seconds=seconds,
                limit=limit,
                then=then,
            ) as wheel,
        ):
            if subtree:
                out.print(
                    f"{agent or run_id} and all below it come to rest; yours, {wheel.lease.owner}"
                )
                out.print(f"→ manyhands resume-as {run_id} {agent} continue", markup=False)
                return
            state = await wheel.state()
            if orders or back:
                await _do_all(wheel, state, orders, back, note, as_json)
            else:
                await _prompt(wheel, state)

    go(work())


async def _do_all(
    wheel: Wheel, state: dict[str, Any], orders: list[Command], back: str, note: str, as_json: bool
) -> None:
    done: list[dict[str, Any]] = []
    for order in orders:
        ok, text = await _obey(wheel, state, order)
        done.append({"order": order.said, "ok": ok, "result": text})
        if not as_json:
            _print_result(ok, text)
        if not ok:
            break
    if back and all(each["ok"] for each in done):
        await _hand_back(wheel, back, note, quiet=as_json)
    if as_json:
        print_json(
            {
                "run": wheel.lease.run_id,
                "agent": wheel.agent,
                "owner": wheel.lease.owner,
                "done": done,
                "handed_back": back or None,
            }
        )
    if not all(each["ok"] for each in done):
        raise typer.Exit(1)


async def _obey(wheel: Wheel, state: dict[str, Any], order: Command) -> tuple[bool, str]:
    if order.shows:
        return True, _look(wheel, state, order)
    return await wheel.act(order.act)


def _print_result(ok: bool, text: str) -> None:
    if not ok:
        out.print("not done:", style="bold red", end=" ")
    out.print(plain(text) if text else "done", markup=False, soft_wrap=True)


async def _prompt(wheel: Wheel, state: dict[str, Any]) -> None:
    out.print(
        f"You drive [bold]{plain(wheel.agent)}[/]; all others go on. "
        "[dim]help: what you can do · back: hand it back · leave: keep it on hold[/]"
    )
    if state["waiting"]:
        out.print("Calls wait to be run:")
        out.print(_calls(state), markup=False)
    note = ""
    while True:
        try:
            line = (await asyncio.to_thread(input, "drive> ")).strip()
        except EOFError:
            line = "leave"
        try:
            order = parse_line(line, state["tools"])
        except ConfigError as error:
            err.print(f"{plain(error.what)}\n→ {plain(error.next)}", markup=False)
            continue
        match order.word:
            case "":
                continue
            case "note":
                note = order.text
            case "leave":
                out.print(f"{wheel.agent} stays on hold until your lease ends, and after it")
                out.print(
                    f"→ manyhands resume-as {wheel.lease.run_id} {wheel.agent} continue",
                    markup=False,
                )
                return
            case "back":
                await _hand_back(wheel, order.text or "continue", note)
                return
            case "finish":
                ok, text = await wheel.act(order.act)
                if ok:
                    await _hand_back(wheel, "finish", note)
                    return
                _print_result(ok, text)
            case _:
                with contextlib.suppress(KeyboardInterrupt):
                    _print_result(*await _obey(wheel, state, order))


async def _hand_back(wheel: Wheel, how: str, note: str, *, quiet: bool = False) -> None:
    if how not in ("continue", "retry", "replace", "finish"):
        raise ConfigError(f"hand back how? {how!r}", next="use continue, retry, replace or finish")
    id = await wheel.runtime.hand_back(wheel.lease, {"how": how, "note": note})
    _lease_file(wheel.runtime, wheel.lease.run_id, wheel.lease.target).unlink(missing_ok=True)
    async for event in wheel.runtime.events(wheel.lease.run_id, wheel.seen, follow=True):
        if event.type == DONE and event.data["order"] == id:
            raise ConfigError(
                f"{wheel.agent} stays on hold: {wheel.runtime.value(event)}",
                next=f"manyhands takeover {wheel.lease.run_id} {wheel.agent}",
            )
        if event.type == STATE and event.data["state"] == "resuming":
            break
    if not quiet:
        out.print(f"handed back: {how}")


# -------------------------------------------------------------------- looking


def _look(wheel: Wheel, state: dict[str, Any], order: Command) -> str:
    match order.word:
        case "tools":
            return "\n".join(_signature(n, s) for n, s in state["tools"].items()) or "(none)"
        case "calls":
            return _calls(state)
        case "report":
            return json.dumps(state["report"], indent=2, ensure_ascii=False)
        case "messages":
            return "\n".join(
                f"{at:>3} {m['role']:<9} {_line(m)}" for at, m in enumerate(wheel.messages())
            )
        case "show":
            found = wheel.messages()
            at = int(order.text)
            return json.dumps(found[at], indent=2, ensure_ascii=False) if at < len(found) else ""
        case _:
            return usage()


def _calls(state: dict[str, Any]) -> str:
    lines = [f"{n} {c['tool']} {c['arguments']}" for n, c in enumerate(state["calls"])]
    return "\n".join(lines) or "(none)"


def _signature(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    parts = [f"{p}{'' if p in needed else '?'}" for p in schema.get("properties", {})]
    return f"{name}({', '.join(parts)})"


def _line(message: dict[str, Any]) -> str:
    text = " ".join(str(message.get("content") or "").split())
    called = [c["function"]["name"] for c in message.get("tool_calls") or ()]
    text = f"{text} → {', '.join(called)}" if called else text
    return plain(text)[:100]


# -------------------------------------------------------------------- back, decisions, limits


def resume_as(
    run_id: RunId,
    agent: AgentPath,
    how: Annotated[str, typer.Argument(help="continue, retry, replace or finish")] = "continue",
    note: Note = "",
    report: Annotated[
        str, typer.Option("--report", help="With finish: the report, as JSON or text.")
    ] = "",
    result: Annotated[
        list[str] | None, typer.Option("--result", help="With replace: NUMBER=TEXT, of a call.")
    ] = None,
    journal: Journal = None,
) -> None:
    """Hand an agent back that you drive: how it goes on is your choice.

    `continue` with what comes next; `retry` its last calls first; `replace` their results by those
    that you give; `finish` with the report that you give.

    Examples:

    `manyhands resume-as RUN AGENT continue --note "The tests pass again."`

    `manyhands resume-as RUN AGENT finish --report '{"summary": "Done by hand."}'`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            found = standing_of(runtime, run_id)
            path = _path_of(found, agent)
            lease = _kept_lease(runtime, run_id, path)
            wheel = Wheel(runtime, lease, path, found.state.seq)
            orders = [parse_line(f"finish {report}")] if report else []
            orders += [parse_line("result " + each.replace("=", " ", 1)) for each in result or []]
            for order in orders:
                ok, text = await wheel.act(order.act)
                if not ok:
                    raise ConfigError(f"{order.said}: {text}", next="correct it")
            await _hand_back(wheel, how, note)

    go(work())


def approve(
    run_id: RunId,
    wait: Annotated[str, typer.Argument(metavar="[WAIT]", help="Default: the only one.")] = "",
    deny: Annotated[str | None, typer.Option("--deny", help="Say no, and why.")] = None,
    arguments: Annotated[
        str, typer.Option("--arguments", help="Allow it with these instead, as JSON.")
    ] = "",
    answer: Annotated[str, typer.Option("--answer", help="What an agent asked.")] = "",
    note: Note = "",
    journal: Journal = None,
) -> None:
    """Decide what an agent waits for: a call or spending that its role asks a person about.

    Examples:

    `manyhands approve RUN`

    `manyhands approve RUN WAIT --deny "not on this machine"`
    """

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            waiting = standing_of(runtime, run_id).waiting
            found = [each for each in waiting if wait in ("", each.wait)]
            if len(found) != 1:
                keys = ", ".join(each.wait for each in waiting) or "nothing"
                raise ConfigError(
                    f"{len(found)} decisions of {run_id} fit {wait!r}; waiting: {keys}",
                    next=f"name one: manyhands approve {run_id} WAIT",
                )
            value: Any = answer
            if found[0].kind == "question" and not answer:
                raise ConfigError(f"{found[0].wait} is a question", next="give --answer TEXT")
            if found[0].kind == "decision":
                value = {"decision": "approve" if deny is None else "deny", "note": deny or note}
                if arguments:
                    value["arguments"] = _json(arguments)
            await runtime.answer(run_id, found[0].wait, value)
            out.print(f"{found[0].wait}: {'denied' if deny is not None else 'told'}", markup=False)

    go(work())


def budget(
    run_id: RunId,
    at: Annotated[str, typer.Option("--at", help="Of this scope. Default: the run's.")] = "",
    tokens: Annotated[int | None, typer.Option(min=0)] = None,
    requests: Annotated[int | None, typer.Option(min=0)] = None,
    usd: Annotated[float | None, typer.Option(min=0)] = None,
    seconds: Annotated[float | None, typer.Option(min=0)] = None,
    journal: Journal = None,
) -> None:
    """Change limits of a run, or of a scope that has some, while it goes on.

    Example: `manyhands budget RUN --tokens 2000000`
    """
    given = {"tokens": tokens, "requests": requests, "usd": usd, "seconds": seconds}
    named = {unit: limit for unit, limit in given.items() if limit is not None}
    if not named:
        raise ConfigError("no limit is given", next="give --tokens, --requests, --usd or --seconds")

    async def work() -> None:
        async with runtime_of(journal) as runtime:
            await runtime.rebudget(run_id, at, Budget.model_validate(named))
            out.print(f"{at or run_id}: {', '.join(f'{n:g} {u}' for u, n in named.items())}")

    go(work())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{text[:100]!r}: {error}", next="give JSON") from error


def add_commands(app: typer.Typer) -> None:
    for command in (agents, takeover, approve, budget):
        app.command()(command)
    app.command("resume-as")(resume_as)
