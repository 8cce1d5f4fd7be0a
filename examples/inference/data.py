"""The model to serve, the prompts, and the reference's answers to them.

Invariant: every prompt that is kept is one whose answer does not hang on rounding: at each word the
reference's choice leads by `LEAD` nats. What answers otherwise is another model, not another order
of additions.

``python data.py --out D --sealed S`` writes ``D/model.gguf``, ``D/val.json`` and ``S/holdout.json``
(passes of prompts with the digest of each right answer), a copy of the model in ``S``, and
``manifest.json`` in both: SHA-256 of every file, and how fast the reference was.

Without ``--model`` the model is made here: random weights, a word for each byte. It says nothing
that means anything; a server has the same work with it as with any other of its size.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
from pathlib import Path

import serving

WIDTH, LAYERS, HEADS, HIDDEN = 256, 2, 4, 768
CONTEXT_LENGTH = 8192
#: Passes and prompts of each, for val and holdout alike; one pass more warms a server up.
PASSES, PROMPTS = 5, 8
LEAD = 0.02
#: Prompts begin like one of these, so that there is something to reuse.
STARTS = (
    "You are one of a team of agents. Read the files, run the command, and report what you found. "
    "When the work is done, say so, and hand in what you have. ",
    "Answer in one sentence, by the passages below alone, and name the passage that you used. "
    "Where they do not tell, say that they do not. ",
    "Here is a table of experiments: name, setting, value, metric. Say which one to try next. "
    "One change at a time, none that was tried before. ",
    "Translate each line below, keep names as they are, and leave out what you cannot read. "
    "Numbers stay as they are written, dates do not. ",
)
WORDS = (
    *("run", "file", "line", "test", "model", "error", "value", "table", "name", "list"),
    *("path", "word", "loss", "step", "rate", "seed"),
)


# --- the model ------------------------------------------------------------------------------------


def letters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in shown else next(spare)) for byte in range(256)]


def build_model(path: Path) -> None:
    """A llama with random weights, the same for every call. Only small letters, digits and spaces
    are ever likely: the first dimension is a constant that nothing writes to, and biases words."""
    try:
        import gguf  # noqa: PLC0415 - only those who build a model need it
        import numpy as np  # noqa: PLC0415 - as above
    except ImportError as error:
        raise serving.Refused(f"{error.name} is not installed: {serving.NEEDED}") from error
    tokens = [*letters(), "Ġt", "<end>"]
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int, spread: float, constant: bool = False):
        drawn = rng.standard_normal((rows, columns), np.float32) * np.float32(spread)
        if constant:
            drawn[0] = 0
        return drawn.astype(np.float16)

    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, gguf, tokens)
    embedding = matrix(len(tokens), WIDTH, 1.0)
    embedding[:, 0] = WIDTH**0.5
    writer.add_tensor("token_embd.weight", embedding)
    ones = np.ones(WIDTH, np.float32)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH // 2, WIDTH),
            "attn_v": (WIDTH // 2, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (HIDDEN, WIDTH),
            "ffn_up": (HIDDEN, WIDTH),
            "ffn_down": (WIDTH, HIDDEN),
        }.items():
            back = name in ("attn_output", "ffn_down")
            values = matrix(*shape, shape[1] ** -0.5 * (0.5 if back else 1.0), constant=back)
            writer.add_tensor(f"blk.{layer}.{name}.weight", values)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    output = matrix(len(tokens), WIDTH, 1.5 * (WIDTH / 2) ** -0.5)
    likely = [len(t) == 1 and (t.isdecimal() or "a" <= t <= "z" or t == "Ġ") for t in tokens]
    output[:, 0] = np.where(likely, 0.0, -30.0 / (WIDTH / 2) ** 0.5)
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer, gguf, tokens: list[str]) -> None:
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["Ġ t"])
    kinds = [gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)


# --- prompts --------------------------------------------------------------------------------------


def prompt(number: int, rng: random.Random) -> str:
    """Neighbours begin differently; each ends in words of its own."""
    words = rng.choices(WORDS, k=rng.randint(2, 12))
    return f"{STARTS[number % len(STARTS)]}{number}: {' '.join(words)} -> "


def passes(served: serving.Served, seed: int, count: int, each: int) -> list[list[dict[str, str]]]:
    """``count`` passes of ``each`` prompts that the reference answers with a lead, none twice."""
    rng, number = random.Random(seed), 0
    kept: list[dict[str, str]] = []
    while len(kept) < count * each:
        number += 1
        if number > 20 * count * each:
            raise serving.Refused(
                f"of {number} prompts the model answers {len(kept)} with a lead of {LEAD} nats; "
                f"{count * each} are needed: serve another model"
            )
        text = prompt(number, rng)
        answered = served.answer(text, alternatives=2)
        if serving.margin(answered) >= LEAD:
            said = answered["choices"][0]["text"]
            kept.append({"prompt": text, "digest": serving.digest(said)})
    return [kept[start : start + each] for start in range(0, len(kept), each)]


def write_all(
    out: Path, sealed: Path, given: Path | None, count: int, each: int
) -> dict[str, object]:
    for folder in (out, sealed):
        folder.mkdir(parents=True, exist_ok=True)
    model = out / serving.MODEL
    if given is not None:
        shutil.copyfile(given, model)
    else:
        build_model(model)
    shutil.copyfile(model, sealed / serving.MODEL)
    served = serving.Served(model, serving.REFERENCE)
    val, holdout = (passes(served, seed, count + 1, each) for seed in (1, 2))
    timed = [served.answer_all([asked["prompt"] for asked in one]) for one in val[1:]]
    rate = statistics.median(tokens / seconds for seconds, tokens, _ in timed)
    (out / "val.json").write_text(json.dumps(val), encoding="utf-8")
    (sealed / "holdout.json").write_text(json.dumps(holdout), encoding="utf-8")
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (model, out / "val.json", sealed / "holdout.json")
    }
    manifest = {"files": files, "reference_tokens_per_second": rate}
    for folder in (out, sealed):
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the model, the prompts and their answers.")
    parser.add_argument("--out", type=Path, required=True, help="folder that candidates read")
    parser.add_argument("--sealed", type=Path, required=True, help="folder that they must not read")
    parser.add_argument("--model", type=Path, help="a GGUF file to serve (default: a tiny one)")
    parser.add_argument("--passes", type=int, default=PASSES, help="that are timed")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="of each pass")
    arguments = parser.parse_args()
    try:
        sizes = (arguments.passes, arguments.prompts)
        manifest = write_all(arguments.out, arguments.sealed, arguments.model, *sizes)
    except serving.Refused as refusal:
        sys.exit(f"refused: {refusal}")
    print(f"the reference serves {manifest['reference_tokens_per_second']:.0f} tokens a second")
    sys.stdout.flush()
    os._exit(0)  # llama.cpp's threads need not be waited for


if __name__ == "__main__":
    main()
