"""Draw the data of a linear law with noise: train and val for everyone, the holdout sealed."""

import argparse
import json
import random
from pathlib import Path

LAW = [2.0, -1.0, 0.5, 3.0]


def draw(count, generator):
    xs = [[generator.gauss(0, 1) for _ in LAW] for _ in range(count)]
    ys = [sum(a * b for a, b in zip(LAW, x)) + generator.gauss(0, 0.3) for x in xs]
    return {"x": xs, "y": ys}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sealed", type=Path, required=True)
    options = parser.parse_args()
    generator = random.Random(7)
    holdout = options.sealed / "holdout.json"
    for path in (options.out / "train.json", options.out / "val.json", holdout):
        path.write_text(json.dumps(draw(60, generator)))
    (options.out / "manifest.json").write_text(json.dumps({"law": len(LAW), "rows": 180}))
