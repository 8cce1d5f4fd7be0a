"""Judges what training left behind, and trusts none of it. Protected.

Invariant: the artifact is read as data and run by the protected `model` alone; the only line on
standard output is the metric, and nothing is printed there unless it is finite and plausible.
"""

import os
import sys

# The folder of this file may hold modules of a stranger's making: `import json` must never find
# one, so the folder comes last.
sys.path.sort(key=lambda folder: folder == os.path.dirname(os.path.abspath(__file__)))

import argparse
import hashlib
import json
import math
from pathlib import Path

import model
import torch

#: Bits per byte outside of these are a fault of the run, not a discovery.
PLAUSIBLE = (0.5, 9.0)


def read_split(folder: Path, split: str) -> torch.Tensor:
    """The bytes of ``split``, checked against the manifest beside them."""
    path = folder / f"{split}.bin"
    try:
        content = path.read_bytes()
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        expected = manifest["splits"][split]["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise model.Refused(f"cannot read {path} and its manifest ({error}); run data.py") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise model.Refused(f"{path} has SHA-256 {found}, the manifest {expected}; run data.py")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def judge(artifact: Path, folder: Path, split: str) -> float:
    """Bits per byte of the artifact on ``split``. Raises `model.Refused` rather than guess."""
    torch.set_num_threads(1)  # several would add up in an order of their own
    value = model.bits_per_byte(model.load(artifact), read_split(folder, split))
    low, high = PLAUSIBLE
    if not math.isfinite(value) or not low <= value <= high:
        raise model.Refused(f"{value} bits per byte is outside of {low} to {high}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the bits per byte of an artifact.")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the split's .bin")
    parser.add_argument("--split", choices=("val", "holdout"), default="val")
    arguments = parser.parse_args()
    try:
        value = judge(arguments.artifact, arguments.data, arguments.split)
    except model.Refused as refusal:
        sys.exit(f"refused: {refusal}")
    print(json.dumps({"val_bpb": value}))


if __name__ == "__main__":
    main()
