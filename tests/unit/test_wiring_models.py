"""Named models to objects: addresses, keys, prices, and one object per endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.models.discovery import CachedFile, ServedModel, Server
from manyhands.adapters.models.embedded_download import HubFile
from manyhands.config import Config, ModelConfig, parse_spec
from manyhands.errors import ConfigError
from manyhands.ports import Price
from manyhands.wiring import (
    PROBE,
    Endpoints,
    Machine,
    address_of,
    configured,
    make_model,
    need_model,
    spec_for,
    ways,
)
from manyhands.wiring import keys as wiring_keys
from manyhands.wiring.models import ollama_url

SECRET = "hf_hunter2hunter2"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token, no address, no key of this machine's."""
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "OLLAMA_HOST",
        "MANYHANDS_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def script(folder: Path, name: str = "demo") -> str:
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"name": name, "rules": [{"reply": "hello"}]}))
    return f"script:{file}"


def config_of(**models: Any) -> Config:
    return Config(models={name: ModelConfig(**each) for name, each in models.items()})


@pytest.mark.parametrize(
    ("spec", "url", "model"),
    [
        ("hf:a/b", "https://router.huggingface.co/v1", "a/b"),
        ("hf:a/b:cerebras", "https://router.huggingface.co/v1", "a/b:cerebras"),
        ("ollama:qwen3:8b", "http://localhost:11434/v1", "qwen3:8b"),
        ("vllm:a/b", "http://localhost:8000/v1", "a/b"),
        ("vllm:https://gpu/v1#q", "https://gpu/v1", "q"),
        ("http://h:1/v1#q", "http://h:1/v1", "q"),
    ],
)
def test_where_a_model_is(spec: str, url: str, model: str) -> None:
    at = address_of(parse_spec(spec))
    assert at is not None
    assert (at.url, at.model) == (url, model)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://localhost:11434"),
        ("gpu", "http://gpu:11434"),
        ("gpu:1234", "http://gpu:1234"),
        (":1234", "http://localhost:1234"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:1234", "http://localhost:1234"),
        ("[::]:1234", "http://localhost:1234"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("http://gpu", "http://gpu:80"),
        ("https://gpu", "https://gpu:443"),
        ("https://gpu:8443/ollama/", "https://gpu:8443/ollama"),
        ('"gpu"', "http://gpu:11434"),
    ],
)
def test_ollama_is_where_its_variable_says(
    host: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert ollama_url() == url


@pytest.mark.parametrize("host", ["ftp://gpu", "gpu:port", "http://u:hunter2@gpu"])
def test_an_ollama_host_that_is_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(ConfigError, match="OLLAMA_HOST") as caught:
        make_model("ollama:qwen3", Config())
    assert "hunter2" not in str(caught.value)


# -------------------------------------------------------------------- keys


def test_hugging_face_wants_a_token() -> None:
    with pytest.raises(ConfigError, match="'hf:a/b' needs a Hugging Face token") as caught:
        make_model("hf:a/b", Config())
    assert "export HF_TOKEN=" in caught.value.next


@pytest.mark.parametrize("place", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "file", "HF_TOKEN_PATH"])
def test_where_the_token_may_be(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(place, f" {SECRET}\n")
        source = place
    else:
        file = tmp_path / ("hf" if place == "file" else "elsewhere") / "token"
        file.parent.mkdir()
        file.write_text(f"{SECRET}\n")
        source = str(file)
        if place == "HF_TOKEN_PATH":
            monkeypatch.setenv(place, str(file))
    assert wiring_keys.hub_token("hf:a/b").get_secret_value() == SECRET
    assert wiring_keys.hub_token_from() == source
    model = make_model("hf:a/b:cerebras", Config())
    assert model.name == "a/b:cerebras"
    assert SECRET not in repr(model)


def test_a_variable_that_is_named_and_not_set() -> None:
    config = config_of(x={"spec": "hf:a/b", "api_key_env": "NO_SUCH_KEY"})
    with pytest.raises(ConfigError, match=r"models\.x: the environment variable NO_SUCH_KEY"):
        make_model("x", config)


# -------------------------------------------------------------------- prices


def test_prices() -> None:
    priced = {"input_per_million": 1.0, "output_per_million": 2.0}
    config = config_of(
        x={"spec": "http://h/v1#q", **priced}, y={"spec": "vllm:q", **priced}, z={"spec": "vllm:q"}
    )
    assert make_model("x", config).price == Price(1.0, 2.0)
    assert make_model("y", config).price == Price(1.0, 2.0)
    free, unknown = Price(0.0, 0.0), None
    assert make_model("z", config).price == free
    assert make_model("ollama:qwen3", config).price == free
    assert make_model("ollama:gpt-oss:120b-cloud", config).price is unknown
    assert make_model("vllm:http://gpu/v1#q", config).price is unknown
    assert make_model("http://localhost/v1#q", config).price is unknown


# -------------------------------------------------------------------- endpoints


async def test_one_object_per_endpoint(tmp_path: Path) -> None:
    demo = script(tmp_path)
    config = config_of(
        a={"spec": "ollama:qwen3", "fallback": ["b", demo]},
        b={"spec": "ollama:qwen3", "concurrency": 1},
    )
    endpoints = Endpoints(config)
    first, second, third = endpoints.models("a")
    assert first is not second, "two entries have limits of their own"
    assert endpoints.models("b") == (second,)
    assert endpoints.models(demo) == (third,)
    assert endpoints.models("ollama:x")[0] is endpoints.models("http://localhost:11434/v1#x")[0]
    assert endpoints.models(f"{demo},{demo}") == (third,)
    assert [each.name for each in Endpoints(config).models("a")] == ["qwen3", "qwen3", "demo"]


async def test_endpoints_are_closed_by_the_last_who_leaves(tmp_path: Path) -> None:
    endpoints = Endpoints(Config())
    async with endpoints:
        async with endpoints:
            (model,) = endpoints.models(script(tmp_path))
        assert endpoints.models(script(tmp_path)) == (model,)
    assert endpoints.models(script(tmp_path)) != (model,)


async def test_only_what_is_not_here_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def download(source: HubFile, on_progress: object) -> Path:
        fetched.append(str(source))
        return Path()

    monkeypatch.setattr("manyhands.wiring.models.download", download)
    monkeypatch.setattr(
        "manyhands.wiring.models.cached", lambda s: Path("x") if s.file == "here.gguf" else None
    )
    endpoints = Endpoints(config_of(x={"spec": "gguf:o/r:far.gguf", "fallback": ["ollama:q"]}))
    endpoints.models("x,gguf:o/r:here.gguf,gguf:o/r:far.gguf")
    await endpoints.fetch(lambda _: None)
    assert fetched == ["gguf:o/r:far.gguf"]


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.json"):
        make_model(f"script:{tmp_path}/no.json", Config())
    with pytest.raises(ConfigError, match=r"no\.gguf"):
        make_model(f"{tmp_path}/no.gguf", Config())
    extra = config_of(x={"spec": "ollama:q", "extra": {"messages": []}})
    with pytest.raises(ConfigError, match="messages"):
        make_model("x", extra)


# -------------------------------------------------------------------- ways to a model


async def test_the_model_of_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> Machine:
        return Machine()

    monkeypatch.setattr("manyhands.wiring.machine.look_around", nothing)
    one = config_of(x={"spec": "ollama:q"})
    two = config_of(x={"spec": "ollama:q"}, y={"spec": "ollama:r"})
    assert await need_model(Config(), "ollama:q") == "ollama:q"
    assert await need_model(one) == "x"
    assert await need_model(two.model_copy(update={"model": "y"})) == "y"
    with pytest.raises(ConfigError, match="which model"):
        await need_model(two)
    with pytest.raises(ConfigError, match="not in manyhands"):
        await need_model(two, "z")
    with pytest.raises(ConfigError, match="none is named") as caught:
        await need_model(Config(), program="manyhands answer --model {}")
    commands = [line.strip() for line in caught.value.next.splitlines() if "&&" in line]
    assert commands == [
        "export HF_TOKEN=hf_… && manyhands answer --model hf:Qwen/Qwen3-32B",
        "ollama pull qwen3:8b && manyhands answer --model ollama:qwen3:8b",
        "pip install 'manyhands[local]' && manyhands answer --model "
        "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf",
    ]


def test_the_ways_take_into_account_what_is_there() -> None:
    ollama = Server(
        "http://127.0.0.1:11434",
        "Ollama",
        (ServedModel("nomic-embed-text"), ServedModel("a b"), ServedModel("llama3.2:3b")),
    )
    found = ways(Machine(servers=(ollama,)))
    assert found[0].spec == "ollama:llama3.2:3b"
    assert found[0].command(PROBE) == "manyhands models --probe ollama:llama3.2:3b"
    file = CachedFile("o/r", "f.gguf", 1)
    found = ways(Machine(token_from="HF_TOKEN", local=True, files=(file,)))
    assert [way.command(PROBE) for way in found] == [
        "manyhands models --probe hf:Qwen/Qwen3-32B",
        "manyhands models --probe gguf:o/r:f.gguf",
        "ollama pull qwen3:8b && manyhands models --probe ollama:qwen3:8b",
    ]
    assert ways(Machine(servers=(Server("http://127.0.0.1:8000", "vLLM"),)))[1].first


def test_a_command_quotes_what_a_server_calls_its_model() -> None:
    rogue = Server("http://127.0.0.1:8080", "llama.cpp", (ServedModel("x;rm$(y)"),))
    command = ways(Machine(servers=(rogue,)))[0].command(PROBE)
    assert command == "manyhands models --probe 'http://127.0.0.1:8080/v1#x;rm$(y)'"


@pytest.mark.parametrize(
    ("server", "spec"),
    [
        (Server("http://127.0.0.1:11434", "Ollama"), "ollama:q"),
        (Server("http://127.0.0.1:9999", "Ollama"), "http://127.0.0.1:9999/v1#q"),
        (Server("http://127.0.0.1:8000", "vLLM"), "vllm:q"),
        (Server("http://127.0.0.1:8001", "vLLM"), "http://127.0.0.1:8001/v1#q"),
        (Server("http://127.0.0.1:8080", "llama.cpp"), "http://127.0.0.1:8080/v1#q"),
    ],
)
def test_a_served_model_is_named_in_the_shortest_form(server: Server, spec: str) -> None:
    assert spec_for(server, "q") == spec
    assert spec_for(server, "a, b") == ""


def test_a_list_tells_what_is_wrong_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(
        a={"spec": "hf:a/b"},
        b={"spec": "ollama:q", "api_key_env": "NO_SUCH_KEY"},
        c={"spec": f"script:{tmp_path}/no.json"},
        d={"spec": "ollama:q"},
    )
    assert [each.problem for each in configured(config)] == [
        "no Hugging Face token",
        "NO_SUCH_KEY is not set",
        "no such file",
        "",
    ]
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("OLLAMA_HOST", "ftp://x")
    listed = configured(config)
    assert (listed[0].key, listed[0].problem) == ("HF_TOKEN", "")
    assert "OLLAMA_HOST" in listed[3].problem
    assert SECRET not in repr(listed)
