"""What this machine has for models, and how to get one where there is none.

Invariant: looking asks only servers on this machine (and where ``OLLAMA_HOST`` says), sends no key,
and starts nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from manyhands.adapters.models.discovery import (
    USUAL_PORTS,
    CachedFile,
    Server,
    cached_files,
    find_servers,
)
from manyhands.config import Config, parse_spec
from manyhands.errors import ConfigError
from manyhands.wiring.keys import TOKENS, hub_cache, hub_token_from
from manyhands.wiring.models import OLLAMA_PORT, VLLM, local_extra, ollama_url

#: What is proposed where there is nothing to go by: known to be there, open, good with tools.
HF_EXAMPLE = "hf:Qwen/Qwen3-32B"
OLLAMA_EXAMPLE = "qwen3:8b"
GGUF_EXAMPLE = "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf"
GGUF_SIZE = "2.5 GB"
#: The command that tries a model.
PROBE = "manyhands models --probe {}"


@dataclass(frozen=True, slots=True)
class Machine:
    """``token_from``: where a Hugging Face token is ('': nowhere). ``local``: whether
    ``manyhands[local]`` is installed. ``files``: GGUF models in Hugging Face's cache ``cache``.
    ``asked``: the addresses that were looked at."""

    servers: tuple[Server, ...] = ()
    token_from: str = ""
    local: bool = False
    files: tuple[CachedFile, ...] = ()
    cache: Path = Path()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a model: what it is, the command that comes first ('': none), what names it."""

    title: str
    first: str
    spec: str

    def command(self, program: str) -> str:
        """To be typed; in ``program`` a ``{}`` stands for the model."""
        run = program.replace("{}", shlex.quote(self.spec))
        return f"{self.first} && {run}" if self.first else run


async def look_around(ports: Sequence[int] = (), *, seconds: float = 2.0) -> Machine:
    """Look at the usual ports (or at ``ports``), at most ``seconds`` long."""
    urls = [f"http://127.0.0.1:{port}" for port in ports or USUAL_PORTS]
    elsewhere = ollama_url()
    if not ports and elsewhere != f"http://localhost:{OLLAMA_PORT}":
        urls.insert(0, elsewhere)
    cache = hub_cache()
    return Machine(
        servers=await find_servers(urls, seconds=seconds),
        token_from=hub_token_from(),
        local=local_extra(),
        files=cached_files(cache),
        cache=cache,
        asked=tuple(urls),
    )


def spec_for(server: Server, model: str) -> str:
    """How ``model`` of ``server`` is named, in the shortest form; '' where no form can."""
    local = server.url.replace("127.0.0.1", "localhost")
    if server.kind == "Ollama" and local == ollama_url().replace("127.0.0.1", "localhost"):
        text = f"ollama:{model}"
    elif server.kind == "vLLM" and f"{local}/v1" == VLLM:
        text = f"vllm:{model}"
    else:
        text = f"{server.url}/v1#{model}"
    try:
        return str(parse_spec(text))
    except ConfigError:
        return ""


def ways(machine: Machine) -> tuple[Way, ...]:
    """Three ways to a model, those that need the least first."""
    found = (_hosted(machine), _served(machine), _embedded(machine))
    return tuple(sorted(found, key=lambda way: bool(way.first)))


async def need_model(config: Config, spec: str | None = None, *, program: str = PROBE) -> str:
    """The model of a team that cannot do without: ``spec``, else ``model`` of ``manyhands.toml``,
    else the only one that is configured there.

    Raises `ConfigError` that says how to get one, with what this machine has taken into account:
    as three commands, with ``program`` in them (``{}`` stands for the model).
    """
    only = next(iter(config.models)) if len(config.models) == 1 else ""
    named = spec or config.model or only
    if named:
        config.chain(named)
        return named
    if config.models:
        first = min(config.models)
        raise ConfigError(
            f"which model? manyhands.toml has {', '.join(sorted(config.models))}",
            next=f"name one, or write model = {first!r} at the top of manyhands.toml",
        )
    raise ConfigError(
        "a model is needed, and none is named or configured",
        next=ways_told(await look_around(), program),
    )


def ways_told(machine: Machine, program: str) -> str:
    """`ways`, for the ``next`` of an error."""
    told = (f"    {way.title}\n        {way.command(program)}" for way in ways(machine))
    return "\n".join(["one of these gives you one:", *told])


def _hosted(machine: Machine) -> Way:
    if machine.token_from:
        return Way("Hugging Face hosts it", "", HF_EXAMPLE)
    return Way(f"Hugging Face hosts it (a token: {TOKENS})", "export HF_TOKEN=hf_…", HF_EXAMPLE)


def _served(machine: Machine) -> Way:
    for server in machine.servers:
        for model in server.models:
            spec = spec_for(server, model.name)
            if spec and "embed" not in model.name.lower():
                return Way(f"{server.kind} serves it at {server.url} already", "", spec)
    first = f"ollama pull {OLLAMA_EXAMPLE}"
    title = "Ollama serves it on this machine (https://ollama.com/download)"
    return Way(title, first, f"ollama:{OLLAMA_EXAMPLE}")


def _embedded(machine: Machine) -> Way:
    first = "" if machine.local else "pip install 'manyhands[local]'"
    for file in machine.files:
        return Way("Manyhands runs it: downloaded already", first, f"gguf:{file.repo}:{file.file}")
    return Way(f"Manyhands runs it (a download of {GGUF_SIZE})", first, GGUF_EXAMPLE)
