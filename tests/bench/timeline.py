"""The timeline in figures: how soon a run of 100,000 events is there, how it pans, how live it is.

    python -m tests.bench.timeline

Prints what it measured on this machine; asserts nothing (`tests/web` asserts what must hold).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.async_api import Page

from manyhands.web import export_html
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


async def opening(journal: Path) -> None:
    """With the server in a process of its own, as `manyhands ui` is."""
    words = ["-m", "manyhands.cli", "ui", "--no-browser", "--journal", str(journal)]
    serving = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, env=os.environ | {"COLUMNS": "400"}
    )
    assert serving.stdout is not None
    address = (await serving.stdout.readline()).decode().split()[-1]
    seconds: list[float] = []
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 860})
        await page.goto(address)
        await page.wait_for_selector("[data-run]")
        for _ in range(7):
            await page.evaluate("location.hash = ''")
            await page.wait_for_selector("#runs:not([hidden])")
            began = time.perf_counter()
            await show(page, "long", EVENTS)
            seconds.append(time.perf_counter() - began)
    serving.terminate()
    await serving.wait()
    told = ", ".join(f"{s:.2f}" for s in sorted(seconds))
    print(f"{EVENTS:,} events, {AGENTS} agents: on the page after {told} s")


async def panning(page: Page, zooms: int) -> None:
    for _ in range(zooms):
        await page.press("#lanes", "+")
    await drawn(page)
    frames = sorted(await page.evaluate(PAN))
    figures = await page.evaluate(
        "() => [document.querySelectorAll('*').length, spans.dataset.drawn]"
    )
    print(
        f"panning after {zooms} zooms: frame median {statistics.median(frames):.1f} ms, "
        f"95 % {frames[int(len(frames) * 0.95)]:.1f} ms; {figures[0]} DOM nodes, "
        f"{figures[1]} spans drawn"
    )


async def living(at: Site, page: Page) -> None:
    events = list(many(30_000, 50))
    await lay_down(at.runtime.journal, "live", events[:1_000])
    await show(page, "live", 1_000)
    loop = asyncio.get_running_loop()
    began, lags = loop.time(), list[int]()
    for start in range(1_000, 30_000, 100):
        await at.runtime.journal.call(lambda db, a=start: insert(db, "live", events[a : a + 100]))
        if start % 1_000 == 0:
            lags.append(start + 100 - int(await page.evaluate("document.body.dataset.seq")))
        await asyncio.sleep(max(0.0, began + (start - 900) / RATE - loop.time()))
    rate = 29_000 / (loop.time() - began)
    last = time.perf_counter()
    await page.wait_for_selector("body[data-seq='30000']")
    print(
        f"{rate:,.0f} events/s live: lag median {statistics.median(lags):.0f}, most {max(lags)} "
        f"events; none {time.perf_counter() - last:.2f} s after the last"
    )


async def exporting(at: Site, folder: Path) -> None:
    file = folder / "long.html"
    began = time.perf_counter()
    size = export_html(at.runtime, "long", file)
    wrote = time.perf_counter() - began
    page = await (await at.browser.new_context()).new_page()
    began = time.perf_counter()
    await page.goto(file.as_uri())
    await page.wait_for_selector(f"body[data-ready='{EVENTS}']", timeout=60_000)
    opened = time.perf_counter() - began
    print(f"exported: {size / 1e6:.1f} MB in {wrote:.1f} s, on the page after {opened:.2f} s")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder) / "journal.db") as at:
            await lay_down(at.runtime.journal, "long", list(many(EVENTS, AGENTS)))
            await exporting(at, Path(folder))
        await opening(Path(folder) / "journal.db")
        async with site(Path(folder) / "journal.db", *UNBOUND) as at:
            page = await at.open("long")
            await panning(page, 0)
            await panning(page, 8)
            await living(at, page)


if __name__ == "__main__":
    asyncio.run(main())
