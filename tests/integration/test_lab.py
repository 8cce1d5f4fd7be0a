"""The lab end to end: real git, real sandboxes, real training, through the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.shell import Shell
from tests.studies import git, lay_out

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return lay_out("regression", tmp_path / "study")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("done")
    shell, study = Shell(folder), lay_out("regression", folder / "study")
    return shell, study, json.loads(shell("lab", "run", str(study), "--runs", "34", "--json"))


def test_a_study_improves_and_leaves_its_master_on_a_branch(
    done: tuple[Shell, Path, dict[str, object]],
) -> None:
    _, study, outcome = done
    assert outcome["promotions"] == 2
    assert isinstance(outcome["holdout_gain"], float)
    assert outcome["holdout_gain"] > 0
    branch = str(outcome["branch"])
    changed = git(study, "diff", "--stat", "HEAD", branch)
    assert "train.py" in changed
    assert "1 file changed" in changed
    assert git(study, "status", "--porcelain") == ""


def test_plots_report_and_exports_are_there(done: tuple[Shell, Path, dict[str, object]]) -> None:
    _, _, outcome = done
    plots = [Path(p) for p in outcome["plots"]]  # type: ignore[union-attr]
    assert {p.suffix for p in plots} == {".png", ".svg"}
    assert all(p.stat().st_size > 1000 for p in plots)
    page = Path(str(outcome["report"])).read_text()
    assert "Content-Security-Policy" in page
    assert "<script" not in page


def test_ledger_has_a_row_per_run(done: tuple[Shell, Path, dict[str, object]]) -> None:
    shell, study, outcome = done
    rows = list(
        csv.DictReader(io.StringIO(shell("lab", "ledger", str(study), "--tsv")), delimiter="\t")
    )
    assert len(rows) >= int(str(outcome["runs"]))
    assert {r["verdict"] for r in rows} >= {"baseline", "promoted"}
    assert all(len(r["candidate_hash"]) == 40 for r in rows)


def test_status_and_queue_are_json(done: tuple[Shell, Path, dict[str, object]]) -> None:
    shell, study, _ = done
    status = json.loads(shell("lab", "status", str(study), "--json"))
    assert status["status"] == "completed"
    assert status["verdicts"]["promoted"] == 2
    assert json.loads(shell("lab", "queue", str(study), "--json"))["waiting"] == []


def test_report_is_written_again_where_asked(
    done: tuple[Shell, Path, dict[str, object]], tmp_path: Path
) -> None:
    shell, study, _ = done
    shell("lab", "report", str(study), "--out", str(tmp_path / "mine.html"))
    assert "val_mse" in (tmp_path / "mine.html").read_text()


def test_export_is_read_back_to_the_identical_journal(
    done: tuple[Shell, Path, dict[str, object]], tmp_path: Path
) -> None:
    shell, study, _ = done
    run = json.loads(shell("lab", "status", str(study), "--json"))["run"]
    shell("export", run, "--out", str(tmp_path / "one.jsonl"))
    other = ("--journal", str(tmp_path / "other.db"))
    shell("import", str(tmp_path / "one.jsonl"), *other)
    shell("export", run, "--out", str(tmp_path / "two.jsonl"), *other)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


@pytest.mark.slow
def test_a_killed_study_is_resumed_by_its_folder(shell: Shell, study: Path) -> None:
    process = shell.start("lab", "run", str(study), "--runs", "20", "--run-id", "cut")
    wait_for_runs(study, 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads(shell("show", "cut", "--json"))["status"] == "interrupted"
    outcome = json.loads(shell("lab", "resume", str(study), "--json"))
    assert outcome["promotions"] == 1


def test_stop_wraps_up_with_a_report(shell: Shell, study: Path) -> None:
    process = shell.start("lab", "run", str(study), "--runs", "400", "--run-id", "long")
    wait_for_runs(study, 4)
    shell("lab", "stop", str(study))
    assert process.wait(timeout=120) == 0
    assert json.loads(shell("show", "long", "--json"))["status"] == "stopped"
    assert (study / ".manyhands" / "long" / "report.html").exists()


def wait_for_runs(study: Path, count: int) -> None:
    """Until so many jobs have left a log."""
    deadline = time.monotonic() + 120

    def logs() -> int:  # os.walk passes over folders that the study has just removed; glob raises
        return sum("train.log" in files for _, _, files in os.walk(study / ".manyhands"))

    while logs() < count:
        assert time.monotonic() < deadline, "the study did not begin"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda s: (s / "train.py").write_text("RATE = 1\n"), "train.py"),
        (lambda s: (s / "study.toml").unlink(), "lab init"),
        (lambda s: (s / "study.toml").write_text("[study]\nname = 1\n"), "study.toml"),
    ],
    ids=["dirty", "missing", "contradictory"],
)
def test_bad_input_is_told_before_anything_runs(
    shell: Shell, study: Path, break_it: object, says: str
) -> None:
    break_it(study)  # type: ignore[operator]
    said = shell("lab", "run", str(study), code=2)
    assert says in said
    assert "→" in said


def test_a_folder_without_git_is_told_what_to_do(shell: Shell, study: Path) -> None:
    subprocess.run(["rm", "-rf", str(study / ".git")], check=True)
    assert "git init" in shell("lab", "run", str(study), code=2)


def test_training_that_ignores_its_seed_is_refused(shell: Shell, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "studies/regression/train.py").read_text()
    fixed = text.replace("random.Random(seed)", "random.Random(3)")
    study = lay_out("regression", tmp_path / "fixed", {"train.py": fixed})
    assert "{seed}" in shell("lab", "run", str(study), code=2)
