"""Sandboxes within Harbor's environments, held to the suite for all sandboxes as far as they go."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from manyhands.errors import SandboxBusy, SandboxError
from manyhands.evals.harbor_sandbox import HarborSandbox, HarborSandboxes
from manyhands.evals.landing import land
from manyhands.ports import Killed, Sandboxes, SandboxLimits
from manyhands.testing import SANDBOX_CHECKS
from manyhands.testing.check_sandboxes import fill, state
from tests.local_environment import CONTAINER, LocalEnvironment, LocalHarbor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tools of GNU are asked for")
#: Memory and output are not limited, and output comes at the end of a command.
NOT_HELD = {"check_limits", "check_output"}
#: Where copies are moved: it takes two harnesses over one folder (Harbor runs one agent in each),
#: or looks at files while a command runs (they are looked at when that has given the place back).
NOT_MOVED = {"check_apart", "check_cancelled"}
CHECKS = [check for check in SANDBOX_CHECKS if check.__name__ not in NOT_HELD]


@pytest.mark.parametrize(
    ("how", "check"),
    [
        *(pytest.param("plain", check, id=f"plain-{check.__name__}") for check in CHECKS),
        *(
            pytest.param("renames", check, id=f"renames-{check.__name__}", marks=pytest.mark.slow)
            for check in CHECKS
            if check.__name__ not in NOT_MOVED
        ),
    ],
)
async def test_copies_in_an_environment(
    how: Literal["renames", "plain"],
    check: Callable[[Sandboxes, Path], Awaitable[None]],
    tmp_path: Path,
) -> None:
    await check(LocalHarbor(how), tmp_path)


async def test_without_mounts_a_copy_takes_the_place_for_the_time_of_a_command(
    tmp_path: Path,
) -> None:
    base = fill(tmp_path)
    before = state(tmp_path)
    async with HarborSandboxes.over(LocalEnvironment(base)) as made:
        made.mounts, made.renames = (), True
        async with made.open(base) as one, one.fork() as two:
            assert one.workspace == two.workspace == str(base)
            both = [
                box.exec(f"echo {name} > {base}/a.txt; sleep 0.2; cat {base}/a.txt")
                for box, name in ((one, "one"), (two, "two"))
            ]
            reads = [made.itself.read("a.txt") for _ in range(5)]
            first, second, *seen = await asyncio.gather(*both, *reads)
            assert (first.output, second.output) == (b"one\n", b"two\n")
            original = (tmp_path / "base/a.txt").read_bytes()
            assert {each.data for each in seen} == {original}
            late = await one.exec("sleep 60 & sleep 60", timeout=0.3)
            assert late.timed_out
            for moment in (0.0, 0.05, 0.2):
                given_up = asyncio.create_task(two.exec("sleep 60"))
                await asyncio.sleep(moment)
                given_up.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await given_up
            assert (await two.read("a.txt")).data == b"two\n"
    assert state(tmp_path) == before


async def test_commands_see_their_copy_where_mounts_are_allowed(tmp_path: Path) -> None:
    base = fill(tmp_path)
    before = state(tmp_path)
    async with HarborSandboxes.over(LocalEnvironment(base)) as made:
        if not made.mounts:
            pytest.skip("this machine does not allow mounts")
        async with made.open(base) as one, one.fork() as two:
            assert one.workspace == two.workspace == str(base)
            await one.exec(f"echo one > {base}/a.txt; pwd > where", cwd="deep")
            await two.exec(f"echo two > {base}/a.txt")
            assert (await one.read("a.txt")).data == b"one\n"
            assert (await one.read("deep/where")).data == f"{base}/deep\n".encode()
            assert (await two.exec("cat a.txt")).output == b"two\n"
            late = await one.exec("sleep 60 & sleep 60", timeout=0.3)
            assert late.timed_out
    assert state(tmp_path) == before
    assert not list(Path("/tmp").glob(f"{made.folder.removeprefix('/tmp/')}*"))


async def test_time_and_long_output(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    limits = SandboxLimits(shown_kb=2)
    async with LocalHarbor("plain").open(fill(tmp_path), limits=limits) as box:
        late = await box.exec("trap '' TERM; while :; do sleep 0.1; done", timeout=0.3)
        assert (late.killed, late.code) == (Killed.TIME, -9)
        assert late.seconds < 10
        long = await box.exec("seq 1 20000", on_output=pieces.append)
        whole = b"".join(b"%d\n" % n for n in range(1, 20001))
        assert (long.output[:1024], long.output[-1024:]) == (whole[:1024], whole[-1024:])
        assert long.omitted == len(whole) - 2048
        assert pieces == [long.output]
        data = bytes(range(256)) * 2000
        await box.write("large.bin", data, mode=0o600)
        read = await box.read("large.bin")
        assert (read.data, read.mode) == (data, 0o600)


async def test_a_result_lands_in_the_environment_itself(tmp_path: Path) -> None:
    base = fill(tmp_path)
    async with HarborSandboxes.over(LocalEnvironment(base)) as made, made.open(base) as sandbox:
        await sandbox.exec(
            "echo new > a.txt; rm -r deep; mkdir empty; ln -sf a.txt inner; chmod 700 run.sh;"
            "rm outer; mkdir outer; echo in > outer/-file; echo n > -n; rm .hidden; mkdir .hidden;"
            "echo x > .hidden/x"
        )
        expected = state(Path(sandbox.folder))
        assert await land(sandbox, made.itself) == len(await sandbox.diff())
        assert state(base) == expected
        with pytest.raises(SandboxError):
            await made.itself.diff()
    assert state(base) == expected


async def test_an_environment_without_a_tool_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "rm", "mkdir"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setitem(CONTAINER, "PATH", str(tools))
    with pytest.raises(SandboxError, match="has no setsid"):
        async with HarborSandboxes.over(LocalEnvironment(tmp_path)):
            raise AssertionError("opened")


@pytest.mark.parametrize("how", ["plain", "renames"])
async def test_one_that_is_closed_ends_what_runs_in_it(
    how: Literal["renames", "plain"], tmp_path: Path
) -> None:
    async with LocalHarbor(how).open(fill(tmp_path)) as box:
        running = asyncio.create_task(box.exec("echo begun; sleep 60"))
        await asyncio.sleep(0.5)
        await asyncio.wait_for(box.close(), 20)
        assert (await running).code == -9
        with pytest.raises(SandboxError, match="closed"):
            await box.exec("true")


async def test_what_goes_on_is_known_even_where_its_output_cannot_be_passed_on(
    tmp_path: Path,
) -> None:
    def refuse(data: bytes) -> None:
        raise LookupError

    async with LocalHarbor("plain").open(fill(tmp_path)) as box:
        with pytest.raises(LookupError):
            await box.exec("echo x; sleep 60 &", on_output=refuse, background=True)
        with pytest.raises(SandboxBusy):
            await box.snapshot()
        assert await box.end_background() == 1
        await box.snapshot()


async def test_no_command_begins_while_a_state_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(self: HarborSandbox, source: str, target: str) -> None:
        await asyncio.sleep(0.5)
        await copy(self, source, target)

    async with LocalHarbor("plain").open(fill(tmp_path)) as box:
        copy = HarborSandbox.copy
        monkeypatch.setattr(HarborSandbox, "copy", slow)
        kept = asyncio.create_task(box.snapshot())
        await asyncio.sleep(0)
        await box.exec("echo later > later.txt")
        assert [change.path for change in await box.diff(await kept)] == ["later.txt"]
