"""The timeline: how soon a run of 100,000 events is on the page, how it pans, how live it is.

A real Chromium without a screen; the server is a process of its own, as `manyhands ui` is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Page

from manyhands.runtime import Runtime
from manyhands.web import export_html
from tests.bench.rounds import Options, say
from tests.bench.rows import Row, at_most
from tests.web.stage import Site, chromium, drawn, insert, lay_down, many, show, site

EVENTS, AGENTS, RATE = 100_000, 400, 2_000

#: Frames are not held back for a screen, so that they take as long as their work does.
UNBOUND = ("--disable-frame-rate-limit", "--disable-gpu-vsync")
#: Frames of one second of panning: time between two, and time in our own code.
PAN = """async () => {
  const lanes = document.getElementById('lanes');
  const times = [];
  let last = performance.now();
  for (let i = 0; i < 120; i++) {
    const way = i % 40 < 20 ? 40 : -40;
    if (i % 3 === 0) lanes.scrollTop += way;
    lanes.dispatchEvent(new WheelEvent('wheel', { deltaX: way, cancelable: true }));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""
#: Notes when the first events of a run are there.
FIRST = """() => {
  const began = performance.now();
  new MutationObserver((_, watch) => {
    if (!Number(document.body.dataset.seq)) return;
    window.first = performance.now() - began;
    watch.disconnect();
  }).observe(document.body, { attributes: true, attributeFilter: ['data-seq'] });
}"""


@asynccontextmanager
async def serving(journal: Path) -> AsyncGenerator[str]:
    """The address of a server of this journal."""
    words = ["-m", "manyhands.cli", "ui", "--no-browser", "--journal", str(journal)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, env=os.environ | {"COLUMNS": "400"}
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()


async def opening(journal: Path, events: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from the click to the first events, and until all are there and drawn."""
    first, whole = list[float](), list[float]()
    async with serving(journal) as address, chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 860})
        await page.goto(address)
        await page.wait_for_selector("[data-run]")
        for _ in range(rounds + 1):  # the first one warms up
            await page.evaluate(FIRST)
            began = time.perf_counter()
            await show(page, "long", events)
            whole.append(time.perf_counter() - began)
            first.append(await page.evaluate("window.first") / 1e3)
            await page.evaluate("location.hash = ''")
            await page.wait_for_selector("#runs:not([hidden])")
    return first[1:], whole[1:]


async def panning(page: Page, zooms: int) -> tuple[list[float], int]:
    """Milliseconds of each frame, and the page's elements."""
    for _ in range(zooms):
        await page.press("#lanes", "+")
    await drawn(page)
    frames: list[float] = await page.evaluate(PAN)
    return frames, await page.evaluate("document.querySelectorAll('*').length")


async def living(at: Site, page: Page, count: int) -> tuple[float, list[float]]:
    """Events per second that were appended, and by how many the page was behind meanwhile."""
    events = list(many(count, 50))
    await lay_down(at.runtime.journal, "live", events[:1_000])
    await show(page, "live", 1_000)
    loop = asyncio.get_running_loop()
    began, lags = loop.time(), list[float]()
    for start in range(1_000, count, 100):
        await at.runtime.journal.call(lambda db, a=start: insert(db, "live", events[a : a + 100]))
        if start % 1_000 == 0:
            lags.append(start + 100 - int(await page.evaluate("document.body.dataset.seq")))
        await asyncio.sleep(max(0.0, began + (start - 900) / RATE - loop.time()))
    rate = (count - 1_000) / (loop.time() - began)
    await page.wait_for_selector(f"body[data-seq='{count}']")
    return rate, lags


async def exporting(runtime: Runtime, folder: Path, events: int) -> float:
    """Seconds until an exported file is open, read and drawn."""
    file = folder / "long.html"
    export_html(runtime, "long", file)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 860})
        began = time.perf_counter()
        await page.goto(file.as_uri())
        await page.wait_for_selector(f"body[data-ready='{events}']", timeout=60_000)
        return time.perf_counter() - began


async def measure(folder: Path, options: Options) -> list[Row]:
    events, journal = options.pick(EVENTS, 10_000), folder / "journal.db"
    async with Runtime.open(str(journal), workflows=[]) as runtime:
        await lay_down(runtime.journal, "long", list(many(events, AGENTS)))
        exported = await exporting(runtime, folder, events)
    first, whole = await opening(journal, events, options.pick(9, 2))
    async with site(journal, *UNBOUND) as at:
        page = await at.open("long")
        far, nodes = await panning(page, 0)
        near, _ = await panning(page, 8)
        rate, lags = await living(at, page, options.pick(30_000, 5_000))
    live = {"events per second": rate, "at most behind": max(lags)}
    return [
        Row("timeline", f"{events:,} events: all on the page", whole, "s", at_most(2)),
        Row("timeline", f"{events:,} events: the first on the page", first, "s"),
        Row("timeline", f"{events:,} events: an exported file opens", [exported], "s"),
        Row("timeline", "a frame while all is panned, median", _spread(far), "ms", at_most(16)),
        Row("timeline", "a frame while a part is panned, median", _spread(near), "ms", at_most(16)),
        Row("timeline", "elements of the page", [float(nodes)], "", at_most(2_000)),
        Row("timeline", f"{RATE:,} events/s live: behind", lags, "events", at_most(RATE), live),
    ]


def _spread(frames: list[float]) -> list[float]:
    """The middle nine tenths: the first and the last frames are those of other things."""
    ordered = sorted(frames)
    cut = len(ordered) // 20
    return ordered[cut:-cut]


def rows(options: Options) -> list[Row]:
    say(f"timeline: {EVENTS:,} events of {AGENTS} agents in Chromium, then {RATE:,} a second")
    with TemporaryDirectory(dir=options.folder) as folder:
        return asyncio.run(measure(Path(folder), options))
