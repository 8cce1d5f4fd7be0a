"""`manyhands agents | takeover | resume-as | approve`: real processes, and a scripted model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell import Shell, complaint

CHECK = "python3 -m unittest -q"
ORDER = ("--repo", "shop", "--check", CHECK, "--protect", "test_*.py", "--model")
CODER = "orchestrator/turn/1/tool/0/tasks/stock/coder"

pytestmark = pytest.mark.needs("bubblewrap")


class Held(Shell):
    """A run of the code team whose coder `stock` is to rest, in a process of its own."""

    def begin(self) -> None:
        order = ("code", "Make the tests pass", *ORDER, "script:script.json", "--json")
        self.kill_at("made", "tasks/stock/coder/turn/0", *order)
        self("pause", "made", "--at", self.coder, "--alone")
        self.driver = self.start("code", "--resume", "made", "--json")

    @property
    def coder(self) -> str:
        told = json.loads(self("agents", "made", "--json"))
        return next(a["path"] for a in told["agents"] if a["path"].endswith("stock/coder"))


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    shell = Held(tmp_path, "code")
    shell.begin()
    yield shell
    shell.driver.kill()
    shell.driver.wait()


@pytest.mark.slow
def test_orders_are_done_and_the_agent_is_handed_back(held: Held) -> None:
    said = held(
        "takeover",
        "made",
        held.coder,
        "--as",
        "ada",
        "--do",
        'bash {"command": "echo by hand > note.txt; ls"}',
        "--do",
        "tools",
        "--back",
        "continue",
        "--note",
        "I left a note.",
        "--json",
    )
    told = json.loads(said)
    assert told["owner"] == "ada"
    assert told["handed_back"] == "continue"
    assert "note.txt" in told["done"][0]["result"]
    assert "bash(" in told["done"][1]["result"]
    assert held.driver.wait(60) == 0
    result = json.loads(held("code", "--resume", "made", "--json"))
    assert {each["path"] for each in result["files"]} >= {"note.txt", "stock.py"}
    table = json.loads(held("agents", "made", "--json"))["agents"]
    assert {a["stand"] for a in table} == {"ended"}


@pytest.mark.slow
def test_the_prompt_takes_lines_and_says_what_it_does_not_understand(held: Held) -> None:
    lines = [
        "help",
        "fly away",
        "messages",
        "show 1",
        'read {"path": "stock.py"}',
        "edit 99 nothing",
        "note Mind the tests.",
        "back",
    ]
    done = subprocess.run(
        held.words("takeover", "made", held.coder),
        input="\n".join(lines) + "\n",
        env=held.env,
        cwd=held.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "You drive" in done.stdout
    assert "edit N TEXT" in done.stdout
    assert "there is no order and no tool 'fly'" in done.stderr
    assert "  1 user" in done.stdout
    assert "not done: there is no message 99" in done.stdout
    assert "handed back: continue" in done.stdout
    assert held.driver.wait(60) == 0


@pytest.mark.slow
def test_left_on_hold_it_is_handed_back_by_another_command(held: Held) -> None:
    coder = held.coder
    held("takeover", "made", "stock/coder", "--do", "say Be brief.")
    refused = held("takeover", "made", coder, "--as", "bob", "--do", "tools", code=3)
    assert "is driven by" in refused
    assert "bash(" in held("takeover", "made", coder, "--do", "tools")
    nothing = held("resume-as", "made", coder, "finish", code=2)
    assert "no report was written" in nothing
    again = held("takeover", "made", coder, "--do", "calls", "--back", "continue")
    assert "handed back: continue" in again
    assert held.driver.wait(60) == 0
    ended = held("takeover", "made", coder, code=2)
    assert "has ended" in ended
    assert "fork made" in ended


def test_a_run_without_such_an_agent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, "code")
    assert "is not in" in shell("agents", "none", code=3)
    error = complaint(tmp_path / "b", "code", monkeypatch, "budget", "none")
    assert "no limit is given" in str(error)
