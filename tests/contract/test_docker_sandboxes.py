"""Sandboxes in Docker, through its SDK: the suite for all sandboxes, and what can go wrong.

Everywhere against `tests.docker_engine`; where a daemon answers, the suite and the endings against
that, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest

from manyhands.adapters.sandboxes import docker_container, docker_daemon
from manyhands.adapters.sandboxes.docker import DockerSandbox, DockerSandboxes
from manyhands.adapters.sandboxes.docker_container import HOST, OWNER
from manyhands.adapters.sandboxes.docker_exchange import Said
from manyhands.errors import SandboxError, SandboxRefused
from manyhands.isolation import processes
from manyhands.ports import ExecResult, Killed, Sandboxes, SandboxLimits
from manyhands.testing import SANDBOX_CHECKS
from manyhands.testing.check_sandboxes import fill
from manyhands.wiring.sandboxes import docker_state, make_sandboxes
from tests.conftest import DOCKER_IMAGE
from tests.docker_engine import IMAGE, Engine

needs_bubblewrap = pytest.mark.needs("bubblewrap")
needs_docker = pytest.mark.needs("docker")
EXAMPLE = Path(__file__).parents[2] / "examples/code"


@pytest.fixture
def engine() -> Generator[Engine]:
    made = Engine()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(
    params=[
        pytest.param("engine", marks=needs_bubblewrap),
        pytest.param("docker", marks=needs_docker),
    ]
)
def sandboxes(request: pytest.FixtureRequest) -> DockerSandboxes:
    """Over the stand-in, and over Docker itself where it answers."""
    if request.param == "docker":
        return DockerSandboxes(DOCKER_IMAGE)
    return DockerSandboxes(IMAGE, request.getfixturevalue("engine").url)


def left_in(sandboxes: DockerSandboxes) -> list[object]:
    """Containers of this process."""
    mine = {"label": f"{OWNER}={processes.owner()}"}
    return sandboxes._daemon.api.containers(all=True, filters=mine)


@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda f: f.__name__)
async def test_sandboxes_in_docker(
    check: Callable[[Sandboxes, Path], Awaitable[None]], sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    await check(sandboxes, tmp_path)
    assert left_in(sandboxes) == []


async def test_one_that_is_killed_from_outside_is_lost(
    sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    async with sandboxes.open(fill(tmp_path)) as box:
        running = await printing(box)
        sandboxes._daemon.api.remove_container(box.environment.id, force=True, v=True)
        result = await asyncio.wait_for(running, 20)
        assert (result.killed, result.code, result.output) == (Killed.LOST, None, b"begun\n")
        with pytest.raises(SandboxError, match=r"Docker answered 40[49]"):
            await box.exec("true")
        with pytest.raises(SandboxError):
            await box.read("a.txt")
    assert left_in(sandboxes) == []


async def test_a_command_that_ends_what_watches_it_is_lost_with_its_sandbox(
    sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    async with sandboxes.open(fill(tmp_path)) as box:
        result = await box.exec("(sleep 5; echo late > late) & kill -9 $PPID; sleep 5")
        assert result.killed is Killed.LOST
        with pytest.raises(SandboxError):
            await box.exec("true")
    assert left_in(sandboxes) == []


async def test_what_leaves_its_group_ends_with_its_command(
    sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    beat = "while :; do date +%N > beat; sleep 0.02; done"
    async with sandboxes.open(fill(tmp_path)) as box:
        left = await box.exec(f"setsid sh -c '{beat}' & sleep 0.3")
        assert left.survivors >= 1
        last = await box.read("beat")
        await asyncio.sleep(0.3)
        assert (await box.read("beat")).data == last.data
        kept = await box.exec(f"setsid sh -c '{beat}' & sleep 0.3", background=True)
        assert kept.survivors >= 1
        assert await box.end_background() >= 1


async def test_what_goes_on_may_print_more_than_anybody_reads(
    sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    loud = "while :; do seq 100000; echo x >> rounds; done"
    async with sandboxes.open(fill(tmp_path)) as box:
        assert (await box.exec(f"({loud}) & sleep 0.2", background=True)).survivors >= 1
        first = (await box.read("rounds")).size
        for _ in range(100):
            await asyncio.sleep(0.1)
            if (await box.read("rounds")).size > first + 10:
                break
        assert (await box.read("rounds")).size > first + 10
        assert await box.end_background() >= 1


@needs_docker
async def test_commands_are_the_calling_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_container, "user", lambda: (1234, 1235))
    async with DockerSandboxes(DOCKER_IMAGE).open(fill(tmp_path), place="/box") as box:
        assert (await box.exec("id -u; id -g")).output == b"1234\n1235\n"
        assert (await box.exec("touch ~/own /tmp/own a.txt /box/new; stat -c %u *.txt")).code == 0
        denied = await box.exec("touch /etc/own /usr/own; chown 0 a.txt; mount -t tmpfs t /box")
        assert denied.code != 0
        assert (await box.exec("ls /etc/own /usr/own")).code != 0
        await box.write("new", b"written")
        async with box.fork() as child:
            assert (await child.exec("cat new; echo more >> new; rm a.txt")).output == b"written"
            assert [c.path for c in await child.diff()] == ["a.txt", "new"]
        status = await box.exec("grep -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs' /proc/self/status")
        assert {line.split()[1] for line in status.output.decode().splitlines()} == {
            "0000000000000000",
            "1",
        }


PROGRAM = """
import asyncio, sys
from pathlib import Path
from manyhands.adapters.sandboxes.docker import DockerSandboxes

async def main(image, url, base):
    async with DockerSandboxes(image, url).open(Path(base)) as box, box.fork() as child:
        running = asyncio.create_task(child.exec("trap '' TERM HUP; sleep 600 & sleep 600"))
        await asyncio.sleep(0.5)
        print("ready", flush=True)
        await running

asyncio.run(main(*sys.argv[1:]))
"""


def test_containers_end_with_the_process_that_holds_them(
    sandboxes: DockerSandboxes, tmp_path: Path
) -> None:
    api = sandboxes._daemon.api
    url = api.base_url.replace("http+docker://localhost", "") or ""
    socket_path = getattr(api._custom_adapter, "socket_path", "")
    url = f"unix://{socket_path}" if socket_path else url
    program = [sys.executable, "-c", PROGRAM, sandboxes.image, url, str(fill(tmp_path))]
    holder = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    mine = {"label": [f"{HOST}={socket.gethostname()}"]}

    def of_holder() -> list[object]:
        found = api.containers(all=True, filters=mine)
        return [c for c in found if c["Labels"][OWNER].startswith(f"{holder.pid}.")]

    assert len(of_holder()) == 2
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 15
    while of_holder() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_holder() == []


# -------------------------------------------------------------------- what can go wrong


async def printing(box: DockerSandbox) -> asyncio.Task[ExecResult]:
    """A command that goes on, once what it printed first has come here."""
    printed = asyncio.Event()
    running = asyncio.create_task(
        box.exec("echo begun; sleep 60", on_output=lambda _: printed.set())
    )
    await asyncio.wait_for(printed.wait(), 20)
    return running


@needs_bubblewrap
async def test_a_daemon_that_is_gone_in_the_middle(engine: Engine, tmp_path: Path) -> None:
    sandboxes = DockerSandboxes(IMAGE, engine.url, seconds=5)
    async with sandboxes.open(fill(tmp_path)) as box:
        running = await printing(box)
        engine.vanish()
        result = await asyncio.wait_for(running, 20)
        assert (result.killed, result.code, result.output) == (Killed.LOST, None, b"begun\n")
        for call in (box.exec("true"), box.read("a.txt"), box.snapshot()):
            with pytest.raises(SandboxError, match="does not answer"):
                await call
    with pytest.raises(SandboxError, match="does not answer"):
        async with sandboxes.open(tmp_path / "base"):
            raise AssertionError("opened")


def test_no_daemon_no_image_no_sdk(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SandboxError, match="does not answer"):
        DockerSandboxes(IMAGE, f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxError, match="no such image: No such image: other") as raised:
        DockerSandboxes("other", engine.url)
    assert "docker pull" in raised.value.next
    with pytest.raises(SandboxError, match="need the name of an image"):
        make_sandboxes("docker")
    with pytest.raises(SandboxError, match="is for sandboxes in Docker, not for auto"):
        make_sandboxes("auto", image=IMAGE)
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    assert make_sandboxes("docker", image=IMAGE).capabilities.backend == "docker"
    assert docker_state() == (True, "version test, cgroup 2")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    answers, why = docker_state()
    assert not answers
    assert "does not answer" in why
    monkeypatch.setattr(docker_daemon, "installed", lambda: False)
    assert docker_state()[1].endswith("pip install 'manyhands[docker]'")


@needs_bubblewrap
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (("POST", "/containers/create", 500), "Docker answered 500: made to fail"),
        (("POST", "/start$", 500), "Docker answered 500"),
        (("POST", "/attach$", 500), "Docker answered 500"),
        (("PUT", "/archive$", 500), "Docker answered 500"),
        (("POST", "/exec$", 409), "Docker answered 409"),
        (("GET", "/containers/json", 2.0), "did not answer in time"),
        (("PUT", "/archive$", 2.0), "did not answer in time"),
    ],
    ids=str,
)
async def test_an_opening_that_fails_leaves_nothing(
    fault: tuple[str, str, int | float], told: str, engine: Engine, tmp_path: Path
) -> None:
    sandboxes = DockerSandboxes(IMAGE, engine.url, seconds=1.0)
    base = fill(tmp_path)
    engine.faults.append(fault)
    with pytest.raises(SandboxError, match=told):
        async with sandboxes.open(base):
            raise AssertionError("opened")
    assert engine.faults == []
    assert engine.containers == {}
    async with sandboxes.open(base) as box:
        assert (await box.exec("cat a.txt")).output == b"alpha\n"


@needs_bubblewrap
async def test_a_call_that_is_refused_is_told_and_the_sandbox_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    async with DockerSandboxes(IMAGE, engine.url).open(fill(tmp_path)) as box:
        for method, path in (("POST", "/exec$"), ("POST", "^/exec/.*/start$")):
            engine.faults.append((method, path, 500))
            with pytest.raises(SandboxError, match="Docker answered 500"):
                await box.exec("true")
        engine.faults.append(("PUT", "/archive$", 500))
        with pytest.raises(SandboxError, match="Docker answered 500"):
            await box.write("a.txt", b"new")
        assert (await box.exec("cat a.txt")).output == b"alpha\n"
        engine.faults.append(("DELETE", "/containers/", 409))
    assert engine.faults == []


@needs_bubblewrap
async def test_a_slow_daemon_is_waited_for(engine: Engine, tmp_path: Path) -> None:
    slow = [("POST", "/create$", 0.3), ("POST", "/exec$", 0.3), ("POST", "/start$", 0.3)]
    engine.faults += slow
    async with DockerSandboxes(IMAGE, engine.url, seconds=10).open(fill(tmp_path)) as box:
        engine.faults += slow[1:]
        assert (await box.exec("cat a.txt")).output == b"alpha\n"
    assert engine.faults == []


@needs_bubblewrap
@pytest.mark.parametrize("at", ["/create$", "/start$", "/exec$", "/archive$"])
async def test_a_cancelled_opening_leaves_nothing(at: str, engine: Engine, tmp_path: Path) -> None:
    sandboxes = DockerSandboxes(IMAGE, engine.url)
    base = fill(tmp_path)
    engine.faults.append(("PUT" if "archive" in at else "POST", at, 0.5))

    async def open_one() -> None:
        async with sandboxes.open(base):
            await asyncio.sleep(60)

    task = asyncio.create_task(open_one())
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if not engine.faults:
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(engine.made) == 1
    assert engine.containers == {}


@needs_bubblewrap
async def test_what_a_dead_process_left_is_removed_by_the_next_who_opens_one(
    engine: Engine, tmp_path: Path
) -> None:
    def leave(owner: str, host: str) -> str:
        labels = {OWNER: owner, HOST: host}
        left = {"Image": IMAGE, "Labels": labels, "HostConfig": {"Mounts": []}}
        return engine.create(left).id

    here = socket.gethostname()
    dead, living = leave("1.1", here), leave(processes.owner(), here)
    elsewhere = leave("1.1", "another-machine")
    async with DockerSandboxes(IMAGE, engine.url).open(fill(tmp_path)):
        assert dead not in engine.containers
        assert {living, elsewhere} < set(engine.containers)


@needs_bubblewrap
async def test_what_a_container_is_made_as(engine: Engine, tmp_path: Path) -> None:
    limits = SandboxLimits(memory_mb=300, processes=20, disk_mb=40, open_files=99, cpu_seconds=7)
    sandboxes = DockerSandboxes(IMAGE, engine.url)
    options = {"limits": limits, "place": "/work", "scratch": ["/logs"]}
    async with sandboxes.open(fill(tmp_path), **options) as box:
        await box.exec("true")
        asked = engine.made[0]
        last = list(engine.execs.values())[-1].config
    assert last["User"] == f"{os.getuid()}:{os.getgid()}"
    host = asked["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"]) == ("none", ["ALL"])
    assert (host["SecurityOpt"], host["ReadonlyRootfs"]) == (["no-new-privileges"], True)
    assert (host["Memory"], host["MemorySwap"]) == (300 << 20, 300 << 20)
    assert 20 < host["PidsLimit"] < 60
    assert (host["Init"], host["AutoRemove"]) == (True, True)
    assert (asked["OpenStdin"], asked["StdinOnce"]) == (True, True)
    assert {"/tmp", "/home/sandbox", "/logs"} == set(host["Tmpfs"])
    assert all("size=40m" in each for each in host["Tmpfs"].values())
    assert [(m["Type"], m["Target"]) for m in host["Mounts"]] == [
        ("volume", "/work"),
        ("volume", "/manyhands"),
    ]
    ulimits = {each["Name"]: each["Hard"] for each in host["Ulimits"]}
    assert ulimits == {"core": 0, "nofile": 99, "cpu": 7}
    assert "Binds" not in host
    assert not host.get("Privileged")


async def test_places_and_folders_that_are_not_offered(engine: Engine, tmp_path: Path) -> None:
    sandboxes, base = DockerSandboxes(IMAGE, engine.url), fill(tmp_path)
    for options in (
        {"readable": [Path("/opt")]},
        {"place": "/manyhands/x"},
        {"place": "work"},
        {"place": "/a/../b"},
        {"scratch": ["/manyhands/x"]},
    ):
        with pytest.raises((SandboxError, SandboxRefused)):
            async with sandboxes.open(base, **options):
                raise AssertionError("opened")
    assert engine.made == []


def test_what_a_command_prints_is_told_from_what_is_said_of_it() -> None:
    whole = b"a\0b\0wor\0word done 1 2\nlater output\0word done 9 9\n"
    for size in range(1, len(whole) + 1):
        said, printed = Said("word"), b""
        for at in range(0, len(whole), size):
            printed += said.printed(whole[at : at + size])
        assert (printed, said.words) == (b"a\0b\0wor", ["done", "1", "2"])
    unended = Said("word")
    assert unended.printed(b"x\0wo") + unended.rest() == b"x\0wo"
    assert unended.words is None


@pytest.mark.slow
@needs_bubblewrap
def test_the_code_team_works_in_docker(engine: Engine, tmp_path: Path) -> None:
    env = {**os.environ, "DOCKER_HOST": engine.url, "MANYHANDS_HOME": str(tmp_path / "home")}
    order = ("--repo", str(EXAMPLE / "shop"), "--check", "python3 -m unittest -q", "--json")
    model = ("--model", f"script:{EXAMPLE / 'script.json'}", "--protect", "test_*.py")
    words = ["code", "Make the tests pass", *order, *model, "--docker"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "manyhands.cli", *words, *more]
        return subprocess.run(
            argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run(IMAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["complete"]
    assert {each["Image"] for each in engine.made} == {IMAGE}
    assert engine.containers == {}
    both = run(IMAGE, "--unsafe-local")
    assert both.returncode != 0
    assert "do not go together" in both.stderr
    missing = run("another")
    assert missing.returncode != 0
    assert "no such image" in missing.stderr
