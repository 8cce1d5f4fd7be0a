"""A server of one model with one configuration, and what it takes to answer. Protected.

Invariant: a configuration is data, checked against `LIMITS` and `CHOICES`; nothing of it is run.

As a program it is one server in a process of its own: a list of prompts as a line of JSON in, what
answering them took as a line of JSON out. llama.cpp runs inside of it (`xllamacpp`, the extra
``manyhands[local]``), without any network.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFIG, MODEL = "serving.json", "model.gguf"
#: Every key of a configuration; the numbers' limits, the words' choices.
LIMITS: dict[str, tuple[int, int]] = {
    "slots": (1, 64),
    "clients": (1, 64),
    "threads": (1, 16),
    "prompt_threads": (1, 16),
    "context": (512, 8192),
    "batch": (16, 4096),
    "micro_batch": (16, 4096),
    "lookup_match": (1, 32),
    "lookup_draft": (1, 64),
    "cache_mb": (0, 512),
}
CHOICES: dict[str, tuple[object, ...]] = {
    "order": ("given", "by_start", "shortest", "longest"),
    "reuse_prompts": (False, True),
    "flash_attention": ("auto", "on", "off"),
    "keys": ("f16", "f32", "q8_0", "q4_0"),
    "values": ("f16", "f32", "q8_0", "q4_0"),
    "shared_context": (False, True),
    "lookup": ("none", "simple", "map", "mod"),
    "waiting": ("active", "passive"),
}
#: What every candidate is measured against, and whose answers are the right ones.
REFERENCE: dict[str, object] = {
    **{"slots": 1, "clients": 1, "threads": 1, "prompt_threads": 1, "context": 1024},
    **{"batch": 64, "micro_batch": 32, "order": "given", "reuse_prompts": True, "cache_mb": 0},
    **{"flash_attention": "off", "keys": "f16", "values": "f16", "shared_context": False},
    **{"lookup": "none", "lookup_match": 12, "lookup_draft": 8, "waiting": "active"},
}
#: Words of each answer: greedy, and going on past its end, so that every answer is as long.
ANSWER_TOKENS = 32
NEEDED = "pip install 'manyhands[lab,local]' gguf"


class Refused(Exception):
    """An artifact, data or a server that cannot be judged: says the value and the limit."""


# --- configurations -------------------------------------------------------------------------------


def checked(found: object) -> dict:
    """``found`` as a configuration. Raises `Refused`."""
    known = [*LIMITS, *CHOICES]
    if not isinstance(found, dict) or sorted(found) != sorted(known):
        raise Refused(f"{CONFIG} must have the keys {', '.join(sorted(known))}, and no other")
    for name, (low, high) in LIMITS.items():
        if type(found[name]) is not int or not low <= found[name] <= high:
            raise Refused(f"{CONFIG}: {name} is {found[name]!r}; it must be from {low} to {high}")
    for name, choices in CHOICES.items():
        if found[name] not in choices or type(found[name]) is not type(choices[0]):
            raise Refused(
                f"{CONFIG}: {name} is {found[name]!r}; know {', '.join(map(repr, choices))}"
            )
    return found


def read(artifact: Path) -> dict:
    """The configuration that an artifact holds. Raises `Refused`."""
    path = artifact / CONFIG
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 10_000:
        raise Refused(f"there is no small file {CONFIG} in the artifact; serve.py writes it")
    try:
        return checked(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{CONFIG} is not JSON: {error}") from error


# --- serving --------------------------------------------------------------------------------------


class Served:
    """llama.cpp's server in this process. Raises `Refused` where it does not start."""

    def __init__(self, model: Path, config: dict) -> None:
        os.environ["OMP_WAIT_POLICY"] = config["waiting"]
        try:
            import xllamacpp  # noqa: PLC0415 - it says what is missing
        except ImportError as error:
            raise Refused(f"xllamacpp is not installed ({error}): {NEEDED}") from error
        self.config = config
        try:
            self.server = xllamacpp.Server(_parameters(xllamacpp, model, config))
        except (RuntimeError, ValueError) as error:
            raise Refused(f"llama.cpp does not start with this configuration: {error}") from error

    def answer(self, prompt: str, *, alternatives: int = 0) -> dict:
        """The answer as llama.cpp's completion says it."""
        asked = {
            "prompt": prompt,
            "n_predict": ANSWER_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": self.config["reuse_prompts"],
        } | ({"n_probs": alternatives} if alternatives else {})
        found = self.server.handle_completions(asked)
        found = json.loads(found) if isinstance(found, str | bytes) else found
        if "choices" not in found:
            raise Refused(f"llama.cpp refuses a prompt: {json.dumps(found)[:300]}")
        return found

    def answer_all(self, prompts: Sequence[str]) -> tuple[float, int, list[str]]:
        """Seconds, tokens written, and the digest of each answer, in the order of ``prompts``."""
        order = arranged(prompts, self.config["order"])
        began = time.perf_counter()
        with ThreadPoolExecutor(self.config["clients"]) as clients:
            found = list(clients.map(self.answer, [prompts[i] for i in order]))
        seconds = time.perf_counter() - began
        digests = dict(zip(order, (digest(each["choices"][0]["text"]) for each in found)))
        tokens = sum(each["usage"]["completion_tokens"] for each in found)
        return seconds, tokens, [digests[number] for number in range(len(prompts))]


def arranged(prompts: Sequence[str], order: str) -> list[int]:
    """The numbers of the prompts in the order in which they are sent."""
    keys = {
        "given": lambda i: i,
        "by_start": lambda i: (prompts[i], i),
        "shortest": lambda i: (len(prompts[i]), i),
        "longest": lambda i: (-len(prompts[i]), i),
    }
    return sorted(range(len(prompts)), key=keys[order])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _parameters(xllamacpp, model: Path, config: dict):
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel = config["slots"]
    params.n_ctx = config["context"] * (1 if config["shared_context"] else config["slots"])
    params.kv_unified = config["shared_context"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["prompt_threads"]
    params.n_batch, params.n_ubatch = config["batch"], min(config["micro_batch"], config["batch"])
    params.cache_ram_mib, params.cache_idle_slots = config["cache_mb"], config["cache_mb"] > 0
    kinds = xllamacpp.ggml_type
    params.cache_type_k = getattr(kinds, f"GGML_TYPE_{config['keys'].upper()}")
    params.cache_type_v = getattr(kinds, f"GGML_TYPE_{config['values'].upper()}")
    flash = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[config["flash_attention"]]
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}"
    )
    _look_up(xllamacpp, params, config)
    params.fit_params, params.warmup, params.ui = False, False, False
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, 0
    return params


def _look_up(xllamacpp, params, config: dict) -> None:
    """Drafts out of the prompt and of what was written before (Saxena, 2023, "Prompt lookup")."""
    name = {"simple": "NGRAM_SIMPLE", "map": "NGRAM_MAP_K", "mod": "NGRAM_MOD"}.get(
        config["lookup"]
    )
    if name is None:
        return
    kinds = xllamacpp.common_speculative_type
    params.speculative.types = [getattr(kinds, f"COMMON_SPECULATIVE_TYPE_{name}")]
    for part in (params.speculative.ngram_simple, params.speculative.ngram_map_k):
        part.size_n, part.size_m = config["lookup_match"], config["lookup_draft"]
    mod = params.speculative.ngram_mod
    mod.n_match, mod.n_max, mod.n_min = config["lookup_match"], config["lookup_draft"], 1


def margin(answered: dict) -> float:
    """The smallest distance, in nats, of a chosen word from the runner-up."""
    least = math.inf
    for word in answered["choices"][0]["logprobs"]["content"]:
        first, second = (each["logprob"] for each in word["top_logprobs"][:2])
        least = min(least, first - second)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer lists of prompts, line by line.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--config", required=True, help="a configuration as JSON")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # llama.cpp prints
    try:
        served = Served(arguments.model, checked(json.loads(arguments.config)))
        for line in sys.stdin:
            seconds, tokens, digests = served.answer_all(json.loads(line))
            told = {"seconds": seconds, "tokens": tokens, "digests": digests}
            print(json.dumps(told), file=answers, flush=True)
    except Refused as refusal:
        print(json.dumps({"refused": str(refusal)}), file=answers, flush=True)
    answers.flush()
    os._exit(0)  # its threads need not be waited for


if __name__ == "__main__":
    main()
