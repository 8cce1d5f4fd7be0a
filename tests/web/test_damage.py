"""A journal of which a part cannot be read: the rest of it is there, and the part is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from manyhands.runtime import Runtime, Status
from tests.web.stage import drawn, lay_down, many, site

HARM = {
    "its last event was changed": "UPDATE events SET data='{}' WHERE run_id='hurt' AND seq=500",
    "its status is none": "UPDATE events SET type='run.ended' WHERE run_id='hurt' AND seq=499",
    "its row was changed": "UPDATE runs SET owner='{\"pid\": 1}' WHERE run_id='hurt'",
    "its owner is no JSON": "UPDATE runs SET owner='x' WHERE run_id='hurt'",
    "its time is none": "UPDATE events SET ts=9e999 WHERE run_id='hurt' AND seq=500",
    "its beginning is none": "UPDATE runs SET created_at='never' WHERE run_id='hurt'",
}


async def lay_out(journal: Path, *harm: str) -> None:
    async with Runtime.open(str(journal), workflows=[]) as runtime:
        for run in ("sound", "hurt"):
            await lay_down(runtime.journal, run, list(many(500, 3)))
    with sqlite3.connect(journal) as db:
        for each in harm:
            assert db.execute(each).rowcount == 1


@pytest.mark.parametrize("how", HARM)
async def test_a_damaged_run_is_listed_and_hides_no_other(tmp_path: Path, how: str) -> None:
    await lay_out(tmp_path / "j.db", HARM[how])
    async with Runtime.open(str(tmp_path / "j.db"), workflows=[]) as runtime:
        listed = {info.run_id: info.status for info in runtime.runs()}
        assert listed["sound"] is Status.INTERRUPTED
        # A changed event that no status rests on is found when the run is opened.
        last = how == "its last event was changed"
        assert listed["hurt"] is (Status.INTERRUPTED if last else Status.DAMAGED)


@pytest.mark.needs("chromium")
async def test_the_page_shows_what_is_before_the_damage_and_says_where_it_is(
    tmp_path: Path,
) -> None:
    await lay_out(
        tmp_path / "j.db",
        "UPDATE events SET key='other' WHERE run_id='hurt' AND seq=400",
        "UPDATE runs SET owner='x' WHERE run_id='sound'",
    )
    async with site(tmp_path / "j.db") as at:
        page = await at.page()
        row = page.locator("[data-run='sound']")
        await row.wait_for()
        assert "damaged" in await row.inner_text()
        assert await page.locator("#trouble").is_hidden()
        await page.click("[data-run='hurt'] a")
        await page.wait_for_selector("body[data-ready='399']")
        await drawn(page)
        said = await page.inner_text("#trouble")
        assert "event 399 cannot be read" in said
        assert "event 400 does not fit its checksum" in said
        assert int(await page.get_attribute("#spans", "data-spans") or 0) > 100
        await page.click("#back")
        await row.wait_for()
        await page.click("[data-run='sound'] a")
        await page.wait_for_selector("body[data-ready='500']")
        await page.click("#back")
        await row.wait_for()
        assert await page.locator("#trouble").is_hidden()
        assert at.wrong == []
