"""`manyhands code` as people run it: real processes, real sandboxes, a scripted model."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.shell import Shell, complaint

CHECK = "python3 -m unittest -q"
ORDER = ("--repo", "shop", "--check", CHECK, "--protect", "test_*.py", "--model")
MODEL = "script:script.json"

pytestmark = pytest.mark.needs("bubblewrap")


class Shop(Shell):
    """With the example's repository and script."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "code")
        self.repo = folder / "shop"

    def code(self, *words: str) -> dict[str, Any]:
        said = self.run("code", "Make the tests pass", *ORDER, MODEL, "--json", *words)
        return json.loads(said.stdout)

    def check(self) -> bool:
        done = subprocess.run(CHECK.split(), cwd=self.repo, capture_output=True, check=False)
        shutil.rmtree(self.repo / "__pycache__", ignore_errors=True)
        return done.returncode == 0

    def files(self) -> dict[str, str]:
        found = sorted(path for path in self.repo.iterdir() if path.is_file())
        return {path.name: path.read_text() for path in found}


@pytest.fixture
def shell(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_change_the_check_and_the_cost_are_printed_and_nothing_is_written(
    shell: Shop,
) -> None:
    before = shell.files()
    done = shell.run("code", "Make the tests pass", *ORDER, MODEL, "--run-id", "made")
    said = done.stdout
    assert "~ prices.py" in said
    assert "~ stock.py" in said
    assert f"✓ {CHECK}" in said
    assert "complete ·" in said
    patch = shell.repo / ".manyhands/code/made/changes.patch"
    assert f"→ git apply {patch}" in " ".join(said.split())
    assert "prices/coder" in said
    assert "sandbox" in done.stderr
    assert "✓ prices complete · merged" in done.stderr
    assert shell.files() == before
    subprocess.run(["git", "apply", str(patch)], cwd=shell.repo, check=True)
    assert shell.check()


def test_apply_writes_the_change_that_passed_its_check(shell: Shop) -> None:
    told = shell.code("--apply")
    assert told["applied"]
    assert told["complete"]
    assert told["check"]["passed"]
    assert {f["path"] for f in told["files"]} == {"prices.py", "stock.py"}
    assert [t["merge"] for t in told["tasks"]] == ["nothing to merge", "merged", "merged"]
    assert shell.check()


@pytest.mark.slow
def test_a_folder_that_changed_meanwhile_is_not_overwritten(shell: Shop) -> None:
    shell.code("--run-id", "made")
    mine = shell.repo / "stock.py"
    mine.write_text("# mine\n" + mine.read_text())
    before = shell.files()
    said = shell.run("code", "--resume", "made", "--apply", code=2).stderr
    assert "stock.py" in said
    assert "not as they were" in said
    assert shell.files() == before


def test_killed_with_9_it_goes_on_where_it_was(shell: Shop) -> None:
    whole = shell.code("--run-id", "whole")
    order = ("code", "Make the tests pass", *ORDER, MODEL, "--json")
    shell.kill_at("made", "tasks/stock/coder/turn/1", *order)
    done = shell.run("code", "--resume", "made", "--json", "--apply")
    resumed = json.loads(done.stdout)
    same = ("complete", "files", "tree", "left", "summary")
    assert {k: resumed[k] for k in same} == {k: whole[k] for k in same}
    assert shell.check()


@pytest.mark.slow
def test_secrets_and_what_is_excluded_are_not_copied(shell: Shop) -> None:
    (shell.repo / ".env").write_text("KEY=1\n")
    (shell.repo / ".env.example").write_text("KEY=\n")
    (shell.repo / "data").mkdir()
    (shell.repo / "data/large.bin").write_bytes(b"0" * 100)
    (shell.repo / "link").symlink_to("/etc/passwd")
    told = shell.code("--exclude", "data/", "--run-id", "made")
    base = shell.repo / ".manyhands/code/made/base"
    there = {path.relative_to(base).as_posix() for path in base.rglob("*")}
    expected = {".env.example", "README.md", "link", "prices.py", "stock.py", "test_shop.py"}
    assert there == expected
    assert (base / "link").is_symlink()
    assert told["notes"] == ["Not copied: .env (it may hold a secret)"]


def test_what_is_not_complete_is_not_applied(shell: Shop) -> None:
    before = shell.files()
    script = {"rules": [{"role": "orchestrator", "reply": "All tests pass now, I promise."}]}
    (shell.folder / "script.json").write_text(json.dumps(script))
    done = shell.run("code", "Make the tests pass", *ORDER, MODEL, "--apply")
    assert "not applied" in done.stderr
    assert "partial ·" in done.stdout
    assert f"✗ {CHECK}" in done.stdout
    assert shell.files() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "one of an instruction, --task DIR and --resume RUN is needed"),
        (("Do", "--resume", "made"), "one of an instruction"),
        (("Do", "--repo", "nowhere"), "is not a folder"),
        (("Do", "--repo", "/"), "is no project"),
        (("Do", "--role", "coder"), "write --role"),
        (("Do", "--role", "critic=script:script.json"), "there is no role 'critic'"),
        (("--task", "shop", "--check", "true"), "do not go with --task"),
        (("--task", "shop"), "it has no task.toml"),
        (("Do",), "a model is needed"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    error = complaint(tmp_path, "code", monkeypatch, "code", *words)
    assert says in str(error)
