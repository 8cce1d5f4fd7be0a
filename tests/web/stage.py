"""A stage for the timeline: a journal, the real server and a real Chromium without a screen."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import TimeoutError as PlaywrightTimeout

from manyhands.runtime import Event, RunState, Runtime
from manyhands.runtime.codec import digest, encode
from manyhands.runtime.database import INSERT_BLOB, INSERT_EVENT, INSERT_RUN, row_of
from manyhands.runtime.journal import Journal
from manyhands.web import Server

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]
STATES = ("started", "retrying", "done", "failed", "in_doubt")


@asynccontextmanager
async def chromium(*flags: str) -> AsyncGenerator[Browser]:
    async with async_playwright() as player:
        browser = await player.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*FLAGS, *flags]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def picture(page: Page, folder: Path, name: str) -> None:
    """Of the whole page, left in ``MANYHANDS_SHOTS`` (default: in ``folder``); of what the window
    shows, where the renderer of a machine without a screen gives none so large in time."""
    folder = Path(os.environ.get("MANYHANDS_SHOTS", folder / "shots"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        await page.screenshot(path=folder / f"{name}.png", full_page=True, timeout=20_000)
    except PlaywrightTimeout:
        await page.screenshot(path=folder / f"{name}.png", timeout=60_000)


@dataclass
class Site:
    """``wrong``: what the page's console has complained of."""

    runtime: Runtime
    server: Server
    browser: Browser
    wrong: list[str]

    async def page(self, *, width: int = 1280, height: int = 860, **about: Any) -> Page:
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, **about
        )
        context.set_default_timeout(90_000)  # of a machine with other work
        page = await context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        await page.goto(self.server.url)
        return page

    async def open(self, run: str, **about: Any) -> Page:
        """The page of a run, once all of its events are on it."""
        page = await self.page(**about)
        await show(page, run, self.runtime.view(run).seq)
        return page


async def show(page: Page, run: str, seq: int) -> None:
    await page.evaluate("run => { location.hash = 'run=' + encodeURIComponent(run) }", run)
    await page.wait_for_selector(f"body[data-ready='{seq}']", timeout=60_000)
    await drawn(page)


async def drawn(page: Page) -> None:
    """Two frames later: what was asked to be drawn is."""
    await page.evaluate(
        "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r())))"
    )


@asynccontextmanager
async def site(journal: str | Path, *flags: str) -> AsyncGenerator[Site]:
    async with (
        Runtime.open(str(journal), workflows=[]) as runtime,
        Server(runtime) as server,
        chromium(*flags) as browser,
    ):
        yield Site(runtime, server, browser, [])


# -------------------------------------------------------------------- journals


async def lay_down(
    journal: Journal, run: str, events: Sequence[Event], blobs: Iterable[bytes] = ()
) -> None:
    """A run, whole, as if it had been written."""
    contents = list(blobs)

    def write(db: sqlite3.Connection) -> None:
        first = events[0]
        about = (run, first.data["workflow"], first.data["version"], first.ts, events[-1].epoch)
        db.execute(INSERT_RUN, about)
        insert(db, run, events)
        db.executemany(INSERT_BLOB, [(digest(content), content) for content in contents])

    await journal.call(write)


def insert(db: sqlite3.Connection, run: str, events: Iterable[Event]) -> None:
    prepared = [row_of(run, event) for event in events]
    db.executemany(INSERT_EVENT, [row for row, _ in prepared])
    db.executemany(INSERT_BLOB, [blob for _, blob in prepared if blob is not None])


class Writing:
    """Events of one run, numbered; ``tick``: seconds between two."""

    def __init__(self, tick: float = 0.01) -> None:
        self.seq, self.ts, self.epoch, self.tick = 0, 1_700_000_000.0, 0, tick

    def __call__(self, type: str, key: str = "", value: Any = None, **data: Any) -> Event:
        self.seq += 1
        self.ts += self.tick
        self.epoch += type == "run.opened"
        text = None if value is None else encode(value)
        return Event(self.seq, self.epoch, self.ts, type, key, data, text)


def blob_name(text: str) -> str:
    return digest(text.encode())


def attempt(tokens_in: int, tokens_out: int, **more: Any) -> dict[str, Any]:
    spend = {"requests": 1, "input_tokens": tokens_in, "output_tokens": tokens_out, "micro_usd": 3}
    return {"model": "m", "charged": spend, "text": "said", "calls": [], "seconds": 0.1, **more}


def many(count: int, agents: int) -> Iterator[Event]:
    """``count`` events of a run in which ``agents`` agents take turns in parallel."""
    write = Writing(0.002)
    yield write("run.created", workflow="many", version=1, budget={"tokens": 10**9})
    yield write("run.opened")
    for i in range(agents):
        yield from _step(write, f"agent-{i}", "begin", value={"role": f"role {i}", "model": "m"})
    turn = 0
    while True:
        for i in range(agents):
            for event in _turn(write, f"agent-{i}", turn):
                yield event
                if write.seq >= count:
                    return
        turn += 1


def _step(write: Writing, scope: str, name: str, value: Any, **data: Any) -> Iterator[Event]:
    about = {"effect": "idempotent", "args": "", "scope": scope}
    yield write("step.started", f"{scope}/{name}", **about, **data)
    used = {"used": {unit: n // 2 for unit, n in data["cost"].items()}} if "cost" in data else {}
    yield write("step.done", f"{scope}/{name}", value, **used)


def _turn(write: Writing, scope: str, turn: int) -> Iterator[Event]:
    said = blob_name(f"{scope} {turn}")
    change = {"status": "added", "at": turn, "blob": said, "role": "user"}
    change |= {"origin": f"{scope}/turn/{turn - 1}/tool/0", "agent": "tool:bash"}
    yield write(
        "agent:context",
        f"{scope}/turn/{turn}/context",
        agent=scope,
        model="m",
        before=str(turn) if turn else "",
        changes=[change],
        length=turn + 1,
        hash=str(turn + 1),
    )
    cost = {"requests": 2, "tokens": 2_000, "micro_usd": 8}
    calls = [{"name": "bash", "arguments": "{}"}]
    value = attempt(900, 100, calls=calls)
    yield from _step(write, scope, f"turn/{turn}/request/1", value, cost=cost)
    yield from _step(write, scope, f"turn/{turn}/tool/0", {"ok": turn % 9 != 0, "text": "done"})


def wild(seed: int, count: int = 400) -> list[Event]:
    """A run as no workflow would have it: every event that may follow, in any order."""
    dice = random.Random(seed)
    write = Writing(dice.choice([0.001, 1.5]))
    events = [
        write("run.created", workflow="wild", version=seed, budget={"tokens": 10_000}),
        write("run.opened"),
    ]
    state = RunState("wild")
    for event in events:
        state.apply(event)
    while len(events) < count:
        event = _any(dice, write, state)
        if event is not None:
            state.apply(event)
            events.append(event)
    return events


def _any(dice: random.Random, write: Writing, state: RunState) -> Event | None:
    key = f"{dice.choice(['', 'a/', 'a/turn/0/tool/0/b/', 'c/'])}step-{dice.randrange(12)}"
    step = state.steps.get(key)
    cost = {"tokens": dice.randrange(500), "requests": 1}
    match dice.randrange(12):
        case 0 if dice.random() < 0.3:
            retry = [k for k, s in state.steps.items() if s.outcome == "failed"][:2]
            return write("run.opened", retry=retry)
        case 1:
            versions = state.artifacts.next_version("x")
            status = dice.choice(["proposed", "accepted"])
            about = {"kind": "k", "blob": "sha256:0", "producer": "a", "reason": "", "evidence": []}
            return write(
                "artifact.put", f"x-{write.seq}", name="x", version=versions, status=status, **about
            )
        case 2 if state.artifacts.get("x"):
            version = dice.randrange(1, state.artifacts.next_version("x"))
            status = dice.choice(["accepted", "rejected", "stale"])
            return write(
                "artifact.marked",
                f"m-{write.seq}",
                name="x",
                version=version,
                status=status,
                reason="so",
            )
        case 3 if step and step.outcome == "in_doubt":
            action = dice.choice(["retry", "result", "fail"])
            return write("step.settled", key, action=action, by="person", kind="K", message="m")
        case 4:
            return write("lab:row", f"row-{write.seq}", any="thing")
        case _ if step and step.outcome == "started":
            return _end(dice, write, key, step.cost)
        case _ if step is None or step.outcome == "retrying":
            scope = key.rpartition("/")[0]
            effect = dice.choice(["once", "idempotent"])
            number = step.attempts + 1 if step else 1
            return write(
                "step.started", key, effect=effect, args="", scope=scope, attempt=number, cost=cost
            )
        case _:
            return None


def _end(dice: random.Random, write: Writing, key: str, cost: dict[str, int]) -> Event:
    used = {unit: dice.randrange(amount + 1) for unit, amount in cost.items()}
    match dice.randrange(4):
        case 0:
            return write("step.failed", key, kind="E", message="m", final=False, used=used)
        case 1:
            return write("step.failed", key, kind="E", message="m", final=True, used=used)
        case 2:
            return write("step.done", key, "value")
        case _:
            return write("step.done", key, "value", used=used)


# -------------------------------------------------------------------- the two folds

#: Folds a run's events in the page, as the server sends them, and says what came out.
FOLD = """async ([run, token, upto]) => {
  const { View } = await import('/assets/view.js');
  const { apply } = await import('/assets/reducer.js');
  const { spentBelow, burnDown } = await import('/assets/sums.js');
  const asked = await fetch(`/api/runs/${run}/events?follow=0`,
    { headers: { authorization: `Bearer ${token}` } });
  const view = new View();
  for (const message of (await asked.text()).split('\\n\\n')) {
    const data = message.split('\\n').find(line => line.startsWith('data: ['));
    for (const event of data ? JSON.parse(data.slice(6)) : []) {
      if (upto === null || event.seq <= upto) apply(view, event);
    }
  }
  const clean = amounts => Object.fromEntries(
    Object.entries(amounts ?? {}).filter(([, n]) => n).sort());
  const last = points => points.spent.length ? points.spent.get(points.spent.length - 1) : 0;
  return {
    status: view.status, seq: view.seq, epoch: view.epoch, workflow: view.workflow,
    paused: view.paused, active: view.time, forked: view.forkedFrom,
    spent: clean(view.spent), reserved: clean(view.reserved),
    sum: clean(spentBelow(view.root)), burn: last(burnDown(view, 'tokens')),
    lanes: Object.fromEntries(view.lanes.filter(l => !l.gathered).map(
      l => [l.path, spentBelow(l).tokens ?? 0])),
    steps: Object.fromEntries([...view.steps].map(([key, at]) => [key,
      [view.state.get(at), clean(view.used[at]), clean(view.lost[at]), clean(view.cost[at])]])),
    outcomes: view.outcomes,
    artifacts: [...view.artifacts.values()].flatMap(versions => [...versions.values()].map(
      a => [a.name, a.version, a.status, a.seq, a.reason])),
  };
}"""


def folded(state: RunState) -> dict[str, Any]:
    """What `FOLD` says, by the journal's own fold."""

    def clean(amounts: dict[str, int]) -> dict[str, int]:
        return {unit: n for unit, n in sorted(amounts.items()) if n}

    steps = {
        s.key: [STATES.index(s.outcome), clean(s.used), clean(s.lost), clean(s.cost)]
        for s in state.steps.values()
    }
    return {
        "status": str(state.status),
        "seq": state.seq,
        "epoch": state.epoch,
        "workflow": state.workflow,
        "paused": state.paused,
        "forked": state.forked_from,
        "spent": clean(state.spent()),
        "reserved": clean(state.reserved()),
        "sum": clean(state.spent()),
        "burn": state.spent()["tokens"],
        "steps": steps,
        "outcomes": [sum(s[0] == i for s in steps.values()) for i in range(len(STATES))],
        "artifacts": [
            [a.name, a.version, str(a.status), a.seq, a.reason] for a in state.artifacts.all()
        ],
    }


async def compare(at: Site, page: Page, run: str, upto: int | None = None) -> dict[str, Any]:
    """Both folds of a run, which must agree; returns the page's."""
    found = await page.evaluate(FOLD, [run, at.server.token, upto])
    state = RunState(run)
    for event in at.runtime.journal.events(run, 0, None if upto is None else upto + 1):
        state.apply(event)
    wanted = folded(state)
    for name, value in wanted.items():
        assert found[name] == value, f"{name} of {run} after event {state.seq}"
    assert abs(found["active"] - state.active) < 1e-3
    for path, tokens in found["lanes"].items():
        assert tokens == state.spent(path)["tokens"], path
    return found
