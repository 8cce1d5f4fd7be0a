"""The page's reducer and the journal's own fold say the same of every run, at every event."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from manyhands.runtime import import_run
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.studies import lay_out
from tests.web.stage import compare, lay_down, many, site, wild

pytestmark = pytest.mark.needs("chromium")
GOLDEN = Path(__file__).parents[1] / "golden"


async def test_an_answer_is_folded_alike_at_every_event(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask()
    async with site(stage.journal) as at:
        page = await at.page()
        whole = await compare(at, page, "asked")
        assert whole["lanes"].keys() == {
            "", "supervisor", "critic", *(f"work/{n}/agent" for n in ("fastapi", "flask", "django"))
        }  # fmt: skip
        assert whole["spent"]["tokens"] == stage.spent["tokens"]
        for upto in range(1, whole["seq"], 7):
            await compare(at, page, "asked", upto)


@pytest.mark.needs("bubblewrap")
async def test_a_change_of_a_repository_is_folded_alike(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    await stage.solve()
    async with site(stage.journal) as at:
        whole = await compare(at, await at.page(), "solved")
        coders = [path for path in whole["lanes"] if path.endswith("/coder")]
        assert len(coders) == 2
        below = sum(whole["lanes"][path] for path in coders)
        assert 0 < below < whole["lanes"]["orchestrator"] == whole["spent"]["tokens"]


async def test_the_golden_journal_is_folded_alike_at_every_event(tmp_path: Path) -> None:
    """It has every type of event: crashes, doubts, a fork, commands, artifacts."""
    shutil.copy(GOLDEN / "v1.jsonl", tmp_path)
    async with site(tmp_path / "journal.db") as at:
        await import_run(at.runtime.journal, tmp_path / "v1.jsonl")
        page = await at.page()
        for upto in range(1, 36):
            await compare(at, page, "golden", upto)


async def test_runs_in_any_order_of_events_are_folded_alike(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        page = await at.page()
        seen = [0, 0, 0, 0, 0]
        for seed in range(12):
            await lay_down(at.runtime.journal, f"wild-{seed}", wild(seed))
            found = await compare(at, page, f"wild-{seed}")
            seen = [a + b for a, b in zip(seen, found["outcomes"], strict=True)]
        assert all(seen), f"no run had a step of each outcome: {seen}"


async def test_a_long_run_is_folded_alike(tmp_path: Path) -> None:
    async with site(tmp_path / "journal.db") as at:
        await lay_down(at.runtime.journal, "long", list(many(20_000, 40)))
        found = await compare(at, await at.page(), "long")
        assert len(found["lanes"]) == 41


@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
async def test_a_study_of_the_lab_is_folded_alike(tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    home = os.environ | {"MANYHANDS_HOME": str(tmp_path)}
    words = ["-m", "manyhands.cli", "lab", "run", str(study), "--runs", "16", "--json"]
    quiet = asyncio.subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=home, stdout=quiet, stderr=quiet
    )
    assert await running.wait() == 0
    async with site(tmp_path / "journal.db") as at:
        run = at.runtime.runs()[0].run_id
        found = await compare(at, await at.page(), run)
        assert found["status"] == "completed"
        assert found["outcomes"][2] > 20
