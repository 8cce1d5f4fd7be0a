"""How a model is named: every form, and what is wrong with the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.config import FORMS, Kind, ModelSpec, located_text, parse_spec, parse_specs
from manyhands.errors import ConfigError

GOOD = {
    "hf:Qwen/Qwen3-32B": ModelSpec(Kind.HF, "Qwen/Qwen3-32B"),
    "hf:Qwen/Qwen3-32B:cerebras": ModelSpec(Kind.HF, "Qwen/Qwen3-32B", provider="cerebras"),
    "hf:openai/gpt-oss-120b:fastest": ModelSpec(Kind.HF, "openai/gpt-oss-120b", provider="fastest"),
    "ollama:qwen3": ModelSpec(Kind.OLLAMA, "qwen3"),
    "ollama:qwen3:8b": ModelSpec(Kind.OLLAMA, "qwen3:8b"),
    "ollama:hf.co/unsloth/Qwen3-GGUF:Q4_K_M": ModelSpec(
        Kind.OLLAMA, "hf.co/unsloth/Qwen3-GGUF:Q4_K_M"
    ),
    "vllm:Qwen/Qwen3-8B": ModelSpec(Kind.VLLM, "Qwen/Qwen3-8B"),
    "vllm:http://gpu:8000/v1#qwen3": ModelSpec(Kind.VLLM, "qwen3", url="http://gpu:8000/v1"),
    "http://localhost:8080/v1#q": ModelSpec(Kind.HTTP, "q", url="http://localhost:8080/v1"),
    "https://host/v1?api-version=2#a/b:c": ModelSpec(
        Kind.HTTP, "a/b:c", url="https://host/v1?api-version=2"
    ),
    "http://[::1]:8080/v1#q": ModelSpec(Kind.HTTP, "q", url="http://[::1]:8080/v1"),
    "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf": ModelSpec(
        Kind.GGUF, "Qwen/Qwen3-4B-GGUF", file="Qwen3-4B-Q4_K_M.gguf"
    ),
    "gguf:a/b:Q8/c-00001-of-00002.gguf": ModelSpec(
        Kind.GGUF, "a/b", file="Q8/c-00001-of-00002.gguf"
    ),
    "gguf:models/x.gguf": ModelSpec(Kind.GGUF, file="models/x.gguf"),
    "script:demo.json": ModelSpec(Kind.SCRIPT, file="demo.json"),
    "local": ModelSpec(Kind.NAMED, "local"),
    "qwen3-8b_v1.5": ModelSpec(Kind.NAMED, "qwen3-8b_v1.5"),
}


@pytest.mark.parametrize("text", GOOD)
def test_every_form_is_read_and_written_back(text: str) -> None:
    assert parse_spec(text) == GOOD[text]
    assert str(parse_spec(f"  {text} ")) == text


def test_other_spellings_of_the_same() -> None:
    assert parse_spec("http://host/v1/#q") == parse_spec("http://host/v1#q")
    assert parse_spec("/data/x.gguf") == parse_spec("gguf:/data/x.gguf")
    assert parse_spec("/data/a:b.gguf") == ModelSpec(Kind.GGUF, file="/data/a:b.gguf")


def test_the_examples_that_errors_show_are_of_their_form() -> None:
    kinds = [parse_spec(example).kind for _, example, _ in FORMS]
    assert set(kinds) == set(Kind)


BAD = {
    "": "not one of the forms",
    "gpt 4": "not one of the forms",
    "openai:gpt-4": "no form 'openai:'",
    "qwen3:8b": "no form 'qwen3:'",
    "Qwen/Qwen3-32B": "not one of the forms",
    "hf:": "not a repository",
    "hf:gpt2": "not a repository OWNER/MODEL",
    "hf:a/b/c": "not a repository",
    "hf:a/b:": "not a provider",
    "hf:a/b:Not A Provider": "not a provider",
    "ollama:": "`ollama list`",
    "ollama:http://host:11434#q": "OLLAMA_HOST",
    "vllm:": "what the server calls the model",
    "vllm:http://host/v1": "after a #",
    "http://host/v1": "after a #",
    "http://host/v1#": "after a #",
    "http://#q": "http(s)://HOST",
    "http:host/v1#q": "http(s)://HOST",
    "http://host:port/v1#q": "http(s)://HOST",
    "http://host:0/v1#q": "http(s)://HOST",
    "http://ho st/v1#q": "http(s)://HOST",
    "http://[::1/v1#q": "http(s)://HOST",
    "http://host/v1#a b": "after a #",
    "gguf:": "file's name is missing",
    "gguf:Qwen/Qwen3-4B-GGUF": "huggingface.co/Qwen/Qwen3-4B-GGUF/tree/main",
    "gguf:a/b:c.bin": "not a .gguf file",
    "gguf:a/b:../c.gguf": "not a .gguf file",
    "gguf:a/b:/c.gguf": "not a .gguf file",
    "x/y:z.gguf": "begins with ./",
    "script:": "a path is missing",
    "script:a\nb": "a path is missing",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_form_is_refused_with_the_reason_and_the_forms(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert BAD[text] in caught.value.what
    assert all(example in caught.value.next for _, example, _ in FORMS)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@host/v1#q",
        "vllm:http://user:hunter2@host/v1#q",
        "https://hunter2@host/v1#q",
        "ollama:http://user:hunter2@host",
        "http://host:port/v1?key=hunter2#q",
        "https://user:hunter2@host",
        "ftp://user:hunter2@host/v1#q",
    ],
)
def test_no_error_repeats_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert "hunter2" not in str(caught.value)


def test_several_are_tried_in_order() -> None:
    assert [spec.name for spec in parse_specs("local, ollama:qwen3:8b")] == ["local", "qwen3:8b"]
    with pytest.raises(ConfigError):
        parse_specs("local,")


def test_paths_are_meant_from_a_folder(tmp_path: Path) -> None:
    found = located_text("script:a.json,./m/x.gguf,gguf:/abs/y.gguf,local", tmp_path)
    assert found == f"script:{tmp_path}/a.json,gguf:{tmp_path}/m/x.gguf,gguf:/abs/y.gguf,local"
    assert located_text("gguf:a/b:c.gguf", tmp_path) == "gguf:a/b:c.gguf"
    with pytest.raises(ConfigError, match="comma"):
        located_text("script:a.json", tmp_path / "a, b")


_TEXTS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{}{}".format,
        st.sampled_from([*GOOD, "hf:", "ollama:", "vllm:http://", "http://", "gguf:", "script:"]),
        st.sampled_from(["", ":", "#", "/", "@", ".gguf", "?"]),
        st.text(max_size=12),
    ),
)


@settings(deadline=None)
@given(_TEXTS)
def test_any_text_is_a_spec_that_reads_back_or_a_config_error(text: str) -> None:
    try:
        spec = parse_spec(text)
    except ConfigError:
        return
    assert parse_spec(str(spec)) == spec
    assert str(spec).isprintable()
