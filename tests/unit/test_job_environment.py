"""A job's environment is built from nothing; its command is found or named in the error."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from manyhands.adapters.jobs import environment
from manyhands.errors import JobError
from manyhands.isolation import processes
from manyhands.ports import JobSpec


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    return JobSpec("study/1", ("python", "-c", ""), tmp_path, tmp_path, tmp_path / "log")


def test_nothing_but_the_basics_and_the_spec(
    spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    env = environment.build(replace(spec, env={"SEED": "1"}), "token", "/home", "/scratch")
    assert env == {
        "PATH": environment.search_path(),
        "HOME": "/home",
        "TMPDIR": "/scratch",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "SEED": "1",
        "MANYHANDS_JOB": "token",
        "MANYHANDS_JOB_KEY": "study/1",
    }


def test_the_spec_cannot_remove_the_mark(spec: JobSpec) -> None:
    env = environment.build(replace(spec, env={"MANYHANDS_JOB": "", "HOME": "/else"}), "t", "", "")
    assert env["MANYHANDS_JOB"] == "t"
    assert env["HOME"] == "/else"


def test_the_interpreter_comes_first(spec: JobSpec) -> None:
    env = environment.build(spec, "t", "", "")
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    for name in ("python", "python3"):
        assert environment.program(replace(spec, command=(name,)), env) == sys.executable


def test_a_path_is_relative_to_the_job(spec: JobSpec) -> None:
    script = spec.cwd / "run.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(JobError, match=r"run\.sh"):
        environment.program(replace(spec, command=("./run.sh",)), {})
    script.chmod(0o755)
    assert environment.program(replace(spec, command=("./run.sh",)), {}).endswith("run.sh")


def test_an_unknown_command_is_named_with_where_it_was_sought(spec: JobSpec) -> None:
    with pytest.raises(JobError, match=r"'no-such'.*PATH /nowhere") as caught:
        environment.program(replace(spec, command=("no-such",)), {"PATH": "/nowhere"})
    assert "install" in caught.value.next
    with pytest.raises(JobError, match="empty"):
        environment.program(replace(spec, command=()), {})


def test_marks_differ_and_name_their_owner() -> None:
    first, second = environment.mark("key"), environment.mark("key")
    assert first != second
    assert first.split(".")[2] == second.split(".")[2] != environment.mark("other").split(".")[2]
    assert processes.owner_lives(first)


@pytest.mark.parametrize("text", ["", "x", "1", "1.x.y", "-1.2.3", "manyhands-job-abc"])
def test_a_strange_mark_has_no_living_owner(text: str) -> None:
    assert not processes.owner_lives(text)


def test_a_dead_owner_and_a_reused_pid_do_not_live() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert not processes.owner_lives(f"{process.pid}.1.0.1")
    assert not processes.owner_lives(f"{os.getpid()}.1.0.1")
