"""The frozen schema of ``manyhands.toml``.

Invariants: unknown keys, keys without effect, names that lead nowhere and fallbacks in a circle are
refused while the file is read. Secrets are named by the environment variable that holds them and
are never written down.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from manyhands.config.specs import (
    ALGORITHM,
    NAME,
    Kind,
    ModelSpec,
    forms,
    located,
    located_role,
    parse_spec,
    parse_specs,
    role_spec,
    shown,
)
from manyhands.errors import ConfigError

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def _variable(name: str) -> str:
    """Upper case, so that a key that was put here itself is found out, and never repeated."""
    if name and not _VARIABLE.fullmatch(name):
        raise ValueError(
            "name the environment variable that holds the key (A-Z, 0-9 and _), not the key"
        )
    return name


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_PRICES = frozenset({"input_per_million", "output_per_million"})
#: Keys that a model which Manyhands runs itself makes nothing of.
_OF_SERVERS = _PRICES | {"api_key_env", "schema_form", "stream_usage", "always_stream"}


class ModelConfig(_Frozen):
    """An endpoint: ``spec``, or ``base_url`` and ``model`` of an OpenAI-compatible server.

    Prices are US dollars per million tokens. ``concurrency``: requests at once of one process;
    ``requests_per_minute``, ``tokens_per_minute``: None, no limit. ``fallback``: models to be tried
    in this order where this one does not do. ``schema_form``: how the server takes the JSON schema
    of an answer. ``stream_usage`` False: it refuses to be asked for the usage of a stream.
    ``always_stream``: so that a server that hangs is noticed at its first token. ``extra``: further
    fields of every request. ``slots``: requests at once inside the embedded server (gguf).
    """

    spec: str = ""
    base_url: str = ""
    model: str = ""
    api_key_env: Annotated[str, AfterValidator(_variable)] = ""
    input_per_million: float | None = Field(default=None, ge=0)
    output_per_million: float | None = Field(default=None, ge=0)
    context_length: int | None = Field(default=None, gt=0)
    concurrency: int = Field(default=16, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    fallback: tuple[str, ...] = ()
    schema_form: Literal["json_schema", "json_object", "none"] = "json_schema"
    stream_usage: bool = True
    always_stream: bool = False
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    slots: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if bool(self.spec) == bool(self.base_url or self.model):
            raise ValueError("give either spec, or base_url and model")
        if not self.spec and not (self.base_url and self.model):
            raise ValueError("base_url and model belong together")
        if any("," in each for each in self.fallback):
            raise ValueError('fallback is a list: ["one", "another"]')
        if (self.input_per_million is None) != (self.output_per_million is None):
            raise ValueError("input_per_million and output_per_million belong together")
        kind = self.place.kind
        if kind is Kind.NAMED:
            raise ValueError(f"spec = {self.spec!r} is a name of this file: give a form")
        idle = self.model_fields_set & _without_effect(kind)
        if idle:
            raise ValueError(f"{', '.join(sorted(idle))}: without effect on a {kind} model")
        return self

    @property
    def place(self) -> ModelSpec:
        """Where it is: never `Kind.NAMED`."""
        if self.spec:
            return _spec(self.spec)
        if not self.base_url.startswith(("http://", "https://")) or "#" in self.base_url:
            raise ValueError(f"base_url {shown(self.base_url)!r} is not http(s)://HOST[:PORT]/v1")
        return _spec(f"{self.base_url}#{self.model}")


def _without_effect(kind: Kind) -> frozenset[str]:
    match kind:
        case Kind.GGUF:
            return _OF_SERVERS
        case Kind.SCRIPT | Kind.HUMAN:
            return _OF_SERVERS | {"extra", "context_length", "slots"}
        case _:
            return frozenset({"slots"})


def _spec(text: str) -> ModelSpec:
    try:
        return parse_spec(text)
    except ConfigError as error:
        raise ValueError(error.what) from None


#: What `[mcp.NAME]` may be called: its tools are ``NAME_tool``, and the whole has 64 characters.
_SERVER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


class McpConfig(_Frozen):
    """A server of tools: ``command`` with ``args``, or ``url``.

    ``env``: names of variables that a command is handed; ``token_env``: of the one that holds the
    token for a URL. ``tools``: only these are offered; None: all. ``idempotent``: tools that may be
    called again where a call may have happened already; ``trust_hints``: so may those of which the
    server itself says it. ``seconds``: for one call.
    """

    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[Annotated[str, AfterValidator(_variable)], ...] = ()
    cwd: str = ""
    url: str = ""
    token_env: Annotated[str, AfterValidator(_variable)] = ""
    tools: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    idempotent: tuple[str, ...] = ()
    trust_hints: bool = False
    seconds: float = Field(default=60.0, gt=0, le=86_400)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command (with args), or url")
        idle = self.model_fields_set & (_OF_COMMANDS if self.url else _OF_URLS)
        if idle:
            kind = "url" if self.url else "command"
            raise ValueError(f"{', '.join(sorted(idle))}: without effect on a {kind}")
        if self.url:
            _check_url(self.url)
        elif " " in self.command and "/" not in self.command:
            raise ValueError("command is the program alone: its arguments belong into args")
        unknown = set(self.idempotent) - set(self.tools or self.idempotent)
        if unknown:
            raise ValueError(f"idempotent: {', '.join(sorted(unknown))} not among tools")
        return self


_OF_COMMANDS = frozenset({"args", "env", "cwd"})
_OF_URLS = frozenset({"token_env"})


def _check_url(url: str) -> None:
    """Never repeats what may be a password."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        parts, fits = None, False
    if parts is None or not fits:
        raise ValueError(f"url {shown(url)!r} is not http(s)://HOST[:PORT]/PATH")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url holds a user name or a password: name a variable with token_env")


class JobsConfig(_Frozen):
    """Where a study's training runs unless the command says so. ``runner``: as ``--jobs``. ``hf``,
    ``ssh``, ``slurm``: the options of each (their names are checked where they are used).
    ``cache``: a folder in which studies share what they prepare."""

    runner: str = "local"
    cache: str = ""
    hf: dict[str, JsonValue] = Field(default_factory=dict)
    ssh: dict[str, JsonValue] = Field(default_factory=dict)
    slurm: dict[str, JsonValue] = Field(default_factory=dict)


class Config(_Frozen):
    """``journal``: path or sqlite URL ('' = the user's own). ``model``: of teams that need one and
    are not told which. ``roles``: role -> model, or ``algorithm``. ``mcp``: servers of tools.
    ``jobs``: where training runs."""

    journal: str = ""
    model: str = ""
    models: dict[str, ModelConfig] = Field(default_factory=dict)
    roles: dict[str, str] = Field(default_factory=dict)
    mcp: dict[str, McpConfig] = Field(default_factory=dict)
    jobs: JobsConfig = JobsConfig()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for name in self.models:
            if not NAME.fullmatch(name) or name == ALGORITHM:
                raise ConfigError(
                    f"models: {name!r} cannot be the name of a model",
                    next=f"take A-Z, a-z, 0-9, '.', '_' and '-', and not {ALGORITHM!r}",
                )
        for where, text in self._references():
            try:
                for spec in parse_specs(text):
                    self.settings(spec)
            except ConfigError as error:
                raise ConfigError(f"{where}: {error.what}", next=error.next) from error
        for name in self.models:
            self._check_circle((name,))
        self._check_servers()
        return self

    def settings(self, spec: ModelSpec) -> ModelConfig | None:
        """``[models.NAME]`` of a named spec; None of another. Raises `ConfigError`."""
        if spec.kind is not Kind.NAMED:
            return None
        if spec.name not in self.models:
            raise ConfigError(
                f"model {spec.name!r} is not in manyhands.toml"
                f" (there: {', '.join(sorted(self.models)) or 'none'})",
                next=f"add [models.{spec.name}] there, or {forms()}",
            )
        return self.models[spec.name]

    def chain(self, text: str) -> tuple[ModelSpec, ...]:
        """What ``text`` names and what that falls back to, each once, in the order to be tried.

        An endpoint's own fallback comes right after it. Raises `ConfigError`.
        """
        found: list[ModelSpec] = []

        def add(spec: ModelSpec) -> None:
            if spec in found:
                return
            found.append(spec)
            settings = self.settings(spec)
            for following in settings.fallback if settings else ():
                add(parse_spec(following))

        for spec in parse_specs(text):
            add(spec)
        return tuple(found)

    def located(self, folder: Path) -> Config:
        """Local files of models, and where servers of tools are started, are meant from ``folder``,
        where the file lies."""

        def there(text: str) -> str:
            return ",".join(str(located(spec, folder)) for spec in parse_specs(text))

        models = {
            name: each.model_copy(
                update={
                    "spec": there(each.spec) if each.spec else "",
                    "fallback": tuple(map(there, each.fallback)),
                }
            )
            for name, each in self.models.items()
        }
        roles = {r: located_role(r, m, folder) for r, m in self.roles.items()}
        default = there(self.model) if self.model else ""
        mcp = {
            name: each.model_copy(update={"cwd": str(folder / Path(each.cwd).expanduser())})
            if each.command
            else each
            for name, each in self.mcp.items()
        }
        cache = str(folder / Path(self.jobs.cache).expanduser()) if self.jobs.cache else ""
        jobs = self.jobs.model_copy(update={"cache": cache})
        return self.model_copy(
            update={"models": models, "roles": roles, "model": default, "mcp": mcp, "jobs": jobs}
        )

    def _check_servers(self) -> None:
        for name in self.mcp:
            if not _SERVER.fullmatch(name):
                raise ConfigError(
                    f"mcp: {name!r} cannot be the name of a server",
                    next="take A-Z, a-z, 0-9, '_' and '-', a letter first, at most 32",
                )
            for other in self.mcp:
                if other.startswith(f"{name}_"):
                    raise ConfigError(
                        f"mcp: {name!r} and {other!r}: their tools could have the same names, "
                        f"as those of {name!r} begin with '{name}_'",
                        next="rename one of them",
                    )

    def _references(self) -> list[tuple[str, str]]:
        """Everywhere that a model is named, and the name."""
        found = [("model", self.model)] if self.model else []
        named = {r: role_spec(r, m).models for r, m in self.roles.items()}
        found += [(f"roles.{r}", m) for r, m in named.items() if m]
        for name, each in self.models.items():
            found += [(f"models.{name}.fallback", text) for text in each.fallback]
        return found

    def _check_circle(self, path: tuple[str, ...]) -> None:
        for following in map(parse_spec, self.models[path[-1]].fallback):
            if following.kind is not Kind.NAMED:
                continue
            if following.name in path:
                circle = " → ".join((*path, following.name))
                raise ConfigError(
                    f"models.{path[-1]}.fallback: {circle} goes in a circle",
                    next="remove one of them",
                )
            self._check_circle((*path, following.name))
