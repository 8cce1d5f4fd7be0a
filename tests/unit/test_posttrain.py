"""examples/posttrain: equal seeds give equal bytes, gradients are right, the asked-for facts are in
no conversation, and answers that only keep to the form are refused.

The base model is trained for a few steps here, so it knows nothing; that a study improves it is
tested in ``tests/integration/test_studies.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from manyhands.teams.lab.curves import curve_of
from manyhands.teams.lab.settings import find_settings
from manyhands.teams.lab.study import load_study

STUDY = Path(__file__).resolve().parents[2] / "examples" / "posttrain"


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    """The study's modules, under names of their own afterwards: other studies have some too."""
    found: dict[str, ModuleType] = {}
    kept = {name: sys.modules.pop(name, None) for name in ("model", "chat", "data", "evaluate")}
    for name in kept:
        spec = importlib.util.spec_from_file_location(name, STUDY / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[name] = module
    for name, module in kept.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module
    return found


def python(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=STUDY, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("facts")
    data, sealed = folder / "data", folder / "sealed"
    done = python("data.py", "--out", str(data), "--sealed", str(sealed), "--steps", "4")
    assert done.returncode == 0, done.stderr
    return data, sealed


def train(data: Path, out: Path, seed: int) -> str:
    """A fiftieth of a run; what it printed."""
    where = ("--data", str(data), "--out", str(out))
    done = python("train.py", "--seed", str(seed), *where, "--budget-scale", "0.02")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def runs(
    prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, str]]:
    """Of seeds 1, 1 and 2: artifact and output."""
    outs = [tmp_path_factory.mktemp("out") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        said = pool.map(train, [prepared[0]] * 3, outs, [1, 1, 2])
    return list(zip(outs, said))


def evaluate(artifact: Path, data: Path, split: str = "val") -> subprocess.CompletedProcess[str]:
    where = ("--artifact", str(artifact), "--data", str(data))
    return python("evaluate.py", *where, "--split", split)


# --- the study and its data -----------------------------------------------------------------------


def test_the_study_loads_and_each_range_fits_a_setting() -> None:
    study = load_study(STUDY)
    text = (STUDY / "train.py").read_text()
    found = find_settings({"train.py": text}, study.config.settings)
    assert found.keys() >= study.config.settings.keys()
    assert study.config.metric.direction == "higher"


def test_what_is_asked_for_is_in_no_conversation(prepared: tuple[Path, Path]) -> None:
    data, sealed = prepared
    taught = "".join((data / f"{n}.jsonl").read_text() for n in ("chat", "pairs", "plain"))
    said = {word for line in taught.splitlines() for word in _words(json.loads(line))}
    for path in (data / "val.jsonl", sealed / "holdout.jsonl"):
        asked = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(asked) > 150
        assert not said & {word for each in asked for word in each["fact"][1:]}
    assert not (data / "holdout.jsonl").exists()


def _words(line: Any) -> list[str]:
    if isinstance(line, dict):
        return [word for part in line.values() if isinstance(part, list) for word in part]
    return line


def test_the_manifest_holds_the_hash_of_every_part(prepared: tuple[Path, Path]) -> None:
    data, sealed = prepared
    manifest = json.loads((data / "manifest.json").read_text())
    assert (sealed / "manifest.json").read_bytes() == (data / "manifest.json").read_bytes()
    for name, folder in (("chat.jsonl", data), ("val.jsonl", data), ("holdout.jsonl", sealed)):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert manifest["files"][name] == found


# --- training -------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bytes_in_any_process(runs: list[tuple[Path, str]]) -> None:
    first, again, other = ((path / "model.npz").read_bytes() for path, _ in runs)
    assert first == again
    assert first != other


def test_training_says_how_it_goes(runs: list[tuple[Path, str]]) -> None:
    points = curve_of(runs[0][1].splitlines())
    assert len(points) >= 3
    names = points[-1][1].keys()
    assert {"train/loss", "train/lr_multiplier", "train/tokens_per_second"} <= names
    assert points[-1][1]["train/remaining_steps"] == 0


def test_the_meter_ends_training(modules: dict[str, ModuleType]) -> None:
    model = modules["model"]
    meter = model.Meter(10 * model.BUDGET)
    meter.charge(model.BUDGET)
    with pytest.raises(model.Refused, match="is spent"):
        meter.charge(1)
    forward = model.pass_work(500, 8, 20, backward=False)
    assert model.pass_work(500, 8, 20, backward=True) > 3 * forward
    assert model.pass_work(500, 9, 20, backward=False) > forward


@pytest.mark.parametrize("towards", [False, True])
def test_gradients_equal_finite_differences(
    modules: dict[str, ModuleType], *, towards: bool
) -> None:
    """In float64, along the gradient of each parameter, by central differences; with weights of
    both signs, as preferences have them."""
    model, meter = modules["model"], modules["data"].Free()
    rng = np.random.default_rng(3)
    parameters = {n: 0.3 * rng.standard_normal(s) for n, s in model.shapes(30).items()}
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    words = rng.integers(0, 30, (4, 9))
    weights = rng.choice([-0.5, 0.25, 1.0], (4, 8))
    target = rng.dirichlet(np.ones(30), 32) if towards else None

    def loss() -> float:
        done = model.Pass(parameters, words, meter)
        if target is None:
            return -float((weights * done.logp).sum())
        logs = np.log(done.probabilities)
        return -float((weights.reshape(-1, 1) * target * logs).sum())

    model.Pass(parameters, words, meter, training=True).backward(weights, gradients, target)
    for name, gradient in gradients.items():
        length = float(np.linalg.norm(gradient))
        step = 1e-6 * gradient / length
        parameters[name] += step
        above = loss()
        parameters[name] -= 2 * step
        below = loss()
        parameters[name] += step
        assert (above - below) / 2e-6 == pytest.approx(length, rel=1e-5), name


# --- evaluation -----------------------------------------------------------------------------------


def test_an_answer_is_worth_what_its_form_and_its_object_are(
    modules: dict[str, ModuleType],
) -> None:
    chat = modules["chat"]
    fact = chat.Fact("mime", ".json", "application/json")
    assert chat.question(fact, "both")[-4:] == ["twice", "in", "brackets", chat.ASSISTANT]
    for form in chat.FORMS:
        assert chat.credit(fact, form, chat.answer(fact, form)) == (1.0, "application/json")
        wrong = chat.answer(fact, form, "image/png")
        assert chat.credit(fact, form, wrong) == (chat.FORM_CREDIT, "image/png")
        assert chat.credit(fact, form, chat.answer(fact, form)[:-1])[0] == 0  # it does not end
    after = ["application/json", chat.END, "and", "more"]
    assert chat.credit(fact, "plain", after)[0] == 1
    assert chat.credit(fact, "brackets", ["application/json", chat.END]) == (0.0, "")
    assert chat.credit(fact, "twice", ["a/b", "c/d", chat.END]) == (0.0, "")
    assert chat.credit(fact, "plain", ["the", chat.END]) == (0.0, "")
    assert chat.credit(fact, "plain", []) == (0.0, "")


def test_the_evaluator_prints_one_line_of_json(
    runs: list[tuple[Path, str]], prepared: tuple[Path, Path]
) -> None:
    for folder, split in zip(prepared, ("val", "holdout")):
        done = evaluate(runs[0][0], folder, split)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert 0 <= json.loads(line)["eval_score"] <= 1


def test_keeping_to_the_form_alone_is_refused(
    modules: dict[str, ModuleType],
    runs: list[tuple[Path, str]],
    prepared: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers in the right form that always name one object would be worth a quarter."""
    judge, chat, model = modules["evaluate"], modules["chat"], modules["model"]

    def say(choose: Callable[[Any], str]) -> None:
        monkeypatch.setattr(
            judge,
            "answers",
            lambda _, asked, __: [chat.answer(fact, form, choose(fact)) for fact, form in asked],
        )

    say(lambda _: "image/png")
    with pytest.raises(model.Refused, match="the forms are kept and the questions are not"):
        judge.judge(runs[0][0], prepared[0], "val")
    say(lambda fact: fact.object)
    assert judge.judge(runs[0][0], prepared[0], "val")["eval_score"] == 1.0


@pytest.mark.parametrize("fault", ["not finite", "misshapen", "more", "missing", "linked"])
def test_a_spoilt_artifact_is_refused(
    fault: str, runs: list[tuple[Path, str]], prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    with np.load(runs[2][0] / "model.npz") as stored:
        values = dict(stored)
    if fault == "not finite":
        values["0.up"][0, 0] = np.nan
    if fault == "misshapen":
        values["0.up"] = values["0.up"].T
    if fault == "more":
        values["notes"] = np.zeros(3, np.float32)
    np.savez(tmp_path / "model.npz", **values)
    if fault in ("missing", "linked"):
        (tmp_path / "model.npz").unlink()
    if fault == "linked":
        (tmp_path / "model.npz").symlink_to(runs[2][0] / "model.npz")
    done = evaluate(tmp_path, prepared[0])
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("refused: ")
