"""What can be said to a run over HTTP: commands, answers, limits, and a person at an agent's wheel.

Invariants: nothing is done without a body that fits its form; an order with an idempotency key is
done once, however often it is sent; one that was decided on what has changed since is refused.
"""

from __future__ import annotations

from dataclasses import asdict
from threading import Lock
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from manyhands.agents.approval import Decision
from manyhands.agents.driving import DONE
from manyhands.agents.standing import Standing, Standings
from manyhands.runtime import Budget, Event, Lease, Runtime
from manyhands.web.asked import key_of, number, post, seen_of
from manyhands.web.forks import fork
from manyhands.web.stream import is_held

#: Characters of an order's result.
MOST = 200_000
#: Runs whose fold is kept.
FOLDS = 8


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommandForm(_Form):
    """A command to the run, or to the scope ``target`` of it."""

    verb: Literal["steer", "pause", "continue", "interrupt", "stop", "kill"]
    target: str = Field("", max_length=2_000)
    message: str | dict[str, bool] | None = None


class AnswerForm(_Form):
    """A decision (or, to a question, text) for the key ``wait`` that an agent waits on."""

    wait: str = Field(max_length=2_000)
    value: Decision | str


class BudgetForm(_Form):
    """Limits in the place of those of the scope ``target`` ('': the run)."""

    target: str = Field("", max_length=2_000)
    limits: Budget


class TakeForm(_Form):
    """A lease on the agent ``target``; see `Runtime.take`."""

    target: str = Field("", max_length=2_000)
    owner: str = Field(min_length=1, max_length=100)
    seconds: float = Field(60.0, ge=1, le=3_600)
    most: float = Field(3_600.0, ge=1, le=86_400)
    then: Literal["hold", "continue"] = "hold"
    alone: bool = True


class LeaseForm(_Form):
    """As `take` gave it. ``after``: what comes of its orders comes after this event."""

    target: str
    owner: str
    token: str
    seconds: float
    alone: bool
    after: int = 0

    def of(self, run_id: str) -> Lease:
        return Lease(run_id, self.target, self.owner, self.token, self.seconds, self.alone)


class ActForm(_Form):
    """An order to the agent ``to`` (default: the lease's): ``what["do"]`` says which."""

    lease: LeaseForm
    what: dict[str, Any]
    to: str = ""


class BackForm(_Form):
    """How the agent goes on."""

    lease: LeaseForm
    how: Literal["continue", "retry", "replace", "finish"] = "continue"
    note: str = Field("", max_length=20_000)


class ForkForm(_Form):
    """What comes before this event is kept."""

    before: StrictInt


class RenewForm(_Form):
    """A heartbeat."""

    lease: LeaseForm


class Orders:
    """``runtime``: of the one journal that is served."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._folds: dict[str, Standings] = {}
        self._folding = Lock()

    def routes(self, run: str) -> list[Route]:
        """Below the path ``run``, which has the parameter ``run_id``."""
        return [
            Route(f"{run}/agents", self.agents),
            Route(f"{run}/orders/{{order}}", self.order),
            post(f"{run}/fork", ForkForm, self.fork),
            post(f"{run}/commands", CommandForm, self.command),
            post(f"{run}/answers", AnswerForm, self.answer),
            post(f"{run}/budget", BudgetForm, self.budget),
            post(f"{run}/lease", TakeForm, self.take),
            post(f"{run}/lease/renew", RenewForm, self.renew),
            post(f"{run}/lease/act", ActForm, self.act),
            post(f"{run}/lease/back", BackForm, self.back),
        ]

    def _standing(self, run_id: str) -> Standing:
        """As the events so far leave it; of a run that was looked at before, only what has come
        since is read."""
        journal = self._runtime.journal
        with self._folding:
            fold = self._folds.pop(run_id, None) or Standings(run_id, self._runtime.value)
            fold.feed(journal.events(run_id, fold.state.seq))
            self._folds[run_id] = fold
            if len(self._folds) > FOLDS:
                del self._folds[next(iter(self._folds))]
            return fold.now()

    def agents(self, request: Request) -> Response:
        """How each agent stands, and what waits for a person."""
        run_id = request.path_params["run_id"]
        self._runtime.holder(run_id)  # raises for a run that is not there
        found = self._standing(run_id)
        agents = [
            {k: v for k, v in asdict(agent).items() if k != "driven"}
            | {"driven": self._value(agent.driven)}
            for agent in found.agents.values()
        ]
        waiting = [
            {"agent": w.agent, "wait": w.wait, "kind": w.kind, "asked": self._asked(w.asked)}
            for w in found.waiting
        ]
        spent = {"spent": dict(found.state.spent()), "budget": found.state.budget.limits()}
        return JSONResponse({"seq": found.state.seq, "agents": agents, "waiting": waiting, **spent})

    def order(self, request: Request) -> Response:
        """What came of an order, once something has."""
        run_id, order = request.path_params["run_id"], request.path_params["order"]
        self._runtime.holder(run_id)  # raises for a run that is not there
        query = (
            "SELECT seq FROM events WHERE run_id=? AND seq>? AND type=?"
            " AND json_extract(data,'$.order')=? ORDER BY seq DESC LIMIT 1"
        )
        after = number(request.query_params.get("after", "0"), 0, 2**53)
        rows = self._runtime.journal.read(query, run_id, after, DONE, order)
        if not rows:
            return JSONResponse({"done": False})
        (event,) = self._runtime.journal.events(run_id, after=rows[0][0] - 1, before=rows[0][0] + 1)
        text = self._runtime.value(event)
        return JSONResponse({"done": True, "ok": event.data["ok"], "text": str(text or "")[:MOST]})

    def _value(self, event: Event | None) -> Any:
        return None if event is None else event.data | {"value": self._runtime.value(event)}

    def _asked(self, event: Event) -> Any:
        return self._runtime.value(event) or event.data.get("question")

    # ---------------------------------------------------------------- what is said

    async def fork(self, request: Request, form: ForkForm) -> Response:
        run_id, key = request.path_params["run_id"], key_of(request)
        is_held(self._runtime, run_id)  # raises for a run that is not there
        new, fresh = await fork(self._runtime, run_id, form.before, seen=seen_of(request), key=key)
        return JSONResponse({"run": new}, 201 if fresh else 200)

    async def command(self, request: Request, form: CommandForm) -> Response:
        run_id = request.path_params["run_id"]
        seen = self._unchanged(request, run_id)
        fresh = await self._runtime.command(
            run_id,
            form.verb,
            target=form.target,
            message=form.message,
            decided_on=seen,
            idempotency_key=key_of(request),
        )
        return _taken(fresh)

    async def answer(self, request: Request, form: AnswerForm) -> Response:
        run_id = request.path_params["run_id"]
        value = form.value if isinstance(form.value, str) else form.value.model_dump()
        fresh = await self._runtime.command(
            run_id, "answer", target=form.wait, message=value, idempotency_key=key_of(request)
        )
        return _taken(fresh)

    async def budget(self, request: Request, form: BudgetForm) -> Response:
        run_id = request.path_params["run_id"]
        self._unchanged(request, run_id)
        await self._runtime.rebudget(run_id, form.target, form.limits)
        return JSONResponse({}, 202)

    async def take(self, request: Request, form: TakeForm) -> Response:
        run_id = request.path_params["run_id"]
        seen = self._unchanged(request, run_id)
        ((last,),) = self._runtime.journal.read(
            "SELECT max(seq) FROM events WHERE run_id=?", run_id
        )
        lease = await self._runtime.take(
            run_id,
            form.target,
            form.owner,
            seconds=form.seconds,
            most=form.most,
            then=form.then,
            alone=form.alone,
            decided_on=seen,
        )
        told = {k: v for k, v in asdict(lease).items() if k != "run_id"}
        return JSONResponse(told | {"after": last or 0}, 201)

    async def renew(self, request: Request, form: RenewForm) -> Response:
        await self._runtime.renew(form.lease.of(request.path_params["run_id"]))
        return JSONResponse({})

    async def act(self, request: Request, form: ActForm) -> Response:
        lease = form.lease.of(request.path_params["run_id"])
        id = await self._runtime.act(lease, form.what, to=form.to, idempotency_key=key_of(request))
        return JSONResponse({"order": id}, 202)

    async def back(self, request: Request, form: BackForm) -> Response:
        lease = form.lease.of(request.path_params["run_id"])
        id = await self._runtime.hand_back(lease, {"how": form.how, "note": form.note})
        return JSONResponse({"order": id}, 202)

    def _unchanged(self, request: Request, run_id: str) -> int | None:
        """What was seen. Raises where somebody has said something to the run since; the run's own
        events do not count: they never stop."""
        self._runtime.holder(run_id)  # raises for a run that is not there
        seen = seen_of(request)
        if seen is not None:
            query = "SELECT max(seq) FROM events WHERE run_id=? AND type='command'"
            ((last,),) = self._runtime.journal.read(query, run_id)
            if last is not None and last > seen:
                raise HTTPException(412, f"a command came at {last}, after {seen}")
        return seen


def _taken(fresh: bool) -> Response:
    return JSONResponse({"fresh": fresh}, 202 if fresh else 200)
