"""One container: made, filled, asked, removed.

Invariants: its first process reads from a connection that this process holds, and ends when that
does, and with it all that runs in the container, which Docker then removes. What is left all the
same (the daemon was away) is removed by the next who opens one.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import socket
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from manyhands.errors import SandboxError
from manyhands.isolation import processes
from manyhands.isolation.endings import finish
from manyhands.isolation.limits import MB
from manyhands.ports import SandboxLimits

from . import docker_scripts as scripts
from .docker_daemon import Daemon, Hijacked
from .docker_exchange import Exchange
from .inside import missing_tools
from .tree import HOME

#: Where a container keeps states of its workspace, and files on their way.
STATES = "/manyhands"
BASE = f"{STATES}/base.tar"
ROOT = "0:0"
OWNER, HOST = "manyhands.owner", "manyhands.host"
#: Processes of ours in each container, beside those of commands.
OURS = 24
#: Up to this size an archive is kept in memory.
IN_MEMORY = 8 * MB
ENVIRONMENT = {
    "HOME": HOME,
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "USER": "sandbox",
    "PYTHONUNBUFFERED": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "PAGER": "cat",
}


@dataclass(frozen=True, slots=True)
class Form:
    """What a container is made as. ``place``: of the workspace; ``scratch``: folders beside it."""

    image: str
    place: str
    limits: SandboxLimits
    env: Mapping[str, str]
    scratch: tuple[str, ...] = ()


def user() -> tuple[int, int]:
    return os.getuid(), os.getgid()


def owner() -> str:
    """Who commands are, and whose all files are that they may change."""
    return ":".join(map(str, user()))


def configuration(api: Any, form: Form) -> dict[str, Any]:
    """For ``create_container``."""
    limits = form.limits
    uid, gid = user()
    own = f"rw,exec,nosuid,nodev,size={limits.disk_mb}m,uid={uid},gid={gid}"
    ulimits = [{"Name": "core", "Soft": 0, "Hard": 0}]
    asked = {"nofile": limits.open_files, "cpu": limits.cpu_seconds}
    if limits.address_space_mb is not None:
        asked["as"] = limits.address_space_mb * MB
    ulimits += [{"Name": n, "Soft": v, "Hard": v} for n, v in asked.items() if v is not None]
    options = {"NoCopy": True}
    host = api.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        # A volume is root's at first. Commands are another user, who can use none of it.
        cap_add=["CHOWN"] if uid else [],
        security_opt=["no-new-privileges"],
        mem_limit=limits.memory_mb * MB,
        memswap_limit=limits.memory_mb * MB,
        pids_limit=limits.processes + OURS,
        read_only=True,
        init=True,
        auto_remove=True,
        ulimits=ulimits,
        log_config={"Type": "none"},
        tmpfs={
            "/tmp": f"rw,exec,nosuid,nodev,size={limits.disk_mb}m,mode=1777",
            **{path: f"{own},mode=755" for path in (HOME, *form.scratch)},
        },
        mounts=[
            {"Type": "volume", "Target": path, "VolumeOptions": options}
            for path in (form.place, STATES)
        ],
    )
    return {
        "image": form.image,
        "entrypoint": ["cat"],
        "command": None,
        "stdin_open": True,
        "user": ROOT,
        "working_dir": "/",
        "environment": {**ENVIRONMENT, **form.env},
        "labels": {OWNER: processes.owner(), HOST: socket.gethostname()},
        "healthcheck": {"test": ["NONE"]},
        "host_config": host,
    }


class Container:
    """Implements `inside.Environment`."""

    def __init__(self, daemon: Daemon, id: str, life: Hijacked) -> None:
        self.daemon = daemon
        self.id = id
        self._life = life
        self._removed = False

    @classmethod
    async def make(cls, daemon: Daemon, form: Form, fill: Callable[[], IO[bytes]]) -> Container:
        """Started, with the workspace as the archive that ``fill`` makes has it, which is closed
        then, and a copy of that. Nothing is left where this fails or is cancelled."""
        task = asyncio.create_task(daemon.call(lambda: _start(daemon, form)))
        try:
            made = cls(daemon, *await asyncio.shield(task))
        except asyncio.CancelledError:
            await finish(task)
            if task.exception() is None:
                await cls(daemon, *task.result()).remove()
            raise
        try:
            await made._set_up(form, fill)
        except BaseException:
            await finish(asyncio.create_task(made.remove()))
            raise
        return made

    async def _set_up(self, form: Form, fill: Callable[[], IO[bytes]]) -> None:
        if missing := await missing_tools(self, "grep", "sleep", "tar"):
            raise SandboxError(
                f"the image {form.image} has no {missing}",
                next="install util-linux, findutils, grep, tar and coreutils in it",
            )
        if user()[0]:
            await self.run(scripts.OWN, owner(), form.place, STATES, user=ROOT)

        def put() -> None:
            with fill() as archive:
                pieces = _as_entry(archive, os.path.basename(BASE))
                self.daemon.api.put_archive(self.id, STATES, pieces)

        await self.daemon.call(put)
        await self.run(scripts.UNPACK, form.place, BASE)

    # ------------------------------------------------------------ asked

    async def run(self, script: str, *arguments: str, seconds: float = 600, user: str = "") -> str:
        """See `inside.Environment`."""
        printed = bytearray()
        argv = ["sh", "-c", scripts.ASKED % script, "sh", *arguments]
        exchange = Exchange(self.daemon, self.id, argv, printed.extend, user or owner())
        try:
            said = await asyncio.wait_for(exchange.run(), seconds)
        except TimeoutError:
            raise SandboxError(
                f"a container's shell did not answer in {seconds:g} s",
                next="is the machine overloaded? open another sandbox",
            ) from None
        if said is None or said[1] != "0":
            told = (exchange.complaints or bytes(printed)).decode(errors="replace").strip()[-300:]
            raise SandboxError(
                f"a container's shell failed{f' with {said[1]}' if said else ''}: {told}",
                next="is the container still running? open another sandbox",
            )
        return printed.decode(errors="surrogateescape")

    async def upload(self, data: bytes, target: str) -> None:
        """See `inside.Environment`; ``target`` lies below `STATES`."""
        packed = b"".join(_as_entry(io.BytesIO(data), os.path.relpath(target, STATES)))
        await self.daemon.call(lambda: self.daemon.api.put_archive(self.id, STATES, packed))

    async def pack(self, folder: str) -> IO[bytes]:
        """An archive of all in a folder."""
        name = f"{STATES}/packed-{uuid.uuid4().hex[:12]}"
        await self.run(scripts.PACK, folder, name)
        try:
            return await self.daemon.call(lambda: self._fetch(name))
        finally:
            await self.run('rm -f -- "$1"', name)

    def _fetch(self, path: str) -> IO[bytes]:
        """A file's content, which Docker hands out in an archive. Blocks."""
        pieces, _ = self.daemon.api.get_archive(self.id, path)
        file = _spool()
        try:
            with tarfile.open(fileobj=io.BufferedReader(_Pieces(pieces)), mode="r|") as tar:
                entry = tar.next()
                found = tar.extractfile(entry) if entry else None
                if found is None:
                    raise SandboxError(f"{path} is gone", next="open another sandbox")
                shutil.copyfileobj(found, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def runs(self) -> bool:
        """False also where the daemon does not say so."""
        try:
            found = await self.daemon.call(lambda: self.daemon.api.inspect_container(self.id))
        except SandboxError:
            return False
        return bool(found["State"]["Running"])

    # ------------------------------------------------------------ ended

    async def remove(self) -> None:
        """With all that runs in it and all that was written. Where the daemon does not answer, the
        container ends by itself, for nobody holds its connection any more."""
        if self._removed:
            return
        self._removed = True
        try:
            with contextlib.suppress(SandboxError):
                await self.daemon.call(lambda: _remove(self.daemon, self.id))
        finally:
            self._life.close()


def _start(daemon: Daemon, form: Form) -> tuple[str, Hijacked]:
    api = daemon.api
    remove_old(daemon)
    id = str(api.create_container(**configuration(api, form))["Id"])
    try:
        life = Hijacked(api.attach_socket(id, {"stdin": 1, "stream": 1}))
        api.start(id)
    except BaseException:
        _remove(daemon, id)
        raise
    return id, life


def _remove(daemon: Daemon, id: str) -> None:
    """Another who does the same is none of our business (404, 409)."""
    import docker.errors  # noqa: PLC0415

    try:
        daemon.api.remove_container(id, v=True, force=True)
    except docker.errors.APIError as error:
        if error.response is None or error.response.status_code not in (404, 409):
            raise


def remove_old(daemon: Daemon) -> int:
    """Containers of processes of this machine that are gone; how many."""
    mine = {"label": f"{HOST}={socket.gethostname()}"}
    found = daemon.api.containers(all=True, filters=mine)
    old = [each for each in found if not processes.owner_lives(each["Labels"].get(OWNER, ""))]
    for each in old:
        _remove(daemon, each["Id"])
    return len(old)


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(IN_MEMORY)


class _Pieces(io.RawIOBase):
    """Pieces as a file that is read in order."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = piece
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


def _as_entry(file: IO[bytes], name: str) -> Generator[bytes]:
    """An archive with one file. (Docker refuses archives with links that lead out of where they are
    unpacked, so the workspace's own archive is put in packed, and unpacked by its user.)"""
    entry = _owned(tarfile.TarInfo(name))
    entry.size, entry.mode = file.seek(0, 2), 0o600
    file.seek(0)
    yield entry.tobuf()
    while piece := file.read(MB):
        yield piece
    yield bytes(-entry.size % 512 + 1024)


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid, entry.gid = user()
    entry.uname = entry.gname = ""
    return entry


def pack(base: Path) -> IO[bytes]:
    """An archive of all in a folder of this machine: files, folders, links. Blocks."""

    def taken(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        wanted = entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()
        return _owned(entry) if wanted else None

    file = _spool()
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(base, ".", filter=taken)
    except OSError as error:
        file.close()
        raise SandboxError(
            f"{base} cannot be read: {error.strerror} ({error.filename})",
            next="leave the file out, or make it readable",
        ) from error
    file.seek(0)
    return file
