"""Post-trains the base model and leaves an artifact. The one file to edit: settings, or code.

Invariant to keep: equal seeds give equal bytes, and all computing goes through the meter.
"""

import os

# Several threads would add up in varying order; before numpy is imported this still has effect.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import math
import time
from pathlib import Path

import model
import numpy as np

# --- settings -------------------------------------------------------------------------------------

LEARNING_RATE = 0.001  # of Adam, at its highest
SCHEDULE = "constant"  # constant, linear, cosine
WARMUP = 0.0  # share of the steps in which the learning rate rises from zero
BATCH = 32  # conversations per step; more of them, fewer steps
BETA2 = 0.99  # of Adam's second moment
EPSILON = 0.0003  # of Adam: below such a size gradients move less
WEIGHT_DECAY = 0.0  # share of the weights lost per step, in units of the learning rate
CLIP = 1.0  # longest gradient
LOSS_ON = "all"  # all, or assistant: which words of a conversation are learned
MANUAL = 1.0  # how often a conversation of this source is drawn, against the others
FORUM = 1.0
TALKATIVE = 1.0
REPLAY = 0.0  # share of a batch that is plain sentences, as the base model read them
ANCHOR = 0.0  # pull towards the base model's weights per step, in units of the learning rate
KL = 0.0  # share of the loss that is to answer as the base model would; costs a third of a step
TRAINED = "all"  # all, blocks, attention: which weights move
RANK = 0  # rank of the updates of the blocks' matrices; 0: the matrices themselves
PREFER = 0.0  # share of the steps, at the end, that learn from pairs
PAIRS = "both"  # both, object, form: which pairs
BETA = 0.3  # how far preferences may lead away from the model before them
AVERAGE = 0.0  # share of the steps, at the end, whose weights are averaged

# --- data -----------------------------------------------------------------------------------------

LENGTH = 21  # words of a row


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Rows:
    """Texts as rows of word numbers with a weight for each next word; '<end>' fills them up."""

    def __init__(self, texts: list[list[str]], learned_from: list[int], index: dict[str, int]):
        shape = (len(texts), LENGTH)
        self.words = np.full(shape, index["<end>"], np.int64)
        self.weights = np.zeros((shape[0], LENGTH - 1), np.float32)
        for row, (text, start) in enumerate(zip(texts, learned_from)):
            kept = [index[word] for word in text[:LENGTH]]
            self.words[row, : len(kept)] = kept
            self.weights[row, max(start - 1, 0) : len(kept) - 1] = 1.0


def conversations(data: Path, index: dict[str, int]) -> tuple[Rows, np.ndarray]:
    """All conversations, and how often each is drawn."""
    share = {"manual": MANUAL, "forum": FORUM, "talkative": TALKATIVE}
    lines = read_lines(data / "chat.jsonl")
    texts = [[*line["prompt"], *line["answer"]] for line in lines]
    starts = [len(line["prompt"]) if LOSS_ON == "assistant" else 0 for line in lines]
    drawn = np.array([share[line["source"]] for line in lines])
    return Rows(texts, starts, index), drawn / max(drawn.sum(), 1e-9)


def preferences(data: Path, index: dict[str, int]) -> tuple[Rows, Rows]:
    """The better answers and the worse ones, row by row."""
    every = read_lines(data / "pairs.jsonl")
    lines = [line for line in every if PAIRS in ("both", line["kind"])]
    starts = [len(line["prompt"]) for line in lines]
    return tuple(
        Rows([[*line["prompt"], *line[side]] for line in lines], starts, index)
        for side in ("better", "worse")
    )


# --- what moves -----------------------------------------------------------------------------------


def moves(name: str) -> bool:
    part = name.partition(".")[2]
    if TRAINED == "attention":
        return part in ("query", "key", "value", "mixed")
    return bool(part) or TRAINED == "all"


class Weights:
    """The trained numbers as one vector: the weights, or low-rank updates of them (Hu et al.,
    2021, "LoRA"). ``spread`` writes them into the model, ``gather`` collects their gradient."""

    def __init__(self, parameters: model.Parameters, rng: np.random.Generator) -> None:
        self.parameters = parameters
        self.base = {name: value.copy() for name, value in parameters.items()}
        self.low, self.plain = {}, []
        for name in filter(moves, parameters):
            rows, columns = parameters[name].shape
            if RANK and "." in name:
                left = rng.standard_normal((rows, RANK), np.float32) / np.float32(rows**0.5)
                self.low[name] = (left, np.zeros((RANK, columns), np.float32))
            else:
                self.plain.append(name)
        parts = [self.parameters[name] for name in self.plain]
        parts += [side for pair in self.low.values() for side in pair]
        self.vector = np.concatenate([part.reshape(-1) for part in parts])
        self.start = self.vector.copy()

    def _cut(self, vector: np.ndarray):
        """Views into ``vector``: (name, side, view); side -1: the weights themselves."""
        at = 0
        for name in self.plain:
            shape = self.parameters[name].shape
            yield name, -1, vector[at : at + math.prod(shape)].reshape(shape)
            at += math.prod(shape)
        for name, pair in self.low.items():
            for side, part in enumerate(pair):
                yield name, side, vector[at : at + part.size].reshape(part.shape)
                at += part.size

    def spread(self, vector: np.ndarray) -> None:
        sides = {}
        for name, side, view in self._cut(vector):
            if side < 0:
                self.parameters[name][:] = view
            else:
                sides[name, side] = view
        for name in self.low:
            self.parameters[name][:] = self.base[name] + sides[name, 0] @ sides[name, 1]

    def gather(self, gradients: model.Parameters) -> np.ndarray:
        found = np.empty_like(self.vector)
        sides = {(name, side): view for name, side, view in self._cut(self.vector)}
        for name, side, view in self._cut(found):
            if side < 0:
                view[:] = gradients[name]
            elif side == 0:
                view[:] = gradients[name] @ sides[name, 1].T
            else:
                view[:] = sides[name, 0].T @ gradients[name]
        return found


# --- training -------------------------------------------------------------------------------------


def multiplier(step: int, steps: int) -> float:
    """Of the learning rate at ``step``, from 0 to ``steps`` - 1."""
    done = step / steps
    if done < WARMUP:
        return (done + 1 / steps) / WARMUP
    left = (1 - done) / (1 - WARMUP)
    if SCHEDULE == "linear":
        return left
    if SCHEDULE == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0


class Trainer:
    """One run: what is drawn, what is learned from it, and the weights after it."""

    def __init__(self, data: Path, seed: int, meter: model.Meter) -> None:
        words = json.loads((data / "vocabulary.json").read_text(encoding="utf-8"))
        self.index = {word: number for number, word in enumerate(words)}
        self.rng, self.meter = np.random.default_rng(seed), meter
        _, self.parameters = model.allocate(len(words))
        with np.load(data / "base.npz") as base:
            for name, value in self.parameters.items():
                value[:] = base[name]
        self.before = {name: value.copy() for name, value in self.parameters.items()}
        _, self.gradients = model.allocate(len(words))
        self.weights = Weights(self.parameters, self.rng)
        self.chat, self.drawn = conversations(data, self.index)
        plain = [line for line in read_lines(data / "plain.jsonl")]
        self.plain = Rows(plain, [0] * len(plain), self.index)
        self.better, self.worse = preferences(data, self.index)

    def steps(self) -> int:
        """How many the budget covers: of the two kinds, in the shares that the settings say."""
        words = len(self.index)

        def cost(rows: int, twice: bool) -> int:
            again = model.pass_work(words, rows, LENGTH, backward=False) if twice else 0
            return model.pass_work(words, rows, LENGTH, backward=True) + again

        one = (1 - PREFER) * cost(BATCH, bool(KL)) + PREFER * cost(2 * BATCH, True)
        return max(1, int((self.meter.budget - self.meter.used) / one) - 1)

    def imitate(self) -> float:
        """One step's gradient from conversations and sentences; the loss per learned word."""
        replayed = round(REPLAY * BATCH)
        rows = self.rng.choice(len(self.drawn), BATCH - replayed, p=self.drawn)
        again = self.rng.integers(len(self.plain.words), size=replayed)
        words = np.concatenate((self.chat.words[rows], self.plain.words[again]))
        weights = np.concatenate((self.chat.weights[rows], self.plain.weights[again]))
        weights /= max(weights.sum(), 1.0)
        done = model.Pass(self.parameters, words, self.meter, training=True)
        loss = -float((weights * done.logp).sum())
        target = None
        if KL:
            base = model.Pass(self.before, words, self.meter)
            real = np.zeros_like(base.probabilities)
            real[np.arange(len(real)), words[:, 1:].reshape(-1)] = 1
            target = np.float32(KL) * base.probabilities + np.float32(1 - KL) * real
        done.backward(weights, self.gradients, target)
        return loss

    def prefer(self, reference: model.Parameters) -> float:
        """One step's gradient from pairs, by direct preference optimisation (Rafailov et al.,
        2023); its loss."""
        rows = self.rng.integers(len(self.better.words), size=BATCH)
        words = np.concatenate((self.better.words[rows], self.worse.words[rows]))
        weights = np.concatenate((self.better.weights[rows], -self.worse.weights[rows]))
        done = model.Pass(self.parameters, words, self.meter, training=True)
        before = model.Pass(reference, words, self.meter)
        ahead = (weights * (done.logp - before.logp)).sum(axis=1)
        margin = BETA * (ahead[:BATCH] + ahead[BATCH:])
        wrong = 1 / (1 + np.exp(margin))
        pull = np.concatenate((wrong, wrong))[:, None] * (BETA / BATCH)
        done.backward(weights * pull, self.gradients)
        return float(np.mean(np.log1p(np.exp(-margin))))

    def run(self) -> int:
        """Train until the budget is used; the number of steps."""
        steps = self.steps()
        vector, moments = self.weights.vector, [np.zeros_like(self.weights.vector)] * 2
        imitated, averaged, count = steps - round(PREFER * steps), np.zeros_like(vector), 0
        reference: model.Parameters = {}
        for step in range(steps):
            began = time.perf_counter()
            if step == imitated:
                reference = {name: value.copy() for name, value in self.parameters.items()}
            loss = self.imitate() if step < imitated else self.prefer(reference)
            moments = self.move(vector, moments, step, multiplier(step, steps))
            if step >= steps - round(AVERAGE * steps):
                count += 1
                averaged += (vector - averaged) / count
            self.weights.spread(vector)
            if (step + 1) % max(1, steps // 20) == 0:
                self.tell(step + 1, steps, loss, time.perf_counter() - began)
        if count:
            self.weights.spread(averaged)
        return steps

    def move(self, vector: np.ndarray, moments: list, step: int, factor: float) -> list:
        """Adam on the trained numbers; returns its moments."""
        gradient = self.weights.gather(self.gradients)
        length = float(np.sqrt(np.sum(gradient * gradient)))
        gradient *= np.float32(min(1.0, CLIP / max(length, 1e-9)))
        first = moments[0] + np.float32(0.1) * (gradient - moments[0])
        second = moments[1] + np.float32(1 - BETA2) * (gradient * gradient - moments[1])
        corrected = np.sqrt(second / np.float32(1 - BETA2 ** (step + 1))) + np.float32(EPSILON)
        rate = LEARNING_RATE * factor
        moved = first / np.float32(1 - 0.9 ** (step + 1)) / corrected
        if WEIGHT_DECAY:
            moved += np.float32(WEIGHT_DECAY) * vector
        if ANCHOR:
            moved += np.float32(ANCHOR) * (vector - self.weights.start)
        vector -= np.float32(rate) * moved
        return [first, second]

    def tell(self, step: int, steps: int, loss: float, seconds: float) -> None:
        """A line of progress, as trackers read it."""
        told = {
            "step": step,
            "loss": round(loss, 5),
            "lr_multiplier": round(multiplier(step - 1, steps), 4),
            "step_seconds": round(seconds, 5),
            "tokens_per_second": round(BATCH * LENGTH / seconds, 1),
            "epoch": round(step * BATCH / len(self.chat.words), 3),
            "remaining_steps": steps - step,
            "remaining_seconds": round((steps - step) * seconds, 3),
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-train, and leave an artifact in --out.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    parser.add_argument("--budget-scale", type=float, default=1.0, help="a part of it, for trials")
    arguments = parser.parse_args()
    meter = model.Meter(int(model.BUDGET * arguments.budget_scale))
    trainer = Trainer(arguments.data, arguments.seed, meter)
    steps = trainer.run()
    model.save(arguments.out, trainer.parameters)
    print(f"{steps} steps, {meter.used} units of work")


if __name__ == "__main__":
    main()
