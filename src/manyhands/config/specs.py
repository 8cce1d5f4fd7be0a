"""How a model is named: one grammar for the command line, ``manyhands.toml`` and role files.

Invariants: a `ModelSpec` that exists is well formed, and ``parse_spec(str(spec)) == spec``. A URL
never holds a user name or a password, and no message repeats one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from manyhands.errors import ConfigError


class Kind(StrEnum):
    NAMED = "named"
    HF = "hf"
    OLLAMA = "ollama"
    VLLM = "vllm"
    HTTP = "http"
    GGUF = "gguf"
    SCRIPT = "script"
    HUMAN = "human"


#: Every form with an example and what it means; for messages and the documentation.
FORMS: tuple[tuple[str, str, str], ...] = (
    ("hf:OWNER/MODEL[:PROVIDER]", "hf:Qwen/Qwen3-32B", "Hugging Face hosts it"),
    ("ollama:NAME", "ollama:qwen3:8b", "Ollama (at OLLAMA_HOST)"),
    ("vllm:NAME", "vllm:Qwen/Qwen3-8B", "vLLM here, port 8000"),
    ("vllm:URL#NAME", "vllm:http://gpu:8000/v1#qwen3", "vLLM elsewhere"),
    ("URL#NAME", "http://localhost:8080/v1#qwen3", "any OpenAI-compatible server"),
    ("gguf:OWNER/REPO:FILE", "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf", "Manyhands runs it"),
    ("PATH.gguf", "./models/qwen3.gguf", "Manyhands runs this file"),
    ("script:FILE", "script:demo.json", "a scripted model"),
    ("human", "human", "a person fills the role (`manyhands takeover`)"),
    ("NAME", "local", "[models.local] of the file"),
)

#: What `[models.NAME]` may be called: no form can be mistaken for it.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!\.gguf)")
#: In the lab: no model.
ALGORITHM = "algorithm"
#: The lab's planner without a model; the first is what ``algorithm`` stands for.
PLANNERS = ("tpe", "cmaes", "random")
#: How a model plans in the lab; the first is what a model alone stands for.
MANNERS = ("hybrid", "single", "advised")

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]*")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^#\s]*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model is to be found.

    ``name``: what its server calls it, the repository (hf, and gguf of the Hub), or the name in
    ``manyhands.toml``; '' for a local file. ``url``: of http, and of vllm elsewhere. ``provider``:
    of hf ('': Hugging Face chooses). ``file``: of gguf (in the repository, or a path) and script.
    """

    kind: Kind
    name: str = ""
    url: str = ""
    provider: str = ""
    file: str = ""

    def __str__(self) -> str:
        match self.kind:
            case Kind.NAMED:
                return self.name
            case Kind.HF:
                return f"hf:{self.name}:{self.provider}" if self.provider else f"hf:{self.name}"
            case Kind.HTTP:
                return f"{self.url}#{self.name}"
            case Kind.VLLM if self.url:
                return f"vllm:{self.url}#{self.name}"
            case Kind.GGUF:
                return f"gguf:{self.name}:{self.file}" if self.name else f"gguf:{self.file}"
            case Kind.SCRIPT:
                return f"script:{self.file}"
            case Kind.HUMAN:
                return "human"
            case _:
                return f"{self.kind}:{self.name}"


def parse_spec(text: str) -> ModelSpec:
    """One model. Raises `ConfigError` that lists the forms."""
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _READERS:
        return _READERS[scheme](rest)
    if text.endswith(".gguf"):
        return _local_gguf(text, text)
    if text == "human":
        return ModelSpec(Kind.HUMAN)
    if NAME.fullmatch(text):
        return ModelSpec(Kind.NAMED, text)
    if colon and "/" not in scheme:
        raise refusal(text, f"there is no form {scheme + ':'!r}")
    raise refusal(text, "not one of the forms")


def parse_specs(text: str) -> tuple[ModelSpec, ...]:
    """Models to be tried in this order, with commas between them."""
    return tuple(parse_spec(part) for part in text.split(","))


def located(spec: ModelSpec, folder: Path) -> ModelSpec:
    """With a local file's path made absolute: relative ones are meant from ``folder``."""
    if spec.kind is Kind.SCRIPT or (spec.kind is Kind.GGUF and not spec.name):
        path = str((folder / Path(spec.file).expanduser()).absolute())
        return replace(spec, file=_checked_path(path, path))
    return spec


def located_text(text: str, folder: Path) -> str:
    """`located`, for a text that names one model or several."""
    return ",".join(str(located(spec, folder)) for spec in parse_specs(text))


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """Who fills a role. ``models`` is '' for an algorithm; ``how`` is of the lab's planner alone:
    one of `PLANNERS` or of `MANNERS`, '' for the first."""

    models: str
    how: str = ""

    def __str__(self) -> str:
        if not self.models:
            return f"{ALGORITHM}:{self.how}" if self.how else ALGORITHM
        return f"{self.how}:{self.models}" if self.how else self.models


def role_spec(role: str, text: str) -> RoleSpec:
    """What ``text`` says of who fills ``role``; its models are not looked at. Raises `ConfigError`
    for an algorithm that there is not, and for a manner of planning in another role."""
    head, colon, rest = text.strip().partition(":")
    if head == ALGORITHM:
        found = RoleSpec("", rest)
        if colon and rest not in PLANNERS:
            listed = ", ".join(f"{ALGORITHM}:{name}" for name in PLANNERS)
            raise ConfigError(f"{role}={text}: no such algorithm", next=f"write one of {listed}")
    else:
        found = RoleSpec(rest, head) if colon and head in MANNERS else RoleSpec(text.strip())
    if found.how and role != "planner":
        raise ConfigError(
            f"{role}={text}: {head}: is for the planner", next=f"write {role}={rest or ALGORITHM}"
        )
    return found


def located_role(role: str, text: str, folder: Path) -> str:
    """`located_text`, for who fills a role."""
    found = role_spec(role, text)
    models = located_text(found.models, folder) if found.models else ""
    return str(replace(found, models=models))


def shown(text: str) -> str:
    """``text`` for a message: without what a URL should not hold."""
    return _QUERY.sub("?…", _CREDENTIALS.sub("***@", text))


def forms() -> str:
    """The forms, one a line, for the ``next`` of an error."""
    width = max(len(example) for _, example, _ in FORMS)
    lines = [f"    {example:<{width}}  {meaning}" for _, example, meaning in FORMS]
    return "\n".join(["write one of these (several with commas: tried in order)", *lines])


def refusal(text: str, why: str) -> ConfigError:
    return ConfigError(f"model {shown(text)!r}: {why}", next=forms())


# -------------------------------------------------------------------- one reader per form


def _named(text: str) -> bool:
    """Something that can be printed and stand between commas."""
    return bool(text) and text.isprintable() and not set(text) & set(" ,#")


def _hf(rest: str) -> ModelSpec:
    repo, colon, provider = rest.partition(":")
    if not _REPO.fullmatch(repo):
        raise refusal(f"hf:{rest}", f"{shown(repo)!r} is not a repository OWNER/MODEL")
    if colon and not _PROVIDER.fullmatch(provider):
        raise refusal(
            f"hf:{rest}", f"{provider!r} is not a provider (such as cerebras, or fastest, cheapest)"
        )
    return ModelSpec(Kind.HF, repo, provider=provider)


def _ollama(rest: str) -> ModelSpec:
    if not _named(rest) or "://" in rest:
        raise refusal(
            f"ollama:{rest}",
            "the name of a model that `ollama list` shows belongs after the colon "
            "(its address: OLLAMA_HOST)",
        )
    return ModelSpec(Kind.OLLAMA, rest)


def _vllm(rest: str) -> ModelSpec:
    if rest.startswith(("http://", "https://")):
        url, name = _url(f"vllm:{rest}", rest)
        return ModelSpec(Kind.VLLM, name, url=url)
    if not _named(rest):
        raise refusal(
            f"vllm:{rest}",
            "what the server calls the model belongs after the colon (`manyhands models` shows it)",
        )
    return ModelSpec(Kind.VLLM, rest)


def _http(scheme: str) -> Callable[[str], ModelSpec]:
    def read(rest: str) -> ModelSpec:
        url, name = _url(f"{scheme}:{rest}", f"{scheme}:{rest}")
        return ModelSpec(Kind.HTTP, name, url=url)

    return read


def _url(text: str, found: str) -> tuple[str, str]:
    """Base URL and model. The error tells what is missing and repeats no secret."""
    url, _, name = found.partition("#")
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise refusal(text, "the part before # is not http(s)://HOST[:PORT]/v1") from None
    if not fits or not url.startswith(("http://", "https://")) or not _named(url):
        raise refusal(text, "the part before # is not http(s)://HOST[:PORT]/v1")
    if "@" in parts.netloc:
        raise refusal(text, "a URL holds no user name or password: give the key as api_key_env")
    if not _named(name):
        raise refusal(text, "what the server calls the model belongs after a #")
    return url.rstrip("/"), name


def _gguf(rest: str) -> ModelSpec:
    repo, colon, file = rest.partition(":")
    if colon and _REPO.fullmatch(repo):
        if not file.endswith(".gguf") or file.startswith("/") or ".." in file.split("/"):
            raise refusal(f"gguf:{rest}", f"{file!r} is not a .gguf file of the repository")
        return ModelSpec(Kind.GGUF, repo, file=_checked_path(f"gguf:{rest}", file))
    if not rest.endswith(".gguf"):
        raise refusal(
            f"gguf:{rest}",
            "the file's name is missing"
            + (f": see https://huggingface.co/{repo}/tree/main" if _REPO.fullmatch(repo) else ""),
        )
    return _local_gguf(f"gguf:{rest}", rest)


def _local_gguf(text: str, path: str) -> ModelSpec:
    if ":" in path and path[0] not in "/.~":  # or it would read as a repository and a file
        raise refusal(text, "a relative path with a colon begins with ./")
    return ModelSpec(Kind.GGUF, file=_checked_path(text, path))


def _script(rest: str) -> ModelSpec:
    return ModelSpec(Kind.SCRIPT, file=_checked_path(f"script:{rest}", rest))


def _checked_path(text: str, path: str) -> str:
    if not path or path != path.strip() or not path.isprintable() or "," in path:
        raise refusal(text, "a path is missing, or holds a comma or a control character")
    return path


_READERS: Mapping[str, Callable[[str], ModelSpec]] = {
    "hf": _hf,
    "ollama": _ollama,
    "vllm": _vllm,
    "http": _http("http"),
    "https": _http("https"),
    "gguf": _gguf,
    "script": _script,
}
