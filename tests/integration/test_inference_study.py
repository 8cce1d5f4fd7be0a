"""examples/inference: the reference's answers are reproduced, other weights are refused, and a
configuration is data within limits. On the real llama.cpp, with a tiny model of random weights.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from manyhands.teams.lab.settings import find_settings
from manyhands.teams.lab.study import load_study

STUDY = Path(__file__).resolve().parents[2] / "examples" / "inference"
needs_server = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "gguf")),
    reason="xllamacpp or gguf is not installed: pip install 'manyhands[local]' gguf",
)


@pytest.fixture(scope="module")
def serving() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inference_serving", STUDY / "serving.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python(*command: str, cwd: Path = STUDY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("served")
    data, sealed = folder / "data", folder / "sealed"
    small = ("--passes", "2", "--prompts", "4")
    done = python("data.py", "--out", str(data), "--sealed", str(sealed), *small)
    assert done.returncode == 0, done.stderr
    return data, sealed


def artifact(folder: Path, data: Path, **settings: object) -> Path:
    """What serve.py leaves with these settings."""
    text = (STUDY / "serve.py").read_text()
    for name, value in settings.items():
        lines = [
            f"{name} = {value!r}" if line.startswith(f"{name} = ") else line
            for line in text.splitlines()
        ]
        text = "\n".join(lines) + "\n"
    folder.mkdir(exist_ok=True)
    (folder / "serve.py").write_text(text)
    done = python("serve.py", "--data", str(data), "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def evaluate(artifact: Path, data: Path, split: str = "val") -> subprocess.CompletedProcess[str]:
    where = ("--artifact", str(artifact), "--data", str(data))
    return python("evaluate.py", *where, "--split", split)


def test_the_study_loads_and_starts_as_the_reference(serving: ModuleType, tmp_path: Path) -> None:
    study = load_study(STUDY)
    text = (STUDY / "serve.py").read_text()
    found = find_settings({"serve.py": text}, study.config.settings)
    assert found.keys() >= study.config.settings.keys()
    assert serving.read(artifact(tmp_path, tmp_path)) == serving.REFERENCE


@needs_server
def test_equal_answers_are_timed_on_both_splits(
    prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    found = artifact(tmp_path, prepared[0], SLOTS=4, CLIENTS=2)
    for folder, split in zip(prepared, ("val", "holdout")):
        done = evaluate(found, folder, split)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        usual = json.loads((folder / "manifest.json").read_text())["reference_tokens_per_second"]
        assert told["tokens_per_second"] == pytest.approx(usual * told["speed_up"])


@needs_server
def test_a_model_that_answers_otherwise_is_refused(
    prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    done = evaluate(artifact(tmp_path, prepared[0], WEIGHTS="q4_0"), prepared[0])
    assert done.returncode != 0
    assert done.stdout == ""
    assert "otherwise than the reference" in done.stderr


@needs_server
def test_a_model_file_that_is_none_is_refused(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    found = artifact(tmp_path, prepared[0])
    (found / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    assert "does not start" in evaluate(found, prepared[0]).stderr
    (found / "model.gguf").write_bytes(bytes(20_000_000))
    assert "the limit is 2.5 times" in evaluate(found, prepared[0]).stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without the extra: an interpreter that has no packages."""
    where = ("--out", str(tmp_path / "d"), "--sealed", str(tmp_path / "s"))
    done = python("-S", "data.py", *where)
    assert done.returncode != 0
    assert "pip install 'manyhands[lab,local]' gguf" in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slots", 65),
        ("slots", True),
        ("context", "512"),
        ("lookup", "magic"),
        ("reuse_prompts", 1),
        ("order", None),
        ("command", "rm"),
    ],
)
def test_a_configuration_is_data_within_limits(
    serving: ModuleType, key: str, value: object, tmp_path: Path
) -> None:
    (tmp_path / "serving.json").write_text(json.dumps(serving.REFERENCE | {key: value}))
    with pytest.raises(serving.Refused, match=key if key in serving.REFERENCE else "no other"):
        serving.read(tmp_path)


def test_prompts_are_sent_in_the_order_that_was_chosen(serving: ModuleType) -> None:
    prompts = ["bb", "a", "bbb", "aa"]
    assert serving.arranged(prompts, "given") == [0, 1, 2, 3]
    assert serving.arranged(prompts, "by_start") == [1, 3, 0, 2]
    assert serving.arranged(prompts, "shortest") == [1, 0, 3, 2]
    assert serving.arranged(prompts, "longest") == [2, 0, 3, 1]
