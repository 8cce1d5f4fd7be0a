"""The page in a real browser: lanes, cards, search, keys, both widths, events as they come."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from manyhands.runtime import Event
from manyhands.runtime.codec import digest
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.web.stage import Writing, attempt, drawn, insert, lay_down, many, show, site

pytestmark = pytest.mark.needs("chromium")

COUNT = "document.querySelectorAll('*').length"


async def figure(page: Page, name: str) -> int:
    text = await page.get_attribute(f"[data-figure='{name}']", "data-value")
    assert text is not None
    return int(text)


async def choose(page: Page, words: str) -> None:
    await page.fill("#search", words)
    await page.press("#search", "Enter")
    await page.press("#lanes", "Enter")
    await page.wait_for_selector("#card:not([hidden])")


async def part(page: Page, name: str) -> str:
    return await page.inner_text(f"#card [data-part='{name}']")


async def test_runs_are_listed_and_opened_and_a_new_one_appears(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        page = await at.page()
        await page.wait_for_selector("#runs-empty:not([hidden])")
        assert "token" not in page.url
        await lay_down(at.runtime.journal, "first/run", list(many(100, 2)))
        await page.click("[data-run='first/run'] a")
        await page.wait_for_selector("body[data-ready='100']")
        assert await page.inner_text("#run-title") == "first/run ‖ interrupted"
        await page.click("#back")
        await lay_down(at.runtime.journal, "second", list(many(50, 2)))
        await page.wait_for_selector("[data-run='second']")
        await page.reload()
        await page.wait_for_selector("[data-run='second']")
        assert at.wrong == []


async def test_a_page_without_the_token_says_so(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        context = await at.browser.new_context()
        page = await context.new_page()
        await page.goto(at.server.origin)
        assert "no token" in await page.inner_text("#trouble")
        await page.goto("about:blank")
        await page.goto(f"{at.server.origin}/#token=wrong")
        await page.locator("#trouble", has_text="missing or wrong").wait_for()


async def test_tokens_shown_are_those_of_the_journal(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        view = at.runtime.view("asked")
        assert await figure(page, "tokens") == view.spent()["tokens"] > 0
        assert await figure(page, "money") == view.spent()["micro_usd"]
        await page.click("#tab-agents")
        rows = await page.query_selector_all("[data-agent]")
        assert len(rows) == 6
        own = 0
        for row in rows:
            path = await row.get_attribute("data-agent") or ""
            cells = await row.query_selector_all("[data-own], [data-all]")
            shown = [int(n) for n in [await cells[0].get_attribute("data-own"),
                                      await cells[1].get_attribute("data-all")] if n]  # fmt: skip
            assert shown[1] == view.spent(path)["tokens"]
            own += shown[0]
        assert own == view.spent()["tokens"]
        assert f"{view.spent()['tokens']:,} spent, 0 reserved" in await page.inner_text(
            "#burn-told"
        )


async def test_a_request_shows_what_it_saw_returned_and_changed(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        await choose(page, "work/flask/agent/turn/1/request")
        saw = await page.query_selector_all("#card [data-part='Saw'] > ol > li > details")
        request = stage.asked("worker")
        sent = next(
            r for r in request if len(r.messages) == 4 and b"Flask is a micro" in r.messages[3]
        )
        assert len(saw) == 4
        for box, message in zip(saw, sent.messages, strict=True):
            await box.evaluate("box => { box.open = true }")
            text = await box.wait_for_selector("pre")
            content = json.loads(message)["content"]
            assert content.strip() in await text.inner_text() or not content
        assert "from harness · role:worker" in await part(page, "Saw")
        returned = await part(page, "Returned")
        assert "Call of answer" in returned
        assert "Flask does not validate request bodies." in returned
        assert "86 out" in returned
        delta = await part(page, "Delta")
        assert "2 changes since the call at #" in delta
        assert "work/flask/agent/turn/0/tool/0 · event #" in delta
        assert at.wrong == []


async def test_what_no_context_names_is_unknown(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        await choose(page, "work/flask/agent/turn/1/request")
        assert "unknown – no later context names this agent's report" in await part(
            page, "Parent did"
        )
        await choose(page, "first-check")  # hits nothing: the card stays
        await choose(page, "work/flask/agent/turn/0/tool/0")
        await page.wait_for_selector("#card [data-part='Saw'] pre")
        assert "search({" in await part(page, "Saw")
        assert "went in whole in the context of work/flask/agent" in await part(page, "Parent did")


@pytest.mark.needs("bubblewrap")
async def test_what_a_parent_did_with_a_report_is_shown_span_by_span(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    await stage.solve()
    async with site(stage.journal) as at:
        page = await at.open("solved")
        await choose(page, "tasks/sums/coder/turn/3/request")
        did = await part(page, "Parent did")
        assert "in the context of orchestrator at #" in did
        rows = await page.query_selector_all("#card .spans tbody tr")
        told = [(await row.inner_text()).replace("\n", " ") for row in rows]
        assert any("= kept" in row and "Mended sums." in row for row in told), told
        assert all("= kept" in row for row in told), told


async def test_what_became_of_a_report_later_is_shown_and_what_is_not_there_is_unknown(
    tmp_path: Path,
) -> None:
    whole = json.dumps({"role": "tool", "content": "the first finding"}).encode()
    note = json.dumps({"role": "tool", "content": "left out"}).encode()
    write = Writing()

    def step(key: str, value: Any) -> list[Event]:
        scope = "boss/turn/0/tool/0/child" if "child" in key else "boss"
        about = {"effect": "pure", "args": "", "scope": scope}
        return [write("step.started", key, **about), write("step.done", key, value)]

    def context(turn: int, status: str, blob: bytes) -> Event:
        change: dict[str, Any] = {"status": status, "at": 0}
        if status != "dropped":
            origin = {"origin": "boss/turn/0/tool/0", "agent": "boss/turn/0/tool/0/child"}
            change |= {"blob": digest(blob), "role": "tool", **origin}
        about = {"model": "m", "before": str(turn - 1) if turn > 1 else "", "hash": str(turn)}
        length = int(status != "dropped")
        key = f"boss/turn/{turn}/context"
        return write("agent:context", key, agent="boss", changes=[change], length=length, **about)

    child = "boss/turn/0/tool/0/child"
    answer = {"name": "answer", "arguments": '{"a": "the first finding", "b": "the second one"}'}
    events = [
        write("run.created", workflow="w", version=1, budget={}),
        *step("boss/begin", {"role": "boss"}),
        *step(f"{child}/begin", {"role": "child"}),
        *step(f"{child}/turn/0/request/1", attempt(1, 1, calls=[answer])),
        write("agent:end", f"{child}/end", agent=child, status="complete", ending="answered"),
        context(1, "added", whole),
        context(2, "compacted", note),
        context(3, "dropped", note),
    ]
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "run", events, [whole, note])
        page = await at.open("run")
        await choose(page, "child/turn/0/request")
        did = (await part(page, "Parent did")).split("\n")
        seqs = [event.seq for event in events[-3:]]
        wanted = ["= kept went in whole", "≈ compacted compacted", "− dropped dropped"]
        for line, how, seq in zip(did[1:], wanted, seqs, strict=False):
            assert line == f"{how} in the context of boss at #{seq}"
        assert "= kept\tanswer › a\tthe first finding\t" in did
        assert "? unknown\tanswer › b\tthe second one\tnot there word for word" in did


async def test_everything_is_reached_by_keyboard_and_told(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.id") == "search"
        await page.keyboard.type("supervisor/turn/0/request")
        assert await page.inner_text("#found") == "1 found"
        await page.keyboard.press("Enter")
        told = await page.text_content("#told")
        assert told is not None
        assert "model request turn 0, done," in told
        assert "503 tokens, agent supervisor" in told
        await page.keyboard.press("Escape")
        assert await page.evaluate("document.activeElement.id") == "lanes"
        await page.keyboard.press("ArrowRight")
        assert "check" in (await page.text_content("#told") or "")
        await page.keyboard.press("ArrowDown")
        assert "agent work/fastapi/agent" in (await page.text_content("#told") or "")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#card:not([hidden])")
        assert await page.evaluate("document.activeElement.id") == "card-title"
        await page.keyboard.press("Escape")
        assert await page.is_hidden("#card")
        assert await page.evaluate("document.activeElement.id") == "lanes"


async def test_controls_have_names_and_the_page_has_one_heading(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, a, [role]')]
            .filter(e => e.checkVisibility() && e.role !== 'status')
            .filter(e => !(e.ariaLabel || e.textContent.trim() ||
              e.labels?.length || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"""
        )
        assert nameless == []
        assert await page.locator("h1:visible").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int, scheme: str) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked", width=width, color_scheme=scheme)
        await choose(page, "critic/turn/0/request")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")


@pytest.mark.slow
async def test_a_run_of_100_000_events_is_windowed(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "long", list(many(100_000, 400)))
        page = await at.open("long")
        lanes = page.locator("#spans")
        assert await lanes.get_attribute("data-lanes") == "401"
        assert int(await lanes.get_attribute("data-spans") or 0) > 30_000
        assert await page.evaluate(COUNT) < 2_000
        labels = await page.locator(".lane-label").count()
        assert 5 <= labels <= 20
        assert 0 < int(await lanes.get_attribute("data-drawn") or 0) < 20 * 1_280
        before = await page.get_attribute(".lane-label >> nth=0", "data-lane")
        await page.evaluate("lanes.scrollTop = 8000")
        await drawn(page)
        assert await page.get_attribute(".lane-label >> nth=0", "data-lane") != before
        await choose(page, "agent-399/turn/3/request")
        assert await page.locator("[data-lane='400']").count() == 1
        for _ in range(12):
            await page.press("#lanes", "+")
        await drawn(page)
        assert 0 < int(await lanes.get_attribute("data-drawn") or 0) < 200
        assert await page.evaluate(COUNT) < 2_000
        assert at.wrong == []


@pytest.mark.slow
async def test_two_thousand_events_a_second_arrive_in_order_and_the_lag_goes_to_zero(
    tmp_path: Path,
) -> None:
    async with site(tmp_path / "journal.db") as at:
        journal = at.runtime.journal
        events = list(many(12_000, 50))
        await lay_down(journal, "live", events[:1_000])
        page = await at.page()
        await show(page, "live", 1_000)
        await page.evaluate(
            """() => { window.seen = [];
            new MutationObserver(() => seen.push(Number(document.body.dataset.seq)))
              .observe(document.body, { attributes: true, attributeFilter: ['data-seq'] }); }"""
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        for start in range(1_000, 12_000, 200):
            await journal.call(lambda db, at=start: insert(db, "live", events[at : at + 200]))
            await asyncio.sleep(max(0.0, began + (start - 800) / 2_000 - loop.time()))
        await page.wait_for_selector("body[data-ready='12000']", timeout=60_000)
        seen: list[int] = await page.evaluate("seen")
        assert seen == sorted(seen)
        assert seen[-1] == 12_000
        assert len(seen) > 10, "the page stood still, and then came all at once"
        assert await figure(page, "tokens") == at.runtime.view("live").spent()["tokens"]
        assert await page.evaluate(COUNT) < 2_000


async def test_the_line_is_taken_up_again_where_it_broke(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        events = list(many(400, 4))
        await lay_down(at.runtime.journal, "run", events[:200])
        page = await at.open("run")
        await page.context.set_offline(True)
        await at.runtime.journal.call(lambda db: insert(db, "run", events[200:]))
        await page.context.set_offline(False)
        await page.wait_for_selector("body[data-ready='400']")
        assert await figure(page, "tokens") == at.runtime.view("run").spent()["tokens"]
