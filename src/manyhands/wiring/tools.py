"""Configured servers of tools, to tools.

Invariant: nothing is started, and the ``mcp`` SDK not imported, before a server is asked for. Not
imported by the package: commands that need no tools start faster without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from manyhands.adapters.tool_servers.places import Endpoint, Program
from manyhands.agents.offered import Offered, OfferedTool, offered_tools
from manyhands.config import Config, McpConfig
from manyhands.errors import ConfigError
from manyhands.ports import ToolOffer, ToolServer
from manyhands.wiring import keys

#: Beside the deadline of a call, which the server keeps by itself: to end what is lost.
_MARGIN = 15.0


@dataclass(frozen=True, slots=True)
class Found:
    """``dropped``: server, tool and reason of each that is left out, other than by `tools`."""

    tools: tuple[OfferedTool, ...] = ()
    dropped: tuple[tuple[str, str, str], ...] = ()


class ToolServers:
    """The servers of ``[mcp]``; ``async with`` ends those that were started.

    Shared by all agents of a process: each server is started once.
    """

    def __init__(self, servers: Mapping[str, ToolServer], config: Config) -> None:
        self._servers = dict(servers)
        self._settings = {name: config.mcp[name] for name in servers}

    def __len__(self) -> int:
        return len(self._servers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._servers.values()))

    async def tools(self) -> Found:
        """Start all servers, and take what they offer. Raises `ToolServerError`, `ConfigError`."""
        found = await asyncio.gather(*map(self._of, self._servers), return_exceptions=True)
        tools: list[OfferedTool] = []
        dropped: list[tuple[str, str, str]] = []
        for name, each in zip(self._servers, found, strict=True):
            if isinstance(each, BaseException):
                raise each
            tools += each.tools
            dropped += [(name, *one) for one in each.dropped]
        return Found(tuple(tools), tuple(dropped))

    async def _of(self, name: str) -> Offered:
        settings, server = self._settings[name], self._servers[name]
        offers = await server.offers()
        _check_idempotent(name, settings, offers)
        allowed = settings.tools
        found = offered_tools(
            server,
            offers,
            repeatable=Repeatable(settings),
            allowed=allowed,
            seconds=settings.seconds + _MARGIN,
        )
        wanted = [each for each in found.dropped if allowed is None or each[0] in allowed]
        return Offered(found.tools, tuple(wanted))


@dataclass(frozen=True, slots=True)
class Repeatable:
    """Whether a call may be made again: by the user's word, or the server's where that is trusted.

    What only reads counts as idempotent, not as pure: the world may change between two calls.
    """

    settings: McpConfig

    def __call__(self, offer: ToolOffer) -> bool:
        believed = self.settings.trust_hints and (offer.read_only or offer.idempotent)
        return offer.name in self.settings.idempotent or believed


def tool_servers(config: Config, names: Iterable[str] | None = None) -> ToolServers:
    """The servers named; None: all that there are. None is started yet. Raises `ConfigError`."""
    chosen = tuple(config.mcp if names is None else dict.fromkeys(names))
    return ToolServers({name: tool_server(config, name) for name in chosen}, config)


def tool_server(config: Config, name: str) -> ToolServer:
    """One of ``[mcp]``, not started yet. Raises `ConfigError`."""
    if name not in config.mcp:
        raise ConfigError(
            f"there is no tool server {name!r}; there: {', '.join(config.mcp) or 'none'}",
            next=f"add [mcp.{name}] to manyhands.toml",
        )
    return _server(name, config.mcp[name])


def _server(name: str, settings: McpConfig) -> ToolServer:
    try:
        from manyhands.adapters.tool_servers.mcp_server import (  # noqa: PLC0415 - optional extra
            McpServer,
        )
    except ImportError as error:
        raise ConfigError(
            f"[mcp.{name}] needs the package {error.name!r}, which is not installed",
            next="pip install 'manyhands[answer]'",
        ) from error
    place = _endpoint(name, settings) if settings.url else _program(name, settings)
    repeatable = Repeatable(settings)
    return McpServer(name, place, repeatable=repeatable, seconds=settings.seconds)


def _program(name: str, settings: McpConfig) -> Program:
    env = {each: _variable(name, "env", each) for each in settings.env}
    cwd = Path(settings.cwd) if settings.cwd else None
    return Program(settings.command, settings.args, env, cwd)


def _endpoint(name: str, settings: McpConfig) -> Endpoint:

    token = settings.token_env
    return Endpoint(settings.url, SecretStr(_variable(name, "token_env", token)) if token else None)


def _variable(name: str, key: str, variable: str) -> str:
    found = keys.variable(variable)
    if found is None:
        raise ConfigError(
            f"mcp.{name}: the environment variable {variable} ({key}) is not set",
            next=f"export {variable}=…, or remove it from {key}",
        )
    return found.get_secret_value()


def _check_idempotent(name: str, settings: McpConfig, offers: Iterable[ToolOffer]) -> None:
    """A name that is misspelt there would make nothing repeatable, and nobody would notice."""
    there = [each.name for each in offers]
    missing = sorted(set(settings.idempotent) - set(there))
    if missing:
        raise ConfigError(
            f"mcp.{name}.idempotent: {', '.join(missing)} is not offered; "
            f"offered: {', '.join(there) or 'nothing'}",
            next="correct the names",
        )
