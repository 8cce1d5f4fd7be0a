"""``[mcp.NAME]``: what it may say, what is refused, and what becomes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from manyhands.config import Config, McpConfig, load_config
from manyhands.errors import ConfigError
from manyhands.ports import ToolOffer
from manyhands.testing import FakeToolServer
from manyhands.testing.tool_servers import PLAYED
from manyhands.wiring import secrets_known
from manyhands.wiring.tools import Repeatable, ToolServers, tool_servers

WHOLE = """
[mcp.files]
command = "npx"
args = ["-y", "@example/files", "."]
env = ["FILES_TOKEN"]
cwd = "data"
tools = ["read", "list"]
idempotent = ["list"]
seconds = 20

[mcp.search]
url = "https://example.org/mcp?x=1"
token_env = "SEARCH_TOKEN"
trust_hints = true
"""


def read(folder: Path, text: str) -> Config:
    (folder / "manyhands.toml").write_text(text)
    return load_config(folder)


def test_a_whole_file(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    files, search = config.mcp["files"], config.mcp["search"]
    assert (files.command, files.args, files.env) == (
        "npx",
        ("-y", "@example/files", "."),
        ("FILES_TOKEN",),
    )
    assert files.cwd == str(tmp_path / "data")
    assert (files.tools, files.idempotent, files.seconds) == (("read", "list"), ("list",), 20.0)
    assert (search.cwd, search.tools, search.trust_hints, search.seconds) == ("", None, True, 60.0)
    assert read(tmp_path, "[mcp.a]\ncommand = 'x'").mcp["a"].cwd == str(tmp_path)


BAD = {
    "[mcp.a]": "give either command (with args), or url",
    "[mcp.a]\ncommand = 'x'\nurl = 'http://h'": "give either command (with args), or url",
    "[mcp.a]\ncommand = 'x'\ntoken_env = 'A'": "token_env: without effect on a command",
    "[mcp.a]\nurl = 'http://h'\nargs = []\ncwd = '.'": "args, cwd: without effect on a url",
    "[mcp.a]\ncommand = 'npx -y x'": "its arguments belong into args",
    "[mcp.a]\ncommand = 'x'\nenviron = []": "unknown key mcp.a.environ; allowed: command, args",
    "[mcp.a]\ncommand = 'x'\nenv = ['a=b']": "not the key",
    "[mcp.a]\ncommand = 'x'\ntools = []": "mcp.a.tools",
    "[mcp.a]\ncommand = 'x'\ntools = ['b']\nidempotent = ['c']": "idempotent: c not among tools",
    "[mcp.a]\ncommand = 'x'\nseconds = 0": "found 0",
    "[mcp.a]\nurl = 'ftp://h'": "is not http(s)://",
    "[mcp.a]\nurl = 'http://['": "is not http(s)://",
    "[mcp.a]\nurl = 'http:///x'": "is not http(s)://",
    "[mcp.'a.b']\ncommand = 'x'": "'a.b' cannot be the name of a server",
    "[mcp.a]\ncommand = 'x'\n[mcp.a_b]\ncommand = 'y'": "'a' and 'a_b': their tools could have",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_refused_with_file_and_key(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert BAD[text] in caught.value.what
    assert caught.value.what.startswith(str(tmp_path / "manyhands.toml"))
    assert caught.value.next


@pytest.mark.parametrize(
    "line",
    [
        "url = 'https://u:hunter2hunter2@h/'",
        "url = 'ftp://u:hunter2hunter2@h/'",
        "url = 'hunter2://h/?key=hunter2hunter2'",
        "command = 'x'\nenv = ['hunter2hunter2']",
        "url = 'http://h'\ntoken_env = 'hunter2hunter2'",
        "url = 'http://h'\ntoken = 'hunter2hunter2'",
    ],
)
def test_no_error_repeats_a_secret(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[mcp.a]\n{line}")
    assert "hunter2hunter2" not in str(caught.value)


def test_what_servers_are_handed_is_known_as_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILES_PLAIN", "handed-over-1")
    monkeypatch.setenv("FILES_HOME", str(tmp_path))
    monkeypatch.setenv("SEARCH", "token-of-search-2")
    config = Config(
        mcp={
            "files": McpConfig(command="x", env=("FILES_PLAIN", "FILES_HOME", "NOT_SET")),
            "search": McpConfig(url="http://h/", token_env="SEARCH"),
        }
    )
    known = secrets_known(config)
    assert {"handed-over-1", "token-of-search-2"} <= known
    assert str(tmp_path) not in known


def test_a_variable_that_is_not_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    for settings in (
        McpConfig(command="x", env=("NOT_SET",)),
        McpConfig(url="http://h/", token_env="NOT_SET"),
    ):
        with pytest.raises(ConfigError, match=r"mcp\.a: the environment variable NOT_SET"):
            tool_servers(Config(mcp={"a": settings}))


def test_only_what_is_configured_can_be_chosen() -> None:
    config = Config(mcp={"a": McpConfig(command="x"), "b": McpConfig(command="x")})
    assert len(tool_servers(config)) == 2
    assert len(tool_servers(config, ["b", "b"])) == 1
    assert len(tool_servers(config, [])) == 0
    with pytest.raises(ConfigError, match="there is no tool server 'c'; there: a, b"):
        tool_servers(config, ["c"])


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mcp_server", "connection"):
        monkeypatch.delitem(sys.modules, f"manyhands.adapters.tool_servers.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError) as caught:
        tool_servers(Config(mcp={"a": McpConfig(command="x")}))
    assert "manyhands[answer]" in caught.value.next


def test_a_server_is_believed_only_where_the_user_says_so() -> None:
    reads = ToolOffer("a", "", {}, read_only=True)
    same = ToolOffer("b", "", {}, idempotent=True)
    other = ToolOffer("c", "", {})
    plain = Repeatable(McpConfig(command="x"))
    assert not any(map(plain, (reads, same, other)))
    trusting = Repeatable(McpConfig(command="x", trust_hints=True))
    assert list(map(trusting, (reads, same, other))) == [True, True, False]
    listed = Repeatable(McpConfig(command="x", idempotent=("c",)))
    assert list(map(listed, (reads, same, other))) == [False, False, True]


async def test_the_tools_of_all_servers() -> None:
    settings = {
        "a": McpConfig(command="x", tools=("echo", "add"), idempotent=("add",), seconds=7),
        "b": McpConfig(command="x"),
    }
    bad = ToolOffer("bad", "", {"type": "array"})
    b = FakeToolServer([*PLAYED[:1], type(PLAYED[0])(bad, PLAYED[0].fn)], name="b")
    servers = ToolServers({"a": FakeToolServer(PLAYED, name="a"), "b": b}, Config(mcp=settings))
    async with servers:
        found = await servers.tools()
    assert [each.name for each in found.tools] == ["a_echo", "a_add", "b_echo"]
    assert found.tools[0].seconds == 22
    assert found.dropped == (("b", "bad", "its schema is of type 'array', not 'object'"),)
    assert b._closed


async def test_a_misspelt_idempotent_tool_is_an_error() -> None:
    config = Config(mcp={"a": McpConfig(command="x", idempotent=("ecko",))})
    servers = ToolServers({"a": FakeToolServer(PLAYED, name="a")}, config)
    with pytest.raises(
        ConfigError, match=r"mcp\.a\.idempotent: ecko is not offered; offered: echo"
    ):
        await servers.tools()
