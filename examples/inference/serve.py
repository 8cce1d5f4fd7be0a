"""How the model is served: writes a configuration into --out. The one file to edit.

The harness serves by what is written here, and times it against the reference. An answer that
differs from the reference's is a refusal, however fast it came.
"""

import argparse
import json
import shutil
from pathlib import Path

# --- settings -------------------------------------------------------------------------------------

SLOTS = 1  # conversations that are computed at once
CLIENTS = 1  # requests that are under way at once
THREADS = 1  # for the words of answers
PROMPT_THREADS = 1  # for prompts
WAITING = "active"  # active, passive: how threads wait for each other
CONTEXT = 1024  # words of a slot
BATCH = 64  # words of prompts and answers that are handed over at once
MICRO_BATCH = 32  # words that are computed at once
ORDER = "given"  # given, by_start, shortest, longest: in which prompts are sent
REUSE_PROMPTS = True  # what a slot has computed of a prompt's start is not computed again
CACHE_MB = 0  # memory for the states of slots that are taken for something else
FLASH_ATTENTION = "off"  # auto, on, off
KEYS = "f16"  # f32, f16, q8_0, q4_0: how a slot keeps what it attends to
VALUES = "f16"
SHARED_CONTEXT = False  # one context for all slots
LOOKUP = "none"  # none, simple, map, mod: guess words from what was there before, then check them
LOOKUP_MATCH = 12  # words that have to match
LOOKUP_DRAFT = 8  # words that are guessed
WEIGHTS = "as_given"  # as_given, f32, q8_0, q4_0: how the matrices are kept

# --- writing --------------------------------------------------------------------------------------


def configuration() -> dict[str, object]:
    return {
        "slots": SLOTS,
        "clients": CLIENTS,
        "threads": THREADS,
        "prompt_threads": PROMPT_THREADS,
        "waiting": WAITING,
        "context": CONTEXT,
        "batch": BATCH,
        "micro_batch": MICRO_BATCH,
        "order": ORDER,
        "reuse_prompts": REUSE_PROMPTS,
        "cache_mb": CACHE_MB,
        "flash_attention": FLASH_ATTENTION,
        "keys": KEYS,
        "values": VALUES,
        "shared_context": SHARED_CONTEXT,
        "lookup": LOOKUP,
        "lookup_match": LOOKUP_MATCH,
        "lookup_draft": LOOKUP_DRAFT,
    }


def rewrite(given: Path, out: Path, kind: str) -> None:
    """The same model with its matrices kept as ``kind``: smaller or larger, and not quite equal."""
    import gguf  # noqa: PLC0415 - only those who change weights need it
    import numpy as np  # noqa: PLC0415 - as above

    reader = gguf.GGUFReader(given)
    writer = gguf.GGUFWriter(out, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    wanted = getattr(gguf.GGMLQuantizationType, kind.upper())
    for tensor in reader.tensors:
        values = np.asarray(tensor.data)
        if values.ndim == 2:
            values = gguf.quants.quantize(values.astype(np.float32), wanted)
            writer.add_tensor(tensor.name, values, raw_dtype=wanted)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write how to serve into --out.")
    parser.add_argument("--seed", type=int, default=0, help="for what is drawn; nothing is, so far")
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(configuration(), indent=1, sort_keys=True)
    (arguments.out / "serving.json").write_text(text + "\n", encoding="utf-8")
    if WEIGHTS != "as_given":
        rewrite(arguments.data / "model.gguf", arguments.out / "model.gguf", WEIGHTS)
    print(f"{shutil.disk_usage(arguments.out).free >> 20} MB are left; wrote {text}")


if __name__ == "__main__":
    main()
