"""examples/nanogpt, where torch is installed: a short run, repeated, judged, and spoilt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).resolve().parents[2] / "examples" / "nanogpt"

pytestmark = pytest.mark.needs("torch")


def python(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=STUDY, capture_output=True, text=True, check=False
    )


def evaluate(artifact: Path, data: Path, split: str = "val") -> subprocess.CompletedProcess[str]:
    where = ("--artifact", str(artifact), "--data", str(data))
    return python("evaluate.py", *where, "--split", split)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    data, sealed = folder / "data", folder / "sealed"
    done = python("data.py", "--out", str(data), "--sealed", str(sealed))
    assert done.returncode == 0, done.stderr
    return data, sealed


@pytest.fixture(scope="module")
def artifacts(prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of seeds 1, 1 and 2, ten steps each."""
    outs = [tmp_path_factory.mktemp("out") for _ in range(3)]
    for seed, out in zip((1, 1, 2), outs):
        where = ("--data", str(prepared[0]), "--out", str(out))
        done = python("train.py", "--seed", str(seed), *where, "--tokens", "20480")
        assert done.returncode == 0, done.stderr
        assert "val_bpb: " in done.stdout
    return outs


def _metric(done: subprocess.CompletedProcess[str]) -> float:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["val_bpb"]


def test_equal_seeds_give_an_equal_metric(
    artifacts: list[Path], prepared: tuple[Path, Path]
) -> None:
    first, again, other = (_metric(evaluate(artifact, prepared[0])) for artifact in artifacts)
    assert 1.0 < first < 8.5
    if not pytest.importorskip("torch").cuda.is_available():  # there it is only nearly so
        assert first == again
    assert first != other
    assert _metric(evaluate(artifacts[0], prepared[1], "holdout")) != first


def test_every_byte_counts_once(artifacts: list[Path]) -> None:
    """A model of zeros needs eight bits for a byte, whatever the length of the data."""
    script = (
        "import torch, model\n"
        "gpt = model.GPT(model.Config(8, 4, 1, 1))\n"
        "[torch.nn.init.zeros_(p) for p in gpt.parameters()]\n"
        "for n in (1, 7, 8, 9, 12, 100, 1001):\n"
        "    print(round(model.bits_per_byte(gpt, torch.zeros(n, dtype=torch.uint8)), 5))\n"
    )
    done = python("-c", script)
    assert done.stdout.split() == ["8.0"] * 7, done.stderr


def test_a_spoilt_artifact_is_refused(
    artifacts: list[Path], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    config = (artifacts[2] / "config.json").read_text()
    weights = torch.load(artifacts[2] / "model.pt", weights_only=True)
    nan = {**weights, "output.bias": torch.full_like(weights["output.bias"], float("nan"))}
    wide = {**weights, "output.bias": torch.zeros(512)}
    for number, (spoilt, said) in enumerate([(nan, "not finite"), (wide, "output.bias is (512,)")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save(spoilt, folder / "model.pt")
        (folder / "config.json").write_text(config)
        done = evaluate(folder, prepared[0])
        assert done.returncode != 0
        assert done.stdout == ""
        assert said in done.stderr
    missing = evaluate(tmp_path / "absent", prepared[0])
    assert missing.returncode != 0
    assert "no file model.pt" in missing.stderr


def test_weights_are_never_run_as_code(
    artifacts: list[Path], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "config.json").write_text((artifacts[0] / "config.json").read_text())
    torch.save({"output.bias": Hostile()}, folder / "model.pt")
    done = evaluate(folder, prepared[0])
    assert done.returncode != 0
    assert "cannot be read as weights" in done.stderr
    assert not (tmp_path / "ran").exists()
