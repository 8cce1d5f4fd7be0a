"""What the meters see of a job, without a job."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from manyhands.adapters.jobs.verdict import describe, verdict
from manyhands.isolation import limits, processes, supervisor
from manyhands.isolation.limits import MB, DiskMeter, TreeMeter
from manyhands.ports import JobExit, JobLimits

LIMITS = JobLimits(seconds=1, memory_mb=100, output_mb=1, disk_mb=1)


def pretend(monkeypatch: pytest.MonkeyPatch, sizes: dict[int, int], exact: int = 0) -> None:
    """A tree of processes with ``sizes`` MB each, and ``exact`` MB if pages are counted once."""

    def proportional(pids: object) -> int:
        return exact * MB

    monkeypatch.setattr(processes, "descendants", lambda root: list(sizes))
    monkeypatch.setattr(processes, "use", lambda pid: processes.Use(pid, sizes[pid] * MB, 0.5))
    monkeypatch.setattr(processes, "started", lambda pid: pid)
    monkeypatch.setattr(processes, "prefer_as_oom_victim", lambda pid: None)
    monkeypatch.setattr(processes, "proportional", proportional)


def test_memory_is_summed_over_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = TreeMeter(1, LIMITS)
    pretend(monkeypatch, {2: 30})
    assert meter.sample() is None
    assert meter.peak == 30 * MB
    pretend(monkeypatch, {2: 60, 3: 60}, exact=120)
    cause = meter.sample()
    assert cause is not None
    assert cause.exit is JobExit.OUT_OF_MEMORY
    assert "120 MB" in cause.detail
    assert "100 MB" in cause.detail
    assert meter.cpu == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells shared pages apart")
def test_shared_pages_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = TreeMeter(1, LIMITS)
    pretend(monkeypatch, {2: 60, 3: 60}, exact=70)
    assert meter.sample() is None
    assert meter.peak == 70 * MB


def test_too_many_processes_end_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = TreeMeter(1, LIMITS)
    pretend(monkeypatch, dict.fromkeys(range(2, 2 + limits.PROCESSES), 0))
    assert meter.sample() is None
    pretend(monkeypatch, dict.fromkeys(range(2, 3 + limits.PROCESSES), 0))
    cause = meter.sample()
    assert cause is not None
    assert cause.exit is JobExit.FAILED
    assert f"the limit is {limits.PROCESSES}" in cause.detail


def test_samples_are_closer_near_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = TreeMeter(1, LIMITS)
    pauses: list[float] = []
    for size in (10, 10, 10, 10, 10, 90, 10):
        pretend(monkeypatch, {2: size})
        meter.sample()
        pauses.append(meter.pause)
    slow, fast = limits.SAMPLE_SECONDS, limits.CLOSE_SECONDS
    assert pauses == [fast, fast, fast, slow, slow, fast, slow]


def test_this_process_is_measured() -> None:
    use = processes.use(os.getpid())
    assert use is not None
    assert use.memory > MB
    assert use.cpu > 0
    assert processes.proportional([os.getpid()]) > MB or sys.platform != "linux"
    assert processes.started(os.getpid())
    assert processes.use(2**22 + 1) is None
    assert processes.started(2**22 + 1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("lists", [True, False])
def test_descendants_are_found_on_any_kernel(lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LISTS_CHILDREN", lists)
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        sleep = int(shell.stdout.readline())
        assert {shell.pid, sleep} <= set(processes.descendants(os.getpid()))
        assert processes.descendants(shell.pid) == [sleep]
        processes.kill([sleep])
        shell.wait()
        assert processes.ended(sleep)


def test_limits_of_one_process() -> None:
    values = dict(limits.rlimits(LIMITS, 5, own_namespace=True))
    assert values[resource.RLIMIT_CORE] == 0
    assert values[resource.RLIMIT_FSIZE] == MB + 5
    if sys.platform == "linux":
        assert values[resource.RLIMIT_DATA] > 2 * 100 * MB
        own = limits.counts_by_namespace()
        assert (values.get(resource.RLIMIT_NPROC) == limits.TASKS) is own
    shared = dict(limits.rlimits(LIMITS, 0, own_namespace=False))
    assert resource.RLIMIT_NPROC not in shared


@pytest.mark.parametrize(
    ("release", "own"),
    [("5.13.0", False), ("5.14", True), ("6.1-rc1", True), ("4.19.0", False), ("6.18+", True)],
)
def test_kernels_that_count_by_namespace(
    release: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert limits.counts_by_namespace() is own


def test_disk_growth_counts_from_the_start(tmp_path: Path) -> None:
    cwd, out = tmp_path / "cwd", tmp_path / "cwd" / "out"
    out.mkdir(parents=True)
    (cwd / "old").write_bytes(b"x" * 3 * MB)
    meter = DiskMeter([cwd, out], LIMITS)
    meter.begin()
    assert meter.folders == [cwd]
    assert meter.initial.largest == 3 * MB
    (out / "new").write_bytes(b"x" * (MB // 2))
    assert meter.sample(()) is None
    (cwd / "newer").write_bytes(b"x" * MB)
    cause = meter.sample(())
    assert cause is not None
    assert cause.exit is JobExit.DISK_LIMIT
    assert "limit is 1 MB" in cause.detail


def test_links_and_holes_cost_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * MB)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    with (folder / "hole").open("wb") as file:
        file.truncate(100 * MB)
    use = limits.disk_use([folder, tmp_path / "missing"])
    assert use.size < MB
    assert use.largest == 100 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_file_without_a_name_counts(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * MB)
        file.flush()
        assert limits.unlinked_use([os.getpid()]) < MB
        (tmp_path / "file").unlink()
        assert limits.unlinked_use([os.getpid(), os.getpid()]) >= MB


def test_a_walk_is_due_by_the_clock_or_when_the_disk_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 100 * MB
    monkeypatch.setattr(DiskMeter, "_free_now", lambda self: free)
    meter = DiskMeter([tmp_path], LIMITS)
    meter.begin()
    assert meter.due(1e12)
    meter.sample(())
    assert not meter.due(0.0)
    free -= 2 * MB
    assert meter.due(0.0)
    meter.sample(())
    assert not meter.due(0.0)


@pytest.mark.parametrize(
    ("code", "tail", "peak", "exit"),
    [
        (0, "MemoryError", 200, JobExit.OK),
        (1, "Traceback\nValueError: MemoryError-free", 1, JobExit.OUT_OF_MEMORY),
        (1, "Traceback\nMemoryError\n", 1, JobExit.OUT_OF_MEMORY),
        (1, "torch.OutOfMemoryError: CUDA out of memory", 1, JobExit.OUT_OF_MEMORY),
        (1, "MemoryError" + "x" * 3000, 1, JobExit.FAILED),
        (-9, "", 90, JobExit.OUT_OF_MEMORY),
        (-9, "", 10, JobExit.FAILED),
        (-25, "", 10, JobExit.DISK_LIMIT),
        (7, "", 100, JobExit.FAILED),
        (None, "", 1, JobExit.FAILED),
    ],
)
def test_verdicts(code: int | None, tail: str, peak: int, exit: JobExit) -> None:
    assert verdict(code, LIMITS, tail, peak * MB)[0] is exit


def test_endings_in_words() -> None:
    assert describe(3) == "exit code 3"
    assert describe(-15).startswith("killed by SIGTERM")
    assert describe(-250).startswith("killed by signal 250")
    assert "supervisor" in describe(None)
