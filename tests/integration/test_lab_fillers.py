"""Which model fills a role of the lab: the command, then [roles], then the role's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.cli.lab import _models
from manyhands.config import Config, ModelConfig, load_config
from manyhands.errors import ConfigError, RoleError
from manyhands.runtime import Runtime
from manyhands.teams.lab.state import Order
from manyhands.teams.lab.view import read_lab
from manyhands.testing import ChatServer, ScriptedModel, say
from manyhands.wiring import Endpoints, cast_of, lab_fillers, lab_workflow, models_of
from tests.studies import lay_out

RESEARCHER = """---
description: Finds changes worth trying.
output: Ideas
model: {model}
---
Look for ideas.
"""


def write_role(study: Path, model: str, name: str = "researcher") -> Path:
    folder = study / "roles"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(RESEARCHER.format(model=model))
    return folder / f"{name}.md"


def scripted(folder: Path) -> str:
    idea = {"title": "fewer steps", "rationale": "they cost time", "source": "demo"}
    rules = [{"role": "researcher", "reply": {"answer": {"ideas": [idea]}}}]
    (folder / "demo.json").write_text(json.dumps({"name": "demo", "rules": rules}))
    return f"script:{folder}/demo.json"


def config_of(**roles: str) -> Config:
    return Config(models={"local": ModelConfig(spec="ollama:local")}, roles=roles)


def test_the_command_goes_before_the_settings_and_those_before_the_role_file(
    tmp_path: Path,
) -> None:
    file = write_role(tmp_path, "ollama:own")

    def filler(config: Config, **ordered: str) -> tuple[str, str, bool] | None:
        order = Order(study=str(tmp_path), models=ordered)
        found = lab_fillers(order, config).get("researcher")
        return (found.spec, found.source, found.own) if found else None

    assert filler(config_of()) == ("ollama:own", str(file), False)
    assert filler(config_of(researcher="local")) == ("local", "manyhands.toml", True)
    assert filler(config_of(researcher="local"), researcher="ollama:x") == (
        "ollama:x",
        "the command",
        True,
    )
    assert filler(config_of(researcher="algorithm")) is None
    assert filler(config_of(researcher="local"), researcher="algorithm") is None
    with pytest.raises(ConfigError, match="no role 'resercher'; roles: coder, critic, explorer"):
        filler(config_of(resercher="local"))


async def test_a_role_file_that_names_nobody_says_how_to_get_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands.wiring.machine.USUAL_PORTS", {9: "nobody"})
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    file = write_role(tmp_path, "nobody")
    order = Order(study=str(tmp_path))
    with pytest.raises(RoleError) as caught:
        await models_of(order, config_of(), Endpoints(config_of()))
    assert caught.value.what.startswith(f"{file}: model: model 'nobody' is not in manyhands.toml")
    assert "manyhands lab run . --role researcher=ollama:qwen3:8b" in caught.value.next


async def test_roles_share_an_endpoint(tmp_path: Path) -> None:
    write_role(tmp_path, "local")
    config = config_of(worker="local", memory="ollama:local")
    made = await models_of(Order(study=str(tmp_path)), config, Endpoints(config))
    assert made["researcher"] == made["worker"]
    assert made["researcher"] != made["memory"], "an entry has limits of its own"


async def test_a_file_of_the_study_does_not_get_the_users_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that somebody else wrote may name any server."""
    monkeypatch.setenv("MANYHANDS_API_KEY", "sk-hunter2")
    sent: list[str] = []
    async with ChatServer(ScriptedModel(lambda _: say("hello"))) as server:
        name = f"{server.url}#x"
        write_role(tmp_path, name)
        order = Order(study=str(tmp_path), models={"planner": name})
        async with Endpoints(Config()) as endpoints:
            made = await models_of(order, Config(), endpoints)
            for role in ("researcher", "planner"):
                inner = made[role][0]._model  # type: ignore[attr-defined]
                sent.append(inner._key.get_secret_value() if inner._key else "")
    assert sent == ["", "sk-hunter2"]


def test_paths_of_the_command_hold_wherever_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _models("script:a.json,local", ["worker=b.gguf", "planner=algorithm"])
    assert found == {
        "researcher": f"script:{tmp_path}/a.json,local",
        "planner": "algorithm",
        "worker": f"gguf:{tmp_path}/b.gguf",
    }


@pytest.mark.parametrize("model", ["gpt-4", "openai:gpt-4", "script:no.json", "hf:gpt2", "a,"])
def test_a_model_is_checked_before_the_run_starts(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = lay_out("regression", tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    words = ["lab", "run", str(study), "--model", model, "--journal", "journal.db"]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, ConfigError)
    assert not (tmp_path / "journal.db").exists()


async def test_settings_that_name_a_scripted_model_fill_the_role(tmp_path: Path) -> None:
    config = config_of(researcher=scripted(tmp_path), worker="ollama:x,local")
    order = Order(study=str(tmp_path))
    names = cast_of(order, await models_of(order, config, Endpoints(config))).names
    assert (names["researcher"], names["worker"]) == ("model:demo", "model:x")
    assert names["planner"] == "optuna-tpe"


@pytest.mark.slow
@pytest.mark.needs("bubblewrap")
async def test_a_study_runs_on_the_fallback_of_a_model_that_its_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = lay_out("regression", tmp_path / "study")
    scripted(tmp_path)
    rules = [{"reply": {"text": "never said", "fails": ["refused"] * 9}}]
    (tmp_path / "moody.json").write_text(json.dumps({"name": "moody", "rules": rules}))
    (tmp_path / "manyhands.toml").write_text(
        '[models.moody]\nspec = "script:moody.json"\nfallback = ["script:demo.json"]\n'
        '[roles]\nresearcher = "moody"\n'
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    workflow = lab_workflow(load_config(tmp_path))
    async with Runtime.open(tmp_path / "journal.db") as runtime:
        await runtime.run(workflow, Order(study=str(study), runs=16), run_id="study")
        rows = read_lab(runtime, "study").rows
        events = list(runtime.journal.events("study"))
    assert rows[0].fillers["researcher"] == "model:moody"
    assert rows[0].fillers["planner"] == "optuna-tpe"
    assert not [e for e in events if e.type == "lab:fallback"]
    ended = [e.data for e in events if e.type == "agent:end"]
    assert ended
    assert {each["model"] for each in ended} == {"demo"}
