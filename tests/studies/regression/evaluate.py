"""Mean squared error of the artifact, which is four numbers, on a split."""

import argparse
import json
import math
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    weights = json.loads((options.artifact / "model.json").read_text())
    if len(weights) != 4 or not all(isinstance(w, float) and math.isfinite(w) for w in weights):
        sys.exit(f"the artifact is not four finite numbers: {weights}")
    data = json.loads(options.data.read_text())
    errors = [
        (sum(w * v for w, v in zip(weights, x)) - y) ** 2 for x, y in zip(data["x"], data["y"])
    ]
    print(json.dumps({"val_mse": sum(errors) / len(errors)}))
