"""Recordings as a program opens them: which endpoints, which secrets, and what a replay says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyhands.cli.tapes import check_apart, journal_of, run_id_of, taped
from manyhands.config import Config, ModelConfig
from manyhands.errors import ConfigError, RecordingError, ReplayDiverged, StepFailed
from manyhands.ports import ModelRequest, Price
from manyhands.wiring import Endpoints, Recording, Replay, open_runtime, open_tape, secrets_known

KEY = "sk-never-to-be-seen-0123456789"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MANYHANDS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MANYHANDS_HOME", str(tmp_path / "home"))


def ask(text: str) -> ModelRequest:
    message = json.dumps({"role": "user", "content": text}).encode()
    return ModelRequest((message,), agent="a")


def script(folder: Path) -> Path:
    path = folder / "demo.json"
    path.write_text(json.dumps({"name": "demo", "rules": [{"reply": f"It is {KEY}."}]}))
    return path


async def test_a_recorded_model_is_replayed_though_it_is_gone(tmp_path: Path) -> None:
    demo, file = script(tmp_path), tmp_path / "run.jsonl"
    config = Config(models={"own": ModelConfig(spec=f"script:{demo}")})
    with open_tape(config, file, None) as tape:
        async with Endpoints(config, tape) as endpoints:
            (model,) = endpoints.models("own")
            assert endpoints.models("own") == (model,)
            live = await model.request(ask("Hello"))
    demo.unlink()
    with open_tape(config, None, file) as tape:
        async with Endpoints(config, tape) as endpoints:
            (model,) = endpoints.models("own")
            assert endpoints.models("own") == (model,)
            assert (model.name, model.price) == ("demo", Price(0.0, 0.0))
            assert (await model.request(ask("Hello"))).text == live.text
        with pytest.raises(RecordingError, match=r"no model 'script:other\.json'; it has: 'own'"):
            Endpoints(config, tape).models("script:other.json")
        assert isinstance(tape, Replay)
        assert tape.unused() == ()


def test_a_replay_needs_no_key_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = ("hf:Qwen/Qwen3-32B", "gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf", "keyed")
    keyed = ModelConfig(spec="http://localhost:1/v1#x", api_key_env="ODD_NAME")
    config = Config(models={"keyed": keyed})
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("ODD_NAME", KEY)
    file = tmp_path / "run.jsonl"
    with open_tape(config, file, None) as tape:
        for spec in specs:
            Endpoints(config, tape).models(spec)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("ODD_NAME")
    with pytest.raises(ConfigError):
        Endpoints(config).models("hf:Qwen/Qwen3-32B")
    with open_tape(config, None, file) as tape:
        endpoints = Endpoints(config, tape)
        names = [endpoints.models(spec)[0].name for spec in specs]
        assert names == ["Qwen/Qwen3-32B", specs[1], "x"]
        assert not endpoints._hub_files


def test_the_keys_of_all_endpoints_are_known_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = ModelConfig(spec="http://localhost:1/v1#x", api_key_env="ODD_NAME")
    config = Config(models={"keyed": keyed})
    values = {
        "ODD_NAME": "key-of-the-named-1",
        "MANYHANDS_API_KEY": "key-of-the-url-2",
        "HF_TOKEN": "key-of-the-hub-3",
        "SOME_SECRET": "of-another-program-4",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("key-that-is-stored-5\n")
    assert {*values.values(), "key-that-is-stored-5"} <= secrets_known(config)
    runtime = open_runtime(config, str(tmp_path / "journal.db"))
    shown = runtime.journal.redactor.text(" ".join([*values.values(), "key-that-is-stored-5"]))
    runtime.journal.close()
    assert shown == "*** *** *** *** ***"


def test_one_cannot_be_had_with_the_other(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with pytest.raises(ConfigError, match="exclude"), open_tape(Config(), file, file):
        pass
    assert not file.exists()
    with open_tape(Config(), None, None) as tape:
        assert tape is None


# -------------------------------------------------------------------- on the command line


async def recorded(file: Path, *texts: str, **about: str) -> None:
    config = Config(models={"own": ModelConfig(spec=f"script:{script(file.parent)}")})
    with open_tape(config, file, None) as tape:
        assert isinstance(tape, Recording)
        tape.note(**about)
        (model,) = Endpoints(config, tape).models("own")
        for text in texts:
            await model.request(ask(text))


async def test_a_replay_tells_what_was_not_asked_for(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "run.jsonl"
    await recorded(file, *"abcdefgh")
    with taped(Config(), None, file) as tape:
        assert isinstance(tape, Replay)
        await tape.model("own").request(ask("a"))
    said = capsys.readouterr().err
    assert "7 recorded requests were not asked for" in said
    assert "request 2 of agent 'a' to own (an answer)" in said
    assert "and 2 more" in said


@pytest.mark.parametrize("hidden", [False, True])
async def test_a_replay_that_diverged_says_so_however_the_run_ended(
    tmp_path: Path, capsys: Any, hidden: bool
) -> None:
    """A worker's failure is an experiment that failed, and the study goes on: not so a replay's."""
    file = tmp_path / "run.jsonl"
    await recorded(file, "Hello", run="r1")

    async def run() -> None:
        with taped(Config(), None, file) as tape:
            assert isinstance(tape, Replay)
            for text in ("Hallo", "Hullo"):
                with pytest.raises(ReplayDiverged):
                    await tape.model("own").request(ask(text))
            if not hidden:
                raise StepFailed("key", "ReplayDiverged", "message")

    with pytest.raises(ReplayDiverged, match="'a' was not recorded") as caught:
        await run()
    assert "in run r1" in caught.value.next
    assert caught.value.exit_code == 11
    assert "1 more requests were not recorded" in capsys.readouterr().err


async def test_a_replay_has_the_recorded_runs_id_and_a_journal_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    await recorded(file, run="r1")
    folder = tmp_path / ".manyhands"
    with open_tape(Config(), None, file) as tape:
        assert run_id_of(tape, None, "lab") == "r1"
        assert run_id_of(tape, "r2", "lab") == "r2"
        check_apart(tape, folder, "r1")
        (folder / "r1").mkdir(parents=True)
        with pytest.raises(ConfigError, match="write over"):
            check_apart(tape, folder, "r1")
        with journal_of(tape, None) as url:
            assert url is not None
            place = Path(url).parent
            assert place.is_dir()
        assert not place.exists()
        with journal_of(tape, "named.db") as url:
            assert url == "named.db"
    check_apart(None, folder, "r1")
    with journal_of(None, None) as url:
        assert url is None


def test_the_program_of_the_how_to_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "record-and-replay.md"
    program = page.read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(program.replace("ollama:qwen3:8b", f"script:{script(tmp_path)}"), {"__name__": "page"})
    assert capsys.readouterr().out.splitlines() == [f"It is {KEY}."] * 2


def test_a_recording_is_told_of_its_run(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with open_tape(Config(), file, None) as tape:
        id = run_id_of(tape, None, "lab")
    assert id is not None
    assert id.startswith("lab-")
    assert Replay(file).about == {"run": id}
    with open_tape(Config(), file, None) as tape:
        assert run_id_of(tape, id, "lab") == id
        with pytest.raises(RecordingError, match=f"is of run {id}, not other"):
            run_id_of(tape, "other", "lab")
    assert run_id_of(None, None, "lab") is None
