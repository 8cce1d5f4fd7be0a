"""The first process of every job and of every command in a sandbox: starts it, ends what is left.

It runs as a script (``python -I -S supervisor.py FD``) inside the job's isolation, so it imports
nothing of the package and little of the standard library (start-up is paid by every job). FD is
one end of a socket pair whose other end only the harness holds. The harness sends one ``Order``
(8 bytes of length, then marshal: the same interpreter is at both ends), later ``T`` (ask the
command to end) or ``K`` (kill the tree). Back come lines: ``ready`` (for the order), ``start``,
``error TEXT``, ``crowd NUMBER`` (too many processes: they are killed), ``end CODE SECONDS
CPU_SECONDS MAX_RSS SURVIVORS``.
An order that keeps what the command leaves behind has its ``end`` once the command ends; the rest
then runs until it ends, or the socket closes.

Invariants: orphans of the job become children of this process (it is pid 1 of the namespace, or a
subreaper), so it can always find them; and when the socket closes, however the harness died, the
whole job is killed.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False  # as in typing, which would cost a tenth of the start-up
if TYPE_CHECKING:
    from collections.abc import Callable

LINUX = sys.platform == "linux"

#: path (searched on the env's PATH if it has no slash), argv, cwd, env, rlimits (number, value),
#: Landlock (attributes, rules), seccomp program, whether to keep what the command leaves behind,
#: the most processes that there may be at once (0: not counted here), the command's niceness
Order = tuple[
    str,
    list[str],
    str,
    dict[str, str],
    list[tuple[int, int]],
    "tuple[bytes, list[tuple[str, int]]] | None",
    "bytes | None",
    bool,
    int,
    int,
]
#: All that this process could have inherited besides: a job gets no descriptor of the harness.
DESCRIPTORS = 65536
#: What a job leaves behind may end by itself within this time (a resource tracker does).
LINGER_SECONDS = 0.2
KILL_SECONDS = 5.0
#: How often orphans that have ended are collected while the command runs.
REAP_SECONDS = 0.25
#: Between counts of the processes, where they are limited: a fork bomb doubles in milliseconds.
#: The longest while their number stands still and is small.
COUNT_SECONDS, COUNT_LONGEST = 0.03, 0.1
#: Where the system has no descriptor for the end of a process.
POLL_SECONDS = 0.02

# As in signal.h; the module ``signal`` would cost a fifth of the start-up.
SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGPIPE, SIGTERM, SIGXFSZ = 1, 2, 3, 9, 13, 15, 25
DEFAULT, IGNORE = 0, 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, CAPABILITIES = 47, 4, 64
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_RULE_PATH_BENEATH = 1


#: A kernel may be built without these lists.
LISTS_CHILDREN = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")

LIBRARY = ctypes.CDLL(None, use_errno=True)
LIBRARY.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
LIBRARY.signal.restype = ctypes.c_void_p


def read_exactly(fd: int, size: int) -> bytes:
    """The next ``size`` bytes; ends this process if the harness is gone."""
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            os._exit(1)
        data += chunk
    return data


def call(name: str, *arguments: object) -> int:
    """A C library call that raises OSError when it fails."""
    result = int(getattr(LIBRARY, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments[:1]}: {os.strerror(number)}")
    return result


def prctl(option: int, argument: int | bytes) -> None:
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    call("prctl", option, value, zero, zero, zero)


def prefer(option: int, argument: int) -> None:
    """As ``prctl``, for what is good to have: some kernels do not know it."""
    try:
        prctl(option, argument)
    except OSError:
        return


def restrict_paths(attributes: bytes, rules: list[tuple[str, int]]) -> None:
    """Landlock: nothing is reachable but what ``rules`` (path, access bits) allow."""
    ruleset = call(
        "syscall", LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0
    )
    for path, access in rules:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # gone since it was listed: nothing to allow
        rule = struct.pack("=Qi", access, parent)
        call("syscall", LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
        os.close(parent)
    call("syscall", LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def drop_capabilities() -> None:
    """So that root is nobody special after the next exec: Landlock alone lets it load modules,
    set the clock, and read what every process remembers."""
    prefer(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(CAPABILITIES):
        prefer(PR_CAPBSET_DROP, number)


def restrict_calls(program: bytes) -> None:
    """Seccomp: ``program`` is an array of ``struct sock_filter``."""
    kept = ctypes.create_string_buffer(program)
    prog = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), prog)


def on_signals(action: int, *numbers: int) -> None:
    for number in numbers:
        LIBRARY.signal(number, action)


def limit(number: int, value: int) -> None:
    _, hard = resource.getrlimit(number)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))


def become(order: Order, control: int) -> None:
    """In the child: take on the limits and the isolation, then the command. Never returns."""
    path, argv, cwd, env, limits, landlock, calls, _, _, nice = order
    try:
        os.setsid()
        on_signals(DEFAULT, SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGHUP, SIGQUIT)
        os.chdir(cwd)
        if os.getpriority(os.PRIO_PROCESS, 0) < nice:  # this process may come before its command
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        for number, value in limits:
            limit(number, value)
        if LINUX:
            prefer(PR_SET_PDEATHSIG, SIGKILL)
            prefer(PR_SET_NO_NEW_PRIVS, 1)
            if landlock is not None:
                drop_capabilities()
                restrict_paths(*landlock)
            if calls is not None:
                restrict_calls(calls)
        os.execvpe(path, argv, env)
    except BaseException as error:
        tell(control, f"error {type(error).__name__}: {error}")
    finally:
        os._exit(127)


def start(order: Order, control: int) -> int:
    """Fork the command; this process lets go of the output pipe, so the job alone holds it."""
    child = os.fork()
    if child == 0:
        become(order, control)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
    os.close(null)
    return child


class Tree:
    """All processes of the job, seen from this one. ``most``: that there may be; 0: any number."""

    def __init__(self, main: int, most: int = 0) -> None:
        self.main = main
        self.status: int | None = None
        self.most = most
        self.pause = COUNT_SECONDS if most else REAP_SECONDS
        self._last = 0

    def reap(self) -> None:
        """Collect what ended; remember how the command itself did."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.main:
                self.status = status

    def alive(self) -> set[int]:
        if os.getpid() == 1:
            pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1}
        elif LINUX:
            pids = descendants(os.getpid())
        else:
            return self._group()
        return {pid for pid in pids if not ended(pid)}

    def _group(self) -> set[int]:
        try:
            os.killpg(self.main, 0)
        except OSError:
            return set()
        return {-self.main}

    def kill(self) -> int:
        """Kill all, again and again until none is left; how many there were."""
        seen: set[int] = set()
        deadline = time.monotonic() + KILL_SECONDS
        while (alive := self.alive()) and time.monotonic() < deadline:
            seen |= alive
            # As pid 1 of the namespace: one call that no fork can race.
            for pid in {-1} if os.getpid() == 1 else alive:
                send(pid, SIGKILL)
            self.reap()
            time.sleep(0.001)
        self.reap()
        return len(seen)

    def crowd(self) -> int:
        """How many there are, if that is too many. Zombies count: they take up numbers, too."""
        if not self.most:
            return 0
        if os.getpid() == 1:
            number = sum(name.isdigit() for name in os.listdir("/proc")) - 1
        else:
            number = len(self.alive())
        quiet = number <= self._last and number < self.most // 4
        self._last = number
        self.pause = min(2 * self.pause, COUNT_LONGEST) if quiet else COUNT_SECONDS
        return number if number > self.most else 0

    def linger(self) -> None:
        deadline = time.monotonic() + LINGER_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)
            self.reap()


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return  # it ended first


def descendants(root: int) -> set[int]:
    """All processes below ``root``."""
    below = children if LISTS_CHILDREN else from_parents()
    found: set[int] = set()
    waiting = [root]
    while waiting:
        new = set(below(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def children(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                pids += map(int, file.read().split())
    except OSError:
        return pids  # it ended first
    return pids


def from_parents() -> Callable[[int], list[int]]:
    """``children`` the slow way: asks every process of the machine for its parent."""
    known: dict[int, list[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if fields := stat(pid):
            known.setdefault(int(fields[1]), []).append(pid)
    return lambda pid: known.get(pid, [])


def stat(pid: int) -> list[bytes]:
    """/proc/PID/stat from the state on (man 5 proc: field 3); empty if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def ended(pid: int) -> bool:
    """Gone, or a zombie that waits to be collected."""
    return stat(pid)[:1] in ([], [b"Z"], [b"X"])


def dispersed(tree: Tree, control: int) -> bool:
    """There were too many, and they were killed."""
    if crowd := tree.crowd():
        tree.kill()
        tell(control, f"crowd {crowd}")
    return bool(crowd)


def watch(tree: Tree, control: int) -> bool:
    """Wait for the command's end, an order to kill, or too many processes (True)."""
    end, pause = end_of(tree.main)
    while tree.status is None:
        ready, _, _ = select.select([control, *end], [], [], min(pause, tree.pause))
        tree.reap()
        if dispersed(tree, control):
            return True
        if control in ready:
            orders = os.read(control, 64)
            if not orders:
                tree.kill()
                os._exit(1)
            if b"K" in orders:
                return True
            if tree.status is None:
                send(-tree.main, SIGTERM)
    return False


def stay(tree: Tree, control: int) -> None:
    """What the command left behind may go on, until it ends or the harness lets go of it."""
    while tree.alive() and not dispersed(tree, control):
        ready, _, _ = select.select([control], [], [], tree.pause)
        tree.reap()
        if ready and os.read(control, 64) in (b"", b"K"):
            return


def end_of(pid: int) -> tuple[list[int], float]:
    """What becomes readable when ``pid`` ends, and how long to wait for it at most."""
    if sys.platform == "linux":
        try:
            return [os.pidfd_open(pid)], REAP_SECONDS
        except OSError:
            pass  # Linux before 5.3, or a filter of system calls
    return [], POLL_SECONDS


def report(tree: Tree, control: int, seconds: float, survivors: int) -> None:
    """The last line; ``CODE`` is ``?`` for a command that could not be ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "?" if tree.status is None else str(os.waitstatus_to_exitcode(tree.status))
    size = usage.ru_maxrss * (1024 if LINUX else 1)
    cpu = usage.ru_utime + usage.ru_stime
    tell(control, f"end {code} {seconds:.6f} {cpu:.6f} {size} {survivors}")


def tell(control: int, line: str) -> None:
    try:
        os.write(control, f"{line}\n".encode())
    except OSError:
        return  # the harness is gone: nobody to tell


def main(control: int) -> None:
    os.closerange(3, control)
    os.closerange(control + 1, DESCRIPTORS)
    # A low number, for ``select``: the harness may hold thousands. It is not inherited.
    control = os.dup(control)
    os.closerange(control + 1, DESCRIPTORS)
    tell(control, "ready")
    size = int.from_bytes(read_exactly(control, 8), "little")
    order: Order = marshal.loads(read_exactly(control, size))
    on_signals(IGNORE, SIGTERM, SIGINT, SIGHUP)
    if LINUX:
        prefer(PR_SET_CHILD_SUBREAPER, 1)
    began = time.monotonic()
    tree = Tree(start(order, control), most=order[8])
    if LINUX:
        # The job has the same user: keep it from reading or steering this process.
        prefer(PR_SET_DUMPABLE, 0)
    try:
        tell(control, "start")
        killed = watch(tree, control)
        seconds = time.monotonic() - began
        if order[7] and not killed:
            report(tree, control, seconds, len(tree.alive()))
            stay(tree, control)
            tree.kill()
            os._exit(0)
        if not killed:
            tree.linger()
    finally:
        survivors = tree.kill()
    report(tree, control, seconds, 0 if killed else survivors)
    os._exit(0)  # nothing to tidy up: the harness waits


if __name__ == "__main__":
    main(int(sys.argv[1]))
