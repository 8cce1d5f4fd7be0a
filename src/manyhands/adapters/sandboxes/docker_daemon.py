"""Docker's daemon, through its SDK: the only module that imports it.

Invariant: whatever goes wrong in a call is a `SandboxError` that says what to look at.
"""

# The SDK has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import importlib.util
import struct
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from manyhands.errors import SandboxError

T = TypeVar("T")
#: Calls at once; commands that run have threads of their own.
CALLS = 16
#: Of one call: an answer that takes longer is none.
SECONDS = 60.0
OUT, ERR = 1, 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What the daemon says of itself."""

    version: str
    system: str
    memory: bool
    processes: bool
    cgroup: str
    seccomp: bool
    rootless: bool


def installed() -> bool:
    return importlib.util.find_spec("docker") is not None


class Daemon:
    """``url`` '': where Docker's own variables (DOCKER_HOST, …) or its default say.

    Raises SandboxError where the SDK is missing or no daemon answers.
    """

    def __init__(self, url: str = "", seconds: float = SECONDS) -> None:
        if not installed():
            raise SandboxError(
                "sandboxes in Docker need its SDK, which is not installed",
                next="pip install 'manyhands[docker]'",
            )
        import docker  # noqa: PLC0415

        self._pool = ThreadPoolExecutor(CALLS, thread_name_prefix="docker")
        options: dict[str, Any] = {"timeout": seconds, "version": "auto"}
        try:
            client = docker.DockerClient(url, **options) if url else docker.from_env(**options)
        except Exception as error:
            raise failed(error) from error
        #: The SDK's low-level client.
        self.api: Any = client.api

    def facts(self) -> Facts:
        try:
            found: dict[str, Any] = self.api.info()
        except Exception as error:
            raise failed(error) from error
        security = " ".join(found.get("SecurityOptions") or [])
        return Facts(
            version=str(found.get("ServerVersion", "")),
            system=str(found.get("OSType", "")),
            memory=bool(found.get("MemoryLimit")),
            processes=bool(found.get("PidsLimit")),
            cgroup=str(found.get("CgroupVersion", "")),
            seccomp="name=seccomp" in security,
            rootless="name=rootless" in security,
        )

    def has_image(self, image: str) -> None:
        """Raises SandboxError where the daemon has no such image: none is fetched unasked."""
        try:
            self.api.inspect_image(image)
        except Exception as error:
            raise failed(error) from error

    async def call(self, work: Callable[[], T]) -> T:
        """In a thread. Cancelled meanwhile, it goes on there."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, work)
        except Exception as error:
            raise failed(error) from error


class Hijacked:
    """A connection that Docker has turned over to a command's input and output."""

    def __init__(self, given: Any) -> None:
        self._given = given  # it ends with the SDK's object
        self._plain: Any = getattr(given, "_sock", given)
        self._plain.settimeout(None)

    def send(self, data: bytes) -> None:
        self._plain.sendall(data)

    def frames(self) -> Generator[tuple[int, bytes]]:
        """(stream, data), until the other side ends it or `close` does."""
        while len(head := self._read(8)) == 8:
            stream, length = struct.unpack(">BxxxL", head)
            while length and (data := self._plain.recv(min(length, 65536))):
                length -= len(data)
                yield stream, data

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (data := self._plain.recv(size - len(found))):
            found += data
        return found

    def shut(self) -> None:
        """Both directions; a thread that reads wakes up."""
        try:
            self._plain.shutdown(2)
        except OSError:
            return

    def close(self) -> None:
        self.shut()
        response = getattr(self._given, "_response", None)
        (self._given if response is None else response).close()


def failed(error: Exception) -> SandboxError:
    """In words; one that is a SandboxError already stays."""
    if isinstance(error, SandboxError):
        return error
    import docker.errors  # noqa: PLC0415
    import requests.exceptions  # noqa: PLC0415

    if isinstance(error, docker.errors.ImageNotFound):
        return SandboxError(
            f"Docker has no such image: {error.explanation}", next="docker pull it, or build it"
        )
    if isinstance(error, docker.errors.APIError):
        status = error.response.status_code if error.response is not None else 0
        return SandboxError(
            f"Docker answered {status}: {str(error.explanation).strip()[-300:]}",
            next="is its container still there? `docker ps -a` and the daemon's log say more",
        )
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error).lower():
        return SandboxError(
            f"Docker's daemon did not answer in time: {str(error)[-200:]}",
            next="is the machine overloaded? `docker info` shows whether it answers at all",
        )
    return SandboxError(
        f"Docker's daemon does not answer: {str(error)[-200:]}",
        next="start it, or set DOCKER_HOST; `docker info` says more",
    )
