"""What a model is shown, and the record of it: which item came from where, call by call.

Invariants: a message is encoded once and stored once, when it enters the context; a model call
journals what changed since the call before, never the whole list, so a journal grows linearly; the
exact bytes of any call can be rebuilt from the journal (`context_of`), and a chain of hashes shows
that nothing is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from manyhands.agents.encoding import clean, encode
from manyhands.errors import JournalUnreadable, ToolError
from manyhands.runtime import Event, Run

#: The type of the record that every model call writes. Its ``data``: ``agent`` (scope), ``model``,
#: ``before`` (hash of the list at the agent's call before), ``changes`` to that list in order
#: (added, compacted, dropped; all else is kept), ``length`` and ``hash`` of the list as sent.
RECORD = "agent:context"

UNKNOWN = "unknown"

_LEFT_OUT = re.compile(
    r"\n\n\[\d+ messages after this one were left out to save room\](\n.*)?\Z", re.DOTALL
)
#: Turns at the end of a context that are never left out.
KEEP = 2


@dataclass(frozen=True, slots=True)
class Item:
    """Something an agent is given beside its task.

    ``origin``: the event, step key or artifact that it came from; ``agent``: who wrote it;
    ``blob``: where its text is stored already (default: it will be stored); ``status``: ``added``
    whole, or ``compacted`` by whoever made it from something longer.
    """

    title: str
    text: str
    origin: str = UNKNOWN
    agent: str = UNKNOWN
    blob: str = ""
    status: str = "added"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of one call, as the journal knows it.

    ``status``: kept, added, dropped or compacted. ``parts``: the items inside of it, each with
    title, blob, origin, agent and status.
    """

    blob: str
    role: str
    origin: str
    agent: str
    status: str
    parts: tuple[Mapping[str, Any], ...] = ()

    def data(self, at: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "status": self.status,
            "at": at,
            "blob": self.blob,
            "role": self.role,
            "origin": self.origin,
            "agent": self.agent,
        }
        return found | {"parts": list(self.parts)} if self.parts else found

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Entry:
        names = ("blob", "role", "origin", "agent", "status")
        return cls(*(data[name] for name in names), parts=tuple(data.get("parts", ())))

    def with_status(self, status: str) -> Entry:
        return Entry(self.blob, self.role, self.origin, self.agent, status, self.parts)


class Context:
    """The messages of one agent, growing. ``hash`` names the whole list as it is now."""

    def __init__(self, run: Run, heard: Callable[[str], None] | None = None) -> None:
        """``heard`` is given the text of every message that is neither reply nor result."""
        self._run = run
        self._heard = heard
        self._messages: list[_Message] = []
        self._unstored: dict[str, bytes] = {}
        self._hashes: list[str] = []
        self._changes: list[dict[str, Any]] = []
        self._before = ""
        self._left_out = 0
        self.bytes = 0

    @property
    def hash(self) -> str:
        """Of all messages in order; only what came since the last look is hashed."""
        for message in self._messages[len(self._hashes) :]:
            last = self._hashes[-1] if self._hashes else ""
            self._hashes.append(hashlib.sha256(f"{last}{message.blob}".encode()).hexdigest())
        return self._hashes[-1] if self._hashes else ""

    def __len__(self) -> int:
        return len(self._messages)

    def messages(self) -> tuple[bytes, ...]:
        """The encoded messages, as they go into a request."""
        return tuple(message.content for message in self._messages)

    def add(
        self,
        message: Mapping[str, Any],
        *,
        origin: str,
        agent: str,
        parts: Iterable[Item] = (),
    ) -> None:
        """Append one chat message. ``parts``: the items that its text was made from."""
        told = tuple(self._part(item) for item in parts)
        made = self._make(message)
        entry = made.entry = Entry(made.blob, made.role, origin, agent, "added", told)
        self._changes.append(entry.data(len(self._messages)))
        self._messages.append(made)
        self.bytes += len(made.content)
        if self._heard is not None and made.role in ("system", "user"):
            self._heard(str(message["content"]))

    def compact(
        self,
        at: int,
        message: Mapping[str, Any],
        *,
        origin: str,
        agent: str,
        parts: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        """Put another message in the place of the one at index ``at``."""
        made = self._make(message)
        entry = made.entry = Entry(made.blob, made.role, origin, agent, "compacted", parts)
        self._changes.append(entry.data(at))
        self.bytes += len(made.content) - len(self._messages[at].content)
        self._messages[at] = made
        del self._hashes[at:]

    def drop(self, at: int) -> None:
        """Take the message at index ``at`` out. The caller keeps calls and results in pairs."""
        self._changes.append({"status": "dropped", "at": at})
        self.bytes -= len(self._messages.pop(at).content)
        del self._hashes[at:]

    def answer(self, message: Mapping[str, Any], *, origin: str, agent: str) -> bool:
        """Put another result of a call in the place of the one that is there; False: none is."""
        wanted = message["tool_call_id"]
        places = [i for i, each in enumerate(self._messages) if each.result == wanted]
        for at in places:
            self.compact(at, message, origin=origin, agent=agent)
        return bool(places)

    def edit(self, at: int, text: str, *, origin: str, agent: str) -> None:
        """Put another text in the place of that of the message at index ``at``; its calls stay.

        Raises `ToolError` where there is no such message.
        """
        if not 0 <= at < len(self._messages):
            raise ToolError(f"there is no message {at}; messages: 0 to {len(self._messages) - 1}")
        message = json.loads(self._messages[at].content)
        message["content"] = clean(text)
        self.compact(at, message, origin=origin, agent=agent)

    def drop_turn(self, at: int) -> int:
        """Take the message at index ``at`` out, a model's with the results of its calls. How many
        messages went. Raises `ToolError` for a result alone, and for what is not there."""
        if not 2 <= at < len(self._messages) or self._messages[at].role == "tool":
            raise ToolError(
                f"message {at} cannot be taken out: only a reply with its results, or what was "
                f"said to the model, from 2 to {len(self._messages) - 1}"
            )
        gone = 1
        while at + gone < len(self._messages) and self._messages[at + gone].role == "tool":
            gone += 1
        for _ in range(gone):
            self.drop(at)
        return gone

    def shrink(self, limit: int, *, origin: str, agent: str, keep: int = KEEP) -> int:
        """`shorten`, and where that is not enough, `leave_out`: until ``limit`` bytes fit."""
        done = self.shorten(limit, origin=origin, agent=agent, keep=keep)
        return done + self.leave_out(limit, origin=origin, agent=agent, keep=keep)

    def oldest(self, limit: int, keep: int = KEEP) -> tuple[bytes, ...]:
        """The messages that `leave_out` would take, for ``limit`` bytes."""
        size, found = self.bytes, tuple[bytes, ...]()
        for at, until in self._leavable(keep):
            if size <= limit:
                break
            turn = tuple(message.content for message in self._messages[at:until])
            size -= sum(map(len, turn))
            found += turn
        return found

    def _leavable(self, keep: int) -> list[tuple[int, int]]:
        """Turns as (first message, the one after the last), oldest first, the last ``keep`` not."""
        turns = [i for i, message in enumerate(self._messages) if message.role == "assistant"]
        return list(pairwise(turns[: len(turns) - keep + 1])) if len(turns) > keep else []

    def leave_out(
        self, limit: int, *, origin: str, agent: str, summary: str = "", keep: int = KEEP
    ) -> int:
        """Take the oldest turns out, the last ``keep`` excepted, until ``limit`` bytes fit.

        Turns go whole, calls and results together. The task says how many messages went, and
        ``summary``: what was in them. Returns how many messages went.
        """
        turns = self._leavable(keep)
        first = turns[0][0] if turns else 0
        gone = 0
        for at, until in turns:
            if self.bytes <= limit:
                break
            for _ in range(until - at):
                self.drop(first)
                gone += 1
        if gone:
            self._left_out += gone
            entry = self._messages[first - 1].entry
            message = json.loads(self._messages[first - 1].content)
            text = _LEFT_OUT.sub("", message["content"])
            note = f"\n\n[{self._left_out} messages after this one were left out to save room]"
            message["content"] = text + note + (f"\n{summary}" if summary else "")
            self.compact(first - 1, message, origin=origin, agent=entry.agent, parts=entry.parts)
        return gone

    def shorten(self, limit: int, *, origin: str, agent: str, keep: int = KEEP) -> int:
        """Compact the oldest tool results, the last ``keep`` excepted, until ``limit`` bytes fit.

        A result's place is kept (a call without one is refused by servers); its text becomes a
        note of where the whole is. Returns how many were changed.
        """
        done = 0
        results = [i for i, m in enumerate(self._messages) if m.result and not m.compacted]
        for at in results[: max(0, len(results) - keep)]:
            if self.bytes <= limit:
                break
            old = self._messages[at]
            note = f"[left out to save room: {len(old.content)} bytes; the whole is {old.blob}]"
            if len(note) + 200 < len(old.content):
                short = {"role": "tool", "tool_call_id": old.result, "content": note}
                self.compact(at, short, origin=origin, agent=agent)
                self._messages[at].compacted = True
                done += 1
        return done

    async def record(self, key: str, data: Mapping[str, Any]) -> None:
        """Journal what this call's list is, as a change of the one before.

        The messages that it names are stored ahead of it, in the same breath.
        """
        changes, self._changes = self._changes, []
        before, self._before = self._before, self.hash
        about = {
            "agent": self._run.path,
            "before": before,
            "changes": changes,
            "length": len(self._messages),
            "hash": self.hash,
        }
        unstored, self._unstored = self._unstored, {}
        await asyncio.gather(
            *(self._run.blob(content) for content in unstored.values()),
            self._run.record(key, RECORD, {**data, **about}),
        )

    def _make(self, message: Mapping[str, Any]) -> _Message:
        content = self._run.hide(encode(message))
        blob = self._to_store(content)
        role = message["role"]
        entry = Entry(blob, role, UNKNOWN, UNKNOWN, "added")
        return _Message(content, blob, role, entry, message.get("tool_call_id", ""))

    def _to_store(self, content: bytes) -> str:
        blob = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._unstored[blob] = content
        return blob

    def _part(self, item: Item) -> dict[str, str]:
        return {
            "title": item.title,
            "blob": item.blob or self._to_store(self._run.hide(clean(item.text).encode())),
            "origin": item.origin,
            "agent": item.agent,
            "status": item.status,
        }


@dataclass(slots=True)
class _Message:
    content: bytes
    blob: str
    role: str
    entry: Entry
    result: str = ""
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class ContextView:
    """One call's list: ``entries`` in order (kept, added, compacted), and what it left out."""

    entries: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    data: Mapping[str, Any]

    def messages(self, read: Callable[[str], bytes]) -> list[bytes]:
        """The bytes that the model was sent; ``read`` gives a blob's content."""
        return [read(entry.blob) for entry in self.entries]


def context_of(events: Iterable[Event], key: str) -> ContextView:
    """Rebuild the list of the model call whose context was recorded under ``key`` (its full key).

    ``events``: those of the run, in order. Raises `JournalUnreadable` where the record is not
    there or does not fit together.
    """
    lists: dict[str, list[Entry]] = {}
    hashes: dict[str, str] = {}
    for event in events:
        if event.type != RECORD:
            continue
        agent = event.data["agent"]
        entries = lists.setdefault(agent, [])
        if event.data["before"] != hashes.get(agent, ""):
            raise _gap(key, f"the record {event.key!r} does not follow the one before it")
        touched, dropped = _apply(entries, event.data["changes"])
        hashes[agent] = event.data["hash"]
        if len(entries) != event.data["length"]:
            raise _gap(key, f"{len(entries)} messages, {event.data['length']} recorded")
        if event.key == key:
            seen = [e if id(e) in touched else e.with_status("kept") for e in entries]
            return ContextView(tuple(seen), tuple(dropped), event.data)
    raise _gap(key, "there is no such record")


def _apply(
    entries: list[Entry], changes: Iterable[Mapping[str, Any]]
) -> tuple[set[int], list[Entry]]:
    """Change ``entries`` in place; which are new (by identity), and which are gone."""
    touched: set[int] = set()
    dropped: list[Entry] = []
    for change in changes:
        at = change["at"]
        if change["status"] == "dropped":
            dropped.append(entries.pop(at).with_status("dropped"))
            continue
        entry = Entry.parse(change)
        touched.add(id(entry))
        entries[at : at + (entry.status == "compacted")] = [entry]
    return touched, dropped


def _gap(key: str, what: str) -> JournalUnreadable:
    return JournalUnreadable(
        f"context of call {key!r}: {what}",
        next="give all events of the run, and a key that ends in '/context'",
    )
