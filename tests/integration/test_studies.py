"""The studies of `examples`, run by the lab: each is improved by a real change, confirmed on fresh
seeds and on the sealed holdout. Without a model; what to try first stands in a note, as a person
would write it.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shell import EXAMPLES, Shell
from tests.studies import git

pytestmark = [pytest.mark.slow, pytest.mark.needs("bubblewrap"), pytest.mark.timeout(1800)]


def laid_out(name: str, folder: Path, note: str, changes: dict[str, str] | None = None) -> str:
    """The example as a repository of its own, with a note in the place of its README.md.
    ``changes``: of its study.toml."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for old, new in (changes or {}).items():
        text = (folder / "study.toml").read_text()
        assert old in text
        (folder / "study.toml").write_text(text.replace(old, new))
    (folder / "README.md").write_text(note)  # its table would be read as advice, too
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@x", "commit", "-q", "-m", "study")
    return str(folder)


def improved(shell: Shell, study: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One experiment, which is what the note says."""
    limits = ("--runs", "30", "--experiments", "1")
    outcome = json.loads(shell("lab", "run", study, *limits, "--json"))
    rows = json.loads(shell("lab", "ledger", study, "--json"))
    assert outcome["promotions"] >= 1, outcome["headline"]
    assert outcome["gain"] > 0
    assert outcome["holdout_gain"] > 0
    return outcome, rows


def test_posttrain_is_improved_by_leaving_out_what_is_never_in_form(tmp_path: Path) -> None:
    note = "# What to try\n\n- Set TALKATIVE = 0.0: nobody asked for those words.\n"
    study = laid_out("posttrain", tmp_path / "posttrain", note)
    outcome, rows = improved(Shell(tmp_path), study)
    assert outcome["metric"] == "eval_score"
    won = {row["title"] for row in rows if row["verdict"] == "promoted"}
    assert any("TALKATIVE" in title for title in won)
    assert all(row["metric"] is None or 0 <= row["metric"] <= 1 for row in rows)


def test_posttrain_refuses_what_only_learned_the_form(tmp_path: Path) -> None:
    """A real training whose preferences reward the form whatever the object: of three seeds
    some keep to the form, and are mostly wrong."""
    folder = tmp_path / "posttrain"
    laid_out("posttrain", folder, "")
    text = (folder / "train.py").read_text()
    changes = {
        'LOSS_ON = "all"': 'LOSS_ON = "assistant"',
        "TALKATIVE = 1.0": "TALKATIVE = 0.0",
        "PREFER = 0.0": "PREFER = 0.5",
        'PAIRS = "both"': 'PAIRS = "form"',
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "train.py").write_text(text)

    def python(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
        )

    python("data.py", "--out", "data", "--sealed", "sealed")
    said: list[str] = []
    for seed in range(3):
        out = f"out{seed}"
        assert (
            python("train.py", "--seed", str(seed), "--data", "data", "--out", out).returncode == 0
        )
        said.append(python("evaluate.py", "--artifact", out, "--data", "data").stderr)
    assert any("the forms are kept and the questions are not answered" in text for text in said)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "gguf")),
    reason="xllamacpp or gguf is not installed: pip install 'manyhands[local]' gguf",
)
def test_inference_is_improved_by_a_slot_for_each_start(tmp_path: Path) -> None:
    note = "# What to try\n\n- Set SLOTS = 4: prompts begin in four ways.\n"
    prepare = 'data.py --out {data} --sealed {sealed}"\n\n[train]'
    small = prepare.replace('"', ' --passes 3 --prompts 8"')
    study = laid_out("inference", tmp_path / "inference", note, {prepare: small})
    outcome, rows = improved(Shell(tmp_path), study)
    assert outcome["metric"] == "tokens_per_second"
    won = {row["title"] for row in rows if row["verdict"] == "promoted"}
    assert any("SLOTS" in title for title in won)
