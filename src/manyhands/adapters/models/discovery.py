"""What answers on this machine: model servers on their usual ports, and GGUF files in the cache.

Invariants: looking changes nothing, takes no longer than its deadline, however many ports there are
and whatever they answer, and sends no key. What a server says about itself is data: it is cut to
size here, and whoever prints it must make it inert.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp

#: Port -> the server that is usually there.
USUAL_PORTS = {
    11434: "Ollama",
    8080: "llama.cpp",
    8000: "vLLM",
    1234: "LM Studio",
    30000: "SGLang",
}
#: What servers put into ``owned_by`` of their list of models, where it tells who they are.
_OWNERS = {
    "llamacpp": "llama.cpp",
    "organization_owner": "LM Studio",
    "sglang": "SGLang",
    "vllm": "vLLM",
}
_MOST_BYTES = 1024 * 1024
_MOST_MODELS = 200
_LONGEST_NAME = 200
#: Parts of a split file but its first, and what goes beside a model.
_NOT_A_MODEL = re.compile(r"(-(?!00001)\d{5}-of-\d{5}\.gguf$)|(^mmproj)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """``context_length``: as the server says; None where it does not."""

    name: str
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answered at ``url`` (no path).

    ``kind``: what it seems to be ('': it lists no models in any way that is known). ``models``: in
    its own order. ``note``: why there are none.
    """

    url: str
    kind: str
    models: tuple[ServedModel, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A GGUF file that was downloaded from the Hub. ``size``: bytes."""

    repo: str
    file: str
    size: int


async def find_servers(urls: Sequence[str], *, seconds: float = 2.0) -> tuple[Server, ...]:
    """Those of ``urls`` that answer, in that order, all asked at once."""
    timeout = aiohttp.ClientTimeout(total=seconds, connect=seconds / 2)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
        found = await asyncio.gather(*(_look(session, url) for url in urls))
    return tuple(server for server in found if server is not None)


def cached_files(cache: Path) -> tuple[CachedFile, ...]:
    """GGUF models below Hugging Face's ``cache``, by repository and name."""
    found: dict[tuple[str, str], CachedFile] = {}
    for path in sorted(cache.glob("models--*--*/snapshots/*/**/*.gguf")):
        parts = path.relative_to(cache).parts
        repo = parts[0].removeprefix("models--").replace("--", "/", 1)
        file = "/".join(parts[3:])
        if _NOT_A_MODEL.search(path.name) or not path.is_file():  # a download that is not done
            continue
        found[repo, file] = CachedFile(repo, file, path.stat().st_size)
    return tuple(found.values())


async def _look(session: aiohttp.ClientSession, url: str) -> Server | None:
    listed, tags = await asyncio.gather(
        _get(session, f"{url}/v1/models"), _get(session, f"{url}/api/tags")
    )
    if listed is None and tags is None:
        return None
    (status, said), (_, tagged) = listed or (0, None), tags or (0, None)
    rows, pulled = _rows(said, "data"), _rows(tagged, "models")
    if pulled is not None and _is_ollama(rows):
        return Server(url, "Ollama", _models(pulled, "name"))
    if rows is None:
        note = f"HTTP {status} for /v1/models" if status != 200 else "/v1/models is no list"
        if status in (401, 403):
            return Server(url, "OpenAI-compatible", note=f"{note}: it wants a key")
        return Server(url, "", note=note)
    kinds = {_OWNERS.get(str(row.get("owned_by", ""))) for row in rows} - {None}
    kind = kinds.pop() if len(kinds) == 1 else None
    return Server(url, kind or "OpenAI-compatible", _models(rows, "id"))


def _is_ollama(rows: list[dict[str, Any]] | None) -> bool:
    """llama.cpp answers ``/api/tags`` too, and owns its models."""
    return not any(row.get("owned_by") in _OWNERS for row in rows or ())


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, Any] | None:
    """Status and JSON (None: it is none); None where nothing that speaks HTTP answers in time."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MOST_BYTES:
                    return response.status, None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    try:
        return response.status, json.loads(body)
    except (ValueError, RecursionError):
        return response.status, None


def _rows(said: Any, key: str) -> list[dict[str, Any]] | None:
    """The objects of a list below ``key``; None where there is no such list."""
    if not isinstance(said, dict):
        return None
    listed = cast(dict[str, Any], said).get(key)
    if not isinstance(listed, list):
        return None
    rows = cast(list[Any], listed)[:_MOST_MODELS]
    return [cast(dict[str, Any], row) for row in rows if isinstance(row, dict)]


def _models(rows: list[dict[str, Any]] | None, key: str) -> tuple[ServedModel, ...]:
    found: list[ServedModel] = []
    for row in rows or ():
        name = row.get(key)
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME:
            found.append(ServedModel(name, _context_length(row)))
    return tuple(found)


def _context_length(row: dict[str, Any]) -> int | None:
    """vLLM and SGLang: ``max_model_len``; llama.cpp: ``meta.n_ctx``, of a slot."""
    meta = row.get("meta")
    told = [
        row.get("max_model_len"),
        cast(dict[str, Any], meta).get("n_ctx") if isinstance(meta, dict) else None,
    ]
    whole = [n for n in told if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return whole[0] if whole else None
