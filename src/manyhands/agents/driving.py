"""A person in the place of an agent's model: at which places, what they may do, what goes back.

Invariants: an agent rests only between things: before a request, before calls are run, before its
report goes out; what a person does runs through the agent's own tools, workspace and budget, as
steps whose actor is that person; what they change is what comes next, never what was: every order
is an event, and a replay obeys it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from manyhands.agents.calls import CallResult, Calls
from manyhands.agents.context import Context, Item
from manyhands.agents.encoding import clean, delimit, encode, one_line
from manyhands.agents.report import ReportStatus
from manyhands.agents.tools import Toolbox, cut, explain
from manyhands.errors import ToolError
from manyhands.ports import ToolCall
from manyhands.runtime import ArtifactStatus, Effect, Evidence, Order, Run

PERSON = "person"

#: The records of a person at an agent's wheel: what it rests with, and what came of each order.
STATE, DONE = "agent:driven", "agent:done"
#: Bytes of one result, and of the difference, that the agent is shown when it is handed back.
_SHOWN_BYTES, _DIFFERENCE_BYTES = 2_000, 8_000


class _Order(BaseModel):
    """``owner``, ``to``, ``alone``: who says it, and to whom; the runtime has seen to these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: str = ""
    to: str = ""
    alone: bool = False


class CallTool(_Order):
    """Call one of the agent's tools, as the agent would."""

    do: Literal["call"]
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class Say(_Order):
    """Add a message to what the model is shown next."""

    do: Literal["say"]
    text: str = Field(min_length=1)


class EditMessage(_Order):
    """Put another text in the place of that of message ``at`` (0 is the first)."""

    do: Literal["edit"]
    at: int = Field(ge=0)
    text: str


class DropTurn(_Order):
    """Take message ``at`` out of what is shown next; a turn goes with the results of its calls."""

    do: Literal["drop"]
    at: int = Field(ge=2)


class EditCall(_Order):
    """Of the calls that wait to be run, change that number's arguments; None: it is not run."""

    do: Literal["edit_call"]
    call: int = Field(ge=0)
    arguments: dict[str, Any] | None


class GiveResult(_Order):
    """The result of a call that waits to be run, which then is not, or of one that ran last."""

    do: Literal["result"]
    call: int = Field(ge=0)
    text: str


class ChangeModel(_Order):
    """Go on with another model of the agent's chain."""

    do: Literal["model"]
    name: str


class PutArtifact(_Order):
    """A new version of an artifact."""

    do: Literal["put"]
    name: str = Field(min_length=1)
    content: str
    kind: str = "text"


class EditReport(_Order):
    """What the agent reports, in the place of what it would: ``value`` in its output's form."""

    do: Literal["report"]
    value: Any
    status: Literal["complete", "partial"] = "complete"


Act = Annotated[
    CallTool
    | Say
    | EditMessage
    | DropTurn
    | EditCall
    | GiveResult
    | ChangeModel
    | PutArtifact
    | EditReport,
    Field(discriminator="do"),
]
_ACT: TypeAdapter[Act] = TypeAdapter(Act)


class HandBack(_Order):
    """How an agent goes on. ``continue``: with what comes next. ``retry``: its last calls are run
    again first. ``replace``: the results that were given stand in the place of those that there
    were. ``finish``: with the report that was written. ``note``: what it is told."""

    how: Literal["continue", "retry", "replace", "finish"] = "continue"
    note: str = ""


class World(Protocol):
    """What an agent's tools change, to be looked at before and after a person drove."""

    def state(self) -> str:
        """A name of how it is now, equal where it is equal."""
        ...

    async def difference(self, before: str) -> str:
        """What leads from the state of that name to how it is now, as text."""
        ...


@dataclass
class Place:
    """Where an agent may come to rest. ``following``: beginnings of the keys of what comes next.

    ``calls``: those that wait to be run, or that ran last; ``waiting``: which of the two.
    ``report``: the value that waits to go out, as JSON.
    """

    key: str
    following: tuple[str, ...]
    calls: Sequence[ToolCall] = ()
    waiting: bool = False
    report: Any = None


@dataclass
class Driven:
    """What a person has left behind when an agent goes on. ``owner`` '': nobody drove.

    ``edits``: new arguments of waiting calls, by number (None: not to be run). ``value``: what to
    report, with ``status``; ``finish``: at once.
    """

    owner: str = ""
    how: str = "continue"
    edits: dict[int, dict[str, Any] | None] = field(
        default_factory=dict[int, dict[str, Any] | None]
    )
    results: dict[int, str] = field(default_factory=dict[int, str])
    origin: str = ""
    value: Any = None
    status: ReportStatus = ReportStatus.COMPLETE

    @property
    def finish(self) -> bool:
        return self.how == "finish"


class Driving:
    """One agent's places of rest."""

    def __init__(
        self,
        scope: Run,
        toolbox: Toolbox,
        context: Context,
        calls: Callable[[Run], Calls],
        read: Callable[[Any], Any],
        change_model: Callable[[str, str], Awaitable[None]],
        world: World | None,
    ) -> None:
        """``calls`` makes what runs calls in a scope; ``read`` the typed report from JSON, or
        raises; ``change_model`` is given the key of a record and a model's name."""
        self._scope = scope
        self._toolbox = toolbox
        self._context = context
        self._calls = calls
        self._read = read
        self._change_model = change_model
        self._world = world

    async def rest(self, place: Place, *, always: bool = False) -> Driven | None:
        """Stay here while the agent is paused or driven; what came of it. None: it goes on.

        ``always``: a person fills the role, so one is waited for.
        """
        key = f"{place.key}/rest"
        if not await self._scope.rest(key, *place.following, always=always):
            return None
        driven, did = Driven(), list[_Deed]()
        before = ""
        number = 0
        while True:
            at = f"{key}/{number}"
            order = await self._scope.order(at, always=always)
            number += 1
            match order.verb:
                case "take":
                    before = before or self._state()
                    driven.owner = order.owner
                    await self._tell(at, "human", order, place)
                case "act":
                    did.append(await self._obey(at, order, place, driven))
                case "hand_back":
                    back = await self._back(at, order, place, driven)
                    if back is None:  # it rests, with nobody at the wheel, until it is taken anew
                        always, driven.owner = True, ""
                        continue
                    driven.owner, driven.origin = order.owner, self._scope.key(at)
                    await self._hand_card(at, back, did, before)
                    return driven
                case "expire":
                    await self._tell(at, "paused", order, place)
                case _:
                    return driven if driven.owner else None

    # ---------------------------------------------------------------- what is told

    async def _tell(self, key: str, state: str, order: Order, place: Place) -> None:
        """What whoever drives has to know: tools, waiting calls, the report that waits."""
        about: dict[str, Any] = {
            "agent": self._scope.path,
            "state": state,
            "owner": order.owner,
            "world": self._state(),
            "messages": len(self._context),
            "waiting": place.waiting,
        }
        calls = [{"tool": call.name, "arguments": call.arguments} for call in place.calls]
        value = {"tools": self._toolbox.schemas, "calls": calls, "report": place.report}
        await self._scope.record(f"{key}/state", STATE, about, value=value)
        await self._show(key, order)

    def _state(self) -> str:
        return self._world.state() if self._world is not None else ""

    # ---------------------------------------------------------------- orders

    async def _obey(self, key: str, order: Order, place: Place, driven: Driven) -> _Deed:
        """Do it; the journal has what came of it. What cannot be done changes nothing."""
        try:
            act = _ACT.validate_python(order.message)
            deed = await self._do(key, order, act, place, driven)
        except ValidationError as error:
            deed = _Deed("an order that was not understood", explain(error), ok=False)
        except (ToolError, IndexError) as error:
            deed = _Deed("an order that could not be done", str(error), ok=False)
        about = {"order": order.id, "actor": order.owner, "did": deed.what, "ok": deed.ok}
        await self._scope.record(f"{key}/done", DONE, about, value=deed.text)
        await self._show(key, order)
        return deed

    async def _show(self, key: str, order: Order) -> None:
        """What the model would be shown now, so that the person sees it."""
        await self._context.record(f"{key}/context", {"model": f"person:{order.owner}"})

    async def _do(self, key: str, order: Order, act: Act, place: Place, driven: Driven) -> _Deed:
        match act:
            case CallTool():
                return await self._call(key, order, act)
            case Say():
                self._say(key, f"The person who drives for you says:\n{act.text}")
                return _Deed("said something to you", act.text, shown=False)
            case EditMessage():
                return self._edit(key, act)
            case DropTurn():
                gone = self._context.drop_turn(act.at)
                return _Deed(f"took {gone} messages out of your history", shown=False)
            case EditCall():
                if not place.waiting or act.call >= len(place.calls):
                    raise ToolError(f"no call {act.call} waits to be run")
                driven.edits[act.call] = act.arguments
                what = "took out" if act.arguments is None else "changed"
                return _Deed(f"{what} call {act.call} of your turn")
            case GiveResult():
                if act.call >= len(place.calls):
                    raise ToolError(f"there is no call {act.call}; calls: {len(place.calls)}")
                driven.results[act.call] = act.text
                return _Deed(f"gave the result of call {act.call} of your turn")
            case ChangeModel():
                await self._change_model(f"{key}/model", act.name)
                return _Deed(f"changed the model to {act.name}", shown=False)
            case PutArtifact():
                status = ArtifactStatus.PROPOSED
                evidence = (Evidence(kind=PERSON, source=order.owner),)
                made = await self._scope.put(
                    f"{key}/put",
                    act.name,
                    clean(act.content),
                    kind=act.kind,
                    status=status,
                    evidence=evidence,
                )
                return _Deed(f"put version {made.version} of {act.name}")
            case EditReport():
                self._read(act.value)
                driven.value, driven.status = act.value, ReportStatus(act.status)
                return _Deed("wrote the report", shown=False)

    async def _call(self, key: str, order: Order, act: CallTool) -> _Deed:
        """The agent's own tool, in its scope; the step says who ordered it."""
        scope = self._scope.acting(order.owner, order)
        call = ToolCall("", act.tool, encode(act.arguments).decode())
        calls = self._calls(scope)
        calls.named(key, [call])
        (result,) = await calls.run(key, [call])
        return _Deed(
            f"called `{act.tool}` with {one_line(call.arguments, 400)}", result.text, ok=result.ok
        )

    def _edit(self, key: str, act: EditMessage) -> _Deed:
        self._context.edit(act.at, act.text, origin=self._scope.key(key), agent=PERSON)
        return _Deed(f"changed message {act.at} of your history", shown=False)

    # ---------------------------------------------------------------- handing back

    async def _back(self, key: str, order: Order, place: Place, driven: Driven) -> HandBack | None:
        """How it goes on; None: not like that."""
        why = ""
        try:
            back = HandBack.model_validate(order.message)
        except ValidationError as error:
            back, why = HandBack(), explain(error)
        if back.how == "finish" and driven.value is None:
            why = "finish: no report was written"
        elif back.how == "retry" and (place.waiting or not place.calls):
            why = "retry: there are no calls that have ended"
        elif back.how == "replace" and not driven.results:
            why = "replace: no result was given"
        if why:
            about = {"order": order.id, "actor": order.owner, "did": "hand back", "ok": False}
            await self._scope.record(f"{key}/done", DONE, about, value=why)
            return None
        driven.how = back.how
        return back

    async def _hand_card(self, key: str, back: HandBack, did: Sequence[_Deed], before: str) -> None:
        """The agent is told what was done in its place, what changed by it, and the note."""
        after = self._state()
        changed = ""
        if self._world is not None and before != after:
            changed = await self._scope.step(
                f"{key}/difference", self._world.difference, before, effect=Effect.PURE, returns=str
            )
        about = {
            "agent": self._scope.path,
            "state": "resuming",
            "owner": back.owner,
            "how": back.how,
            "world": after,
            "deeds": len(did),
        }
        value = {"note": back.note, "difference": changed}
        await self._scope.record(f"{key}/state", STATE, about, value=value)
        said = [deed for deed in did if deed.shown]
        if not said and not changed and not back.note:
            return
        lines = ["A person has worked in your place, and hands back to you. What they did:"]
        items: list[Item] = []
        for number, deed in enumerate(said, 1):
            failed = "" if deed.ok else " (it failed)"
            lines.append(f"{number}. They {deed.what}{failed}.")
            if deed.text:
                items.append(self._item(f"result of {number}", deed.text, _SHOWN_BYTES, key))
        if changed:
            items.append(self._item("what changed", changed, _DIFFERENCE_BYTES, key))
        lines += [f"{each.title}:\n{each.text}" for each in items]
        if back.note:
            lines.append(f"They say: {back.note}")
        self._say(key, "\n".join(lines), items)

    def _item(self, title: str, text: str, most: int, key: str) -> Item:
        salt = f"{self._scope.origin}/{self._scope.key(key)}/{title}"
        shown = cut(clean(text), most, f"in the journal at {self._scope.key(key)}")
        return Item(title, delimit("data", shown, salt), self._scope.key(key), PERSON)

    def _say(self, key: str, text: str, items: Sequence[Item] = ()) -> None:
        said = {"role": "user", "content": clean(text)}
        self._context.add(said, origin=self._scope.key(key), agent=PERSON, parts=items)


@dataclass(frozen=True)
class _Deed:
    """One thing that a person did. ``shown``: on the card; the agent sees the others by itself."""

    what: str
    text: str = ""
    ok: bool = True
    shown: bool = True


def given_results(named: Sequence[ToolCall], driven: Driven) -> dict[int, CallResult]:
    """The results of calls that a person gave, or took out, by number."""
    found: dict[int, CallResult] = {}
    for number, call in enumerate(named):
        out = driven.edits.get(number, ...) is None
        if number in driven.results or out:
            text = driven.results.get(number, "not run: a person took this call out")
            note = "" if out else "A person gave this result:"
            found[number] = CallResult(
                call.id, call.name, text, not out, not out, driven.origin, PERSON, note=note
            )
    return found


def edited(calls: Sequence[ToolCall], driven: Driven) -> tuple[ToolCall, ...]:
    """Calls that wait, with the arguments that a person gave them."""
    found = list(calls)
    for number, arguments in driven.edits.items():
        if arguments is not None:
            found[number] = replace(found[number], arguments=encode(arguments).decode())
    return tuple(found)


def noted(
    results: Sequence[CallResult], calls: Sequence[ToolCall], driven: Driven
) -> list[CallResult]:
    """The results, and of calls that a person changed what they were changed to."""
    found = list(results)
    for number, arguments in driven.edits.items():
        if arguments is not None and number not in driven.results:
            note = f"A person changed its arguments to {calls[number].arguments}."
            found[number] = replace(found[number], note=note)
    return found
