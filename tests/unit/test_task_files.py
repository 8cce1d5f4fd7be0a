"""Tasks' directories: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.errors import TaskError, TaskUnsupported
from manyhands.evals.preparing import fingerprint
from manyhands.evals.tasks import DISK_MB, Task, find_tasks, load_task

EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"


def make(folder: Path, config: str = "", tests: str = "true\n") -> Path:
    task = folder / "one"
    for name, text in {
        "task.toml": config,
        "instruction.md": "Do it.\n",
        "tests/test.sh": tests,
        "solution/solve.sh": "true\n",
        "environment/Dockerfile": "FROM debian:12\nWORKDIR /app\nENV A=1\nCOPY x ./\n",
        "environment/x": "x",
    }.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(text)
    return task


def test_a_task_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "from here")
    task = load_task(
        make(
            tmp_path,
            'version = "1.0"\nunknown = 1\n[metadata]\ndifficulty = "easy"\n'
            "[agent]\ntimeout_sec = 12.5\n[verifier]\ntimeout_sec = 7\n"
            '[verifier.env]\nK = "${HERE}"\nL = "${NONE_SUCH:-other}"\nM = "a ${HERE}"\n'
            "[environment]\nmemory_mb = 300\nstorage_mb = 99999\nallow_internet = true\n"
            '[environment.env]\nA = "2"\n[solution.env]\nS = "s"\n',
        )
    )
    assert (task.name, task.workdir, task.instruction) == ("one", "/app", "Do it.\n")
    assert (task.agent_seconds, task.verifier_seconds, task.difficulty) == (12.5, 7, "easy")
    assert task.env == {"A": "2"}
    assert task.verifier_env == {"K": "from here", "L": "other", "M": "a ${HERE}"}
    assert task.solution_env == {"S": "s"}
    limits = task.limits()
    assert (limits.seconds, limits.memory_mb, limits.disk_mb) == (12.5, 300, DISK_MB)
    assert task.limits(3).seconds == 3


REFUSED = {
    '[environment]\nos = "windows"': "windows",
    "[environment]\ngpus = 1": "gpus = 1",
    '[environment]\nnetwork_mode = "allowlist"': "allowlist",
    '[environment.healthcheck]\ncommand = "true"': "healthcheck",
    '[[environment.mcp_servers]]\nname = "x"': "mcp_servers",
    '[environment.tpu]\ntype = "v4"': "tpu",
    '[[steps]]\nname = "one"': "steps",
    '[agent]\nuser = "ada"': "'ada'",
    "[verifier]\nuser = 1000": "1000",
    '[verifier]\nenvironment_mode = "separate"': "environment of its own",
    '[[verifier.collect]]\ncommand = "x"': "collect",
}


@pytest.mark.parametrize("config", REFUSED)
def test_what_needs_docker_is_refused_by_name(tmp_path: Path, config: str) -> None:
    with pytest.raises(TaskUnsupported) as caught:
        load_task(make(tmp_path, config))
    assert REFUSED[config] in caught.value.what
    assert "task.toml" in caught.value.what
    assert caught.value.next


MALFORMED = {
    "[agent": "task.toml",
    "[agent]\ntimeout_sec = 0": "agent.timeout_sec",
    '[verifier]\ntimeout_sec = "long"': "verifier.timeout_sec",
    '[verifier.env]\nK = "${NONE_SUCH}"': "NONE_SUCH",
    "metadata = 3": "metadata",
}


@pytest.mark.parametrize("config", MALFORMED)
def test_what_is_malformed_is_told(tmp_path: Path, config: str) -> None:
    with pytest.raises(TaskError) as caught:
        load_task(make(tmp_path, config))
    assert MALFORMED[config] in caught.value.what
    assert caught.value.next


@pytest.mark.parametrize("name", ["task.toml", "instruction.md", "tests/test.sh"])
def test_what_is_missing_is_told(tmp_path: Path, name: str) -> None:
    task = make(tmp_path)
    (task / name).unlink()
    with pytest.raises(TaskError, match=Path(name).name):
        load_task(task)


@pytest.mark.parametrize("name", ["instruction.md", "tests", "environment/Dockerfile"])
def test_what_leads_out_of_the_task_is_refused(tmp_path: Path, name: str) -> None:
    task = make(tmp_path)
    (task / name).rename(tmp_path / "elsewhere")
    (task / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match="leads out"):
        load_task(task)


def test_other_environments_are_refused(tmp_path: Path) -> None:
    task = make(tmp_path)
    (task / "environment" / "docker-compose.yaml").write_text("services: {}\n")
    with pytest.raises(TaskUnsupported, match="docker-compose"):
        load_task(task)
    (task / "environment" / "docker-compose.yaml").unlink()
    (task / "environment" / "Dockerfile").unlink()
    with pytest.raises(TaskUnsupported, match="Dockerfile"):
        load_task(task)


@pytest.mark.parametrize(
    "line",
    [
        "apt-get update && apt-get install -y curl",
        "curl -LsSf https://example.org/install.sh | sh",
        "  uvx pytest /tests",
        "pip install pytest",
    ],
)
def test_a_verifier_that_needs_the_network_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(TaskUnsupported, match=r"test\.sh:2"):
        load_task(make(tmp_path, tests=f"#!/bin/bash\n{line}\n"))


def test_a_verifier_may_speak_of_the_network(tmp_path: Path) -> None:
    tests = "# curl https://example.org\ncurl -s http://localhost:80/\necho apt-get install\n"
    assert load_task(make(tmp_path, tests=tests))


def test_tasks_are_found(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert find_tasks(tmp_path) == find_tasks(task) == [task]
    with pytest.raises(TaskError, match="no task"):
        find_tasks(task / "environment")
    assert len(find_tasks(EXAMPLES)) == 10


def test_the_fingerprint_is_of_all_that_the_workspace_is_made_from(tmp_path: Path) -> None:
    path = make(tmp_path)
    environment = path / "environment"

    def changed(task: Task, seen: set[str]) -> bool:
        now = fingerprint(task)
        return now not in seen and not seen.add(now)

    seen: set[str] = set()
    assert changed(load_task(path), seen)
    assert fingerprint(load_task(path)) in seen
    (path / "instruction.md").write_text("Other words.\n")
    (path / "tests" / "test.sh").write_text("false\n")
    assert not changed(load_task(path), seen)
    (environment / "x").write_text("y")
    assert changed(load_task(path), seen)
    (environment / "x").chmod(0o755)
    assert changed(load_task(path), seen)
    (environment / "x").rename(environment / "z")
    assert changed(load_task(path), seen)
    (environment / "x").symlink_to("z")
    assert changed(load_task(path), seen)
    dockerfile = "FROM debian:12\nWORKDIR /other\n"
    (environment / "Dockerfile").write_text(dockerfile)
    assert changed(load_task(path), seen)
    (path / "task.toml").write_text('[environment]\nworkdir = "/third"\n')
    assert changed(load_task(path), seen)
