"""examples/nanogpt, where torch is installed: a short run, repeated, judged, and spoilt."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

STUDY = Path(__file__).resolve().parents[2] / "examples" / "nanogpt"

pytestmark = [pytest.mark.needs("torch"), pytest.mark.timeout(900)]


def python(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=STUDY, capture_output=True, text=True, check=False
    )


def evaluate(artifact: Path, data: Path, split: str = "val") -> subprocess.CompletedProcess[str]:
    where = ("--artifact", str(artifact), "--data", str(data))
    return python("evaluate.py", *where, "--split", split)


@pytest.fixture(scope="module")
def model() -> ModuleType:
    """The study's model.py under a name of its own: other studies have one too."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", STUDY / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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


def test_every_byte_counts_once(model: ModuleType) -> None:
    """A model of zeros needs eight bits for a byte, whatever the length of the data."""
    torch = pytest.importorskip("torch")
    gpt = model.GPT(model.Config(context=8, width=4, layers=1, heads=1))
    for parameter in gpt.parameters():
        torch.nn.init.zeros_(parameter)
    for length in (1, 7, 8, 9, 12, 100, 1001):
        data = torch.zeros(length, dtype=torch.uint8)
        assert model.bits_per_byte(gpt, data) == pytest.approx(8.0)


def test_the_parameters_are_counted_right(model: ModuleType) -> None:
    config = model.Config(context=16, width=12, layers=3, heads=2)
    counted = sum(value.numel() for value in model.GPT(config).parameters())
    assert model.parameter_count(config) == counted
    with pytest.raises(model.Refused, match="the limit is 500000"):
        model.Config(context=64, width=256, layers=4, heads=4)


def test_the_meter_ends_training(model: ModuleType) -> None:
    meter = model.Meter(10 * model.BUDGET)
    meter.charge(model.BUDGET)
    with pytest.raises(model.Refused, match="is spent"):
        meter.charge(1)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w')",)


def test_a_spoilt_artifact_is_refused(
    model: ModuleType, artifacts: list[Path], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    weights = torch.load(artifacts[2] / "model.pt", weights_only=True)
    bias = weights["output.bias"]
    spoilt = {
        "not finite": {**weights, "output.bias": torch.full_like(bias, float("nan"))},
        "output.bias is .512,.": {**weights, "output.bias": torch.zeros(512)},
        "not a dense float32": {**weights, "output.bias": bias.double()},
        "does not hold the parameters": {"output.bias": bias},
        "unpacks to": {**weights, "more": torch.zeros(300_000)},
        "cannot be read as weights": {**weights, "output.bias": Hostile(tmp_path / "ran")},
    }
    folder = tmp_path / "artifact"
    shutil.copytree(artifacts[2], folder)
    for said, values in spoilt.items():
        torch.save(values, folder / "model.pt")
        with pytest.raises(model.Refused, match=said):
            model.load(folder)
    assert not (tmp_path / "ran").exists()
    torch.save(spoilt["not finite"], folder / "model.pt")
    done = evaluate(folder, prepared[0])
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("refused: ")
    (folder / "model.pt").unlink()
    with pytest.raises(model.Refused, match=r"no file model\.pt"):
        model.load(folder)
