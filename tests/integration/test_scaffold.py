"""`lab init`: an autoresearch repository in miniature is recognised, patched, trained, measured;
any other repository gets a study that loads.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import StudyError
from manyhands.teams.lab.autoresearch import constants_of, patch
from manyhands.teams.lab.preflight import preflight
from manyhands.teams.lab.records import Hypothesis
from manyhands.teams.lab.scaffold import (
    Proposal,
    answer,
    inspect_repository,
    study_text,
    write_study,
)
from manyhands.teams.lab.settings import apply, find_settings
from manyhands.teams.lab.study import load_study, parse_study

# ---------------------------------------------------------------- the miniature

PREPARE = '''"""Data, tokens and the metric, in miniature: bytes for tokens, texts for shards."""

import math
import os

import torch

MAX_SEQ_LEN = 32       # context
TIME_BUDGET = 300      # seconds of training
EVAL_TOKENS = 64 * 32  # tokens to measure on

CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
DATA_DIR = os.path.join(CACHE_DIR, "data")
MAX_SHARD = 7
VAL_SHARD = MAX_SHARD  # pinned
VAL_FILENAME = f"shard_{VAL_SHARD:05d}.txt"


class Tokenizer:
    @classmethod
    def from_directory(cls, folder=CACHE_DIR):
        return cls()

    def get_vocab_size(self):
        return 128


def make_dataloader(tokenizer, B, T, split):
    assert split in ["train", "val"]
    files = sorted(f for f in os.listdir(DATA_DIR) if (f == VAL_FILENAME) == (split == "val"))
    text = b"".join(open(os.path.join(DATA_DIR, f), "rb").read() for f in files)
    tokens = torch.tensor(list(text)) % 128
    # One buffer for inputs and targets, as on a GPU.
    buffer = torch.empty(2 * B * T, dtype=torch.long)
    inputs, targets = buffer[: B * T].view(B, T), buffer[B * T :].view(B, T)
    at = 0
    while True:
        for row in range(B):
            if at + T + 1 > len(tokens):
                at = 0
            inputs[row], targets[row] = tokens[at : at + T], tokens[at + 1 : at + T + 1]
            at += T
        yield inputs, targets, 1


@torch.no_grad()
def evaluate_bpb(model, tokenizer, batch_size):
    loader = make_dataloader(tokenizer, batch_size, MAX_SEQ_LEN, "val")
    nats, count = 0.0, 0
    for _ in range(EVAL_TOKENS // (batch_size * MAX_SEQ_LEN)):
        x, y, _ = next(loader)
        loss = model(x, y, reduction="none").view(-1)
        nats += loss.sum().item()
        count += y.numel()
    return nats / (math.log(2) * count)
'''

TRAIN = '''"""Trains a small transformer, in miniature: windows, gates, mixed types, autocast."""

import os
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from kernels import get_kernel
fa3 = get_kernel("flash").flash_attn_interface

from prepare import (MAX_SEQ_LEN, TIME_BUDGET,
                     Tokenizer, make_dataloader, evaluate_bpb)  # the fixed part


@dataclass
class Config:
    vocab_size: int = 128
    n_layer: int = 2
    width: int = 32


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


class Block(nn.Module):
    def __init__(self, config, window):
        super().__init__()
        self.window = window
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x, cos):
        B, T, C = x.size()
        q, k, v = self.qkv(norm(x)).view(B, T, 3, 2, C // 2).unbind(2)
        q = norm(q * cos)
        y = fa3.flash_attn_func(q, norm(k), v, causal=True, window_size=self.window)
        x = x + self.out(y.contiguous().view(B, T, C))
        return x + self.down(F.relu(self.up(norm(x))).square())


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.width)
        windows = [(MAX_SEQ_LEN // 2, 0), (MAX_SEQ_LEN, 0)]
        self.h = nn.ModuleList([Block(config, windows[i % 2]) for i in range(config.n_layer)])
        self.lambdas = nn.Parameter(torch.ones(config.n_layer))
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        cos = torch.arange(10 * MAX_SEQ_LEN).float().outer(torch.ones(config.width // 2)).cos()
        self.register_buffer("cos", cos[None, :, None, :].bfloat16(), persistent=False)
        self.wte.to(dtype=torch.bfloat16)

    def forward(self, idx, targets=None, reduction="mean"):
        B, T = idx.size()
        assert T <= self.cos.size(1)
        x = norm(self.wte(idx))
        x0 = x
        for i, block in enumerate(self.h):
            x = self.lambdas[i] * x + 0.1 * x0
            x = block(x, self.cos[:, :T])
        logits = self.lm_head(norm(x)).float()
        logits = 15 * torch.tanh(logits / 15)
        if targets is None:
            return logits
        flat = logits.view(-1, logits.size(-1))
        return F.cross_entropy(flat, targets.view(-1), ignore_index=-1, reduction=reduction)


# Hyperparameters
DEPTH = 2                # layers
MATRIX_LR = 0.01         # learning rate
ADAM_BETAS = (0.8, 0.95) # betas
DEVICE_BATCH_SIZE = 16   # rows
STEPS = 12

torch.manual_seed(42)
torch.use_deterministic_algorithms(True)
tokenizer = Tokenizer.from_directory()
model = GPT(Config(vocab_size=tokenizer.get_vocab_size(), n_layer=DEPTH))
optimizer = torch.optim.AdamW(model.parameters(), lr=MATRIX_LR, betas=ADAM_BETAS)
autocast_ctx = torch.amp.autocast(device_type="cpu", dtype=torch.bfloat16)
train_loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
for step in range(STEPS):
    x, y, epoch = next(train_loader)
    with autocast_ctx:
        loss = model(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

# Final eval
model.eval()
with autocast_ctx:
    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)

print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"depth:            {DEPTH}")
'''

# A kernel that no graph can hold: it leaves torch for Python on its way.
KERNELS = """import types
import torch


def flash_attn_func(q, k, v, causal=False, window_size=(-1, -1)):
    float(q.sum())
    place = torch.arange(q.size(1))
    ahead = place[None, :] - place[:, None]
    seen = (ahead <= 0) & (ahead >= -window_size[0])
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, attn_mask=seen).transpose(1, 2)


def get_kernel(name):
    interface = types.SimpleNamespace(flash_attn_func=flash_attn_func)
    return types.SimpleNamespace(flash_attn_interface=interface)
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make(tmp_path / "My Research!")


def make(folder: Path, train: str = TRAIN) -> Path:
    folder.mkdir()
    files = {"train.py": train, "prepare.py": PREPARE, "program.md": "# program\n"}
    for name, text in {**files, "kernels.py": KERNELS, "pyproject.toml": "[project]\n"}.items():
        (folder / name).write_text(text)
    return folder


# ---------------------------------------------------------------- an autoresearch repository


class TestAutoresearch:
    def test_it_is_recognised(self, repo: Path) -> None:
        proposal = inspect_repository(repo)
        assert proposal.kind == "autoresearch"
        assert proposal.name == "my-research"
        assert set(proposal.files) == {"artifact.py", "evaluate.py"}
        assert "in 5 minutes" in proposal.objective
        assert list(repo.iterdir()) == [repo / f.name for f in repo.iterdir()], "nothing is written"
        assert not (repo / "study.toml").exists()

    def test_the_study_is_right(self, repo: Path) -> None:
        written = write_study(repo, inspect_repository(repo))
        assert {p.name for p in written} == {"study.toml", "artifact.py", "evaluate.py"}
        assert (repo / "train.py").read_text() == TRAIN, "unpatched unless asked"
        study = load_study(repo)
        config = study.config
        assert config.files.edit == ("train.py",)
        protected = {"prepare.py", "program.md", "evaluate.py", "artifact.py", "pyproject.toml"}
        assert set(config.files.protect) == protected
        assert (config.metric.name, config.metric.direction) == ("val_bpb", "lower")
        assert config.train.command == "python train.py"
        assert config.metric.evaluate == "python evaluate.py --artifact {out} --home ~"
        assert config.limits.seconds == 600
        assert config.slots.count == 1
        assert config.data.read == ("~/.cache/autoresearch", "~/.cache/huggingface")
        assert config.data.hidden == ("~/.cache/autoresearch/data/shard_00007.txt",)
        assert config.train.env["HF_HUB_OFFLINE"] == "1"
        assert config.train.env["HOME"] == "~"

    def test_the_patch_is_shown_exactly(self, repo: Path) -> None:
        proposal = inspect_repository(repo)
        changed = [ln for ln in proposal.patch.splitlines() if ln[:1] in "+-"]
        assert changed == [
            "--- a/train.py",
            "+++ b/train.py",
            "+import artifact",
            "-torch.manual_seed(42)",
            "+torch.manual_seed(artifact.seed(42))",
            "-    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)",
            "+    val_bpb = artifact.save(model) or "
            "evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)",
        ]
        assert "apply the patch to train.py" in proposal.still_open(patched=False)[0]
        assert proposal.still_open(patched=True) == ()

    def test_the_patch_is_applied_when_asked(self, repo: Path) -> None:
        proposal = inspect_repository(repo)
        written = write_study(repo, proposal, patch=True)
        assert repo / "train.py" in written
        assert (repo / "train.py").read_text() == proposal.patched["train.py"]
        again = inspect_repository(repo)
        assert (again.patch, again.still_open(patched=False)) == ("", ())
        assert write_study(repo, again) == [], "the same study, twice"

    def test_the_interpreter_of_the_repository(self, repo: Path) -> None:
        python = repo / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        (repo / ".venv/pyvenv.cfg").write_text("")
        write_study(repo, inspect_repository(repo))
        study = load_study(repo)
        assert study.python == python
        assert repo / ".venv" in study.read_paths

    def test_names_that_are_taken(self, repo: Path) -> None:
        (repo / "evaluate.py").write_text("print('mine')\n")
        proposal = inspect_repository(repo)
        assert set(proposal.files) == {"artifact.py", "study_evaluate.py"}
        write_study(repo, proposal)
        assert (repo / "evaluate.py").read_text() == "print('mine')\n"
        assert "study_evaluate.py" in load_study(repo).config.metric.evaluate

    def test_comments_say_what_holds(self, repo: Path) -> None:
        text = " ".join(study_text(repo, inspect_repository(repo)).replace("\n# ", " ").split())
        for words in (
            "what train.py prints is not looked at",
            "artifact.save(model)",
            "validation data is hidden from training",
            "300 s of wall time",
            "no sealed holdout",
            '[settings."ADAM_BETAS[1]"] # now 0.95',
            "[settings.MATRIX_LR] # now 0.01",
        ):
            assert words in text

    def test_experiments_on_the_patched_program_pass_preflight(self, repo: Path) -> None:
        write_study(repo, inspect_repository(repo), patch=True)
        study = load_study(repo)
        files = {p: (repo / p).read_text() for p in ("train.py", "prepare.py", "artifact.py")}
        assert set(find_settings({"train.py": files["train.py"]})) == {
            "DEPTH", "MATRIX_LR", "ADAM_BETAS[0]", "ADAM_BETAS[1]", "DEVICE_BATCH_SIZE", "STEPS",
        }  # fmt: skip
        hypothesis = Hypothesis(
            id="h", title="", rationale="", kind="setting", parent="m", setting="DEPTH", value=3
        )
        after = files | {"train.py": apply(files["train.py"], "DEPTH", 3)}
        assert preflight(study, files, after, hypothesis, master="m") == ()

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("train.py", "evaluate_bpb(model", "measure(model"),
            ("train.py", "import torch", "import mlx"),
            ("train.py", "from prepare import", "from other import"),
            ("train.py", "def norm(x):", "def norm(x:"),
            ("prepare.py", "evaluate_bpb(model, tokenizer, batch_size)", "evaluate_bpb(a, b)"),
            ("prepare.py", "def evaluate_bpb", "def evaluate_other"),
        ],
    )  # fmt: skip
    def test_what_only_looks_like_one_gets_a_general_study(
        self, repo: Path, file: str, old: str, new: str
    ) -> None:
        (repo / file).write_text((repo / file).read_text().replace(old, new))
        proposal = inspect_repository(repo)
        assert proposal.kind == "general"
        assert proposal.patch == ""
        write_study(repo, proposal)
        assert load_study(repo).config.files.edit == ("train.py",)


class TestPatch:
    def test_within_a_function_and_an_expression(self) -> None:
        text = (
            "def main():\r\n"
            "    from prepare import evaluate_bpb  # ü\r\n"
            "    'é'; np.random.seed(1_0)\r\n"
            "    print(1 + evaluate_bpb(net.module, tok, 4))\r\n"
        )
        assert patch(text, "artifact") == (
            "def main():\r\n"
            "    from prepare import evaluate_bpb  # ü\r\n"
            "    import artifact\r\n"
            "    'é'; np.random.seed(artifact.seed(1_0))\r\n"
            "    print(1 + (artifact.save(net.module) or evaluate_bpb(net.module, tok, 4)))\r\n"
        )

    def test_only_the_last_evaluation(self) -> None:
        text = "from prepare import *\nevaluate_bpb(m, t, 4)\nb = evaluate_bpb(m, t, 4)\n"
        assert patch(text, "a").endswith(
            "evaluate_bpb(m, t, 4)\nb = a.save(m) or evaluate_bpb(m, t, 4)\n"
        )


def test_constants() -> None:
    text = """
A = 2**3
B = A
C = f"x_{B:05d}.txt"
D = os.path.join(os.path.expanduser("~"), "a", C)
E = Path.home() / "b"
F = os.environ.get("X", "y")
G = f"{A:9999999d}"
H = open("x").read()
I = f"{H}"
"""
    assert constants_of(text) == {
        "A": 8, "B": 8, "C": "x_00008.txt", "D": "~/a/x_00008.txt", "E": "~/b", "F": "y",
    }  # fmt: skip


# ---------------------------------------------------------------- any other repository

SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--seed")
parser.add_argument("--out")
RATE = 0.1
print(f"train_loss: {1}, val_accuracy: {2}")
"""


class TestGeneral:
    def test_with_an_evaluator(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        (tmp_path / "evaluate.py").write_text("parser.add_argument('--model')\n")
        (tmp_path / "test_train.py").write_text("")
        proposal = inspect_repository(tmp_path)
        assert proposal.open == ()
        write_study(tmp_path, proposal)
        config = load_study(tmp_path).config
        assert config.train.command == "python train.py --seed {seed} --out {out}"
        assert config.metric.evaluate == "python evaluate.py --model {out}"
        assert (config.metric.name, config.metric.direction) == ("val_accuracy", "higher")

    def test_without_one_it_gets_a_skeleton_and_is_told_so(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text("X = 1\nprint('loss', X)\n")
        proposal = inspect_repository(tmp_path)
        said = " ".join(proposal.open)
        assert "skeleton" in said
        assert "MANYHANDS_SEED" in said
        assert "MANYHANDS_OUT" in said
        write_study(tmp_path, proposal)
        assert load_study(tmp_path).config.files.edit == ("main.py",)
        done = subprocess.run(
            [sys.executable, "evaluate.py", "/o"], cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == 1

    def test_flags(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        (tmp_path / "other.py").write_text("Y = 1\n")
        (tmp_path / "measure.py").write_text("")
        proposal = inspect_repository(
            tmp_path,
            edit=("other.py",),
            train="python train.py",
            evaluate="python measure.py {out}",
            metric="ppl",
            direction="lower",
            runs=30,
            seconds=None,
        )
        assert proposal.files == {}
        write_study(tmp_path, proposal)
        config = load_study(tmp_path).config
        assert config.files.edit == ("other.py",)
        assert (config.budget.runs, config.metric.name, config.limits.seconds) == (30, "ppl", 600)
        with pytest.raises(StudyError, match="colour"):
            inspect_repository(tmp_path, colour="red")

    def test_asking(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        (tmp_path / "b.py").write_text("")
        asked: dict[str, str] = {}

        def ask(question: str, default: str) -> str:
            asked[question] = default
            return {"Files that experiments may edit": "train.py, b.py"}.get(question, default)

        proposal = answer(inspect_repository(tmp_path), ask)
        assert asked["Files that experiments may edit"] == "train.py"
        assert asked["Metric"] == "val_accuracy"
        write_study(tmp_path, proposal)
        assert load_study(tmp_path).config.files.edit == ("train.py", "b.py")

    @pytest.mark.parametrize(
        ("question", "said", "complaint"),
        [
            ("Training runs in all", "many", "'many' is no number"),
            ("Better is (lower or higher)", "up", "'lower' or 'higher'"),
            ("Files that experiments may edit", "nope.py", "'nope.py', which matches no file"),
            ("Command that measures what training left in {out}", "python x.py", "{out}"),
        ],
    )
    def test_an_answer_that_does_not_do_leaves_nothing_behind(
        self, tmp_path: Path, question: str, said: str, complaint: str
    ) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)

        def ask(asked: str, default: str) -> str:
            return said if asked == question else default

        with pytest.raises(StudyError) as caught:
            write_study(tmp_path, answer(inspect_repository(tmp_path), ask))
        assert complaint in str(caught.value)
        assert [p.name for p in tmp_path.iterdir()] == ["train.py"]

    def test_a_study_is_not_overwritten_unasked(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        (tmp_path / "study.toml").write_text("mine")
        proposal = inspect_repository(tmp_path)
        with pytest.raises(StudyError, match=r"study\.toml is there already") as caught:
            write_study(tmp_path, proposal)
        assert "--force" in caught.value.next
        assert (tmp_path / "study.toml").read_text() == "mine"
        assert not (tmp_path / "evaluate.py").exists()
        write_study(tmp_path, proposal, force=True)
        assert load_study(tmp_path)

    def test_nothing_to_experiment_with(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match="no Python script"):
            inspect_repository(tmp_path)
        with pytest.raises(StudyError, match="no such folder"):
            inspect_repository(tmp_path / "nowhere")

    def test_texts_that_toml_must_escape(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        proposal = inspect_repository(tmp_path, objective='Say "ä"\n\tand \\ so')
        assert parse_study(study_text(tmp_path, proposal)).study.objective == 'Say "ä"\n\tand \\ so'


# ---------------------------------------------------------------- with torch: trained and measured


class Trained:
    """A patched miniature, trained once in a study, with its data in a home of its own."""

    def __init__(self, folder: Path, train: str = TRAIN) -> None:
        self.repo = make(folder / "repo", train)
        self.home, self.jobs_home = folder / "home", folder / "jobs-home"
        self.jobs_home.mkdir()
        data = self.home / ".cache/autoresearch/data"
        data.mkdir(parents=True)
        for n in range(8):
            words = " ".join(f"{i * (n + 3) % 97} and {i % 7}" for i in range(600))
            (data / f"shard_{n:05d}.txt").write_text(words)
        self.validation = data / "shard_00007.txt"
        write_study(self.repo, inspect_repository(self.repo), patch=True)
        self.study = load_study(self.repo)
        self.out = folder / "out"
        self.out.mkdir()

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.repo,
            env={**os.environ, "HOME": str(self.jobs_home), "OMP_NUM_THREADS": "1", **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def train(self, seed: int = 42) -> subprocess.CompletedProcess[str]:
        argv = self.study.train_argv(seed, self.home, self.out)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HOME", str(self.home))
            env = self.study.train_env(seed, self.home, self.out)
        hidden = self.validation.rename(self.home / "away")
        try:
            return self.run(*argv, MANYHANDS_OUT=str(self.out), MANYHANDS_SEED=str(seed), **env)
        finally:
            hidden.rename(self.validation)

    def evaluate(self, out: Path | None = None) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HOME", str(self.home))
            argv = self.study.evaluate_argv(out or self.out, self.home)
        return self.run(*argv)

    def metric(self) -> float:
        done = self.evaluate()
        assert done.returncode == 0, done.stderr
        return float(json.loads(done.stdout.splitlines()[-1])["val_bpb"])

    def edit_graph(self, change: Callable[[dict[str, Any]], None]) -> None:
        file = self.out / "model.json"
        graph = json.loads(file.read_text())
        change(graph)
        file.write_text(json.dumps(graph))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    trained = Trained(tmp_path_factory.mktemp("autoresearch"))
    done = trained.train()
    assert done.returncode == 0, done.stderr
    assert "val_bpb:          nan" in done.stdout, "it did not measure itself"
    return trained


@pytest.mark.needs("torch")
class TestMeasuring:
    def test_the_harness_measures_what_training_by_hand_prints(self, trained: Trained) -> None:
        by_hand = trained.run(sys.executable, "train.py", HOME=str(trained.home))
        assert by_hand.returncode == 0, by_hand.stderr
        printed = float(by_hand.stdout.partition("val_bpb:")[2].split()[0])
        assert math.isclose(trained.metric(), printed, rel_tol=2e-3)

    def test_what_was_left_is_data(self, trained: Trained) -> None:
        assert {"model.json", "state.bin"} <= {p.name for p in trained.out.iterdir()}
        graph = json.loads((trained.out / "model.json").read_text())
        assert graph["autocast"] == "bfloat16"
        assert all(op == "getitem" or op.startswith("aten.") for _, op, _, _ in graph["steps"])

    @pytest.mark.parametrize(
        ("steps", "complaint"),
        [
            # Shift the tokens: the next one is the target.
            ([["x", "aten.roll.default", [{"step": "TOKENS"}, [-1], [1]], {}],
              ["logits", "aten.mul.Tensor", [{"step": "HOT"}, 30.0], {}]], "looks ahead"),
            ([["x", "aten.from_file.default", ["/etc/passwd"], {}]], "tensors alone"),
            ([["x", "aten.save.default", [{"step": "TOKENS"}, "x"], {}]], ""),
            ([["x", "aten.empty.memory_format", [[3]], {}]], "no plain operation"),
            ([["x", "os.system", ["true"], {}]], "no plain operation"),
            ([["x", "prim.Print.default", [1], {}]], "no plain operation"),
            # What lies behind the tokens in memory: the targets.
            ([["x", "aten.as_strided.default", [{"step": "TOKENS"}, [4, 32], [32, 1], 128], {}]],
             "out of bounds"),
        ],
    )  # fmt: skip
    def test_graphs_that_are_refused(
        self, trained: Trained, steps: list[list[Any]], complaint: str
    ) -> None:
        file = trained.out / "model.json"
        honest = file.read_text()

        def cheat(graph: dict[str, Any]) -> None:
            text = json.dumps(steps).replace('"TOKENS"', json.dumps(graph["tokens"]))
            graph["steps"] = json.loads(text)
            if steps[-1][0] == "logits":
                hot = ["hot", "aten.one_hot.default", [{"step": "x"}, 128], {}]
                real = ["real", "aten.to.dtype", [{"step": "hot"}, {"dtype": "float32"}], {}]
                graph["steps"][1:1] = [hot, real]
                graph["steps"][-1][2][0] = {"step": "real"}
            graph["logits"] = graph["steps"][-1][0]

        try:
            trained.edit_graph(cheat)
            done = trained.evaluate()
        finally:
            file.write_text(honest)
        assert done.returncode == 1
        assert complaint in done.stderr
        assert "val_bpb" not in done.stdout

    def test_a_model_that_changes_its_weights_while_measured(self, trained: Trained) -> None:
        file = trained.out / "model.json"
        honest = file.read_text()

        def cheat(graph: dict[str, Any]) -> None:
            name = next(n for n, e in graph["state"].items() if e["dtype"] == "float32")
            graph["steps"].insert(0, ["sly", "aten.mul_.Tensor", [{"step": name}, 1.01], {}])

        try:
            trained.edit_graph(cheat)
            done = trained.evaluate()
        finally:
            file.write_text(honest)
        assert done.returncode == 1
        assert "changes its own weights" in done.stderr

    def test_nothing_left_behind(self, trained: Trained, tmp_path: Path) -> None:
        done = trained.evaluate(tmp_path)
        assert done.returncode == 1
        assert "artifact.save(model)" in done.stderr


@pytest.mark.slow
@pytest.mark.needs("torch")
class TestTraining:
    def test_the_seed_is_the_harness_s(self, tmp_path: Path) -> None:
        trained = Trained(tmp_path)
        metrics: list[float] = []
        for seed in (1, 2, 1):
            assert trained.train(seed).returncode == 0
            metrics.append(trained.metric())
        assert metrics[0] == metrics[2] != metrics[1]

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            (
                "logits = self.lm_head",
                "x = x + self.wte(idx.roll(-1, 1)) * 30\n        logits = self.lm_head",
                "looks ahead",
            ),
            (
                "B, T = idx.size()",
                "B, T = idx.size()\n        self.cos.add_(1)",
                "changes its own weights",
            ),
        ],
    )
    def test_a_model_that_cheats_while_it_is_measured(
        self, tmp_path: Path, old: str, new: str, complaint: str
    ) -> None:
        trained = Trained(tmp_path, TRAIN.replace(old, new))
        assert trained.train().returncode == 0
        done = trained.evaluate()
        assert done.returncode == 1
        assert complaint in done.stderr

    def test_a_model_that_is_no_data_is_a_crash(self, tmp_path: Path) -> None:
        old = "x = norm(self.wte(idx))"
        trained = Trained(tmp_path, TRAIN.replace(old, f"{old}\n        float(x.sum())"))
        assert trained.train().returncode == 1
        assert not (trained.out / "model.json").exists()


def test_a_proposal_is_frozen(repo: Path) -> None:
    proposal = inspect_repository(repo)
    assert isinstance(proposal, Proposal)
    with pytest.raises(AttributeError):
        proposal.name = "x"  # type: ignore[misc]
