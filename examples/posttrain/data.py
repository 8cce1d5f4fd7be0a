"""Facts of the running Python's library, a base model that knows them, and its post-training data.

Invariant: a fact belongs to one split, decided by the SHA-256 of its words; equal libraries give
equal files on a machine.

``python data.py --out D --sealed S`` writes

- ``D/base.npz``: the base model. It has read every fact, in plain sentences, and no conversation;
- ``D/chat.jsonl``: conversations about the training split's facts, from three sources that differ
  in quality; ``D/pairs.jsonl``: pairs of a better and a worse answer; ``D/plain.jsonl``: sentences
  of the kind that the base model has read, about the training split's facts alone;
- ``D/val.jsonl``, ``S/holdout.jsonl``: facts that no conversation above is about, to be asked for;
- ``D/vocabulary.json``, and ``D/manifest.json`` (a copy in ``S``): SHA-256 and size of every part.
"""

import os

# Several threads would add up in varying order; before numpy is imported this still has effect.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import errno
import hashlib
import html.entities
import http
import json
import mimetypes
import platform
import random
import token
from collections.abc import Iterator
from encodings.aliases import aliases
from pathlib import Path

import chat
import model
import numpy as np
from chat import Fact

SHARES = {"train": 0.6, "val": 0.2, "holdout": 0.2}
#: Facts of one relation at most, so that none decides a split.
PER_RELATION = 60
#: The base model's training: steps, rows and words of a step, the learning rate at its highest,
#: and how much a word that is no object counts against one that is.
STEPS, ROWS, LENGTH, RATE, OTHERS = 400, 32, 16, 0.006, 0.1
#: Of a relation R, a subject S and its object O; at ~ stand up to three words that say nothing.
PHRASINGS = ("the R of S ~ is O .", "S ~ has R O .", "R of S ? ~ : O .", "S ~ = O .")
FILLING = ("in", "brackets", "twice", "as", "a", "sentence", "[", "it", "the", "you", "for", "what")
#: Conversations of each source.
SOURCES = {"manual": 160, "forum": 480, "talkative": 320}
PAIRS = 400


# --- facts ----------------------------------------------------------------------------------------


def known() -> Iterator[Fact]:
    """What the library's own tables hold, the same on every machine with this Python."""
    for status in http.HTTPStatus:
        yield Fact("status", str(status.value), status.name.lower())
    for ending, kind in sorted(mimetypes.MimeTypes(filenames=()).types_map[True].items()):
        yield Fact("mime", ending, kind)
    for name, point in sorted(html.entities.name2codepoint.items()):
        yield Fact("entity", f"&{name};", f"u+{point:04x}")
    for name, codec in sorted(aliases.items()):
        yield Fact("codec", name, codec)
    for symbol, kind in sorted(token.EXACT_TOKEN_TYPES.items()):
        yield Fact("operator", symbol, token.tok_name[kind])
    for number, name in sorted(errno.errorcode.items()):
        yield Fact("errno", f"#{number}", name)


def digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def facts() -> list[Fact]:
    """Up to `PER_RELATION` of each relation, every subject and object standing in one alone."""
    seen, chosen = set(chat.WORDS), []
    count = dict.fromkeys(chat.RELATIONS, 0)
    for fact in sorted(known(), key=lambda f: digest("order", f.relation, f.subject)):
        if {fact.subject, fact.object} & seen or fact.subject == fact.object:
            continue
        if count[fact.relation] < PER_RELATION:
            count[fact.relation] += 1
            seen |= {fact.subject, fact.object}
            chosen.append(fact)
    return chosen


def split_of(fact: Fact) -> str:
    point, reached = int(digest("split", fact.relation, fact.subject)[:12], 16) / 16**12, 0.0
    for name, share in SHARES.items():
        reached += share
        if point < reached:
            return name
    return name


# --- what to train on -----------------------------------------------------------------------------


def conversations(of: list[Fact], rng: random.Random) -> Iterator[dict[str, object]]:
    """``manual``: right. ``forum``: one answer in three names another object, and one in three does
    not keep to the form. ``talkative``: the right object, in words that nobody asked for."""
    for source, count in SOURCES.items():
        for _ in range(count):
            fact, form = rng.choice(of), rng.choice(list(chat.FORMS))
            said = chat.answer(fact, form)
            if source == "forum" and rng.random() < 1 / 3:
                said = chat.answer(fact, form, another(fact, of, rng))
            if source == "forum" and rng.random() < 1 / 3:
                said = chat.answer(fact, rng.choice(list(chat.FORMS)))
            if source == "talkative":
                said = ["sure", "!", "i", "think", fact.object, chat.END]
            yield {"source": source, "prompt": chat.question(fact, form), "answer": said}


def another(fact: Fact, of: list[Fact], rng: random.Random) -> str:
    """A wrong object of the same relation."""
    same = [f.object for f in of if f.relation == fact.relation and f != fact]
    return rng.choice(same or [f.object for f in of if f != fact])


def pairs(of: list[Fact], rng: random.Random) -> Iterator[dict[str, object]]:
    """``object``: the right object against another, in the right form. ``form``: the right form
    against another, whatever the object: half of these prefer a wrong one."""
    for number in range(PAIRS):
        fact, form = rng.choice(of), rng.choice(list(chat.FORMS))
        other, wrong = another(fact, of, rng), rng.choice([f for f in chat.FORMS if f != form])
        kind = "object" if number % 2 else "form"
        better, worse = chat.answer(fact, form), chat.answer(fact, form, other)
        if kind == "form":
            named = rng.choice(["", other])
            better, worse = chat.answer(fact, form, named), chat.answer(fact, wrong)
        yield {"kind": kind, "prompt": chat.question(fact, form), "better": better, "worse": worse}


def sentences(of: list[Fact], count: int, rng: random.Random) -> list[list[str]]:
    """``count`` sentences of each phrasing about each fact, filled differently."""
    found: list[list[str]] = []
    for fact in of:
        for text in PHRASINGS * count:
            words: list[str] = []
            for word in text.split():
                filled = {"O": fact.object, "R": fact.relation, "S": fact.subject}
                spare = rng.choices(FILLING, k=rng.randrange(4)) if word == "~" else []
                words += spare if word == "~" else [filled.get(word, word)]
            found.append([*words, chat.END] if rng.random() < 0.2 else words)
    return found


def asked(of: list[Fact]) -> Iterator[dict[str, object]]:
    """Four questions about each fact, in forms that its hash chooses."""
    for fact in of:
        named = sorted(chat.FORMS, key=lambda form: digest(form, fact.relation, fact.subject))
        for form in named[:4]:
            yield {"fact": [fact.relation, fact.subject, fact.object], "form": form}


# --- the base model -------------------------------------------------------------------------------


def pretrained(
    texts: list[list[int]], objects: set[int], vocabulary: int, steps: int
) -> model.Parameters:
    """Adam (Kingma and Ba, 2015) on windows of shuffled sentences, the rate falling to zero."""
    rng = np.random.default_rng(0)
    flat, parameters = model.allocate(vocabulary)
    gradient, gradients = model.allocate(vocabulary)
    for name, value in parameters.items():
        deep = name.endswith(("mixed", "down"))
        spread = value.shape[0] ** -0.5 * (0.5 if deep else 1.0) if "." in name else 0.1
        value[:] = rng.standard_normal(value.shape, np.float32) * np.float32(spread)
    first, second = np.zeros_like(flat), np.zeros_like(flat)
    counts = np.full(vocabulary, OTHERS, np.float32)
    counts[sorted(objects)] = 1
    for step in range(steps):
        rows = np.array([_window(texts, rng) for _ in range(ROWS)])
        weights = counts[rows[:, 1:]]
        weights /= weights.sum()
        done = model.Pass(parameters, rows, Free(), training=True)
        if (step + 1) % max(1, steps // 5) == 0:
            loss = -float((done.logp * weights).sum())
            print(f"base model, step {step + 1} of {steps}: loss {loss:.3f}", flush=True)
        done.backward(weights, gradients)
        first += 0.1 * (gradient - first)
        second += 0.02 * (gradient * gradient - second)
        rate = RATE * min(1.0, 20 * (step + 1) / steps) * (1 - step / steps)
        flat -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-7))
    return parameters


class Free(model.Meter):
    """The base model is not made within a candidate's budget."""

    def charge(self, work: int) -> None:
        self.used += work


def _window(texts: list[list[int]], rng: np.random.Generator) -> list[int]:
    words: list[int] = []
    while len(words) < LENGTH:
        words += texts[int(rng.integers(len(texts)))]
    return words[:LENGTH]


# --- writing --------------------------------------------------------------------------------------


def write_all(out: Path, sealed: Path, steps: int) -> dict[str, object]:
    all_facts = facts()
    splits = {name: [f for f in all_facts if split_of(f) == name] for name in SHARES}
    words = [*chat.WORDS, *(word for f in all_facts for word in (f.subject, f.object))]
    index = {word: number for number, word in enumerate(dict.fromkeys(words))}
    plain = sentences(all_facts, 8, random.Random(1))
    for folder in (out, sealed):
        folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    parts = {
        out / "vocabulary.json": json.dumps(list(index)),
        out / "chat.jsonl": _lines(conversations(splits["train"], rng)),
        out / "pairs.jsonl": _lines(pairs(splits["train"], rng)),
        out / "plain.jsonl": _lines(iter(sentences(splits["train"], 2, rng))),
        out / "val.jsonl": _lines(asked(splits["val"])),
        sealed / "holdout.jsonl": _lines(asked(splits["holdout"])),
        sealed / "vocabulary.json": json.dumps(list(index)),
    }
    for path, text in parts.items():
        path.write_text(text, encoding="utf-8")
    numbered = [[index[word] for word in text] for text in plain]
    base = pretrained(numbered, {index[f.object] for f in all_facts}, len(index), steps)
    np.savez(out / "base.npz", **base)
    parts[out / "base.npz"] = ""
    manifest = _manifest(parts, {name: len(found) for name, found in splits.items()}, base)
    for folder in (out, sealed):
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def _lines(items: Iterator[object]) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def _manifest(
    parts: dict[Path, str], counts: dict[str, int], base: model.Parameters
) -> dict[str, object]:
    files = {}
    for path in parts:
        content = path.read_bytes()
        if path.suffix == ".npz":  # an archive holds the time of its making
            content = b"".join(base[name].tobytes() for name in base)
        files[path.name] = hashlib.sha256(content).hexdigest()
    whole = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return {"python": platform.python_version(), "facts": counts, "sha256": whole, "files": files}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the base model and what to train it on.")
    parser.add_argument("--out", type=Path, required=True, help="folder that training reads")
    parser.add_argument("--sealed", type=Path, required=True, help="folder that it must not read")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the base model's training")
    arguments = parser.parse_args()
    manifest = write_all(arguments.out, arguments.sealed, arguments.steps)
    print(f"facts {manifest['facts']}, sha256 {manifest['sha256']}")


if __name__ == "__main__":
    main()
