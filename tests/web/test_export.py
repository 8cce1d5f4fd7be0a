"""One file that opens from a disk, with all that the page shows."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from manyhands.web import export_html
from manyhands.web.page import MODULES, script
from tests.answering.stage import Stage as Answering
from tests.web.stage import drawn, lay_down, many, site

pytestmark = pytest.mark.needs("chromium")


async def test_the_command_writes_a_file_that_opens_offline(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    file = tmp_path / "asked.html"
    words = ["-m", "manyhands.cli", "export", "asked", "--html", str(file)]
    asking = await asyncio.create_subprocess_exec(
        sys.executable, *words, "--journal", stage.journal, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asking.communicate()
    assert asking.returncode == 0
    assert b"asked.html" in told.replace(b"\n", b"")
    assert not (tmp_path / "asked.jsonl").exists()
    async with site(stage.journal) as at:
        live = await at.open("asked")
        context = await at.browser.new_context(viewport={"width": 1280, "height": 860})
        await context.set_offline(True)
        page = await context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: at.wrong.append(str(error)))
        page.on("console", lambda m: at.wrong.append(m.text) if m.type == "error" else None)
        await page.goto(file.as_uri())
        await page.wait_for_selector(f"body[data-ready='{at.runtime.view('asked').seq}']")
        await drawn(page)
        for where in ("#figures", "#panel", "#burn-told", "#labels", "#run-about"):
            assert await page.inner_text(where) == await live.inner_text(where), where
        cards: list[str] = []
        for each in (live, page):
            await each.fill("#search", "work/flask/agent/turn/1/request")
            await each.press("#search", "Enter")
            await each.press("#lanes", "Enter")
            await each.wait_for_selector("#card:not([hidden])")
            boxes = each.locator("#card details")
            for i in range(await boxes.count()):
                await boxes.nth(i).evaluate("box => { box.open = true }")
                await boxes.nth(i).locator("pre").first.wait_for()
            cards.append("\n".join(await each.locator("#card .part").all_inner_texts()))
        assert cards[0] == cards[1]
        assert "Flask answered 3,400 requests per second" in cards[1]
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert at.wrong == []


async def test_a_file_shows_the_tokens_of_the_journal(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "run", list(many(9_000, 30)))
        file = tmp_path / "run.html"
        export_html(at.runtime, "run", file)
        page = await (await at.browser.new_context()).new_page()
        await page.goto(file.as_uri())
        await page.wait_for_selector("body[data-ready='9000']")
        shown = await page.get_attribute("[data-figure='tokens']", "data-value")
        assert int(shown or 0) == at.runtime.view("run").spent()["tokens"]


async def test_the_page_saves_itself_as_the_same_file(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "run", list(many(500, 3)))
        export_html(at.runtime, "run", tmp_path / "run.html")
        page = await at.open("run")
        async with page.expect_download() as told:
            await page.click("#download")
        saved = await (await told.value).path()
        assert Path(saved).read_bytes() == (tmp_path / "run.html").read_bytes()


def test_no_name_is_used_by_two_modules() -> None:
    """They share one scope in an exported file."""
    text = script()
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", text, re.MULTILINE)
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))
    assert not re.search(r"^(?:import|export)\b", text, re.MULTILINE)
    assert "</script" not in text.lower()
    assert "innerHTML" not in text


def test_every_module_is_in_the_list_and_needs_only_those_before_it() -> None:
    folder = Path(__file__).parents[2] / "src/manyhands/web/assets"
    assert {p.name for p in folder.glob("*.js")} == {*MODULES, "start.js"}
    for i, name in enumerate(MODULES):
        needed = re.findall(
            r'^import .* from "\./(.+)";', (folder / name).read_text(), re.MULTILINE
        )
        assert set(needed) <= set(MODULES[:i]), name
