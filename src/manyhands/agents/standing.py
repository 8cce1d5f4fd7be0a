"""The agents of a run as they stand: who works, who is paused, who is driven, who has ended.

Invariant: a fold of the events of the run, so it can be had of any run, held by whichever process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from manyhands.agents.approval import ASKED
from manyhands.agents.driving import STATE
from manyhands.agents.role import HUMAN
from manyhands.runtime import ENDED, Event, RunState, Type
from manyhands.runtime.codec import object_of


class Stand(StrEnum):
    """``pausing``: told to rest, and not at a place for that yet. ``waiting``: for an answer, or a
    decision, of a person, or for the person who fills its role."""

    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    HUMAN = "human"
    RESUMING = "resuming"
    WAITING = "waiting"
    ENDED = "ended"


#: What an order makes of a resting agent.
_AFTER = {
    "take": Stand.HUMAN,
    "hand_back": Stand.RESUMING,
    "expire": Stand.PAUSED,
    "free": Stand.RUNNING,
}


@dataclass
class Agent:
    """``path``: its scope. ``place``: the key of where it rests, or is driven. ``owner``: who
    drives. ``ending``: status and ending of its report. ``context``: the key of the record of what
    its model was, or would be, shown last. ``driven``: the last `STATE` record. ``vacant``: a
    person fills its role, and nobody has sat down."""

    path: str
    role: str = ""
    model: str = ""
    stand: Stand = Stand.RUNNING
    place: str = ""
    owner: str = ""
    ending: str = ""
    context: str = ""
    driven: Event | None = None
    vacant: bool = False


@dataclass(frozen=True)
class Waiting:
    """Something that a person is asked: ``wait`` is the key to answer. ``asked``: the record."""

    agent: str
    wait: str
    kind: str
    asked: Event


@dataclass
class Standing:
    agents: dict[str, Agent]
    waiting: list[Waiting]
    state: RunState


class Standings:
    """Feed it the events of a run, in order; ``value`` reads an event's value."""

    def __init__(self, run_id: str, value: Any) -> None:
        self.state = RunState(run_id)
        self._value = value
        self._agents: dict[str, Agent] = {}
        self._asked: dict[str, Waiting] = {}

    def feed(self, events: Iterable[Event]) -> Standings:
        for event in events:
            self.state.apply(event)
            self._see(event)
        return self

    def now(self) -> Standing:
        """How they stand: of those that work, whether a hold reaches them."""
        waiting = [w for w in self._asked.values() if not self.state.answers.get(w.wait)]
        asked = {w.agent for w in waiting}
        over = self.state.status in ENDED
        for agent in self._agents.values():
            if agent.stand in (Stand.RUNNING, Stand.PAUSING, Stand.WAITING):
                held = not over and bool(self.state.holds.on(agent.path))
                agent.stand = Stand.PAUSING if held else Stand.RUNNING
                if agent.path in asked:
                    agent.stand = Stand.WAITING
            if agent.vacant:
                agent.stand = Stand.PAUSED if over else Stand.WAITING
        return Standing(dict(self._agents), waiting, self.state)

    def _see(self, event: Event) -> None:
        key = event.key
        match event.type:
            case Type.STEP_DONE if key.endswith("/begin"):
                self._begin(event)
            case "agent:end":
                if (agent := self._of(key)) is not None:
                    agent.stand, agent.owner, agent.vacant = Stand.ENDED, "", False
                    agent.model = event.data["model"]
                    agent.ending = f"{event.data['status']}: {event.data['ending']}"
            case "agent:context":
                if (agent := self._agents.get(event.data["agent"])) is not None:
                    agent.context = key
            case "scope:rest":
                if (agent := self._of(key)) is not None:
                    agent.stand, agent.place = Stand.PAUSED, key
                    agent.vacant = agent.model == HUMAN
            case "scope:order":
                if (agent := self._of(key)) is not None and event.data["verb"] in _AFTER:
                    agent.stand = _AFTER[event.data["verb"]]
                    agent.owner = event.data["owner"] if agent.stand is Stand.HUMAN else ""
                    agent.vacant = agent.stand is Stand.PAUSED and agent.model == HUMAN
            case Type.STEP_STARTED:
                agent = self._of(key)
                if agent is not None and agent.stand is Stand.RESUMING:
                    agent.stand = Stand.RUNNING
            case _:
                self._note(event)

    def _note(self, event: Event) -> None:
        if event.type == STATE and (agent := self._agents.get(event.data["agent"])) is not None:
            agent.driven = event
        elif event.type == ASKED:
            wait = event.data["wait"]
            self._asked[wait] = Waiting(event.data["agent"], wait, "decision", event)
        elif event.type == "agent:question":
            wait = event.key.removesuffix("question") + "person"
            self._asked[wait] = Waiting(event.data["agent"], wait, "question", event)

    def _begin(self, event: Event) -> None:
        told = object_of(self._value(event))
        if "role" in told and "completion" in told:
            path = event.key.removesuffix("/begin")
            self._agents[path] = Agent(path, str(told["role"]), str(told["model"]))

    def _of(self, key: str) -> Agent | None:
        """The innermost agent that the key is of."""
        path = key.rpartition("/")[0]
        while path:
            if path in self._agents:
                return self._agents[path]
            path = path.rpartition("/")[0]
        return None
