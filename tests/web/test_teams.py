"""The teams' own views, of real runs: what is in them is what their records say.

Pictures of each, wide and narrow, light and dark, are left in ``MANYHANDS_SHOTS`` (default: the
test's own folder).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page

from manyhands.runtime import Event
from manyhands.testing.models import answer
from manyhands.web import export_html
from tests.answering.stage import Stage as Answering
from tests.answering.stage import subtask
from tests.coding.stage import Stage as Coding
from tests.studies import lay_out
from tests.web.stage import Site, Writing, drawn, lay_down, picture, site
from tests.web.test_hostile import LARGE, ODD, SCRIPTS

pytestmark = pytest.mark.needs("chromium")


async def settled(page: Page) -> None:
    """All parts of the team's view have been read and are there."""
    await page.wait_for_function(
        "() => document.querySelector('#panel .soon') !== null"
        " && document.querySelector('#panel .soon:not([data-filled])') === null"
    )
    await drawn(page)


async def pictures(at: Site, run: str, folder: Path) -> None:
    page = await at.open(run)
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 900})
        for colours in ("light", "dark"):
            await page.emulate_media(color_scheme=colours)
            await settled(page)
            await picture(page, folder, f"{run}-{width}-{colours}")
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{run} has to be scrolled sideways, {colours}"
    await page.context.close()


async def unfold(page: Page, text: str) -> str:
    """Open the fold with this title, and say what is in it."""
    box = page.locator("#panel details", has=page.locator("summary", has_text=text)).first
    await box.locator("> summary").click()
    await page.wait_for_function(
        "box => box.querySelector('.content-body').innerText.trim()", arg=await box.element_handle()
    )
    return await box.inner_text()


async def test_an_answer_is_seen_from_its_route_to_the_passages_it_rests_on(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    names = ("fastapi", "flask")
    plan = {"subtasks": [*(subtask(n) for n in names), subtask("django", *names)]}
    stage.cast.supervisor = lambda request, conversation: answer(plan)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        await settled(page)
        assert await page.inner_text("#tab-team") == "Answer"
        told = await page.inner_text("#panel")
        assert "Compare FastAPI, Flask and Django" in told
        assert "team" in await page.inner_text("[data-part=Route]")
        columns = page.locator(".dag-column")
        assert await columns.count() == 2
        assert await columns.nth(0).locator(".node").count() == 2
        assert "needs fastapi, flask" in await columns.nth(1).inner_text()
        pair = page.locator("[data-draft='1'] > div")
        assert "Flask answered 3,400 requests per second" in await pair.nth(0).inner_text()
        assert "ship" in await pair.nth(1).inner_text()
        said = await unfold(page, "it does not validate request bodies")
        assert "the quote stands there word for word" in said
        assert "Flask is a micro framework" in said
        assert await page.inner_text("#panel mark") == "it does not validate request bodies"
        await page.click("#panel .citation .seq")
        await page.wait_for_selector("#card:not([hidden])")
        assert "search" in await page.inner_text("#card-title")
        await pictures(at, "asked", tmp_path)
        assert at.wrong == []


@pytest.mark.needs("bubblewrap")
async def test_a_change_is_seen_from_its_tasks_to_the_lines_they_left(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    await stage.solve()
    async with site(stage.journal) as at:
        page = await at.open("solved")
        await settled(page)
        tasks = page.locator("[data-task]")
        assert await tasks.count() == 2
        for i in range(2):
            assert "complete" in await tasks.nth(i).inner_text()
            assert "merged" in await tasks.nth(i).inner_text()
        assert "min(words, key=len)" in await page.inner_text("[data-part=Patch] .minus >> nth=-1")
        await tasks.nth(0).locator("summary").first.click()
        box = tasks.nth(0).locator("details", has_text="sums.py").last
        await box.locator("> summary").click()
        await box.locator(".plus").first.wait_for()
        await box.get_by_text("the file as this task left it").click()
        await box.locator(".content pre", has_text="return sum(values)").wait_for()
        await pictures(at, "solved", tmp_path)
        assert at.wrong == []


@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
async def test_a_study_is_seen_by_experiment_with_its_ledger_and_diffs(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    home = os.environ | {"MANYHANDS_HOME": str(tmp_path)}
    words = ["-m", "manyhands.cli", "lab", "run", str(study), "--runs", "19", "--json"]
    quiet = asyncio.subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(
        sys.executable, *words, "--run-id", "study", env=home, stdout=quiet, stderr=quiet
    )
    assert await running.wait() == 0
    async with site(tmp_path / "journal.db") as at:
        events = list(at.runtime.journal.events("study"))
        ended = [e.data for e in events if e.type == "lab:experiment"]
        rows = [e.data for e in events if e.type == "lab:row"]
        page = await at.open("study")
        await settled(page)
        labels = await page.locator(".lane-name").all_inner_texts()
        assert {label.split()[0] for label in labels} == {"run", "baseline"} | {
            e["id"] for e in ended
        }
        assert await page.locator("[data-part=Experiments] details").count() == len(ended)
        assert await page.locator("[data-part=Ledger] tbody tr").count() == len(rows)
        first = rows[3]
        assert first["title"] in await page.inner_text("[data-part=Ledger]")
        told = await unfold(page, ended[0]["id"])
        assert "diff --git a/train.py b/train.py" in told
        master = [e.data for e in events if e.type == "lab:master"][-1]
        mean = sum(master["reference"].values()) / len(master["reference"])
        chart = await page.locator("#panel canvas").first.get_attribute("aria-label") or ""
        assert f"master {mean:.4g} ±" in chart
        assert await page.locator("#panel canvas").count() == 3
        assert "do not repeat" in await page.inner_text("[data-part=Notes]") or len(ended) < 2
        await pictures(at, "study", tmp_path)
        file = tmp_path / "study.html"
        export_html(at.runtime, "study", file)
        stored = await (await at.browser.new_context()).new_page()
        await stored.goto(file.as_uri())
        await stored.wait_for_selector(f"body[data-ready='{events[-1].seq}']")
        await settled(stored)
        assert await stored.inner_text("[data-part=Ledger]") == await page.inner_text(
            "[data-part=Ledger]"
        )
        assert at.wrong == []


def _hostile(team: str, bad: str) -> list[Event]:
    write = Writing()
    events = [
        write("run.created", "", {"question": bad, "instruction": bad, "check": bad},
              workflow=team, version=1, budget={}),
        write("run.opened"),
    ]  # fmt: skip
    finding = {"text": bad, "citations": [{"passage": bad, "quote": bad}] * 3}
    task = {"id": "a", "title": bad, "question": bad, "needs": ["b", bad]}
    other = {"id": "b", "title": bad, "question": bad, "needs": ["a"]}  # in a circle
    records: dict[str, list[dict[str, object]]] = {
        "answer:route": [{"way": bad, "reason": bad, "by": bad}],
        "answer:plan": [{"subtasks": [task, other], "fallback": bad}],
        "answer:work": [{"subtask": "a", "status": bad, "findings": [finding] * 90, "detail": bad}],
        "answer:draft": [{"number": 1, "by": bad, "decision": bad, "parts": [
            {"title": bad, "findings": [finding] * 90}]}],
        "answer:critique": [{"draft": 1, "verdict": bad, "issues": [{"kind": bad, "why": bad}]}],
        "code:waiting": [{"id": f"{i}{bad[:9]}", "title": bad, "role": bad, "depends_on": [bad]}
                         for i in range(200)],
        "code:task": [{"id": f"0{bad[:9]}", "state": bad, "merge": bad, "summary": bad,
                       "detail": bad, "changed": [bad] * 200, "unsupported": [bad],
                       "checks": "none"}],
        "code:plan": [{"steps": [{"status": bad, "text": bad}] * 200}],
        "lab:master": [{"version": 0, "reference": {"1": 1.0}, "noise_sd": bad}],
        "lab:run": [{"exit": bad, "phase": bad, "metric": 1e308, "detail": bad,
                     "slot": i, "started_at": 1.0, "duration": -1.0} for i in range(200)],
        "lab:row": [{"row": i, "experiment": f"e{i:04}", "title": bad, "phase": bad, "verdict": bad,
                     "exit": bad, "delta": bad, "metric": None} for i in range(200)],
        "lab:experiment": [{"id": f"e{i:04}", "verdict": bad, "rule": bad} for i in range(200)],
        "lab:queue": [{"proposed": bad}],
    }  # fmt: skip
    value = {
        "experiment": bad,
        "notes": [bad, None],
        "hypotheses": [bad, {"id": bad}],
        "reviews": 3,
    }
    for type_, all_ in records.items():
        if type_.startswith(f"{team}:"):
            events += [
                write(type_, f"{type_}-{i}", value if team == "lab" else None, **each)
                for i, each in enumerate(all_)
            ]
    return events


@pytest.mark.parametrize("team", ["lab", "answer", "code"])
@pytest.mark.parametrize(
    "bad",
    [
        *SCRIPTS[:1],
        *(pytest.param(each, marks=pytest.mark.slow) for each in (ODD[0], LARGE[:4_000])),
    ],
    ids=range(3),
)
async def test_records_that_no_team_would_write_stay_text(
    tmp_path: Path, team: str, bad: str
) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "run", _hostile(team, bad))
        page = await at.open("run", width=390)
        await settled(page)
        for box in (await page.locator("#panel details").all())[:12]:
            await box.evaluate("box => { box.open = true }")
        await drawn(page)
        assert not await page.evaluate("'hacked' in window")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await page.evaluate("document.querySelectorAll('*').length") < 8_000
        assert at.wrong == []
