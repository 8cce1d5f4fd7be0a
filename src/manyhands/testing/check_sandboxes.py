"""`check_sandboxes`: what every maker of sandboxes must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from manyhands.errors import SandboxBusy, SandboxError, SandboxMissing, SandboxRefused
from manyhands.ports import Change, Killed, Sandboxes, SandboxLimits, Snapshot

#: A check is given the maker and an empty folder.
Check = Callable[[Sandboxes, Path], Awaitable[None]]
BASE = Snapshot(0)


@contextmanager
def raises(*kinds: type[BaseException]) -> Generator[None]:
    """The block must end with one of these."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"raised nothing; expected {' or '.join(k.__name__ for k in kinds)}")


def fill(folder: Path) -> Path:
    """A small workspace: ``a.txt``, ``deep/b.txt``, a program, links in and out, a dot file."""
    base = folder / "base"
    (base / "deep" / "er").mkdir(parents=True)
    (base / "a.txt").write_text("alpha\n")
    (base / "deep" / "b.txt").write_text("beta\n")
    (base / "deep" / "er" / "c.txt").write_text("gamma\n")
    (base / ".hidden").write_text("dot\n")
    (base / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (base / "run.sh").chmod(0o755)
    (base / "inner").symlink_to("deep/b.txt")
    (base / "outer").symlink_to("../secret")
    (base / "absolute").symlink_to("/etc")
    (folder / "secret").write_text("secret\n")
    return base


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: its mode, and its content or where it leads."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


def kinds(changes: tuple[Change, ...]) -> dict[str, str]:
    return {change.path: change.kind.value for change in changes}


async def check_exec(sandboxes: Sandboxes, folder: Path) -> None:
    """Exit codes, output of both streams in order, text by a shell, a sequence as it is."""
    async with sandboxes.open(fill(folder)) as sandbox:
        result = await sandbox.exec("echo one; echo two >&2; exit 3")
        assert (result.code, result.output, result.omitted) == (3, b"one\ntwo\n", 0)
        assert (result.killed, result.timed_out, result.survivors) == (None, False, 0)
        assert result.seconds >= 0
        assert (await sandbox.exec("kill -9 $$")).code == -9
        told = await sandbox.exec(["printf", "%s|", "a b", "$HOME", "", "ü\n*"])
        assert told.output == "a b|$HOME||ü\n*|".encode()
        assert (await sandbox.exec("./run.sh")).output == b"ran\n"
        assert (await sandbox.exec("pwd")).output.decode().strip() == sandbox.workspace
        assert (await sandbox.exec("cat b.txt", cwd="deep")).output == b"beta\n"
        assert (await sandbox.exec("no-such-program")).code == 127
        for bad in (["no-such-program"], ["./a.txt"]):
            with raises(SandboxError):
                await sandbox.exec(bad)
        for bad in ([], [""], ["a\0b"]):
            with raises(SandboxRefused):
                await sandbox.exec(bad)
        with raises(SandboxError):
            await sandbox.exec("true", cwd="nowhere")
        for out in ("..", "/etc", "deep/../.."):
            with raises(SandboxRefused):
                await sandbox.exec("true", cwd=out)


async def check_input(sandboxes: Sandboxes, folder: Path) -> None:
    """What is given as input arrives to the byte, however long; without any, it is empty."""
    data = bytes(range(256)) * 4096
    async with sandboxes.open(fill(folder)) as sandbox:
        assert (await sandbox.exec("wc -c", stdin=data)).output.split() == [b"1048576"]
        assert (await sandbox.exec(["cat"], stdin=b"\x00\xffx")).output == b"\x00\xffx"
        assert (await sandbox.exec(["cat"])).output == b""


async def check_environment(sandboxes: Sandboxes, folder: Path) -> None:
    """Nothing of this process's environment is seen; what is given is, the nearest wins."""
    os.environ["MANYHANDS_CHECK_SECRET"] = "do-not-tell"
    try:
        async with sandboxes.open(fill(folder), env={"GIVEN": "1", "BOTH": "open"}) as sandbox:
            seen = (await sandbox.exec("env", env={"BOTH": "exec"})).output.decode().split("\n")
    finally:
        del os.environ["MANYHANDS_CHECK_SECRET"]
    assert "do-not-tell" not in str(seen)
    assert {"GIVEN=1", "BOTH=exec"} <= set(seen)
    names = {line.partition("=")[0] for line in seen}
    assert {"PATH", "HOME", "TMPDIR"} <= names


async def check_output(sandboxes: Sandboxes, folder: Path) -> None:
    """Of a long output the head and the tail are kept; all of it is streamed, in its order."""
    limits = SandboxLimits(shown_kb=2)
    pieces: list[bytes] = []
    async with sandboxes.open(fill(folder), limits=limits) as sandbox:
        result = await sandbox.exec("seq 1 20000", on_output=pieces.append)
        whole = b"".join(b"%d\n" % n for n in range(1, 20001))
        assert b"".join(pieces) == whole
        assert result.output.startswith(whole[:1024])
        assert result.output.endswith(whole[-1024:])
        assert result.omitted == len(whole) - 2048
        assert str(result.omitted).encode() in result.output
        exact = await sandbox.exec("head -c 2048 /dev/zero")
        assert (exact.output, exact.omitted) == (bytes(2048), 0)

        def refuse(data: bytes) -> None:
            raise ValueError("not wanted")

        with raises(ValueError):
            await sandbox.exec("echo x; sleep 60", on_output=refuse)


async def check_limits(sandboxes: Sandboxes, folder: Path) -> None:
    """Time, output and memory: each ends the command with all that it started, and says so."""
    limits = SandboxLimits(seconds=20, output_mb=1, memory_mb=200)
    async with sandboxes.open(fill(folder), limits=limits) as sandbox:
        slow = await sandbox.exec("sleep 60 & sleep 60", timeout=0.3)
        assert (slow.killed, slow.timed_out) == (Killed.TIME, True)
        assert slow.seconds < 10
        stubborn = await sandbox.exec("trap '' TERM; while :; do sleep 0.1; done", timeout=0.3)
        assert (stubborn.killed, stubborn.code) == (Killed.TIME, -9)
        loud = await sandbox.exec("yes")
        assert loud.killed is Killed.OUTPUT
        assert loud.omitted > 0
        hog = await sandbox.exec(
            ["python3", "-c", "x = []\nwhile True: x.append(bytearray(b'1') * 2**20)"]
        )
        assert hog.killed is Killed.MEMORY or hog.code != 0
        assert (await sandbox.exec("echo alive")).output == b"alive\n"


async def check_leftovers(sandboxes: Sandboxes, folder: Path) -> None:
    """What a command leaves behind ends with it, unless it is to be kept, and then on demand."""
    async with sandboxes.open(fill(folder)) as sandbox:
        left = await sandbox.exec("(sleep 1; echo late > late.txt) >/dev/null 2>&1 & echo now")
        assert (left.code, left.output, left.survivors) == (0, b"now\n", 2)
        beat = "(while :; do date +%N > beat.txt; sleep 0.02; done) & echo begun"
        begun = await sandbox.exec(beat, background=True)
        assert (begun.code, begun.output) == (0, b"begun\n")
        assert begun.survivors >= 1
        await asyncio.sleep(0.3)
        first = await sandbox.read("beat.txt")
        await asyncio.sleep(0.3)
        assert (await sandbox.read("beat.txt")).data != first.data
        with raises(SandboxBusy):
            await sandbox.snapshot()
        assert await sandbox.end_background() >= 1
        assert await sandbox.end_background() == 0
        ended = await sandbox.read("beat.txt")
        await asyncio.sleep(1.0)
        assert (await sandbox.read("beat.txt")).data == ended.data
        assert "late.txt" not in await sandbox.glob()


async def check_cancelled(sandboxes: Sandboxes, folder: Path) -> None:
    """A cancelled command leaves no process behind, and the sandbox goes on."""
    async with sandboxes.open(fill(folder)) as sandbox:
        beat = "while :; do date +%N > beat.txt; sleep 0.02; done"
        task = asyncio.create_task(sandbox.exec(f"({beat}) & {beat}"))
        for _ in range(500):
            await asyncio.sleep(0.02)
            if "beat.txt" in await sandbox.glob():
                break
        task.cancel()
        with raises(asyncio.CancelledError):
            await task
        last = await sandbox.read("beat.txt")
        await asyncio.sleep(0.3)
        assert (await sandbox.read("beat.txt")).data == last.data
        await sandbox.snapshot()


async def check_at_once(sandboxes: Sandboxes, folder: Path) -> None:
    """Commands of one sandbox run at once over the same files."""
    async with sandboxes.open(fill(folder)) as sandbox:
        results = await asyncio.gather(*(sandbox.exec(f"echo {n} > f{n}") for n in range(8)))
        assert {result.code for result in results} == {0}
        assert await sandbox.glob("f*") == [f"f{n}" for n in range(8)]


async def check_files(sandboxes: Sandboxes, folder: Path) -> None:
    """Files are read by ranges, written as a whole with their mode kept, deleted, listed."""
    async with sandboxes.open(fill(folder)) as sandbox:
        whole = await sandbox.read("a.txt")
        assert (whole.data, whole.offset, whole.size) == (b"alpha\n", 0, 6)
        assert (await sandbox.read("a.txt", 2, 3)).data == b"pha"
        assert (await sandbox.read("a.txt", 99)).data == b""
        assert (await sandbox.read("./deep//../a.txt")).data == b"alpha\n"
        data = bytes(range(256)) * 1000
        await sandbox.write("new/deep/file.bin", data)
        assert (await sandbox.read("new/deep/file.bin")).data == data
        assert (await sandbox.exec("wc -c < new/deep/file.bin")).output.split() == [b"256000"]
        await sandbox.write("run.sh", b"#!/bin/sh\necho changed\n")
        assert (await sandbox.exec("./run.sh")).output == b"changed\n"
        await sandbox.write("own.sh", b"#!/bin/sh\necho own\n", mode=0o755)
        assert (await sandbox.exec("./own.sh")).output == b"own\n"
        await sandbox.write("inner", b"through the link\n")
        assert (await sandbox.read("deep/b.txt")).data == b"through the link\n"
        await sandbox.delete("inner")
        await sandbox.delete("a.txt")
        assert await sandbox.glob("*") == ["absolute", "outer", "own.sh", "run.sh"]
        assert await sandbox.glob("**/*.txt") == ["deep/b.txt", "deep/er/c.txt"]
        assert await sandbox.glob(".*") == [".hidden"]
        assert await sandbox.glob("**/*", limit=1) != []
        for none in ("a.txt", "no/such", "deep", "", ".", "deep/b.txt/x"):
            with raises(SandboxMissing):
                await sandbox.read(none)
        for folder_name in ("deep", "", "."):
            with raises(SandboxError):
                await sandbox.write(folder_name, b"")
            with raises(SandboxError):
                await sandbox.delete(folder_name)


async def check_confined_paths(sandboxes: Sandboxes, folder: Path) -> None:
    """No path leads out: not by ``..``, not from the root, not through a link, old or new."""
    base = fill(folder)
    before = state(folder)
    async with sandboxes.open(base) as sandbox:
        await sandbox.exec("ln -s /etc made; ln -s .. up; ln -s loop loop; ln -s up/secret far")
        await sandbox.exec("ln -s deep/../../secret by; mkfifo pipe")
        outside = ("../secret", "/etc/passwd", "outer", "absolute/passwd", "made/passwd")
        more = ("up/secret", "loop", "far", "by", "deep/../../secret", "a\0b", "x" * 5000)
        for path in (*outside, *more):
            for call in (
                sandbox.read(path),
                sandbox.write(path, b"gotcha"),
                sandbox.read(path, at=BASE),
            ):
                with raises(SandboxRefused, SandboxMissing):
                    await call
        for path in ("../secret", "up/secret", "made/passwd", "/etc/passwd"):
            with raises(SandboxError):
                await sandbox.delete(path)
        for pattern in ("../*", "/etc/*", "up/*", "made/*"):
            try:
                assert await sandbox.glob(pattern) == []
            except SandboxRefused:
                continue
        with raises(SandboxMissing):
            await asyncio.wait_for(sandbox.read("pipe"), 5)
        with raises(SandboxRefused):
            await asyncio.wait_for(sandbox.write("pipe", b""), 5)
    assert state(folder) == before


async def check_diff(sandboxes: Sandboxes, folder: Path) -> None:
    """Every kind of change, exactly; what was touched and is the same is none."""
    base = fill(folder)
    before = state(folder)
    async with sandboxes.open(base) as sandbox:
        assert await sandbox.diff() == ()
        await sandbox.exec(
            "touch a.txt; chmod 700 run.sh; echo more >> deep/b.txt; rm -r deep/er; mkdir deep/er;"
            "echo new > deep/er/d.txt; ln -sf a.txt inner; ln -s nowhere link; rm .hidden;"
            "mkdir empty; mkfifo pipe; printf 'x\\0y' > 'odd\nname'; mkdir absolute.d; rm outer;"
            "mkdir outer; echo in > outer/file"
        )
        changes = await sandbox.diff()
        assert kinds(changes) == {
            ".hidden": "deleted",
            "absolute.d": "added",
            "deep/b.txt": "modified",
            "deep/er/c.txt": "deleted",
            "deep/er/d.txt": "added",
            "empty": "added",
            "inner": "symlink",
            "link": "symlink",
            "odd\nname": "added",
            "outer": "deleted",
            "outer/file": "added",
            "run.sh": "mode",
        }
        by_path = {change.path: change for change in changes}
        assert by_path["run.sh"].mode == 0o700
        assert (by_path["link"].link, by_path["inner"].link) == ("nowhere", "a.txt")
        assert by_path["empty"].folder
        assert by_path["deep/b.txt"].size == 10
        assert (await sandbox.read("odd\nname")).data == b"x\0y"
        assert (await sandbox.read("deep/b.txt", at=BASE)).data == b"beta\n"
        assert [change.path for change in changes] == sorted(by_path)
        await sandbox.exec("git --version >/dev/null; echo alpha > a.txt; chmod 755 run.sh")
        assert not {"a.txt", "run.sh"} & kinds(await sandbox.diff()).keys()
    assert state(folder) == before


async def check_subtle_change(sandboxes: Sandboxes, folder: Path) -> None:
    """The same size and the same times do not hide a change."""
    async with sandboxes.open(fill(folder)) as sandbox:
        await sandbox.exec("cp -p a.txt /tmp/old; echo alphA > a.txt; touch -r /tmp/old a.txt")
        assert kinds(await sandbox.diff()) == {"a.txt": "modified"}


async def check_snapshots(sandboxes: Sandboxes, folder: Path) -> None:
    """A snapshot stays what it was; differences are counted from each."""
    async with sandboxes.open(fill(folder)) as sandbox:
        await sandbox.write("a.txt", b"one\n")
        first = await sandbox.snapshot()
        assert await sandbox.diff(first) == ()
        await sandbox.exec("echo two > a.txt; rm -r deep; echo n > new.txt")
        second = await sandbox.snapshot()
        await sandbox.exec("mkdir deep; echo again > deep/b.txt; rm new.txt")
        assert kinds(await sandbox.diff(second)) == {"deep/b.txt": "added", "new.txt": "deleted"}
        assert kinds(await sandbox.diff(first)) == {
            "a.txt": "modified",
            "deep/b.txt": "modified",
            "deep/er/c.txt": "deleted",
        }
        read = [(await sandbox.read("a.txt", at=at)).data for at in (BASE, first, second)]
        assert read == [b"alpha\n", b"one\n", b"two\n"]
        assert (await sandbox.read("new.txt", at=second)).data == b"n\n"
        with raises(SandboxMissing):
            await sandbox.read("deep/b.txt", at=second)
        with raises(SandboxError):
            await sandbox.read("a.txt", at=Snapshot(99))


async def check_fork(sandboxes: Sandboxes, folder: Path) -> None:
    """A fork starts from the present state; from then on neither sees the other."""
    base = fill(folder)
    async with sandboxes.open(base) as sandbox:
        await sandbox.exec("echo parent > a.txt; rm -r deep/er")
        async with sandbox.fork() as child, sandbox.fork() as other, child.fork() as grand:
            assert (await child.exec("cat a.txt; ls deep")).output == b"parent\nb.txt\n"
            assert await child.diff() == ()
            await child.exec("echo child > a.txt; mkdir deep/er; echo x > deep/er/x")
            await sandbox.exec("echo later > later.txt")
            await grand.write("grand.txt", b"g")
            assert kinds(await child.diff()) == {"a.txt": "modified", "deep/er/x": "added"}
            assert kinds(await grand.diff()) == {"grand.txt": "added"}
            assert await other.diff() == ()
            assert (await child.read("a.txt", at=BASE)).data == b"parent\n"
            assert (await sandbox.read("a.txt")).data == b"parent\n"
            assert "later.txt" not in await child.glob()
            await sandbox.close()
            assert (await child.exec("cat a.txt deep/er/x")).output == b"child\nx\n"
            assert (await grand.exec("cat a.txt")).output == b"parent\n"
            later = await child.snapshot()
            assert await child.diff(later) == ()


async def check_scratch(sandboxes: Sandboxes, folder: Path) -> None:
    """Folders beside the workspace: empty, written to, in no diff, not seen by a fork."""
    base = fill(folder)
    for bad in ("logs", "/usr", "/usr/bin/x", "/", "/tmp", "/a/../b"):
        with raises(SandboxError):
            async with sandboxes.open(base, scratch=[bad]):
                raise AssertionError("opened")
    if not any(each.name == "files" and each.holds for each in sandboxes.capabilities.enforced):
        with raises(SandboxRefused):
            async with sandboxes.open(base, scratch=["/logs"]):
                raise AssertionError("opened")
        return
    async with sandboxes.open(base, scratch=["/logs", "/tests"]) as sandbox:
        made = await sandbox.exec("ls -A /logs /tests; mkdir /logs/a && echo x > /logs/a/b")
        assert (made.code, made.output.split()) == (0, [b"/logs:", b"/tests:"])
        assert (await sandbox.exec("cat /logs/a/b")).output == b"x\n"
        assert await sandbox.diff() == ()
        async with sandbox.fork() as same, sandbox.fork(scratch=["/other"]) as other:
            assert (await same.exec("ls -A /logs && echo y > /tests/y")).output == b""
            assert (await other.exec("ls /logs || echo z > /other/z")).output != b""
            assert (await other.exec("cat /other/z")).output == b"z\n"
        assert (await sandbox.exec("ls /tests")).output == b""


async def check_explorer(sandboxes: Sandboxes, folder: Path) -> None:
    """One that only reads: its commands may scribble, and nobody ever sees it."""
    base = fill(folder)
    before = state(folder)
    async with sandboxes.open(base, writable=False) as sandbox:
        assert not sandbox.writable
        await sandbox.exec("echo x > a.txt; rm -rf deep; echo n > new; git init -q . || true")
        assert await sandbox.diff() == ()
        for call in (sandbox.write("a.txt", b""), sandbox.delete("a.txt")):
            with raises(SandboxRefused):
                await call
        assert (await sandbox.read("a.txt", at=BASE)).data == b"alpha\n"
    async with sandboxes.open(base) as coder:
        await coder.write("a.txt", b"coder\n")
        async with coder.fork(writable=False) as reader:
            assert (await reader.exec("cat a.txt; echo y > a.txt")).output == b"coder\n"
            assert await reader.diff() == ()
        assert (await coder.read("a.txt")).data == b"coder\n"
    assert state(folder) == before


async def check_apart(sandboxes: Sandboxes, folder: Path) -> None:
    """Two sandboxes over one base do not see each other's work."""
    base = fill(folder)
    async with sandboxes.open(base) as one, sandboxes.open(base) as two:
        await asyncio.gather(one.exec("echo 1 > a.txt"), two.exec("echo 2 > a.txt"))
        assert (await one.read("a.txt")).data == b"1\n"
        assert (await two.read("a.txt")).data == b"2\n"


async def check_close(sandboxes: Sandboxes, folder: Path) -> None:
    """Closing ends what runs; twice is once; a closed one says so."""
    async with sandboxes.open(fill(folder)) as sandbox:
        await sandbox.exec("sleep 60 &", background=True)
        task = asyncio.create_task(sandbox.exec("sleep 60"))
        await asyncio.sleep(0.3)
        await sandbox.close()
        await sandbox.close()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        for call in (sandbox.exec("true"), sandbox.read("a.txt"), sandbox.diff()):
            with raises(SandboxError):
                await call


async def check_capabilities(sandboxes: Sandboxes, folder: Path) -> None:
    """Each statement is made, once, with how or why not."""
    found = sandboxes.capabilities
    names = [each.name for each in found.enforced]
    assert {"memory", "processes", "disk", "network", "files"} <= set(names)
    assert len(names) == len(set(names))
    assert all(each.how for each in found.enforced)


async def check_bad_base(sandboxes: Sandboxes, folder: Path) -> None:
    """What is no folder is refused before anything is made."""
    (folder / "file").write_text("")
    for bad in (folder / "none", folder / "file", Path("/")):
        with raises(SandboxError):
            async with sandboxes.open(bad):
                raise AssertionError("opened")


SANDBOX_CHECKS: tuple[Check, ...] = (
    check_exec,
    check_input,
    check_environment,
    check_output,
    check_limits,
    check_leftovers,
    check_cancelled,
    check_at_once,
    check_files,
    check_confined_paths,
    check_diff,
    check_subtle_change,
    check_snapshots,
    check_fork,
    check_scratch,
    check_explorer,
    check_apart,
    check_close,
    check_capabilities,
    check_bad_base,
)


async def check_sandboxes(sandboxes: Sandboxes) -> None:
    """Run them all; raises AssertionError at the first that fails."""
    for check in SANDBOX_CHECKS:
        with TemporaryDirectory() as folder:
            await check(sandboxes, Path(folder))
