"""Stochastic gradient descent on a linear model. Its settings leave something to gain."""

import argparse
import json
import random
from pathlib import Path

RATE = 0.002
STEPS_SHARE = 0.5
DECAY = "none"

STEP_LIMIT = 400


def train(data, seed):
    generator = random.Random(seed)
    weights = [generator.gauss(0, 0.5) for _ in data["x"][0]]
    steps = int(STEP_LIMIT * STEPS_SHARE)
    for step in range(steps):
        at = generator.randrange(len(data["x"]))
        x, y = data["x"][at], data["y"][at]
        error = sum(w * v for w, v in zip(weights, x)) - y
        rate = RATE * (1 - step / steps if DECAY == "linear" else 1)
        weights = [w - rate * 2 * error * v for w, v in zip(weights, x)]
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    weights = train(json.loads((options.data / "train.json").read_text()), options.seed)
    (options.out / "model.json").write_text(json.dumps(weights))
    print("val_mse: not measured here")
