"""Named models to objects.

Invariant: within one `Endpoints` an endpoint is one object, whoever asks for it, so that its limits
are kept by all together. Nothing is contacted here: a model that is made may still not answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from manyhands.adapters.models.embedded import EmbeddedModel, ServerSettings
from manyhands.adapters.models.embedded_download import HubFile, OnProgress, cached, download
from manyhands.adapters.models.limiter import LimitedModel
from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.adapters.models.person import PersonModel
from manyhands.adapters.models.recording_replay import Replay
from manyhands.adapters.models.scripted import ScriptedModel
from manyhands.config import Config, Kind, ModelConfig, ModelSpec, home
from manyhands.errors import ConfigError
from manyhands.ports import Model, Price
from manyhands.wiring import keys
from manyhands.wiring.tapes import Tape

HF_ROUTER = "https://router.huggingface.co/v1"
VLLM = "http://localhost:8000/v1"
OLLAMA_PORT = 11434
#: The modules that ``manyhands[local]`` brings.
LOCAL = ("xllamacpp", "huggingface_hub")

#: Named by an address alone: ``MANYHANDS_API_KEY`` is for these.
_BY_URL = frozenset({Kind.HTTP, Kind.VLLM})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Address:
    """An OpenAI-compatible server's base URL, and what it calls the model."""

    url: str
    model: str

    @property
    def here(self) -> bool:
        return urlsplit(self.url).hostname in _LOOPBACK


def address_of(place: ModelSpec) -> Address | None:
    """None where no server is spoken to over HTTP, or Manyhands starts it itself."""
    match place.kind:
        case Kind.HF:
            name = f"{place.name}:{place.provider}" if place.provider else place.name
            return Address(HF_ROUTER, name)
        case Kind.OLLAMA:
            return Address(ollama_url() + "/v1", place.name)
        case Kind.VLLM:
            return Address(place.url or VLLM, place.name)
        case Kind.HTTP:
            return Address(place.url, place.name)
        case _:
            return None


def ollama_url() -> str:
    """Where Ollama is: ``OLLAMA_HOST`` in all the forms that Ollama takes, or this machine.

    An address to listen on at every interface is one to speak to on this machine.
    """
    host = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    scheme, slashes, rest = host.partition("://")
    if not slashes:
        scheme, rest = "http", host
    wrong = ConfigError("OLLAMA_HOST is not [http(s)://]HOST[:PORT]", next="correct it or unset it")
    try:
        parts = urlsplit(f"{scheme}://{rest or 'localhost'}")
        name, port = parts.hostname or "localhost", parts.port
    except ValueError:
        raise wrong from None
    if scheme not in ("http", "https") or parts.username or parts.password:
        raise wrong
    if name in ("0.0.0.0", "::"):
        name = "localhost"
    usual = {"http": 80, "https": 443}[scheme] if slashes else OLLAMA_PORT
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}:{port or usual}{parts.path.rstrip('/')}"


class Endpoints:
    """The models of a program, by endpoint.

    ``async with`` closes them; entered several times (runs at once), the last to leave does.
    ``tape``: all of them are recorded to it, or replayed from it and never made.
    """

    def __init__(self, config: Config, tape: Tape | None = None) -> None:
        self._config = config
        self._tape = tape
        self._made: dict[object, Model] = {}
        self._hub_files: dict[ModelSpec, None] = {}
        self._users = 0

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._users -= 1
        if self._users == 0:
            await self.close()

    def models(self, text: str, *, own_key: bool = True) -> tuple[Model, ...]:
        """What ``text`` names, and the fallbacks, in the order to be tried. Raises `ConfigError`.

        ``own_key`` False: ``text`` comes from a file that may not be the user's own, so the key
        for models that are named by URL (``MANYHANDS_API_KEY``) stays here.
        """
        chain = (self._model(spec, own_key=own_key) for spec in self._config.chain(text))
        return tuple(dict.fromkeys(chain))

    def first(self, text: str) -> Model:
        """What ``text`` names first, without any fallback. Raises `ConfigError`."""
        return self._model(self._config.chain(text)[0], own_key=True)

    async def fetch(self, on_progress: OnProgress) -> None:
        """Download what the models that were asked for have to read from the Hub and is not here.

        They would do it at their first request, unseen. Raises `ModelError`, `ConfigError`.
        """
        for place in self._hub_files:
            source = HubFile(place.name, place.file)
            if cached(source) is None:
                await download(source, on_progress)

    async def close(self) -> None:
        made, self._made = self._made, {}
        for model in made.values():
            await model.close()

    def _model(self, spec: ModelSpec, *, own_key: bool) -> Model:
        settings = settings_of(spec, self._config)
        place = settings.place
        name = spec.name if spec.kind is Kind.NAMED else ""
        own_key = own_key and spec.kind in _BY_URL and keys.variable(keys.OWN) is not None
        key = (name, address_of(place) or place, own_key)
        if place.kind is Kind.GGUF and place.name and not isinstance(self._tape, Replay):
            self._hub_files[place] = None
        if key not in self._made:
            make = partial(_made, spec, settings, own_key)
            self._made[key] = self._tape.model(str(spec), make) if self._tape else make()
        return self._made[key]


def make_model(spec: str, config: Config) -> Model:
    """The model that ``spec`` names, without its fallbacks. Raises `ConfigError`."""
    return Endpoints(config).first(spec)


def settings_of(spec: ModelSpec, config: Config) -> ModelConfig:
    """Those of ``manyhands.toml`` for a named model; the defaults for any other."""
    return config.settings(spec) or ModelConfig(spec=str(spec))


def price_of(settings: ModelConfig) -> Price | None:
    """The configured one; 0 for what runs on this machine; None where it is not known."""
    if settings.input_per_million is not None and settings.output_per_million is not None:
        return Price(settings.input_per_million, settings.output_per_million)
    place = settings.place
    if place.kind in (Kind.GGUF, Kind.SCRIPT, Kind.HUMAN):
        return Price(0.0, 0.0)
    at = address_of(place)
    owned = place.kind in (Kind.OLLAMA, Kind.VLLM) and at is not None and at.here
    # Ollama passes these on to its own cloud.
    return Price(0.0, 0.0) if owned and not place.name.endswith("-cloud") else None


def local_extra() -> bool:
    """Whether ``manyhands[local]`` is installed."""
    return all(find_spec(module) is not None for module in LOCAL)


def _made(spec: ModelSpec, settings: ModelConfig, own_key: bool) -> Model:
    place = settings.place
    at = address_of(place)
    if at is not None:
        model: Model = OpenAICompatibleModel(
            at.model,
            at.url,
            api_key=_key(spec, settings, own_key),
            price=price_of(settings),
            context_length=settings.context_length,
            concurrency=settings.concurrency,
            schema_form=settings.schema_form,
            stream_usage=settings.stream_usage,
            always_stream=settings.always_stream,
            extra=settings.extra,
        )
    elif place.kind is Kind.HUMAN:
        return PersonModel()
    elif place.kind is Kind.SCRIPT:
        model = ScriptedModel.from_file(Path(place.file).expanduser())
    else:
        model = _embedded(place, settings)
    return LimitedModel(
        model,
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
    )


def _key(spec: ModelSpec, settings: ModelConfig, own_key: bool) -> SecretStr | None:
    if settings.api_key_env:
        return keys.needed_variable(settings.api_key_env, f"models.{spec.name}")
    if settings.place.kind is Kind.HF:
        return keys.hub_token(str(spec))
    return keys.variable(keys.OWN) if own_key else None


def _embedded(place: ModelSpec, settings: ModelConfig) -> Model:
    chosen = ServerSettings(context_length=settings.context_length)
    return EmbeddedModel(
        HubFile(place.name, place.file) if place.name else Path(place.file).expanduser(),
        state_folder=home() / "servers",
        settings=chosen if settings.slots is None else replace(chosen, slots=settings.slots),
        extra=settings.extra,
    )
