"""examples/tinylm: equal seeds give equal bytes, gradients are right, artifacts are judged as data,
and training runs unchanged where the holdout's sources are masked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

STUDY = Path(__file__).resolve().parents[2] / "examples" / "tinylm"


def load_module(name: str) -> ModuleType:
    """The study's module under a name of its own: other studies have a model.py too."""
    spec = importlib.util.spec_from_file_location(f"tinylm_{name}", STUDY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


model = load_module("model")
corpus = load_module("data")


def python(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=STUDY,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    data, sealed = folder / "data", folder / "sealed"
    done = python("data.py", "--out", str(data), "--sealed", str(sealed))
    assert done.returncode == 0, done.stderr
    return data, sealed


def train(data: Path, out: Path, seed: int) -> str:
    """A hundredth of a run; what it printed."""
    where = ("--data", str(data), "--out", str(out))
    done = python("train.py", "--seed", str(seed), *where, "--budget-scale", "0.01")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artifacts(prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of seeds 1, 1 and 2, each from a process of its own."""
    outs = [tmp_path_factory.mktemp("out") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(train, [prepared[0]] * 3, outs, [1, 1, 2]))
    return outs


def evaluate(artifact: Path, data: Path, split: str = "val") -> subprocess.CompletedProcess[str]:
    where = ("--artifact", str(artifact), "--data", str(data))
    return python("evaluate.py", *where, "--split", split)


# --- the corpus -----------------------------------------------------------------------------------


def test_the_manifest_holds_the_hash_of_every_part(prepared: tuple[Path, Path]) -> None:
    data, sealed = prepared
    manifest = json.loads((data / "manifest.json").read_text())
    assert (sealed / "manifest.json").read_bytes() == (data / "manifest.json").read_bytes()
    for name, folder in (("train", data), ("val", data), ("holdout", sealed)):
        content = (folder / f"{name}.bin").read_bytes()
        part = manifest["splits"][name]
        assert part["bytes"] == len(content)
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert part["files"] == len(part["sources"])
    expected = hashlib.sha256(json.dumps(manifest["splits"], sort_keys=True).encode()).hexdigest()
    assert manifest["sha256"] == expected
    assert manifest["python"] == platform.python_version()


def test_no_file_lies_in_two_splits_and_the_holdout_is_not_in_data(
    prepared: tuple[Path, Path],
) -> None:
    data, sealed = prepared
    splits = json.loads((data / "manifest.json").read_text())["splits"]
    digests = [digest for part in splits.values() for digest in part["sources"].values()]
    assert len(digests) == len(set(digests))
    assert sorted(path.name for path in data.iterdir()) == [
        "manifest.json",
        "pycache",
        "train.bin",
        "val.bin",
    ]
    hidden = json.loads((sealed / "hidden.json").read_text())
    assert all(Path(path).is_absolute() for path in hidden)
    sources = [path for path in hidden if path.endswith(".py")]
    assert len(sources) == splits["holdout"]["files"]
    assert all(Path(path).is_file() for path in hidden)


def test_equal_files_go_to_one_split(tmp_path: Path) -> None:
    for number in range(30):
        text = f"# file {number // 2}\n" + "x = 1\n" * 100
        (tmp_path / f"m{number:02}.py").write_text(text)
    splits = corpus.collect(tmp_path)
    assert sum(len(files) for files in splits.values()) == 15


# --- training -------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bytes_in_any_process(artifacts: list[Path]) -> None:
    first, again, other = ((path / model.WEIGHTS).read_bytes() for path in artifacts)
    assert first == again
    assert first != other


def test_training_ends_within_its_budget(artifacts: list[Path]) -> None:
    work = json.loads((artifacts[0] / model.CONFIG).read_text())["work"]
    assert 0 < work["used"] <= model.BUDGET // 100
    meter = model.Meter(10 * model.BUDGET)
    config = model.Config(context=4, embedding=8, width=64)
    assert meter.steps(config, 256) * model.step_work(config, 256) <= model.BUDGET
    meter.used = model.BUDGET - 1
    with pytest.raises(model.Refused, match="is spent"):
        meter.charge(config, 1)


def test_bigger_steps_are_dearer_steps() -> None:
    small = model.Config(context=4, embedding=8, width=64)
    cost = model.step_work(small, 64)
    assert model.step_work(small, 65) > cost
    changes: list[dict[str, Any]] = [
        {"context": 5},
        {"embedding": 9},
        {"width": 65},
        {"depth": 2},
        {"shortcut": True},
    ]
    for change in changes:
        given: dict[str, Any] = {"context": 4, "embedding": 8, "width": 64, **change}
        assert model.step_work(model.Config(**given), 64) > cost


@pytest.mark.parametrize("activation", model.ACTIVATIONS)
@pytest.mark.parametrize(("depth", "shortcut"), [(1, True), (3, False)])
def test_gradients_equal_finite_differences(activation: str, depth: int, shortcut: bool) -> None:
    """In float64, along the gradient of each parameter, by central differences."""
    config = model.Config(3, 4, 8, depth, activation, shortcut)
    rng = np.random.default_rng(5)
    parameters = {name: 0.5 * rng.standard_normal(s) for name, s in model.shapes(config).items()}
    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    contexts = rng.integers(0, 6, (20, 3)).astype(np.uint8)  # few bytes: embeddings are shared
    targets = rng.integers(0, 256, 20).astype(np.uint8)

    def loss() -> float:
        spare = {name: np.empty_like(value) for name, value in parameters.items()}
        meter = model.Meter()
        return model.loss_and_gradients(config, parameters, contexts, targets, spare, meter)

    model.loss_and_gradients(config, parameters, contexts, targets, gradients, model.Meter())
    for name, gradient in gradients.items():
        length = float(np.linalg.norm(gradient))
        step = 1e-6 * gradient / length
        parameters[name] += step
        above = loss()
        parameters[name] -= 2 * step
        below = loss()
        parameters[name] += step
        assert (above - below) / 2e-6 == pytest.approx(length, rel=1e-5), name


def test_the_metric_is_the_mean_over_every_byte() -> None:
    config = model.Config(context=3, embedding=2, width=4)
    _, parameters = model.allocate(config)  # all zero: every byte equally likely
    data = np.arange(5000, dtype=np.int64).astype(np.uint8)
    assert model.bits_per_byte(config, parameters, data) == pytest.approx(8.0)
    assert [list(row) for row in model.windows(data[:3], 3)] == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


# --- evaluation -----------------------------------------------------------------------------------


def test_the_evaluator_prints_one_line_of_json(
    artifacts: list[Path], prepared: tuple[Path, Path]
) -> None:
    for folder, split in zip(prepared, ("val", "holdout")):
        done = evaluate(artifacts[0], folder, split)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert 1.0 < json.loads(line)["val_bpb"] < 8.5


def _nan(folder: Path) -> None:
    _rewrite(folder, lambda values: values["output.bias"].__setitem__(0, np.nan))


def _wide(folder: Path) -> None:
    _rewrite(folder, lambda values: values.update({"output.bias": np.zeros(512, np.float32)}))


def _double(folder: Path) -> None:
    _rewrite(
        folder,
        lambda values: values.update({"hidden0.bias": values["hidden0.bias"].astype(float)}),
    )


def _objects(folder: Path) -> None:
    pickled = np.array([{"run": "me"}] * 256, dtype=object)
    _rewrite(folder, lambda values: values.update({"output.bias": pickled}))


def _more(folder: Path) -> None:
    _rewrite(folder, lambda values: values.update({"notes": np.zeros(3, np.float32)}))


def _bomb(folder: Path) -> None:
    """A header that asks for 4 TB, in a file of the right size."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    start = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n"
    _rewrite(folder, lambda _: None, raw={"output.bias.npy": start + bytes(1024)})


def _rewrite(
    folder: Path,
    change: Callable[[dict[str, np.ndarray]], object],
    raw: dict[str, bytes] | None = None,
) -> None:
    with np.load(folder / model.WEIGHTS) as stored:
        values = dict(stored)
    change(values)
    np.savez(folder / model.WEIGHTS, **values)
    if raw:
        with zipfile.ZipFile(folder / model.WEIGHTS) as archive:
            members = {name: archive.read(name) for name in archive.namelist()} | raw
        with zipfile.ZipFile(folder / model.WEIGHTS, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / model.CONFIG
        stored = json.loads(path.read_text())
        for name, value in changes.items():
            stored["work" if name in stored["work"] else "model"][name] = value
        path.write_text(json.dumps(stored))

    return change


def _link(folder: Path) -> None:
    (folder / model.WEIGHTS).rename(folder / "elsewhere.npz")
    (folder / model.WEIGHTS).symlink_to(folder / "elsewhere.npz")


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (_nan, "not finite"),
    (_wide, "missing or not float32"),
    (_double, "not float32|not \\("),
    (_objects, "missing or not float32|cannot be read"),
    (_more, "besides the parameters"),
    (_bomb, "cannot be read as arrays"),
    (_link, "no file model.npz"),
    (lambda folder: (folder / model.WEIGHTS).unlink(), "no file model.npz"),
    (lambda folder: (folder / model.CONFIG).unlink(), "no file config.json"),
    (lambda folder: (folder / model.WEIGHTS).write_bytes(b"PK"), "cannot be read as arrays"),
    (lambda folder: (folder / model.CONFIG).write_text("[1]"), "is not what save"),
    (_config(width=10**9), "from 1 to 2048"),
    (_config(width=True), "from 1 to 2048"),
    (_config(width=65), "missing or not float32"),
    (_config(width=2048, depth=8), "the limit is"),
    (_config(steps=10**9), "the budget is"),
    (_config(used=10**30), "the budget is"),
    (_config(activation="eval"), "know tanh"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_what_is_no_artifact_is_refused(
    artifacts: list[Path], tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(artifacts[0], folder)
    spoil(folder)
    with pytest.raises(model.Refused, match=said):
        model.load(folder)


def test_the_evaluator_fails_and_prints_no_number(
    artifacts: list[Path], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    """Absent, huge (finite weights, infinite loss) and NaN artifacts, and a corpus that changed."""

    def huge(folder: Path) -> None:
        _rewrite(folder, lambda values: [value.fill(3e38) for value in values.values()])

    data = prepared[0]
    changed = tmp_path / "data"
    changed.mkdir()
    shutil.copy(data / "manifest.json", changed)
    (changed / "val.bin").write_bytes((data / "val.bin").read_bytes()[::-1])
    folders: list[tuple[Path, Path]] = [(tmp_path / "absent", data), (artifacts[0], changed)]
    for number, spoil in enumerate((_nan, huge)):
        folder = tmp_path / str(number)
        shutil.copytree(artifacts[0], folder)
        spoil(folder)
        folders.append((folder, data))
    for folder, where in folders:
        done = evaluate(folder, where)
        assert done.returncode != 0
        assert done.stdout == ""
        assert done.stderr.startswith("refused: ")


# --- masked sources -------------------------------------------------------------------------------


@pytest.mark.needs("bubblewrap")
def test_training_is_the_same_where_the_holdout_is_masked(
    artifacts: list[Path], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    data, sealed = prepared
    empty = tmp_path / "empty"
    empty.touch()
    out = tmp_path / "out"
    out.mkdir()
    hidden: list[str] = json.loads((sealed / "hidden.json").read_text())
    masks = [word for path in hidden for word in ("--ro-bind", str(empty), path)]
    command = ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "--dev", "/dev", *masks]
    command += ["--tmpfs", str(sealed), "--bind", str(out), str(out), sys.executable, "train.py"]
    command += ["--seed", "1", "--data", str(data), "--out", str(out), "--budget-scale", "0.01"]
    env = os.environ | {"PYTHONPYCACHEPREFIX": str(data / "pycache")}
    done = subprocess.run(command, cwd=STUDY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / model.WEIGHTS).read_bytes() == (artifacts[0] / model.WEIGHTS).read_bytes()
