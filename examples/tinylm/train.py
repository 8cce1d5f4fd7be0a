"""Trains the model and leaves an artifact. The one file to edit: settings here, or the code below.

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

CONTEXT = 4  # bytes that the model sees before the one to predict
EMBEDDING = 8  # numbers per byte
WIDTH = 64  # units in a hidden layer
DEPTH = 1  # hidden layers
ACTIVATION = "sigmoid"  # tanh, sigmoid, relu, gelu, silu
SHORTCUT = False  # a direct linear map from the embeddings to the logits
INIT_SCALE = 0.3  # standard deviation of the weights, in units of 1 / sqrt(inputs)
BATCH = 256  # examples per step; more examples, fewer steps
OPTIMISER = "sgd"  # sgd, momentum, adam
LEARNING_RATE = 0.2  # per step; adam takes a hundredth of it
SCHEDULE = "constant"  # constant, linear, cosine
WARMUP = 0.0  # share of the steps in which the learning rate rises from zero
WEIGHT_DECAY = 0.001  # share of the weights lost per step, in units of the learning rate

# --- training -------------------------------------------------------------------------------------

RELATIVE_RATE = {"sgd": 1.0, "momentum": 1.0, "adam": 0.01}
BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8


def initialise(
    config: model.Config, rng: np.random.Generator
) -> tuple[np.ndarray, model.Parameters]:
    flat, parameters = model.allocate(config)
    for name, value in parameters.items():
        if not name.endswith("bias"):
            inputs = 1 if name == "embedding" else value.shape[0]
            noise = rng.standard_normal(value.shape, np.float32)
            value[:] = noise * np.float32(INIT_SCALE / math.sqrt(inputs))
    return flat, parameters


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


class Optimiser:
    """Moves the flat parameter vector against its gradient."""

    def __init__(self, flat: np.ndarray) -> None:
        self.first = np.zeros_like(flat)
        self.second = np.zeros_like(flat)
        self.steps = 0

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        if OPTIMISER == "sgd":
            return gradient
        self.steps += 1
        if OPTIMISER == "momentum":
            self.first *= BETA1
            self.first += gradient
            return self.first
        self.first += (1 - BETA1) * (gradient - self.first)
        self.second += (1 - BETA2) * (gradient * gradient - self.second)
        corrected = np.sqrt(self.second) / math.sqrt(1 - BETA2**self.steps) + EPSILON
        return self.first / corrected / (1 - BETA1**self.steps)

    def move(self, flat: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        step = self.direction(gradient) * np.float32(rate)
        if WEIGHT_DECAY:
            flat *= np.float32(1 - rate * WEIGHT_DECAY)
        flat -= step


def train(
    config: model.Config, data: np.ndarray, seed: int, meter: model.Meter
) -> tuple[model.Parameters, int]:
    """The trained parameters and the number of steps that it took."""
    rng = np.random.default_rng(seed)
    flat, parameters = initialise(config, rng)
    gradient, gradients = model.allocate(config)
    optimiser = Optimiser(flat)
    contexts = model.windows(data, config.context)
    steps = meter.steps(config, BATCH)
    smooth = math.log(model.VOCABULARY)
    rate = LEARNING_RATE * RELATIVE_RATE[OPTIMISER]
    began = time.perf_counter()
    for step in range(steps):
        chosen = rng.integers(len(data), size=BATCH)
        loss = model.loss_and_gradients(
            config, parameters, contexts[chosen], data[chosen], gradients, meter
        )
        optimiser.move(flat, gradient, rate * multiplier(step, steps))
        smooth += 0.02 * (loss - smooth)
        if (step + 1) % max(1, steps // 20) == 0:
            tell(step + 1, steps, smooth, len(data), (time.perf_counter() - began) / (step + 1))
    return parameters, steps


def tell(step: int, steps: int, loss: float, size: int, seconds: float) -> None:
    """A line of progress, as trackers read it. ``seconds``: of a step, on average so far."""
    told = {
        "step": step,
        "loss": round(loss, 5),
        "train_bpb": round(loss / math.log(2), 5),
        "lr_multiplier": round(multiplier(step - 1, steps), 4),
        "step_seconds": round(seconds, 6),
        "tokens_per_second": round(BATCH / seconds, 1),
        "epoch": round(step * BATCH / size, 4),
        "remaining_steps": steps - step,
        "remaining_seconds": round((steps - step) * seconds, 3),
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, and leave an artifact in --out.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    parser.add_argument("--budget-scale", type=float, default=1.0, help="a part of it, for trials")
    arguments = parser.parse_args()
    config = model.Config(CONTEXT, EMBEDDING, WIDTH, DEPTH, ACTIVATION, SHORTCUT)
    meter = model.Meter(int(model.BUDGET * arguments.budget_scale))
    data = np.fromfile(arguments.data / "train.bin", np.uint8)
    print(f"{model.parameter_count(config)} parameters, {meter.steps(config, BATCH)} steps")
    parameters, steps = train(config, data, arguments.seed, meter)
    model.save(
        arguments.out, config, parameters, {"steps": steps, "batch": BATCH, "used": meter.used}
    )
    held_out = np.fromfile(arguments.data / "val.bin", np.uint8)
    print(f"val_bpb: {model.bits_per_byte(config, parameters, held_out):.6f}")


if __name__ == "__main__":
    main()
