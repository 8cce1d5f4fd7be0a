"""Jobs on a Hub whose machines and answers fail; a server of this machine plays it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.adapters.jobs import bundle
from manyhands.adapters.jobs.bundle import unpack
from manyhands.adapters.jobs.frames import Output, output_lines, parse
from manyhands.adapters.jobs.heard import Heard
from manyhands.adapters.jobs.hub import HubJobRunner, HubSettings
from manyhands.adapters.jobs.hub_bundle import pack
from manyhands.adapters.jobs.hub_costs import Caps
from manyhands.adapters.jobs.local import LocalJobRunner
from manyhands.errors import JobError
from manyhands.hub import Hub
from manyhands.ports import JobExit, JobSpec
from manyhands.testing.hub_jobs import HubProcess
from manyhands.testing.hub_server import EXPIRED, TOKEN
from manyhands.testing.jobs import python_job
from tests.shell import Shell
from tests.studies import lay_out

# The short suite has the contract, with the same server (tests/contract/test_job_runner.py).
pytestmark = [pytest.mark.needs("bubblewrap"), pytest.mark.slow]

STUDIES = Path(__file__).parents[1] / "studies"
SLOW = "import time\ntime.sleep(3)\n"


def wait_for(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubProcess]:
    with HubProcess() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def runner(**settings: Any) -> HubJobRunner:
    caps = Caps(settings.pop("job", 1.0), settings.pop("campaign", 10.0))
    named = {"poll_seconds": 0.2, "caps": caps} | settings
    return HubJobRunner(LocalJobRunner(), HubSettings(**named), Hub(seconds=10, backoff=0.05))


def launched(hub: HubProcess) -> int:
    return len(hub.jobs())


# ---------------------------------------------------------------- files, labels, secrets


async def test_what_a_job_makes_comes_back(hub: HubProcess, tmp_path: Path) -> None:
    spec = python_job(
        tmp_path,
        """
        import os, sys
        print(open(sys.argv[1] + "/data.txt").read(), os.listdir(sys.argv[1]))
        open("changed", "a").write(" twice")
        os.unlink("gone")
        os.makedirs(sys.argv[2] + "/deep")
        open(sys.argv[2] + "/deep/model", "wb").write(bytes(range(256)) * 4000)
        """,
    )
    data = tmp_path / "data"
    data.mkdir()
    for path, text in (
        (data / "data.txt", "given"),
        (data / "sealed", "secret"),
        (spec.cwd / "changed", "once"),
        (spec.cwd / "gone", ""),
        (spec.cwd / "kept", "kept"),
    ):
        path.write_text(text)
    command = (*spec.command, str(data), str(spec.out))
    spec = replace(spec, command=command, read=(data,), hidden=(data / "sealed",))
    result = await runner().run(spec)
    assert result.exit is JobExit.OK, result
    assert result.log_tail == "given ['data.txt']\n"
    assert sorted(p.name for p in spec.cwd.iterdir()) == ["changed", "kept"]
    assert (spec.cwd / "changed").read_text() == "once twice"
    assert (spec.out / "deep" / "model").read_bytes() == bytes(range(256)) * 4000
    assert result.cost_usd > 0


async def test_a_person_sees_what_it_is(hub: HubProcess, tmp_path: Path) -> None:
    told = {"campaign": "my study", "experiment": "e0003", "hypothesis": "h0003", "master": "ab12"}
    spec = replace(python_job(tmp_path, "", key="run/1"), labels=told | {"worker": "worker-e0003"})
    await runner(flavor="cpu-upgrade").run(spec)
    (job,) = hub.jobs()
    labels = job["labels"]
    assert labels.items() >= {"mh-campaign": "my-study", "mh-experiment": "e0003"}.items()
    assert labels.items() >= {"mh-hypothesis": "h0003", "mh-worker": "worker-e0003"}.items()
    assert (labels["mh-master"], job["flavor"]) == ("ab12", "cpu-upgrade")
    assert len(labels["mh-key"]) == 32
    assert job["spec"]["timeoutSeconds"] > spec.limits.seconds


async def test_no_secret_is_sent(
    hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-1234567890-secret")
    spec = python_job(tmp_path, "import os; print(dict(os.environ))")
    result = await runner().run(spec)
    sent = str(hub.jobs())
    for secret in (TOKEN, "sk-1234567890-secret"):
        assert secret not in result.log_tail
        assert secret not in sent
    assert not any("secrets" in job["spec"] for job in hub.jobs())
    assert "MANYHANDS_BUNDLE" not in result.log_tail
    with pytest.raises(JobError, match="secret"):
        await runner().run(replace(spec, env={"KEY": "sk-1234567890-secret"}))
    assert launched(hub) == 1


async def test_what_is_trusted_stays_at_home(hub: HubProcess, tmp_path: Path) -> None:
    spec = replace(python_job(tmp_path, "print('home')"), trusted=True)
    result = await runner().run(spec)
    assert result.log_tail == "home\n"
    assert not hub.jobs()


async def test_too_much_is_refused_before_it_is_sent(hub: HubProcess, tmp_path: Path) -> None:
    spec = python_job(tmp_path, "")
    (spec.cwd / "big").write_bytes(random.Random(1).randbytes(2_000_000))
    with pytest.raises(JobError, match=r"2\.0 MB"):
        await runner().run(spec)
    assert not hub.jobs()


def test_equal_jobs_are_equal_bundles(tmp_path: Path) -> None:
    spec = python_job(tmp_path, "print(1)", key="run/1")
    (spec.cwd / "file").write_text("a")
    first = pack(spec)
    (spec.cwd / "file").touch()
    assert pack(spec) == first
    slots = [replace(spec, slot=n, env={"MANYHANDS_SLOT": str(n)}) for n in range(2)]
    assert pack(slots[0]) == pack(slots[1])
    (spec.cwd / "file").write_text("b")
    assert pack(spec).digest != first.digest
    assert pack(spec, ("torch",)).digest != pack(spec).digest


@pytest.mark.parametrize("name", ["../x", "cwd/../../x", "/etc/x", "read0/x", "cwd", "cwd/link/x"])
def test_what_comes_back_stays_in_its_folders(name: str, tmp_path: Path) -> None:
    spec = python_job(tmp_path, "")
    (tmp_path / "elsewhere").mkdir()
    (spec.cwd / "link").symlink_to(tmp_path / "elsewhere")
    data = hub_bundle_tar(name)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(spec, data, [])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(spec, b"", [name])
    assert not list((tmp_path / "elsewhere").iterdir())


def hub_bundle_tar(name: str) -> bytes:
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        bundle._add(tar, name, b"x", 0o644)
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"a\n",
            b"no end",
            b"\n",
            b"a\n\nb",
            b"\xff\xfe\n",
            b"tab\there\n",
            b"a\r\n",
            b" edge \n",
        ),
        *(b"mh= {}\n", b"x" * 10_000 + b"\n", bytes(range(256)), "é\u2028ü\n".encode()),
    ],
)
def test_bytes_are_the_same_at_home(data: bytes) -> None:
    frames = [parse(line) for line in output_lines(data)]
    assert all(isinstance(frame, Output) for frame in frames)
    assert b"".join(f.data for f in frames if isinstance(f, Output)) == data


def test_a_folder_may_become_a_file(tmp_path: Path) -> None:
    spec = python_job(tmp_path, "")
    (spec.cwd / "x").mkdir()
    (spec.cwd / "x" / "y").write_text("")
    unpack(spec, hub_bundle_tar("cwd/x"), ["cwd/x/y"])
    assert (spec.cwd / "x").read_bytes() == b"x"


@pytest.mark.parametrize(
    "line", ["mh= []", "mh= 3", "mh= {}", 'mh= {"a": 1, "b": 2}', "mh> ?", "mh= "]
)
def test_a_line_that_is_none_of_ours_is_noise(line: str, tmp_path: Path) -> None:
    heard = Heard(python_job(tmp_path, ""), None, 1_000_000)
    assert not heard.take(line)
    assert (heard.facts, heard.noise) == ({}, f"{line}\n")
    heard.close()


# ---------------------------------------------------------------- machines and answers that fail


async def test_a_machine_that_is_taken_away_is_replaced(hub: HubProcess, tmp_path: Path) -> None:
    hub.plan("preempt", "lose")
    spec = python_job(
        tmp_path, "print('begun', flush=True)\nimport time; time.sleep(0.5)\nprint(2)"
    )
    result = await runner().run(spec)
    assert result.exit is JobExit.OK
    assert spec.log.read_text() == "begun\n2\n"
    assert [job["labels"]["mh-attempt"] for job in hub.jobs()] == ["1", "2", "3"]


async def test_machines_that_go_on_failing_are_given_up(hub: HubProcess, tmp_path: Path) -> None:
    hub.plan(*["lose"] * 5)
    with pytest.raises(JobError, match=r"3 machines of the Hub have failed.*node was lost"):
        await runner().run(python_job(tmp_path, ""))
    assert launched(hub) == 3


async def test_its_own_fault_is_no_reason_to_try_again(hub: HubProcess, tmp_path: Path) -> None:
    result = await runner().run(python_job(tmp_path, "raise SystemExit(3)"))
    assert (result.exit, result.code) == (JobExit.FAILED, 3)
    hub.plan("crash")
    with pytest.raises(JobError, match="No solution found"):
        await runner().run(python_job(tmp_path, "print('other')"))
    assert launched(hub) == 2


async def test_a_stuck_job_is_ended(hub: HubProcess, tmp_path: Path) -> None:
    hub.plan("stick")
    result = await runner(silence_seconds=1.0).run(python_job(tmp_path, ""))
    assert result.exit is JobExit.TIMED_OUT
    assert "no output for 1 s" in result.detail
    assert [job["status"]["stage"] for job in hub.jobs()] == ["CANCELED"]


async def test_without_a_machine_it_does_not_wait_for_ever(hub: HubProcess, tmp_path: Path) -> None:
    hub.plan("queue")
    with pytest.raises(JobError, match="no machine within 1 s"):
        await runner(queue_seconds=1.0).run(python_job(tmp_path, ""))
    assert [job["status"]["stage"] for job in hub.jobs()] == ["CANCELED"]


@pytest.mark.parametrize("kind", ["429", "500", "drop"])
@pytest.mark.parametrize("path", ["/api/jobs/tester", "/logs", "hardware", "whoami"])
async def test_answers_that_fail_for_a_while(
    kind: str, path: str, hub: HubProcess, tmp_path: Path
) -> None:
    hub.go_wrong(path, kind, 2)
    result = await runner().run(python_job(tmp_path, "print('one')\nprint('two')"))
    assert result.log_tail == "one\ntwo\n"
    assert launched(hub) == 1


async def test_a_launch_whose_answer_is_lost_is_found(hub: HubProcess, tmp_path: Path) -> None:
    hub.go_wrong("POST /api/jobs/tester", "late")
    result = await runner().run(python_job(tmp_path, "import time; time.sleep(1); print('done')"))
    assert result.log_tail == "done\n"
    assert launched(hub) == 1


async def test_a_log_that_breaks_off_is_taken_up(hub: HubProcess, tmp_path: Path) -> None:
    hub.go_wrong("cut the log", "cut", 4)
    code = "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.02)"
    chunks: list[bytes] = []
    result = await runner().run(python_job(tmp_path, code), chunks.append)
    assert b"".join(chunks).decode() == "".join(f"{i}\n" for i in range(20))
    assert result.exit is JobExit.OK


async def test_an_expired_token_says_so(
    hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    with pytest.raises(JobError, match="401") as caught:
        await runner().run(python_job(tmp_path, ""))
    assert "HF_TOKEN" in caught.value.next
    assert EXPIRED not in str(caught.value)


# ---------------------------------------------------------------- cost


async def test_what_could_cost_too_much_is_not_launched(hub: HubProcess, tmp_path: Path) -> None:
    spec = replace(python_job(tmp_path, ""), labels={"campaign": "c"})
    with pytest.raises(JobError, match=r"the limit of one is 0\.0001"):
        await runner(job=0.0001).run(spec)
    with pytest.raises(JobError, match=r"no price for the flavor 'h900'.*a10g-small"):
        await runner(flavor="h900").run(spec)
    assert not hub.jobs()
    worst = 0.000167 * (60 + 300 + 1) / 60
    await runner(campaign=1.5 * worst).run(spec)
    # What has ended counts with what it cost, what runs with its worst case: two do not fit.
    slow = [
        replace(python_job(tmp_path / str(n), "import time; time.sleep(2)"), labels=spec.labels)
        for n in range(2)
    ]
    cheap = runner(campaign=1.5 * worst)
    results = await asyncio.gather(*map(cheap.run, slow), return_exceptions=True)
    refused = [r for r in results if isinstance(r, JobError)]
    assert len(refused) == 1
    assert "campaign 'c' has spent" in refused[0].what
    other = replace(python_job(tmp_path / "other", ""), labels={"campaign": "d"})
    assert (await runner(campaign=1.5 * worst).run(other)).exit is JobExit.OK


# ---------------------------------------------------------------- kill -9


def harness(hub: HubProcess, folder: Path, code: str) -> subprocess.Popen[bytes]:
    program = f"""
        import asyncio
        from pathlib import Path
        from manyhands.adapters.jobs.hub import HubJobRunner, HubSettings
        from manyhands.adapters.jobs.local import LocalJobRunner
        from manyhands.testing.jobs import python_job
        spec = python_job(Path({str(folder)!r}), {code!r}, key="run/1")
        runner = HubJobRunner(LocalJobRunner(), HubSettings(poll_seconds=0.2))
        asyncio.run(runner.run(spec, lambda _: print("begun", flush=True)))
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.Popen(words, stdout=subprocess.PIPE)


async def test_a_killed_runners_job_is_found_again(hub: HubProcess, tmp_path: Path) -> None:
    code = "import time; print('begun', flush=True); time.sleep(3); print('done')"
    killed = harness(hub, tmp_path, code)
    assert killed.stdout is not None
    assert await asyncio.to_thread(killed.stdout.readline) == b"begun\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    spec = python_job(tmp_path, code, key="run/1")
    after = runner()
    assert await after.reap("run/") == 0
    result = await after.run(spec)
    assert result.exit is JobExit.OK
    assert spec.log.read_text() == "begun\ndone\n"
    assert launched(hub) == 1
    # Also one that has ended meanwhile; but not another's, nor one of other contents.
    assert (await runner().run(spec)).log_tail == "begun\ndone\n"
    assert launched(hub) == 1
    await runner().run(replace(spec, env={"X": "1"}, command=("python", "-c", "")))
    assert launched(hub) == 2


async def test_one_that_was_cancelled_is_launched_anew(hub: HubProcess, tmp_path: Path) -> None:
    spec: JobSpec = python_job(tmp_path, "import time; print(1, flush=True); time.sleep(1)")
    begun = asyncio.Event()
    task = asyncio.ensure_future(runner().run(spec, lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [job["status"]["stage"] for job in hub.jobs()] == ["CANCELED"]
    assert (await runner().run(spec)).exit is JobExit.OK
    assert launched(hub) == 2


# ---------------------------------------------------------------- a study


def test_a_study_trains_on_the_hub_and_evaluates_here(hub: HubProcess, tmp_path: Path) -> None:
    study = lay_out("regression", tmp_path / "study")
    shell = Shell(tmp_path)
    told = shell("lab", "run", str(study), "--jobs", "hf", "--runs", "16", "--slots", "4", "--json")
    outcome = json.loads(told)
    jobs = hub.jobs()
    assert len(jobs) == outcome["runs"] <= 16
    assert {job["status"]["stage"] for job in jobs} == {"COMPLETED"}
    assert {job["labels"]["mh-phase"] for job in jobs} >= {"baseline", "screen"}
    assert {job["labels"]["mh-experiment"] for job in jobs} >= {"baseline", "e0001"}
    assert {job["labels"]["mh-campaign"] for job in jobs} == {"regression"}
    assert not any("holdout" in str(job["spec"]["command"]) for job in jobs)
    rows = json.loads(shell("lab", "ledger", str(study), "--json"))
    ran = [row for row in rows if row["seed"] >= 0]
    assert all(row["cost_usd"] > 0 and row["metric"] is not None for row in ran)
    assert "jobs hub" in ran[0]["environment"]


def test_a_killed_study_launches_no_job_twice(hub: HubProcess, tmp_path: Path) -> None:
    slow = {"train.py": SLOW + (STUDIES / "regression/train.py").read_text()}
    study = lay_out("regression", tmp_path / "study", slow)
    shell = Shell(tmp_path)
    words = ("lab", "run", str(study), "--jobs", "hf", "--runs", "16", "--slots", "2")
    process = shell.start(*words)
    wait_for(lambda: len(hub.jobs()) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shell("lab", "resume", str(study))
    keys = [job["labels"]["mh-key"] for job in hub.jobs()]
    assert len(keys) == len(set(keys))


def test_a_study_whose_token_expired_goes_on_with_a_new_one(
    hub: HubProcess, tmp_path: Path
) -> None:
    slow = {"train.py": SLOW + (STUDIES / "regression/train.py").read_text()}
    study = lay_out("regression", tmp_path / "study", slow)
    shell = Shell(tmp_path)
    words = ("lab", "run", str(study), "--jobs", "hf", "--runs", "16", "--run-id", "expiring")
    process = shell.start(*words)
    wait_for(lambda: len(hub.jobs()) >= 2)
    hub.go_wrong("/api/jobs/tester/", "401", 10_000)
    assert process.wait() == 12
    assert json.loads(shell("show", "expiring", "--json"))["status"] == "blocked"
    hub.go_right()
    shell("lab", "resume", "expiring")
    rows = json.loads(shell("lab", "ledger", "expiring", "--json"))
    assert len(rows) >= 4
    assert {row["exit"] for row in rows} == {"ok"}
    used = [j["labels"]["mh-key"] for j in hub.jobs() if j["status"]["stage"] != "CANCELED"]
    assert len(used) == len(set(used))


#: Of a job of the regression study: 10 s, and 5 minutes for its image, at the price of cpu-basic.
WORST = 0.000167 * (10 + 300 + 1) / 60


def test_a_study_at_its_cost_cap_goes_on_with_a_higher_one(hub: HubProcess, tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    shell = Shell(tmp_path)
    words = ("lab", "run", study, "--jobs", "hf", "--runs", "16", "--slots", "4")
    told = shell(*words, "--campaign-usd", f"{2.5 * WORST:.6f}", "--run-id", "capped", code=12)
    assert "the cost cap of" in told
    assert "manyhands lab resume capped --campaign-usd" in " ".join(told.split())
    assert "cannot change" in shell("lab", "resume", "capped", "--job", "flavor=a10g-small", code=2)
    shell("lab", "resume", "capped", "--campaign-usd", "5", "--job", "attempts=2")
    rows = json.loads(shell("lab", "ledger", "capped", "--json"))
    assert len(rows) >= 4
    assert {row["exit"] for row in rows} == {"ok"}
    keys = [job["labels"]["mh-key"] for job in hub.jobs()]
    assert len(keys) == len(set(keys))


def test_a_halted_study_wraps_up_when_it_is_told_to(hub: HubProcess, tmp_path: Path) -> None:
    slow = {"train.py": SLOW + (STUDIES / "regression/train.py").read_text()}
    study = lay_out("regression", tmp_path / "study", slow)
    shell = Shell(tmp_path)
    words = ("lab", "run", str(study), "--jobs", "hf", "--runs", "16", "--run-id", "halted")
    process = shell.start(*words)
    wait_for(lambda: any(job["labels"]["mh-phase"] == "screen" for job in hub.jobs()))
    hub.go_wrong("/api/jobs/tester/", "401", 10_000)
    assert process.wait() == 12
    assert "401" in shell("show", "halted")
    shell("lab", "stop", "halted")
    outcome = json.loads(shell("lab", "resume", "halted", "--json"))
    assert outcome["reason"] == "stopped by a person"
    assert Path(outcome["report"]).is_file()
    rows = json.loads(shell("lab", "ledger", "halted", "--json"))
    assert [row["exit"] for row in rows if row["experiment"] != "e0000"] == ["not_run"]
    assert {row["verdict"] for row in rows if row["exit"] == "not_run"} == {"inconclusive"}


def test_what_is_wrong_is_said_before_it_starts(hub: HubProcess, tmp_path: Path) -> None:
    study = str(lay_out("regression", tmp_path / "study"))
    shell = Shell(tmp_path)
    assert "--jobs hf" in shell("lab", "run", study, "--flavor", "h200", code=2)
    assert "options:" in shell("lab", "run", study, "--jobs", "hf", "--job", "gres=gpu:1", code=2)
    assert "--jobs local" in shell("lab", "run", study, "--jobs", "moon", code=2)
    told = shell("lab", "run", study, "--jobs", "hf", "--flavor", "h900", code=9)
    assert "a10g-small" in told
    shell.env["HF_TOKEN"] = EXPIRED
    assert "401" in shell("lab", "run", study, "--jobs", "hf", code=12)
    assert not hub.jobs()
