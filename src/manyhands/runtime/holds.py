"""What keeps a scope from going on: a pause, or a person who drives in its place.

Invariant: the holds after n events depend on those n events alone. A hold covers its target and all
below it, or that scope alone (an agent, and not those that it waits for); an act of the person who
drives is exempt from the holds that were there when it was ordered, and from no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manyhands.runtime.codec import object_of

#: Commands that a resting scope is told of, one by one.
ORDERS = frozenset({"take", "act", "hand_back", "expire"})


@dataclass(frozen=True, slots=True)
class Hold:
    """``seq``: the command's. ``now``: no step begins; otherwise a scope that rests at places of
    its own (an agent, between turns) may go on to the next of them. ``owner``: who drives ('': it
    is a pause); ``then``: what follows when the lease ends by itself, ``hold`` or ``continue``.
    ``alone``: nothing below the target is covered."""

    target: str
    seq: int
    now: bool = False
    owner: str = ""
    then: str = "hold"
    alone: bool = False

    def covers(self, path: str) -> bool:
        return reaches(self.target, path, alone=self.alone)


@dataclass(frozen=True, slots=True)
class Order:
    """One command to a scope that rests; ``verb`` ``free``: nothing holds it any more.

    ``id``: the command's idempotency key. ``owner``: who drives. ``seq``: the command's (0: none).
    """

    verb: str
    seq: int = 0
    id: str = ""
    owner: str = ""
    message: Any = None


@dataclass(slots=True)
class Holds:
    """The holds of a run as its events leave them."""

    pauses: dict[str, Hold] = field(default_factory=dict[str, Hold])
    drivers: dict[str, Hold] = field(default_factory=dict[str, Hold])

    def __bool__(self) -> bool:
        return bool(self.pauses or self.drivers)

    def command(self, seq: int, verb: str, target: str, message: Any) -> None:
        """Fold one command in; those that are of no concern change nothing."""
        told = object_of(message)
        match verb:
            case "pause":
                now = bool(told.get("now", True))
                self.pauses[target] = Hold(target, seq, now, alone=_alone(told))
            case "continue":
                self.pauses = {t: h for t, h in self.pauses.items() if not covers(target, t)}
            case "take":
                owner, then = str(told.get("owner", "")), str(told.get("then", "hold"))
                self.drivers[target] = Hold(target, seq, owner=owner, then=then, alone=_alone(told))
            case "hand_back":
                self.drivers.pop(target, None)
                self.pauses.pop(target, None)
            case "expire":
                driver = self.drivers.pop(target, None)
                if driver is not None and driver.then == "hold":
                    self.pauses[target] = Hold(target, seq, alone=driver.alone)
            case "stop" | "kill" if verb == "stop" or target:
                self.pauses = {t: h for t, h in self.pauses.items() if not covers(target, t)}
                self.drivers = {t: h for t, h in self.drivers.items() if not covers(target, t)}
            case _:
                pass

    def clear(self) -> None:
        self.pauses.clear()
        self.drivers.clear()

    def on(self, path: str, exempt: int = 0) -> list[Hold]:
        """Those that cover ``path`` and came after the command ``exempt``, oldest first."""
        found = [*self.pauses.values(), *self.drivers.values()]
        mine = [h for h in found if h.seq > exempt and h.covers(path)]
        return sorted(mine, key=lambda hold: hold.seq)

    def stops(self, scope: str, exempt: int, *, paced: bool) -> bool:
        """Whether a step may not begin. ``paced``: its scope comes to rest by itself."""
        return any(hold.now or not paced for hold in self.on(scope, exempt))


def reaches(target: str, path: str, *, alone: bool) -> bool:
    """Whether what is said to ``target`` is said to the scope ``path``."""
    return path == target if alone else covers(target, path)


def _alone(told: dict[str, Any]) -> bool:
    return bool(told.get("alone", False))


def covers(target: str, path: str) -> bool:
    """Whether ``path`` is the scope or step ``target``, or below it ('': the whole run)."""
    return not target or path == target or path.startswith(f"{target}/")
