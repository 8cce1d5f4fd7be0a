"""`manyhands models` against real servers on loopback that play Ollama, llama.cpp and others."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from manyhands.adapters.models.discovery import cached_files, find_servers
from manyhands.cli import main
from manyhands.testing import ChatServer, ScriptedModel, say
from manyhands.testing.tiny_gguf import build_tiny_gguf

SECRET = "hf_hunter2hunter2"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# -------------------------------------------------------------------- servers


@asynccontextmanager
async def serve(routes: dict[str, Any]) -> AsyncGenerator[int]:
    """``routes``: path -> JSON, bytes (HTML), or a handler; the port."""

    async def answer(http: web.Request) -> web.StreamResponse:
        found = routes.get(http.path)
        if found is None:
            return web.json_response({"error": "no such path"}, status=404)
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="text/html")
        return await found(http) if callable(found) else web.json_response(found)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def listed(*names: str, owner: str, **more: Any) -> dict[str, Any]:
    rows = [{"id": name, "object": "model", "owned_by": owner, **more} for name in names]
    return {"object": "list", "data": rows}


OLLAMA = {
    "/api/tags": {"models": [{"name": "qwen3:8b", "size": 5}, {"name": "llama3.2:3b"}]},
    "/v1/models": listed("qwen3:8b", "llama3.2:3b", owner="library"),
}
EMPTY_OLLAMA = {"/api/tags": {"models": []}, "/v1/models": {"object": "list", "data": None}}
LLAMA_CPP = {
    "/v1/models": {
        **listed("tiny", owner="llamacpp", meta={"n_ctx": 4096, "n_ctx_train": 8192}),
        "models": [{"name": "tiny"}],
    },
    "/api/tags": {"models": [{"name": "tiny"}]},
}
VLLM = {"/v1/models": listed("Qwen/Qwen3-8B", owner="vllm", max_model_len=40960)}
SGLANG = {"/v1/models": listed("q", owner="sglang", max_model_len=9)}
LM_STUDIO = {"/v1/models": listed("qwen/qwen3-4b", owner="organization_owner")}
UNKNOWN = {"/v1/models": listed("m", owner="somebody")}


async def keyed(http: web.Request) -> web.Response:
    return web.json_response({"error": {"message": "no key"}}, status=401)


async def silent(http: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


async def dripping(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(http)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def endless(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(http)
    while True:
        await response.write(b"[" * 65536)


@asynccontextmanager
async def serve_all(*servers: dict[str, Any]) -> AsyncGenerator[list[int]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve(each)) for each in servers]


@dataclass
class Playing:
    """A chat server with a model behind it: ``enforces`` what it is asked to, or nothing."""

    enforces: bool = True
    key: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def routes(self) -> dict[str, Any]:
        return {"/v1/chat/completions": self.chat}

    async def chat(self, http: web.Request) -> web.StreamResponse:
        if self.key and http.headers.get("Authorization") != f"Bearer {self.key}":
            told = f"wrong key {http.headers.get('Authorization')}"
            return web.json_response({"error": {"message": told}}, status=401)
        body = json.loads(await http.read())
        self.bodies.append(body)
        message = self.message(body)
        usage = {"prompt_tokens": 9, "completion_tokens": 5}
        if not body.get("stream"):
            choice = {"message": message, "finish_reason": "stop"}
            return web.json_response({"choices": [choice], "usage": usage})
        response = web.StreamResponse()
        await response.prepare(http)
        for word in ("one ", "two ", "three"):
            piece = {"choices": [{"index": 0, "delta": {"content": word}}]}
            await response.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
        await response.write(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")
        return response

    def message(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body["messages"][-1]["content"]
        choice = body.get("tool_choice")
        if self.enforces and "response_format" in body:
            return {"content": '{"colour": "green"}', "reasoning_content": "so be it"}
        if self.enforces and isinstance(choice, dict):
            return calling((choice["function"]["name"], {"city": "Oslo"}))
        if self.enforces and choice == "required":
            return calling(("add", {"a": 0, "b": 0}))
        if "two calls" in text:
            cities = [("weather", {"city": city}) for city in ("Paris", "Rome")]
            return calling(*cities) if self.enforces else calling(*cities[:1])
        if "add" in text and "tools" in body:
            return calling(("add", {"a": 17, "b": 25}))
        return {"content": "[bold red]ready[/] \x1b[31m"}


def calling(*made: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "content": None,
        "tool_calls": [
            {"id": f"c{at}", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for at, (name, arguments) in enumerate(made)
        ],
    }


# -------------------------------------------------------------------- the command


@dataclass
class Shell:
    """Runs the command line in a folder and a home of its own: exit code, output, errors.

    In a thread of this process, since a process of its own costs a second; one test has that.
    """

    folder: Path
    patch: pytest.MonkeyPatch

    async def __call__(self, line: str, **variables: str) -> tuple[int, str, str]:
        with self.patch.context() as patch:
            for name in list(os.environ):
                if name.startswith(("HF_", "HUGGING_FACE_", "OLLAMA_", "MANYHANDS_")):
                    patch.delenv(name)
            for name, value in self.variables(variables).items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["manyhands", *shlex.split(line)])
            return await asyncio.to_thread(self._run)

    def variables(self, more: dict[str, str]) -> dict[str, str]:
        return {"HF_HOME": str(self.folder / "hf"), "COLUMNS": "160", **more}

    def _run(self) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        said = (out.getvalue(), err.getvalue())
        assert SECRET not in "".join(said)
        assert isinstance(code, int)
        return code, *said


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, monkeypatch)


def ports(numbers: Sequence[int]) -> str:
    return " ".join(f"--port {number}" for number in numbers)


async def test_who_answers_and_with_what(shell: Shell) -> None:
    servers = (OLLAMA, LLAMA_CPP, VLLM, SGLANG, LM_STUDIO, UNKNOWN, EMPTY_OLLAMA)
    async with serve_all(*servers) as found:
        code, out, _ = await shell(f"models --json {ports(found)} --port 9")
        assert code == 0
        told = json.loads(out)
    assert [server["kind"] for server in told["servers"]] == [
        "Ollama",
        "llama.cpp",
        "vLLM",
        "SGLang",
        "LM Studio",
        "OpenAI-compatible",
        "Ollama",
    ]
    names = [[model["name"] for model in server["models"]] for server in told["servers"]]
    assert names[0] == ["qwen3:8b", "llama3.2:3b"]
    assert names[1:6] == [["tiny"], ["Qwen/Qwen3-8B"], ["q"], ["qwen/qwen3-4b"], ["m"]]
    assert names[6] == []
    lengths = [server["models"][0]["context_length"] for server in told["servers"][:4]]
    assert lengths == [None, 4096, 40960, 9]
    spec = told["servers"][2]["models"][0]["model"]
    assert spec == f"http://127.0.0.1:{found[2]}/v1#Qwen/Qwen3-8B"
    assert told["asked"] == [f"http://127.0.0.1:{port}" for port in (*found, 9)]
    assert len(told["ways"]) == 3
    assert told["hugging_face"] == {"token": None}


async def test_servers_that_are_none_hold_nothing_up() -> None:
    page = {"/v1/models": b"<html>It works!</html>", "/api/tags": b"<html>"}
    odd = {"/v1/models": {"data": [1, {"id": 2}, {"id": "\x1b[31m"}, {"id": "x" * 999}]}}
    deep = {"/v1/models": b"[" * 100_000}
    lasting = ({"/v1/models": each, "/api/tags": each} for each in (silent, dripping, endless))
    private = {"/v1/models": keyed}
    async with serve_all(page, odd, deep, private, *lasting) as found:
        urls = [f"http://127.0.0.1:{port}" for port in found]
        async with asyncio.timeout(60):  # the others have to answer in time on a busy machine
            servers = await find_servers(urls, seconds=4)
    assert [server.url for server in servers] == [*urls[:4], urls[6]]
    assert not any(server.models for server in servers)
    assert servers[0].note == "/v1/models is no list"
    assert servers[3].note == "HTTP 401 for /v1/models: it wants a key"


async def test_in_a_process_of_its_own(shell: Shell) -> None:
    async with serve(VLLM) as port:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "manyhands.cli", "models", "--json", "--port", str(port)),
            cwd=shell.folder,
            env={**os.environ, **shell.variables({"HF_TOKEN": SECRET})},
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
    told = json.loads(out)
    assert (process.returncode, told["servers"][0]["kind"]) == (0, "vLLM")
    assert told["hugging_face"] == {"token": "HF_TOKEN"}


async def test_a_machine_without_anything_is_told_three_commands(shell: Shell) -> None:
    code, out, _ = await shell("models --port 9")
    assert code == 0
    commands = [line.strip() for line in out.splitlines() if "manyhands models --probe" in line]
    assert len(commands) == 3
    assert "export HF_TOKEN=hf_… && manyhands models --probe hf:Qwen/Qwen3-32B" in commands
    assert "ollama pull qwen3:8b && manyhands models --probe ollama:qwen3:8b" in commands
    assert any("gguf:Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf" in each for each in commands)


async def test_what_is_configured_and_who_uses_it(shell: Shell) -> None:
    (shell.folder / "manyhands.toml").write_text(
        """
        [models.local]
        spec = "ollama:qwen3:8b"
        requests_per_minute = 30
        fallback = ["hosted"]
        [models.hosted]
        base_url = "https://example.org/v1"
        model = "q"
        api_key_env = "MY_KEY"
        [models.hub]
        spec = "hf:a/b"
        [roles]
        researcher = "local"
        """
    )
    roles = shell.folder / "roles"
    roles.mkdir()
    (roles / "planner.md").write_text("---\ndescription: d\nmodel: nobody\n---\nPlan.\n")
    code, out, _ = await shell("models --port 9", HF_TOKEN=SECRET)
    assert code == 0
    for told in ("30 requests/min", "MY_KEY is not set", "HF_TOKEN", "ollama:qwen3:8b"):
        assert told in out
    _, out, _ = await shell("models --port 9 --json", HF_TOKEN=SECRET, MY_KEY=SECRET)
    found = json.loads(out)
    assert [each["problem"] for each in found["models"]] == [None, None, None]
    assert [each["key"] for each in found["models"]] == [None, "MY_KEY", "HF_TOKEN"]
    assert found["models"][0]["fallback"] == ["hosted"]
    assert found["models"][0]["input_per_million"] == 0
    assert found["models"][1]["input_per_million"] is None
    researcher, planner = found["roles"]
    assert (researcher["role"], researcher["model"]) == ("researcher", "local")
    assert researcher["problem"] is None
    assert planner["source"] == str(roles / "planner.md")
    assert "'nobody' is not in manyhands.toml" in planner["problem"]
    (roles / "worker.md").write_text("---\ndescription: d\nmodell: x\n---\nWork.\n")
    code, out, _ = await shell("models --port 9")
    assert code == 0
    assert "unknown key 'modell'" in out


async def test_what_a_server_calls_its_models_is_printed_inert(shell: Shell) -> None:
    rogue = {"/v1/models": listed("[bold red]x[/]", "a; rm -rf ~", owner="[link=x]vllm")}
    async with serve_all(rogue) as found:
        _, out, err = await shell(f"models {ports(found)}")
    assert "\x1b" not in out + err
    assert "[bold red]x[/] (cannot be named)" in out
    assert "a; rm -rf ~ (cannot be named)" in out


async def test_files_of_the_hub_cache(shell: Shell) -> None:
    cache = shell.folder / "hf" / "hub"
    there = cache / "models--Qwen--Qwen3--4B-GGUF" / "snapshots" / "abc"
    (there / "Q8").mkdir(parents=True)
    for name in ("a.gguf", "mmproj-a.gguf", "Q8/b-00001-of-00002.gguf", "Q8/b-00002-of-00002.gguf"):
        (there / name).write_bytes(b"GGUF" * 100)
    (there / "gone.gguf").symlink_to(there / "nowhere")
    assert [(f.repo, f.file, f.size) for f in cached_files(cache)] == [
        ("Qwen/Qwen3--4B-GGUF", "Q8/b-00001-of-00002.gguf", 400),
        ("Qwen/Qwen3--4B-GGUF", "a.gguf", 400),
    ]
    _, out, _ = await shell("models --port 9 --json")
    assert json.loads(out)["local"]["files"][1] == {
        "model": "gguf:Qwen/Qwen3--4B-GGUF:a.gguf",
        "bytes": 400,
    }
    assert cached_files(shell.folder / "no such folder") == ()


# -------------------------------------------------------------------- --probe


async def test_probe_tells_what_is_enforced_and_what_is_not(shell: Shell) -> None:
    strict, loose = Playing(), Playing(enforces=False)
    async with serve_all(strict.routes, loose.routes) as (one, two):
        code, out, _ = await shell(
            f"models --probe --json 'http://127.0.0.1:{one}/v1#a' vllm:http://127.0.0.1:{two}/v1#b"
        )
    assert code == 0
    first, second = json.loads(out)
    told = {check["check"]: check["found"] for check in first["checks"]}
    assert told == {
        "chat": "works",
        "stream": "works",
        "usage in stream": "works",
        "tool call": "works",
        "tool call required": "enforced",
        "tool call by name": "enforced",
        "parallel calls": "works",
        "JSON schema": "enforced",
        "reasoning apart": "works",
    }
    told = {check["check"]: check["found"] for check in second["checks"]}
    loosely = ("tool call required", "tool call by name", "JSON schema")
    assert [told[name] for name in loosely] == ["not enforced"] * 3
    assert told["parallel calls"] == "no"
    assert len(strict.bodies) == len(loose.bodies) == 7
    assert all(body["max_tokens"] <= 512 for body in strict.bodies)


async def test_probe_prints_a_table_and_nothing_of_what_is_said_takes_effect(shell: Shell) -> None:
    loose = Playing(enforces=False)
    async with serve_all(loose.routes) as (port,):
        code, out, err = await shell(f"models --probe http://127.0.0.1:{port}/v1#a")
    assert code == 0
    assert "[bold red]ready[/]" in out
    assert "\x1b" not in out + err
    assert "not enforced" in out
    assert "tokens/s" in out


async def test_keys_reach_their_server_and_nothing_else(shell: Shell) -> None:
    playing = Playing(key=SECRET)
    async with serve_all(playing.routes) as (port,):
        (shell.folder / "manyhands.toml").write_text(
            f"""
            [models.hosted]
            base_url = "http://127.0.0.1:{port}/v1"
            model = "q"
            api_key_env = "MY_KEY"
            extra = {{ top_p = 0.5 }}
            """
        )
        code, out, _ = await shell("models --probe", MY_KEY=SECRET)
        assert (code, playing.bodies[0]["top_p"]) == (0, 0.5)
        code, out, err = await shell("models --probe hosted", MY_KEY="other_hunter2")
        assert code == 9
        assert "refused" in out
        assert "hunter2" not in out + err, "although the server repeats it"
        code, _, err = await shell("models --probe hosted")
        assert code == 2
        assert "MY_KEY" in err
        url = f"http://127.0.0.1:{port}/v1#q"
        code, _, _ = await shell(f"models --probe {url}", MANYHANDS_API_KEY=SECRET)
        assert code == 0


async def test_probe_of_a_model_that_is_not_there(shell: Shell) -> None:
    async with ChatServer(ScriptedModel(lambda _: say("hello"))) as server:
        code, out, err = await shell(
            f"models --probe --json {server.url}#a http://127.0.0.1:9/v1#b"
        )
    assert code == 9
    there, gone = json.loads(out)
    assert there["answered"]
    assert there["checks"][0]["found"] == "works"
    assert not gone["answered"]
    assert gone["checks"][0]["found"] == "unreachable"
    assert {check["found"] for check in gone["checks"][1:]} == {"not tried"}
    assert "no reply from http://127.0.0.1:9/v1#b" in err


async def test_probe_has_a_deadline(shell: Shell) -> None:
    async with serve_all({"/v1/chat/completions": silent}) as (port,):
        async with asyncio.timeout(60):
            line = f"models --probe --json --seconds 0.3 http://127.0.0.1:{port}/v1#a"
            code, out, _ = await shell(line)
    assert code == 9
    assert json.loads(out)[0]["checks"][0]["found"] == "too late"


async def test_a_scripted_model_can_be_tried(shell: Shell) -> None:
    rules = {"name": "demo", "rules": [{"reply": "hello there, whoever you are"}]}
    (shell.folder / "demo.json").write_text(json.dumps(rules))
    code, out, _ = await shell("models --probe script:demo.json --json")
    assert code == 0
    assert json.loads(out)[0]["name"] == "demo"


async def test_a_real_server_llama_cpp_in_this_package(shell: Shell) -> None:
    """Random weights: what is enforced is the server's doing, and nothing else can be right."""
    build_tiny_gguf(shell.folder / "tiny.gguf")
    (shell.folder / "manyhands.toml").write_text(
        '[models.tiny]\nspec = "gguf:tiny.gguf"\ncontext_length = 1024\nslots = 1\n'
    )
    home = str(shell.folder / "home")
    code, out, err = await shell("models --probe --json", MANYHANDS_HOME=home)
    assert code == 0, err
    found = {check["check"]: check["found"] for check in json.loads(out)[0]["checks"]}
    assert found["chat"] == "works"
    assert found["stream"] == "works"
    assert found["usage in stream"] == "works"
    assert found["tool call"] == "no"
    assert found["JSON schema"] == "enforced"
    assert not {"refused", "failed", "too late", "not tried"} & set(found.values())


async def test_what_cannot_be_asked_for(shell: Shell) -> None:
    code, _, err = await shell("models ollama:qwen3")
    assert (code, "--probe" in err) == (2, True)
    code, _, err = await shell("models --probe")
    assert code == 2
    assert "no configured model" in err
    code, _, err = await shell("models --probe openai:gpt-4")
    assert code == 2
    assert "hf:Qwen/Qwen3-32B" in err
