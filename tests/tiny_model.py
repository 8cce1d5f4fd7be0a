"""A tiny random model for every test that wants a real server, and a watch over what it leaves.

A server is shared by all tests of a worker that ask for the same settings, as it is by users.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from manyhands.adapters.models.embedded import EmbeddedModel, ServerSettings
from manyhands.testing.tiny_gguf import build_tiny_gguf

#: One thread: the other core is somebody else's.
SETTINGS = ServerSettings(context_length=2048, threads=1, linger_seconds=2.0)
_PROCESS = "manyhands.adapters.models.embedded_"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file. When the session ends, no process has it open."""
    path = build_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
    yield path
    until(lambda: not servers_of(path), "every server of the tiny model has ended")


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the shared servers are. When the session ends, none of their hosts lives."""
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    until(lambda: not hosts_in(folder), "every host has ended")


@pytest.fixture
def tiny(tiny_gguf: Path, server_folder: Path) -> EmbeddedModel:
    """The model over the shared server. Its user closes it."""
    return EmbeddedModel(tiny_gguf, state_folder=server_folder, settings=SETTINGS)


def until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for what has to come; a bound against hanging, not a measurement."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"after {seconds:g} s it is not so that {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def servers_of(model: Path) -> list[int]:
    """The processes that have loaded this file."""
    return [p.pid for p in _processes() if any(m.path == str(model) for m in _maps(p))]


def hosts_in(folder: Path) -> list[int]:
    """The processes that hold a server's locks below this folder."""
    return [p.pid for p in _processes() if any(f.startswith(str(folder)) for f in _files(p))]


def _processes() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if any(part.startswith(_PROCESS) for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _maps(process: psutil.Process) -> list:
    try:
        return process.memory_maps()
    except psutil.Error:
        return []


def _files(process: psutil.Process) -> list[str]:
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:
        return []
