"""Trackio's own dashboard, opened by `manyhands lab dashboard` on a real study, in Chromium."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page

from manyhands.adapters.trackers.trackio_dashboard import TrackioDashboard
from manyhands.errors import TrackerError
from tests.shell import EXAMPLES, Shell
from tests.studies import git
from tests.web.stage import chromium

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="trackio is not installed"
)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return Shell(tmp_path)


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


async def test_it_serves_on_loopback_and_ends_with_whoever_asked(shell: Shell) -> None:
    page = TrackioDashboard("p q")
    async with page as address:
        assert address.url.startswith("http://127.0.0.1:")
        assert address.url.endswith("?project=p+q")
        assert "write_token" not in address.url
        assert "write_token" in address.edit_url
        assert await status_of(address.url) == 200
        port = int(address.url.split(":")[2].partition("/")[0])
        with pytest.raises(TrackerError, match="in use"):
            async with TrackioDashboard(port=port):
                pass
    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(address.url)


def test_what_it_cannot_show_is_an_error_with_a_next_action(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shell("lab", "dashboard", "nowhere", "--no-browser", code=3)
    assert "'nowhere' is neither a run nor a study" in said
    # A module of this name that cannot be found: as if the extra were not there.
    blocked = shell.folder / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'trackio' else find(name, *more)\n"
    )
    shell.env["PYTHONPATH"] = f"{blocked}:{shell.env.get('PYTHONPATH', '')}"
    said = shell("lab", "dashboard", "--no-browser", code=2)
    assert "trackio is not installed" in said
    assert "pip install 'manyhands[trackio]'" in said


# -------------------------------------------------------------------- a real study


def short_tinylm(folder: Path) -> str:
    """examples/tinylm with a twentieth of its budget."""
    git(folder.parent, "init", "-q", str(folder))
    text = (EXAMPLES / "tinylm/study.toml").read_text()
    for file in (EXAMPLES / "tinylm").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    shorter = text.replace('--out {out}"\n# One thread', '--out {out} --budget-scale 0.05"\n# One')
    assert shorter != text
    (folder / "study.toml").write_text(shorter)
    git(folder, "add", ".")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@x", "commit", "-q", "-m", "study")
    return str(folder)


def opened(shell: Shell, study: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    words = shell.words("lab", "dashboard", study, "--no-browser", "--json")
    process = subprocess.Popen(
        words, cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    patience = threading.Timer(120, process.kill)  # a pipe that nobody writes to is never read
    patience.start()
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, "it ended before it said where it serves"
            text += line
    finally:
        patience.cancel()
    return process, json.loads(text)


async def shown(page: Page, *texts: str) -> None:
    for text in texts:
        await page.get_by_text(text, exact=True).first.wait_for(timeout=90_000)


@pytest.mark.slow
@pytest.mark.needs("bubblewrap", "chromium")
async def test_a_study_is_in_the_dashboard(shell: Shell) -> None:
    study = await asyncio.to_thread(short_tinylm, shell.folder / "tinylm")
    await asyncio.to_thread(shell, "lab", "run", study, "--runs", "26", "--json")
    process, told = await asyncio.to_thread(opened, shell, study)
    wrong: list[str] = []
    try:
        assert told["project"] == "tinylm"
        assert told["steps"] > 10
        async with chromium() as browser:
            page = await browser.new_page(viewport={"width": 1400, "height": 1000})
            page.on("pageerror", lambda error: wrong.append(str(error)))
            await page.goto(told["url"])
            await shown(page, told["run"])  # the study's run, and those of its trainings
            await page.get_by_text(f"{told['run']}/baseline/baseline/").first.wait_for()
            await page.screenshot(path=shell.folder / "metrics.png", full_page=True)
            await page.get_by_placeholder("filter", exact=False).first.wait_for()
            for title in ("loss", "lr_multiplier", "step_seconds", "tokens_per_second", "epoch"):
                await shown(page, title)
            for title in ("remaining_steps", "active_jobs", "anomaly_count", "best_metric"):
                await shown(page, title)
            await page.get_by_text("Alerts & Reports", exact=True).click()
            await shown(page, "study ended", "Who filled the roles")
            await page.screenshot(path=shell.folder / "alerts.png")
        assert not wrong
    finally:
        process.send_signal(signal.SIGINT)
        code = await asyncio.to_thread(process.wait, 60)
    assert code == 130
    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(told["url"])
