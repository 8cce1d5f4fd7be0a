"""The part of Docker's Engine API that sandboxes use, over real processes in bubblewrap.

A container is a folder, and namespaces of its own: its first process is bubblewrap's, commands join
through ``nsenter``. Memory is limited by process, and nothing else: this shows that requests,
streams, archives and endings are right, not that Docker isolates.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

IMAGE = "test-image"
API = "1.41"
PROGRAMS = ("/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc/alternatives")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class Made:
    """A container. ``volumes``: where it finds them -> folders of this machine."""

    id: str
    config: dict[str, Any]
    folder: Path
    volumes: dict[str, Path]
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    attached: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> dict[str, Any]:
        return self.config["HostConfig"]

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        reads, writes = os.pipe()
        argv = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        argv += ["--info-fd", str(writes), "--proc", "/proc", "--dev", "/dev"]
        for path in PROGRAMS:
            if os.path.islink(path):
                argv += ["--symlink", os.readlink(path), path]
            elif os.path.exists(path):
                argv += ["--ro-bind", path, path]
        mounts = [("--tmpfs", "", path) for path in self.host["Tmpfs"]]
        mounts += [("--bind", str(folder), path) for path, folder in self.volumes.items()]
        for how, source, path in sorted(mounts, key=lambda each: each[2].count("/")):
            argv += [how, *([source] if source else []), path]
        argv += ["--remount-ro", "/", "--", *self.config["Entrypoint"]]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(writes,),
            env={"PATH": PATH},
        )
        os.close(writes)
        with open(reads, "rb") as info:
            told = info.read()
        if not told:
            raise Refused(500, "bubblewrap did not start")
        self.pid = json.loads(told)["child-pid"]
        deadline = time.monotonic() + 10
        while not self._ready() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _ready(self) -> bool:
        """The mounts are there once the program is."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return bool(children) and b"bwrap" not in Path(f"/proc/{children[0]}/comm").read_bytes()

    def stop(self) -> None:
        """All that runs in it dies with its first process."""
        if self.process is None:
            return
        if self.runs:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def place(self, path: str) -> Path:
        """A path of the container on this machine. Only volumes can be reached."""
        for at, folder in self.volumes.items():
            if path == at or path.startswith(f"{at}/"):
                return folder / path[len(at) :].lstrip("/")
        raise Refused(403, "container rootfs is marked read-only")


@dataclass
class Exec:
    container: Made
    config: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None


class Engine:
    """``faults``: (method, pattern of a path, status or seconds to wait), taken as they come."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.path = self.folder / "engine.sock"
        self.containers: dict[str, Made] = {}
        self.made: list[dict[str, Any]] = []
        self.execs: dict[str, Exec] = {}
        self.faults: list[tuple[str, str, int | float]] = []
        self.connections: set[socket.socket] = set()
        self._server = _Server(str(self.path), _Request)
        self._server.engine = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def create(self, config: dict[str, Any]) -> Made:
        if config["Image"] != IMAGE:
            raise Refused(404, f"No such image: {config['Image']}")
        id = secrets.token_hex(32)
        folder = self.folder / id
        volumes = {
            mount["Target"]: folder / str(number)
            for number, mount in enumerate(config["HostConfig"]["Mounts"])
        }
        for each in volumes.values():
            each.mkdir(parents=True)
        made = Made(id, config, folder, volumes)
        self.containers[id] = made
        self.made.append(config)
        return made

    def remove(self, made: Made) -> None:
        if self.containers.pop(made.id, None) is None:
            raise Refused(404, f"No such container: {made.id}")
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)

    def get(self, id: str) -> Made:
        if id not in self.containers:
            raise Refused(404, f"No such container: {id}")
        return self.containers[id]

    def kill(self, id: str) -> None:
        """From outside, as `docker kill` of one that removes itself."""
        self.remove(self.get(id))

    def vanish(self) -> None:
        """The daemon is gone from one moment to the next; containers are not."""
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink()
        for each in list(self.connections):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        if self.path.exists():
            self.vanish()
        for each in list(self.containers.values()):
            self.remove(each)
        shutil.rmtree(self.folder, ignore_errors=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    engine: Engine

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is none of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        return

    def address_string(self) -> str:
        return "client"

    def setup(self) -> None:
        super().setup()
        self.engine = self.server.engine
        self.engine.connections.add(self.connection)

    def finish(self) -> None:
        self.engine.connections.discard(self.connection)
        super().finish()

    # ------------------------------------------------------------ routes

    def do_GET(self) -> None:
        self._route()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def _route(self) -> None:
        split = urlsplit(self.path)
        path = re.sub(r"^/v[0-9.]+", "", unquote(split.path))
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        body = self._body()
        try:
            self._fault(path)
            for (method, pattern), answer in ROUTES.items():
                if self.command == method and (match := re.fullmatch(pattern, path)):
                    answer(self, query, body, *match.groups())
                    return
            raise Refused(404, f"page not found: {self.command} {path}")
        except Refused as refused:
            self._json({"message": str(refused)}, refused.status)

    def _fault(self, path: str) -> None:
        for fault in self.engine.faults:
            method, pattern, what = fault
            if method == self.command and re.search(pattern, path):
                self.engine.faults.remove(fault)
                if isinstance(what, float):
                    time.sleep(what)
                    return
                raise Refused(what, "made to fail")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, data: Any, status: int = 200) -> None:
        self._bytes(json.dumps(data).encode(), status, "application/json")

    def _bytes(self, data: bytes, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _nothing(self, status: int = 204) -> None:
        self.send_response(status)
        if status == 200:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _hijack(self) -> None:
        self.close_connection = True
        self.send_response_only(101, "UPGRADED")
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.wfile.flush()

    # ------------------------------------------------------------ answers

    def _version(self, query: dict[str, str], body: bytes) -> None:
        self._json({"Version": "test", "ApiVersion": API, "MinAPIVersion": "1.24", "Os": "linux"})

    def _info(self, query: dict[str, str], body: bytes) -> None:
        told = {"ServerVersion": "test", "OSType": "linux", "MemoryLimit": False}
        self._json({**told, "PidsLimit": True, "CgroupVersion": "2", "SecurityOptions": None})

    def _image(self, query: dict[str, str], body: bytes, name: str) -> None:
        if name.removesuffix(":latest") != IMAGE:
            raise Refused(404, f"No such image: {name}")
        self._json({"Id": "sha256:0", "RepoTags": [IMAGE]})

    def _create(self, query: dict[str, str], body: bytes) -> None:
        self._json({"Id": self.engine.create(json.loads(body)).id, "Warnings": []}, 201)

    def _start(self, query: dict[str, str], body: bytes, id: str) -> None:
        made = self.engine.get(id)
        made.start()
        threading.Thread(target=self._until_ended, args=(made,), daemon=True).start()
        self._nothing()

    def _until_ended(self, made: Made) -> None:
        """What removes itself is gone when its first process is."""
        assert made.process is not None
        made.process.wait()
        if made.host["AutoRemove"]:
            try:
                self.engine.remove(made)
            except Refused:
                return

    def _attach(self, query: dict[str, str], body: bytes, id: str) -> None:
        made = self.engine.get(id)
        self._hijack()
        while self.connection.recv(4096):
            pass
        while made.id in self.engine.containers and made.process is None:
            time.sleep(0.01)
        if made.config["StdinOnce"] and made.process is not None and made.process.stdin:
            made.process.stdin.close()

    def _list(self, query: dict[str, str], body: bytes) -> None:
        wanted = [tuple(each.split("=", 1)) for each in json.loads(query["filters"])["label"]]
        found = [
            {"Id": made.id, "Labels": made.config["Labels"]}
            for made in list(self.engine.containers.values())
            if all(made.config["Labels"].get(name) == value for name, value in wanted)
        ]
        self._json(found)

    def _inspect(self, query: dict[str, str], body: bytes, id: str) -> None:
        made = self.engine.get(id)
        self._json({"Id": id, "State": {"Running": made.runs}, "Config": made.config})

    def _remove(self, query: dict[str, str], body: bytes, id: str) -> None:
        made = self.engine.get(id)
        if made.runs and query.get("force") not in ("1", "true", "True"):
            raise Refused(409, f"You cannot remove a running container {id}")
        self.engine.remove(made)
        self._nothing()

    def _put(self, query: dict[str, str], body: bytes, id: str) -> None:
        target = self.engine.get(id).place(query["path"])
        if not target.is_dir():
            raise Refused(404, f"Could not find the file {query['path']}")
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            for entry in tar.getmembers():
                if entry.issym() and ".." in entry.linkname.split("/"):
                    raise Refused(500, f'invalid symlink "{entry.name}" -> "{entry.linkname}"')
            tar.extractall(target, filter="fully_trusted", numeric_owner=True)
        self._nothing(200)

    def _get(self, query: dict[str, str], body: bytes, id: str) -> None:
        source = self.engine.get(id).place(query["path"])
        if not source.exists():
            raise Refused(404, f"Could not find the file {query['path']}")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source, source.name)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-tar")
        self.send_header("X-Docker-Container-Path-Stat", "e30=")
        self.send_header("Content-Length", str(len(packed.getvalue())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(packed.getvalue())

    def _exec(self, query: dict[str, str], body: bytes, id: str) -> None:
        made = self.engine.get(id)
        if not made.runs:
            raise Refused(409, f"Container {id} is not running")
        name = secrets.token_hex(32)
        self.engine.execs[name] = Exec(made, json.loads(body))
        self._json({"Id": name}, 201)

    def _begin(self, query: dict[str, str], body: bytes, name: str) -> None:
        asked = self.engine.execs[name]
        config, made = asked.config, asked.container
        given = [*(made.config["Env"] or []), *(config.get("Env") or [])]
        env = {"PATH": PATH, **dict(each.split("=", 1) for each in given)}
        inner = Path(f"/proc/{made.pid}/task/{made.pid}/children").read_text().split()[0]
        argv = ["nsenter", f"--target={inner}", "--mount", "--pid", "--net", "--ipc", "--root"]
        if os.geteuid():
            argv += ["--user", "--preserve-credentials"]
        process = subprocess.Popen(
            [
                *("prlimit", f"--data={made.host['Memory']}"),
                *(*argv, f"--wd={config['WorkingDir']}", "--", *config["Cmd"]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        asked.process = process
        self._hijack()
        _stream(self.connection, process)
        threading.Thread(target=process.wait, daemon=True).start()

    def _ended(self, query: dict[str, str], body: bytes, name: str) -> None:
        process = self.engine.execs[name].process
        code = None if process is None else process.poll()
        self._json({"Running": code is None, "ExitCode": code})


def _stream(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Both outputs in frames, until both are at their end. Who has gone away misses the rest: it is
    read all the same, so that no program blocks."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {process.stdout.fileno(): 1, process.stderr.fileno(): 2}
    heard = True
    while streams:
        ready, _, _ = select.select([*streams, *([connection] if heard else [])], [], [])
        for each in ready:
            if each is connection:
                try:
                    data = connection.recv(4096)
                except OSError:
                    data = b""
                if data:
                    os.write(process.stdin.fileno(), data)
                else:
                    heard = False
                    process.stdin.close()
                continue
            data = os.read(each, 32768)
            if not data:
                del streams[each]
                continue
            try:
                connection.sendall(struct.pack(">BxxxL", streams[each], len(data)) + data)
            except OSError:
                continue


Answer = Callable[..., None]
ROUTES: dict[tuple[str, str], Answer] = {
    ("GET", "/version"): _Request._version,
    ("GET", "/info"): _Request._info,
    ("GET", "/images/(.+)/json"): _Request._image,
    ("POST", "/containers/create"): _Request._create,
    ("GET", "/containers/json"): _Request._list,
    ("POST", "/containers/([^/]+)/start"): _Request._start,
    ("POST", "/containers/([^/]+)/attach"): _Request._attach,
    ("GET", "/containers/([^/]+)/json"): _Request._inspect,
    ("DELETE", "/containers/([^/]+)"): _Request._remove,
    ("PUT", "/containers/([^/]+)/archive"): _Request._put,
    ("GET", "/containers/([^/]+)/archive"): _Request._get,
    ("HEAD", "/containers/([^/]+)/archive"): _Request._get,
    ("POST", "/containers/([^/]+)/exec"): _Request._exec,
    ("POST", "/exec/([^/]+)/start"): _Request._begin,
    ("GET", "/exec/([^/]+)/json"): _Request._ended,
}
