"""Serves equal prompts with the candidate and with the reference, in turn. Protected.

Invariant: the artifact is data (a configuration, and a model file if it brings one); the only line
on standard output is the metric, and nothing is printed there unless every answer of the candidate
is the reference's, to the letter.

Both servers stay up in processes of their own; pass by pass one answers and then the other, the
first of them by turns. The metric is the median of the passes' speed-ups, times the tokens a second
that the reference made when the data was prepared: what else the machine does slows both alike.
"""

import os
import sys

# The folder of this file may hold modules of a stranger's making: `import json` must never find
# one, so the folder comes last.
sys.path.sort(key=lambda folder: folder == os.path.dirname(os.path.abspath(__file__)))

import argparse
import contextlib
import hashlib
import json
import statistics
import subprocess
from pathlib import Path

import serving

#: The largest model file that an artifact may bring, in units of the given one.
LARGEST = 2.5


class Child:
    """A server in a process of its own."""

    def __init__(self, model: Path, config: dict) -> None:
        words = [sys.executable, str(Path(serving.__file__)), "--model", str(model)]
        self.process = subprocess.Popen(
            [*words, "--config", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def answer(self, prompts: list[str]) -> dict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(prompts) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        told = json.loads(line) if line else {"refused": "llama.cpp ended in the middle of it"}
        if "refused" in told:
            raise serving.Refused(told["refused"])
        return told

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def read(folder: Path, split: str) -> tuple[list[list[dict[str, str]]], float]:
    """The passes of ``split``, checked against the manifest, and the reference's speed."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name in (serving.MODEL, f"{split}.json"):
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if found != manifest["files"][name]:
                raise serving.Refused(f"{folder / name} is not what the manifest says; run data.py")
        passes = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
        return passes, float(manifest["reference_tokens_per_second"])
    except (OSError, ValueError, KeyError) as error:
        raise serving.Refused(f"cannot read {folder} ({error!r}); run data.py") from None


def model_of(artifact: Path, given: Path) -> Path:
    """The model file to serve: the artifact's own, if it brings one."""
    own = artifact / serving.MODEL
    if not own.exists() and not own.is_symlink():
        return given
    if own.is_symlink() or not own.is_file():
        raise serving.Refused(f"{serving.MODEL} in the artifact is no plain file")
    if own.stat().st_size > LARGEST * given.stat().st_size:
        raise serving.Refused(
            f"{serving.MODEL} has {own.stat().st_size} bytes; the limit is {LARGEST} times "
            f"{given.stat().st_size}"
        )
    return own


def same(found: dict, expected: list[dict[str, str]], who: str) -> None:
    """Raises `Refused` where an answer is another than the one that was written down."""
    pairs = list(zip(found["digests"], expected, strict=True))
    wrong = [number for number, (digest, each) in enumerate(pairs) if digest != each["digest"]]
    if wrong:
        raise serving.Refused(
            f"{who} answers {len(wrong)} of {len(expected)} prompts otherwise than the reference "
            f"did (the first: number {wrong[0]}); only what answers alike is compared"
        )


def judge(artifact: Path, folder: Path, split: str) -> dict[str, float]:
    """Tokens per second, and the speed-up. Raises `serving.Refused`."""
    passes, usual = read(folder, split)
    config, given = serving.read(artifact), folder / serving.MODEL
    sides = {"the candidate": Child(model_of(artifact, given), config)}
    sides["the reference"] = Child(given, serving.REFERENCE)
    ratios: list[float] = []
    rates: list[float] = []
    try:
        for number, one in enumerate(passes):
            prompts, seconds = [each["prompt"] for each in one], {}
            for who in sorted(sides, reverse=number % 2 == 0):
                found = sides[who].answer(prompts)
                same(found, one, who)
                seconds[who] = found["seconds"]
            if number:  # the first warms up
                ratios.append(seconds["the reference"] / seconds["the candidate"])
                rates.append(found["tokens"] / seconds["the candidate"])
    finally:
        for side in sides.values():
            side.end()
    ratio = statistics.median(ratios)
    return {
        "tokens_per_second": usual * ratio,
        "speed_up": ratio,
        "raw_tokens_per_second": statistics.median(rates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the tokens per second of an artifact.")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the split's .json")
    parser.add_argument("--split", choices=("val", "holdout"), default="val")
    arguments = parser.parse_args()
    try:
        found = judge(arguments.artifact, arguments.data, arguments.split)
    except serving.Refused as refusal:
        sys.exit(f"refused: {refusal}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
