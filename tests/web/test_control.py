"""A person pauses, decides, drives and hands back in the page: a real run, in real Chromium."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from manyhands.agents.approval import Approval
from manyhands.runtime import Runtime
from manyhands.web.page import html_pieces
from tests.takeover.stage import Stage, agent, seen
from tests.web.stage import Site, picture, site

pytestmark = pytest.mark.needs("chromium")

expect.set_options(timeout=30_000)


@asynccontextmanager
async def control(stage: Stage, **about: Any) -> AsyncGenerator[tuple[Runtime, Any, Site, Page]]:
    """The run, and its page at the tab `Control`. Its first calls wait until the page is there."""
    for name in stage.names:
        stage.held[f"team/{name}"] = asyncio.Event()
    async with stage.running() as (runtime, handle), site(stage.path) as place:
        page = await place.page(**about)
        await page.evaluate("location.hash = 'run=r'")
        await page.get_by_role("tab", name="Control").click()
        yield runtime, handle, place, page


def go(stage: Stage) -> None:
    for gate in stage.held.values():
        gate.set()


@pytest.fixture
def stage(fast_path: Path) -> Stage:
    return Stage(fast_path)


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
async def test_an_agent_is_driven_from_the_page(stage: Stage, tmp_path: Path, width: int) -> None:
    async with control(stage, width=width) as (runtime, handle, place, page):
        await page.get_by_label("Your name").fill("ada")
        row = page.locator(f"tr[data-agent='{agent('a')}']")
        await row.get_by_role("button", name="Take over").click()
        await seen(runtime, lambda e: e.type == "command")
        go(stage)
        seat = page.get_by_label("You drive")
        await expect(seat).to_be_visible()
        await expect(row).to_have_attribute("data-stand", "human")
        await seat.get_by_label("Arguments, as JSON").fill('{"text": "by hand"}')
        await seat.get_by_role("button", name="Do", exact=True).click()
        await expect(seat.get_by_label("What you did")).to_contain_text("noted by hand")
        await seat.get_by_label("Arguments, as JSON").fill('{"wrong": 1}')
        await seat.get_by_role("button", name="Do", exact=True).click()
        await expect(seat.get_by_label("What you did")).to_contain_text("do not fit")
        await picture(page, tmp_path, f"control-{width}")
        body = await page.evaluate("document.documentElement.scrollWidth")
        assert body <= width
        await seat.get_by_label("A note for the agent").fill("Done by hand.")
        await seat.get_by_role("button", name="Hand back", exact=True).click()
        await expect(page.get_by_text("Handed back.")).to_be_visible()
        await page.get_by_label("Search spans").fill("driven by ada")
        await expect(page.locator("#found")).to_have_text("1 found")
        await handle.result()
        actors = {s.actor for s in runtime.view("r").steps.values() if s.actor}
        assert not [each for each in place.wrong if "409" not in each]
    assert actors == {"ada"}
    assert stage.effects.count(f"{agent('a')}:by hand") == 1


async def test_a_report_is_written_in_the_page(stage: Stage) -> None:
    stage.names = ("a",)
    async with control(stage) as (runtime, handle, place, page):
        await page.get_by_role("button", name="Take over").click()
        await seen(runtime, lambda e: e.type == "command")
        go(stage)
        await page.get_by_text("Write its report").click()
        await page.get_by_label("Report, as JSON").fill('{"what": "by hand"}')
        await page.get_by_role("button", name="Finish with this report").click()
        (report,) = map(json.loads, await handle.result())
        assert place.wrong == []
    assert (report["value"], report["by"]) == ({"what": "by hand"}, "someone at the page")


async def test_a_run_is_paused_spoken_to_and_let_go_on(stage: Stage) -> None:
    async with control(stage) as (runtime, handle, place, page):
        await page.get_by_role("button", name="Pause all").click()
        await seen(runtime, lambda e: e.type == "command")
        go(stage)
        await expect(page.locator("tr[data-stand='paused']")).to_have_count(2)
        await page.get_by_label("A message for all agents").fill("Be <b>brief</b>.")
        await page.get_by_role("button", name="Say", exact=True).click()
        await page.get_by_role("button", name="Go on").first.click()
        await handle.result()
        commands = [(c.verb, c.message) for c in runtime.view("r").commands]
        assert place.wrong == []
    assert commands == [
        ("pause", {"now": False}),
        ("steer", "Be <b>brief</b>."),
        ("continue", None),
    ]
    assert any(b"Be <b>brief</b>." in m for m in stage.models[0].requests[-1].messages)


async def test_a_call_is_allowed_in_the_page_and_its_words_are_text(stage: Stage) -> None:
    stage.names = ("a",)
    stage.role = replace(stage.role, approval=Approval(tools=("note",)))
    async with control(stage) as (_, handle, place, page):
        go(stage)
        for number, word in enumerate(("Refuse", "Allow")):
            box = page.get_by_label("Waits for you").filter(has_text=f'"text": "{number}"')
            await expect(box).to_be_visible()
            await box.get_by_label("What the agent is told").fill("<img src=x onerror=alert(1)>")
            await box.get_by_role("button", name=word).click()
        await handle.result()
        assert place.wrong == []
    assert stage.effects == [f"{agent('a')}:1"]


async def test_an_exported_page_has_no_control(stage: Stage, tmp_path: Path) -> None:
    async with stage.running() as (runtime, handle), site(stage.path) as place:
        await handle.result()
        file = tmp_path / "r.html"
        file.write_text("".join(html_pieces(runtime, "r")))
        page = await place.page()
        await page.goto(file.as_uri())
        await expect(page.get_by_role("tab", name="Agents")).to_be_visible()
        await expect(page.get_by_role("tab", name="Control")).to_have_count(0)
