"""The conformance suite of ``ports.JobRunner``: real processes, hostile ones among them.

Each check takes ``make_runner`` (called once) and an empty folder, and raises AssertionError with
what differs. What a runner says that it does not enforce (``runner.isolation``) is not checked.
Nothing here waits for a fixed time: jobs are observed by what they print and by file locks, which
the kernel frees at the end of the last process that holds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import py_compile
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from pathlib import Path

from manyhands.errors import JobError
from manyhands.isolation import processes
from manyhands.ports import JobExit, JobLimits, JobResult, JobRunner, JobSpec

MakeRunner = Callable[[], JobRunner]
Check = Callable[[MakeRunner, Path], Awaitable[None]]

LIMITS = JobLimits(seconds=60.0, memory_mb=512, output_mb=1.0, disk_mb=64)
#: Prepended to a job's code: hold a lock for as long as this process or a child of it lives.
HOLD = "import fcntl; held = open({path!r}, 'w'); fcntl.flock(held, fcntl.LOCK_EX)\n"
SECRETS = {"HF_TOKEN": "hf_secret", "OPENAI_API_KEY": "sk-secret", "AWS_SECRET_ACCESS_KEY": "s"}


async def check_job_runner(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Every check of this module, each in a folder of its own."""
    for check in JOB_CHECKS:
        folder = tmp_path / check.__name__
        folder.mkdir()
        await check(make_runner, folder)


def python_job(folder: Path, code: str, *, key: str = "") -> JobSpec:
    """A job that runs ``code`` with the running interpreter; makes its folders in ``folder``."""
    key = key or f"check/{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    for name in ("cwd", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return JobSpec(
        key=key,
        command=("python", "-c", textwrap.dedent(code)),
        cwd=folder / "cwd",
        out=folder / "out",
        log=folder / "log",
        limits=LIMITS,
    )


async def lock_is_freed(path: Path) -> None:
    """Returns when no process holds the lock; fails after 20 s."""
    with path.open("r") as file:
        for _ in range(1000):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.02)
            else:
                return
    raise AssertionError(f"a process of the job still lives: it holds {path}")


async def nothing_lives(runner: JobRunner, spec: JobSpec, lock: Path) -> None:
    """Returns when no process of the job lives. Where files are not shared, the lock is another
    machine's, which the check's server plays on this one: its processes bear the job's key."""
    if runner.isolation.shares_files:
        await lock_is_freed(lock)
        return
    for _ in range(1000):
        if not processes.marked(lambda env: env.get("MANYHANDS_JOB_KEY") == spec.key):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"a process of job {spec.key} still lives")


def expect(result: JobResult, exit: JobExit, code: int | None = None) -> None:
    assert result.exit is exit, result
    if code is not None:
        assert result.code == code, result


# ---------------------------------------------------------------- results


async def check_exit_codes(make_runner: MakeRunner, tmp_path: Path) -> None:
    runner = make_runner()
    for code, exit in ((0, JobExit.OK), (3, JobExit.FAILED)):
        result = await runner.run(python_job(tmp_path, f"raise SystemExit({code})"))
        expect(result, exit, code)
    result = await runner.run(python_job(tmp_path, "import os; os.kill(os.getpid(), 11)"))
    expect(result, JobExit.FAILED, -signal.SIGSEGV)
    assert "SIGSEGV" in result.detail, result


async def check_output(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Both streams reach the log, the callback and the tail; standard input is empty."""
    code = """
        import sys
        print("read", repr(sys.stdin.read()), flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        print("last")
    """
    spec = python_job(tmp_path, code)
    chunks: list[bytes] = []
    result = await make_runner().run(spec, chunks.append)
    assert spec.log.read_bytes() == b"".join(chunks) == b"read ''\nto stderr\nlast\n", result
    assert result.log_tail.endswith("last\n"), result


async def check_failing_callback(make_runner: MakeRunner, tmp_path: Path) -> None:
    """An exception of ``on_output`` ends the job and is raised."""

    def refuse(chunk: bytes) -> None:
        raise LookupError("callback")

    lock = tmp_path / "out" / "lock"
    spec = python_job(tmp_path, HOLD.format(path=str(lock)) + "print(1)\nwhile True: pass")
    runner = make_runner()
    try:
        await runner.run(spec, refuse)
    except LookupError:
        await nothing_lives(runner, spec, lock)
    else:
        raise AssertionError("the exception of the callback was lost")


async def check_accounting(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Processor time and memory of the whole tree, grandchildren included."""
    burn = "import time; held = bytearray(b'x') * (96 << 20)\nwhile time.process_time() < 0.5: pass"
    code = f"""
        import subprocess, sys
        inner = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
        subprocess.run([sys.executable, "-c", inner, {burn!r}])
    """
    result = await make_runner().run(python_job(tmp_path, code))
    expect(result, JobExit.OK)
    assert 0.5 <= result.cpu_seconds < 30, result
    assert 96 <= result.peak_memory_mb < 512, result
    assert result.seconds > 0, result


async def check_parallel(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Eight jobs at once: none ends before all have begun."""
    runner = make_runner()
    if not runner.isolation.shares_files:
        await _check_parallel_elsewhere(runner, tmp_path)
        return
    code = """
        import os, time
        print("ready", flush=True)
        while not os.path.exists("go"): time.sleep(0.01)
        print("number", os.environ["NUMBER"])
    """
    specs = [
        replace(python_job(tmp_path / str(i), code, key=f"check/{i}"), env={"NUMBER": str(i)})
        for i in range(8)
    ]
    ready: set[str] = set()

    def run(spec: JobSpec) -> Awaitable[JobResult]:
        def note(chunk: bytes) -> None:
            ready.add(spec.key)
            if len(ready) == len(specs):
                for each in specs:
                    (each.cwd / "go").touch()

        return runner.run(spec, note)

    results = await asyncio.gather(*map(run, specs))
    for number, result in enumerate(results):
        expect(result, JobExit.OK)
        assert result.log_tail == f"ready\nnumber {number}\n", result


async def _check_parallel_elsewhere(runner: JobRunner, tmp_path: Path) -> None:
    """Jobs that share no file meet at a socket."""
    come: list[asyncio.StreamWriter] = []

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.append(writer)
        if len(come) == 8:
            for each in come:
                each.write(b"go")
                each.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        code = f"""
            import os, socket
            print("ready", flush=True)
            socket.create_connection(("127.0.0.1", {port})).recv(2)
            print("number", os.environ["NUMBER"])
        """
        jobs = [python_job(tmp_path / str(i), code) for i in range(8)]
        specs = [replace(s, env={"NUMBER": str(i)}, network=True) for i, s in enumerate(jobs)]
        results = await asyncio.gather(*map(runner.run, specs))
    for number, result in enumerate(results):
        expect(result, JobExit.OK)
        assert result.log_tail == f"ready\nnumber {number}\n", result


async def launch_error(runner: JobRunner, spec: JobSpec) -> JobError:
    try:
        result = await runner.run(spec)
    except JobError as error:
        return error
    raise AssertionError(f"{spec.command} was launched: {result}")


async def check_not_found(make_runner: MakeRunner, tmp_path: Path) -> None:
    runner = make_runner()
    spec = python_job(tmp_path, "")
    missing = (
        (replace(spec, command=("no-such-program",)), "no-such-program"),
        (replace(spec, command=("./no-such-script",)), "no-such-script"),
        (replace(spec, cwd=tmp_path / "no-such-folder"), "no-such-folder"),
        (replace(spec, read=(tmp_path / "no-such-data",)), "no-such-data"),
        (replace(spec, hidden=(spec.out,)), str(spec.out)),
    )
    for broken, name in missing:
        error = await launch_error(runner, broken)
        assert name in error.what, error
        assert error.next, error


# ---------------------------------------------------------------- environment


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


async def check_environment(make_runner: MakeRunner, tmp_path: Path) -> None:
    """No variable of the caller arrives but those of the spec; HOME and TMPDIR are the job's."""
    code = """
        import os, sys, tempfile
        for name, value in sorted(os.environ.items()): print(name, "=", value)
        open(os.path.join(os.environ["HOME"], "file"), "w").close()
        tempfile.NamedTemporaryFile().close()
        print(sys.executable, os.getcwd())
    """
    spec = replace(python_job(tmp_path, code), env={"GIVEN": "yes"})
    with variables(SECRETS):
        result = await make_runner().run(spec)
    expect(result, JobExit.OK)
    for name in SECRETS:
        assert name not in result.log_tail, result.log_tail
    assert "GIVEN = yes" in result.log_tail
    assert f"HOME = {Path.home()}\n" not in result.log_tail
    assert f"{sys.executable} {os.path.realpath(spec.cwd)}" in result.log_tail, result.log_tail


# ---------------------------------------------------------------- limits


async def check_time_limit(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A hang is ended, also one that ignores SIGTERM; one that listens may clean up."""
    runner = make_runner()
    limits = replace(LIMITS, seconds=0.7)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass"
    result = await runner.run(replace(python_job(tmp_path, deaf), limits=limits))
    expect(result, JobExit.TIMED_OUT, -signal.SIGKILL)
    polite = """
        import signal, sys, time
        def end(*_):
            print("cleaned up")
            sys.exit(7)
        signal.signal(signal.SIGTERM, end)
        while True: time.sleep(0.01)
    """
    result = await runner.run(replace(python_job(tmp_path, polite), limits=limits))
    expect(result, JobExit.TIMED_OUT, 7)
    assert "cleaned up" in result.log_tail, result
    assert "0.7" in result.detail, result


async def check_memory_limit(make_runner: MakeRunner, tmp_path: Path) -> None:
    """3 GB under a limit of 256 MB, in steps, at once, and in four children."""
    runner = make_runner()
    limits = replace(LIMITS, memory_mb=256)
    steps = "kept = []\nfor _ in range(96): kept.append(bytearray(b'x') * (32 << 20))"
    at_once = "kept = bytearray(b'x') * (3 << 30)"
    children = """
        import subprocess, sys
        code = "kept = bytearray(b'x') * (96 << 20); input()"
        pipes = dict(stdin=subprocess.PIPE)
        running = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(4)]
        for process in running: process.wait()
    """
    for code in (steps, at_once, children):
        result = await runner.run(replace(python_job(tmp_path, code), limits=limits))
        expect(result, JobExit.OUT_OF_MEMORY)
        assert result.peak_memory_mb < 3000, result
        assert "256" in result.detail, result


async def check_shared_memory_counts_once(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Forks that share 128 MB with their parent are within a limit of 256 MB."""
    if sys.platform != "linux":
        return
    code = """
        import os, time
        kept = bytearray(b"x") * (128 << 20)
        children = []
        for _ in range(3):
            if not (child := os.fork()):
                time.sleep(0.5)
                os._exit(0)
            children.append(child)
        for child in children: os.waitpid(child, 0)
    """
    spec = python_job(tmp_path, code)
    result = await make_runner().run(replace(spec, limits=replace(LIMITS, memory_mb=256)))
    expect(result, JobExit.OK)


async def check_output_limit(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A flood is ended; the log stays within the limit and says that it was cut."""
    limits = replace(LIMITS, output_mb=0.25)
    spec = replace(python_job(tmp_path, "while True: print('x' * 1000)"), limits=limits)
    received = 0

    def count(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)

    result = await make_runner().run(spec, count)
    expect(result, JobExit.OUTPUT_LIMIT)
    assert received == 2**18, received
    assert 2**18 < spec.log.stat().st_size < 2**18 + 200
    assert result.log_tail.rstrip().endswith("]"), result.log_tail[-200:]


async def check_disk_limit(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Many files, one large file, and files without a name are all ended."""
    runner = make_runner()
    limits = replace(LIMITS, disk_mb=32)
    many = """
        import time
        for i in range(10_000):
            with open(f"file{i}", "wb") as file: file.write(bytes(1 << 20))
            time.sleep(0.005)
    """
    one = """
        with open("file", "wb") as file:
            while True: file.write(b"x" * (1 << 20)); file.flush()
    """
    unnamed = """
        import os, time
        kept = []
        for i in range(500):
            kept.append(open("file", "wb", buffering=0))
            os.unlink("file")
            for _ in range(4): kept[-1].write(bytes(1 << 20))
            time.sleep(0.02)
        time.sleep(60)
    """
    codes = [many, one, unnamed] if sys.platform == "linux" else [many, one]
    for number, code in enumerate(codes):
        folder = tmp_path / str(number)
        result = await runner.run(replace(python_job(folder, code), limits=limits))
        expect(result, JobExit.DISK_LIMIT)
        size = sum(file.stat().st_size for file in (folder / "cwd").iterdir())
        assert size < 1024 * 2**20, size


async def check_fork_bomb(make_runner: MakeRunner, tmp_path: Path) -> None:
    """2,000 children, each of which holds the lock, are ended and none is left."""
    lock = tmp_path / "out" / "lock"
    code = """
        import os, time
        for _ in range(2000):
            try:
                if not os.fork(): time.sleep(600)
            except OSError: pass
        time.sleep(600)
    """
    spec = python_job(tmp_path, HOLD.format(path=str(lock)) + textwrap.dedent(code))
    runner = make_runner()
    result = await runner.run(spec)
    expect(result, JobExit.FAILED)
    assert "processes" in result.detail, result
    await nothing_lives(runner, spec, lock)


async def check_no_core_dump(make_runner: MakeRunner, tmp_path: Path) -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    result = await make_runner().run(python_job(tmp_path, code))
    assert "(0, 0)" in result.log_tail, result


# ---------------------------------------------------------------- what outlives a job

#: Leaves a daemon behind that holds the lock and keeps the output open.
DAEMON = """
    import os, time
    if not os.fork():
        os.setsid()
        if os.fork(): os._exit(0)
        print("daemon", flush=True)
        time.sleep(600)
    time.sleep(0.1)
"""


async def check_survivors(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A daemon that outlives the command is ended and counted; its hold on the output is no
    reason to wait."""
    lock = tmp_path / "out" / "lock"
    spec = python_job(tmp_path, HOLD.format(path=str(lock)) + textwrap.dedent(DAEMON))
    runner = make_runner()
    result = await runner.run(spec)
    expect(result, JobExit.OK, 0)
    assert result.survivors == 1, result
    assert "daemon" in result.log_tail, result
    await nothing_lives(runner, spec, lock)


async def check_cancellation(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A cancelled run raises CancelledError when nothing of it lives and no file is left open."""
    runner = make_runner()
    # The first job opens what the event loop keeps (its threads, its wake-up pipe).
    await runner.run(python_job(tmp_path, ""))
    before = open_files()
    lock = tmp_path / "out" / "lock"
    begun = asyncio.Event()
    code = HOLD.format(path=str(lock)) + textwrap.dedent(DAEMON) + "time.sleep(600)"
    spec = python_job(tmp_path, code)
    task = asyncio.ensure_future(runner.run(spec, lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        await nothing_lives(runner, spec, lock)
    else:
        raise AssertionError(f"the cancellation was lost: {result}")
    # The client of another machine keeps a connection or two, for the next request.
    kept = 0 if runner.isolation.shares_files else 2
    assert open_files() <= before + kept
    assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()


def open_files() -> int:
    folder = Path("/dev/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


# ---------------------------------------------------------------- confinement

#: Tries each path of ``argv`` and prints what came of it.
TRY_WRITE = """
    import os, sys
    for path in {paths!r}:
        try:
            with open(path, "a") as file: file.write("changed")
            print("wrote", path)
        except OSError as error: print("refused", path, error.errno)
        try:
            os.unlink(path)
            print("removed", path)
        except OSError as error: print("kept", path, error.errno)
"""
TRY_READ = """
    import os
    for path in {paths!r}:
        try:
            text = os.listdir(path) if os.path.isdir(path) else open(path).read()
            print("READ" if text else "EMPTY", path)
        except OSError as error: print("refused", path, error.errno)
"""


def attempts(folder: Path, template: str, paths: list[Path]) -> JobSpec:
    return python_job(folder, textwrap.dedent(template).format(paths=[str(p) for p in paths]))


async def check_writes_confined(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Nothing but ``cwd`` and ``out`` changes: not what may be read, not what lies beside it."""
    runner = make_runner()
    if not runner.isolation.writes_confined:
        return
    data, beside = tmp_path / "data" / "file", tmp_path / "beside"
    data.parent.mkdir()
    for path in (data, beside):
        path.write_text("original")
    spec = attempts(tmp_path, TRY_WRITE, [data, beside, Path(sys.prefix) / "manyhands-probe"])
    result = await runner.run(replace(spec, read=(data.parent,)))
    expect(result, JobExit.OK)
    assert data.read_text() == beside.read_text() == "original", result
    assert not (Path(sys.prefix) / "manyhands-probe").exists(), result
    own = [spec.cwd / "new", spec.out / "new"]
    for path in own:
        path.write_text("old")
    result = await runner.run(attempts(tmp_path, TRY_WRITE, own))
    assert not any(path.exists() for path in own), result


async def check_reads_confined(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A file that the spec does not name cannot be read, one below ``read`` can."""
    runner = make_runner()
    if not runner.isolation.reads_confined:
        return
    data, private = tmp_path / "data" / "file", tmp_path / "private"
    data.parent.mkdir()
    for path in (data, private):
        path.write_text("text")
    result = await runner.run(
        replace(attempts(tmp_path, TRY_READ, [data, private]), read=(data.parent,))
    )
    assert f"READ {data}" in result.log_tail, result.log_tail
    assert f"refused {private}" in result.log_tail, result.log_tail


async def check_hidden_paths(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Hidden files and folders below something readable, 120 of them; their neighbours stay."""
    runner = make_runner()
    if not runner.isolation.hides_paths:
        return
    data = tmp_path / "data"
    files = [data / f"folder{i % 7}" / f"file{i}" for i in range(240)]
    folder = data / "sealed"
    for path in (*files, folder / "deep" / "secret"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    hidden = (*files[:120], folder, data / "never-there")
    tried = [*files, folder / "deep" / "secret"]
    for path in hidden[:120]:  # nor through another name
        link = path.with_name(f"{path.name}-link")
        link.symlink_to(path)
        tried.append(link)
    spec = python_job(tmp_path, "")
    code = textwrap.dedent(TRY_READ).replace("{paths!r}", "sys.argv[1:]")
    (spec.cwd / "attempt.py").write_text(f"import sys\n{code}")
    command = ("python", "attempt.py", *map(str, tried))
    spec = replace(spec, command=command, read=(data,), hidden=hidden)
    result = await runner.run(spec)
    lines = spec.log.read_text().splitlines()
    readable = {line.split()[1] for line in lines if line.startswith("READ")}
    expect(result, JobExit.OK)
    assert readable == {str(path) for path in files[120:]}, result


async def check_hidden_module(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A module whose source is hidden is still imported, from its bytecode. (Another machine has no
    use for bytecode of this one's Python.)"""
    runner = make_runner()
    if not (runner.isolation.hides_paths and runner.isolation.shares_files):
        return
    source = tmp_path / "lib" / "hidden_module.py"
    source.parent.mkdir()
    source.write_text("VALUE = 'imported'\n")
    py_compile.compile(str(source))
    code = f"""
        import sys
        sys.path.insert(0, {str(source.parent)!r})
        import hidden_module
        print(hidden_module.VALUE)
        try: print("READ", open(hidden_module.__file__).read())
        except OSError as error: print("refused", error.errno)
    """
    spec = replace(python_job(tmp_path, code), read=(source.parent,), hidden=(source,))
    result = await runner.run(spec)
    expect(result, JobExit.OK)
    assert "imported\nrefused" in result.log_tail, result


async def check_own_folder_in_hidden(make_runner: MakeRunner, tmp_path: Path) -> None:
    """The deepest entry decides: a job's folders may lie in a folder that is hidden otherwise."""
    runner = make_runner()
    if not runner.isolation.hides_paths:
        return
    study = tmp_path / "study"
    spec = attempts(study / "work", TRY_READ, [study / "sealed", study / "work" / "cwd" / "own"])
    (study / "sealed").write_text("text")
    (spec.cwd / "own").write_text("text")
    result = await runner.run(replace(spec, read=(tmp_path,), hidden=(study,)))
    assert f"refused {study / 'sealed'}" in result.log_tail, result.log_tail
    assert f"READ {spec.cwd / 'own'}" in result.log_tail, result.log_tail


async def check_other_processes(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A job neither reads another process's environment (keys are there) nor signals it."""
    runner = make_runner()
    if not (runner.isolation.reads_confined and Path("/proc/self/environ").exists()):
        return
    code = """
        import glob, os
        for name in glob.glob("/proc/[0-9]*/environ"):
            try: print("LEAKED" if b"sk-secret" in open(name, "rb").read() else "")
            except OSError: pass
        try: os.kill(int(os.environ["OTHER"]), 9)
        except OSError as error: print("refused", error.errno)
    """
    other = await asyncio.create_subprocess_exec("sleep", "600", env={**os.environ, **SECRETS})
    try:
        spec = replace(python_job(tmp_path, code), env={"OTHER": str(other.pid)})
        result = await runner.run(spec)
        expect(result, JobExit.OK)
        assert "LEAKED" not in result.log_tail, result
        if runner.isolation.tree_killed:
            assert "refused" in result.log_tail, result
            assert other.returncode is None, result
    finally:
        with contextlib.suppress(ProcessLookupError):
            other.kill()
        await other.wait()


async def check_machine_settings(make_runner: MakeRunner, tmp_path: Path) -> None:
    """The kernel's variables cannot be changed, whoever runs this."""
    runner = make_runner()
    if not (runner.isolation.writes_confined and Path("/proc/sys").exists()):
        return
    code = """
        import os
        for name in ("kernel/core_pattern", "kernel/hostname", "vm/drop_caches"):
            try: os.open(f"/proc/sys/{name}", os.O_WRONLY)
            except OSError: pass
            else: print("OPENED", name)
        with open("/proc/self/status") as file:
            print(*(line for line in file if line.startswith(("CapEff", "CapBnd"))))
    """
    result = await runner.run(python_job(tmp_path, code))
    expect(result, JobExit.OK)
    assert "OPENED" not in result.log_tail, result
    if runner.isolation.level == "bubblewrap" or os.geteuid() == 0:
        assert result.log_tail.count("0" * 16) == 2, result


@contextlib.asynccontextmanager
async def listener() -> AsyncGenerator[int]:
    """The port of a TCP server on this machine that greets."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def check_network(make_runner: MakeRunner, tmp_path: Path) -> None:
    """No TCP and no UDP to this machine's loopback, unless the spec asks for the network."""
    runner = make_runner()
    code = """
        import socket
        try: print("TCP", socket.create_connection(("127.0.0.1", {tcp}), 5).recv(5))
        except OSError as error: print("refused", error)
        try:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.sendto(b"out", ("127.0.0.1", {udp}))
        except OSError as error: print("refused", error)
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("127.0.0.1", 0))
        inbox.setblocking(False)
        async with listener() as port:
            spec = python_job(tmp_path, code.format(tcp=port, udp=inbox.getsockname()[1]))
            result = await runner.run(replace(spec, network=True))
            assert "TCP b'hello'" in result.log_tail, result
            assert inbox.recv(9) == b"out", result
            if runner.isolation.network_blocked:
                result = await runner.run(spec)
                assert "TCP" not in result.log_tail, result
                with contextlib.suppress(BlockingIOError):
                    raise AssertionError(f"a datagram arrived: {inbox.recv(9)!r}")


JOB_CHECKS: tuple[Check, ...] = (
    check_exit_codes,
    check_output,
    check_failing_callback,
    check_accounting,
    check_parallel,
    check_not_found,
    check_environment,
    check_time_limit,
    check_memory_limit,
    check_shared_memory_counts_once,
    check_output_limit,
    check_disk_limit,
    check_fork_bomb,
    check_no_core_dump,
    check_survivors,
    check_cancellation,
    check_writes_confined,
    check_reads_confined,
    check_hidden_paths,
    check_hidden_module,
    check_own_folder_in_hidden,
    check_other_processes,
    check_machine_settings,
    check_network,
)
