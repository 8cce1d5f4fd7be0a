"""``manyhands.toml``: what it may say, what is refused, and that no error repeats a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.config import Config, Kind, ModelConfig, find_config, load_config
from manyhands.errors import ConfigError

WHOLE = """
journal = "studies.db"
model = "local"

[models.local]
spec = "ollama:qwen3:8b"
context_length = 32768
concurrency = 4
requests_per_minute = 60
tokens_per_minute = 1e5
fallback = ["hosted", "gguf:models/small.gguf"]
schema_form = "json_object"
stream_usage = false
extra = { top_p = 0.9, chat_template_kwargs = { enable_thinking = false } }

[models.hosted]
base_url = "https://example.org/v1/"
model = "qwen3-32b"
api_key_env = "EXAMPLE_KEY"
input_per_million = 0.1
output_per_million = 0.4
fallback = ["script:demo.json"]

[models.own]
spec = "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf"
context_length = 8192
slots = 4

[roles]
researcher = "local"
planner = "algorithm"
worker = "hosted,local"
"""


def read(folder: Path, text: str) -> Config:
    (folder / "manyhands.toml").write_text(text)
    return load_config(folder)


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert caught.value.what.startswith(str(folder / "manyhands.toml"))
    assert caught.value.next
    return caught.value


def test_a_whole_file(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    local = config.models["local"]
    assert (local.place.kind, local.place.name) == (Kind.OLLAMA, "qwen3:8b")
    assert local.extra == {"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False}}
    hosted = config.models["hosted"]
    assert (hosted.place.url, hosted.place.name) == ("https://example.org/v1", "qwen3-32b")
    assert config.models["own"].slots == 4
    assert config.model == "local"
    assert config.roles == {
        "researcher": "local",
        "planner": "algorithm",
        "worker": "hosted,local",
    }


def test_defaults() -> None:
    each = ModelConfig(spec="ollama:qwen3")
    assert (each.concurrency, each.requests_per_minute, each.tokens_per_minute) == (16, None, None)
    assert (each.fallback, each.schema_form, each.stream_usage, each.extra) == (
        (),
        "json_schema",
        True,
        {},
    )


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert read(tmp_path, "[models.x]\nspec = 'ollama:y'").models.keys() == {"x"}
    assert load_config(below).models.keys() == {"x"}
    assert find_config(below) == tmp_path / "manyhands.toml"
    (below / "manyhands.toml").write_text("")
    assert load_config(below) == Config()


def test_files_of_models_are_meant_from_where_the_file_lies(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    assert config.models["local"].fallback == ("hosted", f"gguf:{tmp_path}/models/small.gguf")
    assert config.models["hosted"].fallback == (f"script:{tmp_path}/demo.json",)
    assert config.models["own"].spec == "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf"
    other = read(tmp_path, 'model = "script:a.json"\n[roles]\nworker = "script:b.json"')
    assert other.model == f"script:{tmp_path}/a.json"
    assert other.roles["worker"] == f"script:{tmp_path}/b.json"


def test_a_chain_has_every_fallback_once_and_in_order(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    named = [str(spec) for spec in config.chain("local")]
    assert named == [
        "local",
        "hosted",
        f"script:{tmp_path}/demo.json",
        f"gguf:{tmp_path}/models/small.gguf",
    ]
    assert [str(spec) for spec in config.chain("ollama:x,hosted,ollama:x")] == [
        "ollama:x",
        "hosted",
        f"script:{tmp_path}/demo.json",
    ]
    with pytest.raises(ConfigError, match=r"'other' is not in manyhands.toml \(there: hosted, lo"):
        config.chain("ollama:x,other")


BAD = {
    "jurnal = 'x'": "unknown key jurnal; allowed: journal, model, models, roles",
    "[models.x]\nspec = 'ollama:y'\nprice = 3": "unknown key models.x.price; allowed: spec, base_",
    "[models.x]": "either spec, or base_url and model",
    "[models.x]\nspec = 'ollama:y'\nmodel = 'z'": "either spec, or base_url and model",
    "[models.x]\nbase_url = 'http://h/v1'": "belong together",
    "[models.x]\nmodel = 'z'": "belong together",
    "[models.x]\nbase_url = 'h:8000/v1'\nmodel = 'z'": "base_url 'h:8000/v1' is not http(s)",
    "[models.x]\nbase_url = 'http://h/v1#a'\nmodel = 'z'": "is not http(s)",
    "[models.x]\nspec = 'gpt-4'": "is a name of this file",
    "[models.x]\nspec = 'openai:gpt-4'": "models.x: model 'openai:gpt-4': there is no form",
    "[models.x]\nspec = 'ollama:y'\ninput_per_million = 1": "belong together",
    "[models.x]\nspec = 'ollama:y'\ninput_per_million = -1\noutput_per_million = 1": "found -1",
    "[models.x]\nspec = 'ollama:y'\nconcurrency = 0": "models.x.concurrency",
    "[models.x]\nspec = 'ollama:y'\nschema_form = 'xml'": "'json_schema', 'json_object' or 'none'",
    "[models.x]\nspec = 'ollama:y'\nslots = 2": "slots: without effect on a ollama model",
    "[models.x]\nspec = 'gguf:a.gguf'\napi_key_env = 'K'": "without effect on a gguf model",
    "[models.x]\nspec = 'script:a.json'\ncontext_length = 9": "without effect on a script model",
    "[models.x]\nspec = 'ollama:y'\nextra = {a = 1979-05-27}": "models.x.extra",
    "[models.x]\nspec = 'ollama:y'\nfallback = ['a,b']": "fallback is a list",
    "[models.x]\nspec = 'ollama:y'\nfallback = ['y']": "models.x.fallback: model 'y' is not in",
    "[models.x]\nspec = 'ollama:y'\nfallback = ['x']": "x → x goes in a circle",
    "[models.algorithm]\nspec = 'ollama:y'": "'algorithm' cannot be the name",
    "[models.'a:b']\nspec = 'ollama:y'": "'a:b' cannot be the name",
    "[models.'a.gguf']\nspec = 'ollama:y'": "'a.gguf' cannot be the name",
    "[roles]\nworker = 'local'": "roles.worker: model 'local' is not in manyhands.toml",
    "model = 'algorithm'": "model: model 'algorithm' is not in",
    "[roles\n": "Expected ']'",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_refused_with_file_and_key(text: str, tmp_path: Path) -> None:
    assert BAD[text] in refused(tmp_path, text).what


def test_a_circle_of_three_is_shown(tmp_path: Path) -> None:
    tables = [
        f"[models.{name}]\nspec = 'ollama:{name}'\nfallback = ['ollama:z', ' {following} ']"
        for name, following in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    assert "a → b → c → a goes in a circle" in refused(tmp_path, "\n".join(tables)).what


SECRET = "hf_hunter2hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"api_key = '{SECRET}'",
        f"api_key_env = '{SECRET}'",
        f"extra = '{SECRET}'",
        f"[models.x.extra]\nkey = 2000-01-01\nother = '{SECRET}'",
        f"base_url = 'https://u:{SECRET}@h/v1'\nmodel = 'm'",
        f"base_url = 'ftp://{SECRET}@h/v1'\nmodel = 'm'",
        f"base_url = 'h/v1?key={SECRET}'\nmodel = 'm'",
        f"spec = 'http://u:{SECRET}@h/v1#m'",
        f"spec = 'ollama:y'\nfallback = ['https://{SECRET}@h/v1#q']",
    ],
)
def test_no_error_repeats_a_secret(line: str, tmp_path: Path) -> None:
    assert SECRET not in str(refused(tmp_path, f"[models.x]\n{line}"))
