"""What agents write is text: whatever it is, nothing of it runs, and the page keeps its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from manyhands.runtime import Event
from manyhands.runtime.codec import digest
from manyhands.web import export_html
from tests.web.stage import Writing, attempt, drawn, lay_down, site

pytestmark = pytest.mark.needs("chromium")

SCRIPTS = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "\"><svg onload='window.hacked = 1'>",
)
ODD = (
    "\x1b[2J\x1b]0;title\x07\x00\x08\x7f\x9b \u202eevil\u2066right\u200bto\ufeffleft",
    "\ud800 half of a pair, Z̸̡̛͓͔" + "̸̡̛͓͔" * 200,
    "w" * 5_000,
)
LARGE = "<script>window.hacked=1</script>" * 330_000  # 10 MB
BAD_UTF8 = b'{"role":"user","content":"\xff\xfe\xc3( <script>window.hacked=1</script>'


def hostile(bad: str) -> tuple[list[Event], list[bytes]]:
    """A run in which ``bad`` stands in every field that an agent, a tool or a person fills."""
    write = Writing()
    key = bad.replace("\ud800", "?")  # a key is always valid Unicode
    scope = f"agent {key}"
    message = json.dumps({"role": "user", "content": bad}).encode()
    blob, broken = digest(message), digest(BAD_UTF8)
    about = {"effect": "idempotent", "args": bad, "scope": scope}
    change: dict[str, Any] = {"status": "added", "at": 0, "blob": blob, "role": bad}
    change |= {"origin": bad, "agent": bad}
    part = {"title": bad, "blob": broken, "origin": bad, "agent": bad, "status": bad}
    calls = [{"id": bad, "name": bad, "arguments": bad}]
    reply = attempt(5, 5, model=bad, text=bad, calls=calls, reasoning=bad, dispute=bad)
    reply |= {"errors": [bad], "finish_reason": bad}
    cost = {"cost": {"tokens": 10, "requests": 1}}
    evidence = [{"kind": bad, "source": bad, "hash": bad, "quote": bad}]
    made = {"kind": bad, "producer": bad, "reason": bad, "evidence": evidence}
    made["status"] = "accepted"  # the runtime writes no other words
    events = [
        write("run.created", workflow=key, version=1, budget={"tokens": 10**6}),
        write("run.opened"),
        write("step.started", f"{scope}/begin", **about),
        write("step.done", f"{scope}/begin", {"role": bad, "model": bad}),
        write(
            "agent:context", f"{scope}/turn/0/context", agent=scope, model=bad, before="",
            changes=[{**change, "parts": [part]}], length=1, hash="1",
        ),
        write("step.started", f"{scope}/turn/0/request/1", **about, **cost),
        write("step.done", f"{scope}/turn/0/request/1", reply),
        write("step.started", f"{scope}/turn/0/tool/0", **about),
        write("step.done", f"{scope}/turn/0/tool/0", {"ok": False, "text": bad}),
        write("step.started", f"{scope}/x", **about),
        write("step.failed", f"{scope}/x", kind=bad, message=bad, final=True),
        write("lab:row", key, comment=bad),
        write(f"odd:{key}", key),
        write("command", id=bad, verb=bad, target=bad, message=bad),
        write("artifact.put", key, name=bad, version=1, blob=blob, **made),
        write("agent:end", f"{scope}/end", agent=scope, status=bad, ending=bad, detail=bad),
        write("run.ended", status="failed", error={"kind": bad, "message": bad}),
    ]  # fmt: skip
    return events, [message, BAD_UTF8]


async def look_at_everything(page: Page) -> None:
    """Open every card, every tab and every content that there is."""
    for key in ("Home", *["ArrowRight"] * 4, "ArrowDown", *["ArrowRight"] * 5):
        await page.press("#lanes", key)
        await page.press("#lanes", "Enter")
        await page.wait_for_selector("#card:not([hidden])")
        await page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        await page.wait_for_timeout(10)
    for tab in ("#tab-artifacts", "#tab-agents", "#tab-artifacts"):
        await page.click(tab)
        await page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    await page.wait_for_timeout(150)


async def assert_harmless(page: Page, width: int) -> None:
    assert await page.evaluate("window.hacked") is None
    assert await page.evaluate("document.querySelectorAll('img, svg, iframe, object').length") == 0
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    text = await page.evaluate("document.querySelector('main:not([hidden])').innerText")
    assert not set(text) & set("\x1b\u202e\u2066\u200b\ufeff\x00\x9b")


@pytest.mark.parametrize("width", [pytest.param(390, marks=pytest.mark.slow), 1280])
async def test_hostile_content_in_every_field_is_text(tmp_path: Path, width: int) -> None:
    async with site(tmp_path / "journal.db") as at:
        page = await at.page(width=width)
        for i, bad in enumerate((*SCRIPTS, *ODD)):
            events, blobs = hostile(bad)
            await lay_down(at.runtime.journal, f"run-{i}", events, blobs)
            await page.evaluate(f"location.hash = 'run=run-{i}'")
            await page.wait_for_selector(f"body[data-ready='{len(events)}']")
            await look_at_everything(page)
            await assert_harmless(page, width)
            await page.evaluate("location.hash = ''")
            await page.wait_for_selector(f"[data-run='run-{i}']")
            await assert_harmless(page, width)
            await page.evaluate(f"location.hash = 'run=run-{i}&with=run-0'")
            await page.wait_for_selector(f"body[data-ready='{len(events)} {len(events)}']")
            await page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            await page.wait_for_timeout(50)
            await assert_harmless(page, width)
        assert [text for text in at.wrong if "404" not in text] == []


@pytest.mark.slow
async def test_ten_megabytes_in_every_field_are_read_in_pieces(tmp_path: Path) -> None:
    events, blobs = hostile(LARGE)
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "large", events, blobs)
        page = await at.open("large")
        await look_at_everything(page)
        await assert_harmless(page, 1280)
        assert await page.evaluate("document.body.innerHTML.length") < 3_000_000
        assert await page.evaluate("document.querySelectorAll('*').length") < 2_000
        await page.wait_for_selector("button.more:visible")
        told = await page.inner_text("button.more:visible >> nth=0")
        assert told.startswith("Show more (16,384 of ")
        assert int(told.split(" ")[4].replace(",", "")) > 10_000_000


@pytest.mark.slow
async def test_hostile_content_stays_text_in_an_exported_file(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        context = await at.browser.new_context(viewport={"width": 1280, "height": 800})
        page = await context.new_page()
        for i, bad in enumerate((*SCRIPTS, *ODD)):
            events, blobs = hostile(bad)
            await lay_down(at.runtime.journal, f"run-{i}", events, blobs)
            file = tmp_path / f"{i}.html"
            export_html(at.runtime, f"run-{i}", file)
            await page.goto(file.as_uri())
            await page.wait_for_selector(f"body[data-ready='{len(events)}']")
            await drawn(page)
            await look_at_everything(page)
            await assert_harmless(page, 1280)
