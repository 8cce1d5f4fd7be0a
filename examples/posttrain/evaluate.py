"""Asks what training left behind, and trusts none of it. Protected.

Invariant: the artifact is read as data and run by the protected `model` alone; the only line on
standard output is the metric, and nothing is printed there unless it is finite and plausible.

Each question is answered greedily. An answer that is right to the word is worth 1; one in the right
form that names another object `chat.FORM_CREDIT`. A model that keeps to the forms without answering
would live off that credit: it is refused.
"""

import os
import sys

# The folder of this file may hold modules of a stranger's making: `import json` must never find
# one, so the folder comes last. One thread makes the sums, and thus the metric, reproducible.
sys.path.sort(key=lambda folder: folder == os.path.dirname(os.path.abspath(__file__)))
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import chat
import model
import numpy as np

#: From this share of answers in the right form on, at least so many of those are right to the word.
FORMAL, LEAST_RIGHT = 0.2, 0.5


def read(folder: Path, name: str) -> str:
    """The text of a file, checked against the manifest beside it."""
    path = folder / name
    try:
        content = path.read_bytes()
        expected = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"][name]
    except (OSError, ValueError, KeyError) as error:
        raise model.Refused(f"cannot read {path} and its manifest ({error}); run data.py") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise model.Refused(f"{path} has SHA-256 {found}, the manifest {expected}; run data.py")
    return content.decode("utf-8")


def questions(folder: Path, split: str) -> list[tuple[chat.Fact, str]]:
    lines = [json.loads(line) for line in read(folder, f"{split}.jsonl").splitlines()]
    return [(chat.Fact(*line["fact"]), line["form"]) for line in lines]


def answers(
    parameters: model.Parameters, asked: list[tuple[chat.Fact, str]], words: list[str]
) -> list[list[str]]:
    """What the model answers, question by question; equally long ones are asked together."""
    index = {word: number for number, word in enumerate(words)}
    by_length: dict[int, list[int]] = defaultdict(list)
    prompts = [[index[word] for word in chat.question(*each)] for each in asked]
    for number, prompt in enumerate(prompts):
        by_length[len(prompt)].append(number)
    found: list[list[str]] = [[] for _ in asked]
    for numbers in by_length.values():
        rows = np.array([prompts[number] for number in numbers])
        for number, said in zip(numbers, model.continuations(parameters, rows, chat.LONGEST)):
            found[number] = [words[word] for word in said]
    return found


def judge(artifact: Path, folder: Path, split: str) -> dict[str, float]:
    """The score of the artifact on ``split``, its parts beside it. Raises `model.Refused`."""
    words = json.loads(read(folder, "vocabulary.json"))
    parameters = model.load(artifact, len(words))
    asked = questions(folder, split)
    with np.errstate(all="ignore"):
        said = answers(parameters, asked, words)
    credits = [chat.credit(*each, answer) for each, answer in zip(asked, said)]
    formal = sum(bool(object) for _, object in credits)
    right = sum(value == 1 for value, _ in credits)
    if formal >= FORMAL * len(asked) and right < LEAST_RIGHT * formal:
        raise model.Refused(
            f"of {formal} answers in the right form {right} are right, not {LEAST_RIGHT:.0%}: "
            "the forms are kept and the questions are not answered"
        )
    return {
        "eval_score": float(np.mean([value for value, _ in credits])),
        "exact": float(np.mean([value == 1 for value, _ in credits])),
        "form": float(np.mean([bool(object) for _, object in credits])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the score of an artifact.")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the split's .jsonl")
    parser.add_argument("--split", choices=("val", "holdout"), default="val")
    arguments = parser.parse_args()
    try:
        found = judge(arguments.artifact, arguments.data, arguments.split)
    except model.Refused as refusal:
        sys.exit(f"refused: {refusal}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
