"""What is run on a host over SSH: sent as text with each connection, to whatever Python is there.

Invariants: of one name there is one job, which is begun at most once, whatever breaks off when; a
job runs in a session of its own and does not end with the connection; a file is in its place whole,
or not at all. Whether a job runs is told by a lock that the kernel frees at its end.

``PLACE/jobs/NAME`` holds one job: what was sent, ``started``, ``cancelled``, ``lock`` and
``frames``, which is all that it told. ``PLACE/cache/DIGEST`` holds data that jobs share.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from typing import IO

from manyhands.published import locked, published, try_lock

#: What a line begins with that is an answer: a login shell may print what it likes before.
MARK = "manyhands: "
#: Seconds after which what has ended is cleared away.
KEEP = 7 * 86_400.0
_PAUSE = 0.05


def answer(**told: object) -> None:
    sys.stdout.write(MARK + json.dumps(told) + "\n")
    sys.stdout.flush()


# -------------------------------------------------------------------- the host


def look(place: str) -> None:
    """What the host is, and what it enforces. Also clears away what is old."""
    os.makedirs(os.path.join(place, "jobs"), mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(place, "cache"), mode=0o700, exist_ok=True)
    for name in os.listdir(os.path.join(place, "jobs")):
        folder = os.path.join(place, "jobs", name)
        if time.time() - os.stat(folder).st_mtime > KEEP and state_of(folder) != "running":
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as root:
        unpack(sys.stdin.buffer, root)
        code = [sys.executable, "-m", "manyhands.adapters.jobs.far_end", "--describe"]
        found = subprocess.run(code, env=environment(root), capture_output=True, check=False)
    if found.returncode:
        answer(error=found.stderr.decode("utf-8", "replace")[-2000:])
        return
    answer(
        python=list(sys.version_info[:3]),
        isolation=json.loads(found.stdout),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


def environment(root: str) -> dict[str, str]:
    """Of our runner there: of the connection's nothing but what programs need to run at all."""
    kept = {n: os.environ[n] for n in ("HOME", "PATH", "USER", "TMPDIR") if n in os.environ}
    return {**kept, "PYTHONPATH": os.path.join(root, "code")}


def unpack(stream: IO[bytes], root: str) -> None:
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        if hasattr(tarfile, "tar_filter"):
            tar.extractall(root, filter="tar")
        else:
            tar.extractall(root)


# -------------------------------------------------------------------- jobs


def jobs(place: str, stem: str) -> None:
    """The attempts at one piece of work: name -> state."""
    folder = os.path.join(place, "jobs")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    mine = [name for name in names if name.startswith(stem + "-")]
    answer(jobs={name: state_of(os.path.join(folder, name)) for name in mine})


def state_of(folder: str) -> str:
    """new, running, ended, cancelled, or lost: the machine has been started anew since."""
    if os.path.exists(os.path.join(folder, "cancelled")):
        return "cancelled"
    if not os.path.exists(os.path.join(folder, "started")):
        return "new"
    if held(folder):
        return "running"
    with open(os.path.join(folder, "started")) as file:
        return "ended" if file.read() == boot() else "lost"


def boot() -> str:
    """Names the time since the machine was started."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def held(folder: str) -> bool:
    """Whether the job's runner lives. Those who ask do not stand in each other's way."""
    lock = try_lock(os.path.join(folder, "lock"), shared=True)
    if lock is not None:
        os.close(lock)
    return lock is None


def begin(place: str, name: str, slot: str) -> None:
    """Unpack the job that comes on standard input, if it is not there, and start it, if it never
    was."""
    folder = os.path.join(place, "jobs", name)
    if not os.path.isdir(folder):
        fresh = tempfile.mkdtemp(prefix=".new-", dir=os.path.join(place, "jobs"))
        unpack(sys.stdin.buffer, fresh)
        try:
            os.rename(fresh, folder)
        except OSError:  # another connection was first
            shutil.rmtree(fresh)
    lock = try_lock(os.path.join(folder, "lock"))
    if lock is not None and state_of_held(folder) == "new":
        start(folder, slot, lock)
    if lock is not None:
        os.close(lock)
    answer(state=state_of(folder))


def state_of_held(folder: str) -> str:
    """As `state_of`, by who has the lock."""
    there = [n for n in ("cancelled", "started") if os.path.exists(os.path.join(folder, n))]
    return there[0] if there else "new"


def start(folder: str, slot: str, lock: int) -> None:
    with open(os.path.join(folder, "started"), "x") as file:
        file.write(boot())
    code = [sys.executable, "-m", "manyhands.adapters.jobs.far_end", folder, slot]
    with open(os.path.join(folder, "frames"), "ab") as frames:
        process = subprocess.Popen(
            code,
            env=environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=frames,
            stderr=frames,
            pass_fds=[lock],
            start_new_session=True,
        )
    with open(os.path.join(folder, "pid"), "w") as file:
        file.write(str(process.pid))


def follow(place: str, name: str, offset: str) -> None:
    """What a job tells, from a byte on, as it comes. Ends when the job has ended and all is said,
    or nobody listens any more."""
    folder = os.path.join(place, "jobs", name)
    answer(follow=name)
    gone = select.poll()
    gone.register(1, 0)
    with open(os.path.join(folder, "frames"), "rb") as frames:
        frames.seek(int(offset))
        while True:
            running = state_of(folder) == "running"
            data = frames.read(1 << 20)
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif not running or gone.poll(int(_PAUSE * 1000)):
                return


def cancel(place: str, name: str) -> None:
    """Returns when nothing of it runs."""
    folder = os.path.join(place, "jobs", name)
    if not os.path.isdir(folder):
        answer(state="gone")
        return
    with open(os.path.join(folder, "cancelled"), "w"):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(200):
            if not held(folder):
                answer(state="cancelled")
                return
            tell(folder, number)
            time.sleep(_PAUSE)
    answer(state="running")


def tell(folder: str, number: int) -> None:
    """Only while the lock is held: the number is that process's for as long."""
    try:
        with open(os.path.join(folder, "pid")) as file:
            os.killpg(int(file.read()), number)
    except (OSError, ValueError):
        return


# -------------------------------------------------------------------- data that jobs share


def cache(place: str, digest: str, how: str) -> None:
    """Whether the data of this digest are there, as they were published. ``how``: "quick" compares
    sizes, "full" the contents, too."""
    folder = os.path.join(place, "cache", digest)
    found, wrong = published(folder, full=how == "full")
    answer(path=folder, wrong="" if found == digest else wrong or "it is another's")


def publish(place: str, digest: str) -> None:
    """Take the data that come on standard input, check them, and put them in their place. Where two
    come at once, the second finds them there."""
    folder = os.path.join(place, "cache", digest)
    wrong = ""
    with locked(folder + ".lock"):
        if published(folder)[0] != digest:
            fresh = tempfile.mkdtemp(prefix=".new-", dir=os.path.join(place, "cache"))
            unpack(sys.stdin.buffer, fresh)
            found, wrong = published(fresh)
            if found == digest:
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(fresh, folder)
            else:
                shutil.rmtree(fresh, ignore_errors=True)
    answer(path=folder, wrong=wrong)


VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb for verb in (look, jobs, begin, follow, cancel, cache, publish)
}


def main() -> None:
    verb, place, *rest = sys.argv[1:]
    os.umask(0o077)
    try:
        VERBS[verb](os.path.expanduser(place), *rest)
    except OSError as error:
        answer(error=str(error))
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
