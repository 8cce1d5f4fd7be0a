"""A fork from any step, and two runs side by side."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from manyhands.runtime import Event
from manyhands.testing.models import answer
from tests.answering.stage import SHIP
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.web.stage import Writing, drawn, lay_down, many, picture, site
from tests.web.test_server import bearer, served

HOW = "{'before': 20}".replace("'", '"')


def command(server: Any, **changes: str) -> dict[str, str]:
    given = {
        "Origin": server.origin,
        "Content-Type": "application/json",
        "If-Match": '"40"',
        "Idempotency-Key": "0123456789abcdef",
    }
    return {k: v for k, v in {**bearer(server), **given, **changes}.items() if v}


async def test_a_fork_is_made_once_however_often_it_is_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "a/run", list(many(50, 2)))

        async def ask(**changes: str) -> tuple[int, str]:
            headers = command(server, **changes)
            async with session.post("/api/runs/a/run/fork", data=HOW, headers=headers) as told:
                return told.status, (await told.json())["run"]

        answers = await asyncio.gather(*(ask() for _ in range(5)))
        assert len({run for _, run in answers}) == 1
        assert sorted(status for status, _ in answers) == [200, 200, 200, 200, 201]
        new = answers[0][1]
        view = runtime.view(new)
        assert view.forked_from == "a/run@20"
        assert view.seq == 20
        assert [e.seq for e in runtime.journal.events("a/run")] == list(range(1, 51))
        status, other = await ask(**{"Idempotency-Key": "another-key"})
        assert (status, other != new) == (201, True)
        assert len(runtime.runs()) == 3


@pytest.mark.parametrize(
    ("changes", "body", "status"),
    [
        ({"Authorization": ""}, HOW, 401),
        ({"Origin": ""}, HOW, 403),
        ({"Origin": "https://evil.example"}, HOW, 403),
        ({"Sec-Fetch-Site": "cross-site"}, HOW, 403),
        ({"Content-Type": "text/plain"}, HOW, 415),
        ({"If-Match": ""}, HOW, 428),
        ({"If-Match": '"x"'}, HOW, 400),
        ({"If-Match": '"51"'}, HOW, 412),
        ({"If-Match": '"10"'}, HOW, 412),
        ({"Idempotency-Key": ""}, HOW, 400),
        ({}, "no JSON", 400),
        ({}, '{"before": "20"}', 400),
        ({}, '{"before": true}', 400),
        ({}, '{"before": 2}', 422),
        ({}, "[" * 50_000, 400),
    ],
)
async def test_a_command_that_is_not_one_makes_nothing(
    tmp_path: Path, changes: dict[str, str], body: str, status: int
) -> None:
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "run", list(many(50, 2)))
        headers = command(server, **changes)
        async with session.post("/api/runs/run/fork", data=body, headers=headers) as told:
            assert told.status == status
            assert (await told.json())["error"]
        async with session.get("/api/runs/run/fork", headers=bearer(server)) as told:
            assert told.status == 405
        assert len(runtime.runs()) == 1


async def test_a_key_that_was_used_for_another_fork_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, server, session):
        await lay_down(runtime.journal, "run", list(many(50, 2)))
        statuses: list[int] = []
        for before in (20, 30):
            body = json.dumps({"before": before})
            async with session.post(
                "/api/runs/run/fork", data=body, headers=command(server)
            ) as told:
                statuses.append(told.status)
        assert statuses == [201, 409]


@pytest.mark.needs("chromium")
async def test_the_page_forks_before_a_step_and_shows_where_the_runs_part(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.open("asked")
        await page.fill("#search", "critic/turn/0/request")
        await page.press("#search", "Enter")
        await page.press("#lanes", "Enter")
        await page.dblclick(".forking button")
        await page.wait_for_selector(".forking a")
        runs = [info.run_id for info in at.runtime.runs()]
        new = next(run for run in runs if run != "asked")
        assert len(runs) == 2
        assert f"manyhands resume {new}" in await page.inner_text(".forking")
    said: list[int] = []

    def other(request: Any, conversation: Any) -> Any:
        said.append(1)
        objection = {"kind": "unclear", "span": "Flask", "why": "which version?"}
        return answer({"verdict": "revise", "issues": [objection]} if len(said) == 1 else SHIP)

    stage.cast.critic = other
    async with stage.runtime() as runtime:
        handle = await runtime.resume(new)
        await handle.result()
    async with site(stage.journal) as at:
        page = await at.page()
        await page.check("input[value='asked']")
        await page.check(f"input[value='{new}']")
        await page.click("#compare-link")
        seqs = [at.runtime.view(run).seq for run in ("asked", new)]
        await page.wait_for_selector(f"body[data-ready='{seqs[0]} {seqs[1]}']")
        text = await page.inner_text("#compare-body")
        assert "steps are the same" in text
        assert await page.locator(".compare-row").count() > 0
        await page.go_back()
        await page.wait_for_selector("#runs:not([hidden])")
        assert at.wrong == []


async def test_a_fork_of_agents_that_used_tools_goes_on_and_so_does_its_own(tmp_path: Path) -> None:
    """The marks around a tool's result are those of the run that began the history."""
    stage = Answering(tmp_path)
    whole = await stage.ask()
    async with stage.runtime() as runtime:
        run = "asked"
        for _ in range(2):
            run = await runtime.fork(run, "critic/turn/0/request/1")
            outcome = await (await runtime.resume(run)).result()
            assert outcome.answer == whole.answer
            assert runtime.view(run).origin == "asked"


@pytest.mark.needs("bubblewrap")
async def test_a_fork_of_a_change_of_a_repository_goes_on(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    whole = await stage.solve()
    steps = [e.key for e in stage.events if e.type == "step.started"]
    midway = next(key for key in steps if key.endswith("tasks/sums/coder/turn/2/request/1"))
    async with stage.runtime() as runtime:
        for before in ("orchestrator/turn/1/request/1", midway):
            run = await runtime.fork("solved", before)
            outcome = await (await runtime.resume(run)).result()
            assert outcome.complete
            assert runtime.journal.blob(outcome.patch) == runtime.journal.blob(whole.patch)


def _turns(write: Writing, *steps: tuple[str, str, bool]) -> list[Event]:
    """A run of one agent: for each step its key, the hash of what it is given, and whether its
    result is good."""
    events = [write("run.created", workflow="w", version=1, budget={}), write("run.opened")]
    begin = ("begin", "", True)
    for key, args, good in (begin, *steps):
        about = {"effect": "idempotent", "args": args, "scope": "boss", "cost": {"tokens": 10}}
        value = {"role": "boss"} if key == "begin" else {"ok": good, "text": args}
        events.append(write("step.started", f"boss/{key}", **about))
        events.append(write("step.done", f"boss/{key}", value, used={"tokens": 7}))
    return events


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
async def test_runs_are_aligned_by_agent_action_and_arguments(tmp_path: Path, width: int) -> None:
    first = [
        ("turn/0/request/1", "a", True),
        ("turn/0/tool/0", "b", True),
        ("turn/1/request/1", "c", True),
        ("turn/1/tool/0", "d", True),
        ("turn/2/request/1", "e", True),
        ("turn/2/tool/0", "f", True),
    ]
    second = [
        ("turn/0/request/1", "a", True),
        ("turn/0/tool/0", "b", False),  # ended otherwise
        ("turn/1/request/1", "x", True),  # given something else
        ("turn/2/request/1", "e", True),  # a tool was left out
        ("turn/2/tool/0", "f", True),
        ("turn/3/request/1", "g", True),  # and a turn added
    ]
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "one", _turns(Writing(), *first))
        await lay_down(at.runtime.journal, "two", _turns(Writing(), *second))
        page = await at.page(width=width)
        await page.evaluate("location.hash = 'run=one&with=two'")
        await page.wait_for_selector("body[data-ready='16 16']")
        await drawn(page)
        rows = page.locator(".compare-row")
        assert await hows(page) == [
            ["", "ended other"],
            ["", "given other"],
            ["", "not here"],
            ["not here", ""],
        ]
        assert "3 steps are the same, 4 are not" in await page.inner_text("#compare-body")
        assert [await t.inner_text() for t in await page.locator(".same").all()] == [
            "= 1 the same",
            "= 2 the same",
        ]
        await rows.nth(1).locator("summary").first.click()
        await rows.nth(1).locator("details details summary").first.click()
        told = rows.nth(1).locator("pre").first
        await expect(told).to_contain_text('"text":"c"', timeout=60_000)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert at.wrong == []


async def hows(page: Page) -> list[list[str | None]]:
    """For each row that is listed: how each run's step stands to the first one's."""
    rows = await page.locator(".compare-row").all()
    return [
        [await cell.get_attribute("data-how") for cell in await row.locator("> [data-how]").all()]
        for row in rows
    ]


@pytest.mark.needs("chromium")
async def test_more_than_two_runs_stand_side_by_side(tmp_path: Path) -> None:
    """What the first does not have is held against one another; sums are told for each."""
    first = [("turn/0/request/1", "a", True), ("turn/2/tool/0", "e", True)]
    second = [
        ("turn/0/request/1", "a", True),
        ("turn/1/tool/0", "x", True),
        ("turn/2/tool/0", "e", False),
    ]
    third = [
        ("turn/0/request/1", "a", True),
        ("turn/1/tool/0", "x", False),
        ("turn/1/tool/1", "y", True),
        ("turn/2/tool/0", "e", True),
    ]
    async with site(tmp_path / "journal.db") as at:
        for name, steps in (("one", first), ("two", second), ("three", third)):
            await lay_down(at.runtime.journal, name, _turns(Writing(), *steps))
        page = await at.page()
        for name in ("one", "two", "three"):
            await page.check(f"input[value='{name}']")
        await expect(page.locator("#compare-link")).to_have_text("Compare the 3")
        await page.click("#compare-link")
        await page.wait_for_selector("body[data-ready='8 10 12']")
        await drawn(page)
        assert await hows(page) == [
            ["not here", "", "ended other"],
            ["not here", "not here", ""],
            ["", "ended other", "same"],
        ]
        assert "1 step is the same, 3 are not" in await page.inner_text("#compare-body")
        tokens = page.locator("#compare-body tr", has_text="tokens").locator("td")
        assert await tokens.all_inner_texts() == ["tokens", "21", "28 (+7)", "35 (+14)"]
        await picture(page, tmp_path, "compare-three")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert at.wrong == []


@pytest.mark.needs("chromium")
async def test_long_runs_are_compared_and_the_list_is_bounded(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "one", list(many(20_000, 3)))
        await lay_down(at.runtime.journal, "two", list(many(15_000, 3)))
        page = await at.page()
        await page.evaluate("location.hash = 'run=one&with=two'")
        await page.wait_for_selector("body[data-ready='20000 15000']")
        assert await page.locator(".compare-row").count() <= 400
        assert "more differences are not listed" in await page.inner_text("#compare-body")
        assert at.wrong == []
