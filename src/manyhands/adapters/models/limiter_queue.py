"""Who is served next: agents in turn, and each agent's requests in the order that they came in.

Invariant: between two turns of one agent, every other agent that waits has one. Who has left is not
found here any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiter(Generic[T]):
    """``turn`` is given its result when it is served."""

    agent: str
    tokens: float
    turn: asyncio.Future[T]


class Turns(Generic[T]):
    """Waiters, one queue per agent; the agents stand in the order in which they are served."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Waiter[T]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def next(self) -> Waiter[T] | None:
        for queue in self._queues.values():
            return queue[0]
        return None

    def add(self, waiter: Waiter[T]) -> None:
        self._queues.setdefault(waiter.agent, deque()).append(waiter)
        self._count += 1

    def pop(self) -> Waiter[T]:
        """Take the next one out; its agent goes behind all others."""
        agent = next(iter(self._queues))
        queue = self._queues.pop(agent)
        waiter = queue.popleft()
        if queue:
            self._queues[agent] = queue
        self._count -= 1
        return waiter

    def give_back(self, agent: str) -> None:
        """Its turn came to nothing: it is still the next, if it has another request."""
        queue = self._queues.pop(agent, None)
        if queue:
            self._queues = {agent: queue, **self._queues}

    def remove(self, waiter: Waiter[T]) -> None:
        """One that gave up; nothing where it is not here any more."""
        queue = self._queues.get(waiter.agent)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        self._count -= 1
        if not queue:
            del self._queues[waiter.agent]

    def clear(self) -> list[Waiter[T]]:
        """Take all out, in no order that matters."""
        found = [waiter for queue in self._queues.values() for waiter in queue]
        self._queues.clear()
        self._count = 0
        return found
