"""Terminal tasks in real sandboxes: prepared, solved or not, and verified."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manyhands.cli import app
from manyhands.errors import SandboxError, TaskError, TaskUnsupported
from manyhands.evals import preparing
from manyhands.evals.landing import ForkedSandboxes, land
from manyhands.evals.preparing import ASIDE, prepare
from manyhands.evals.tasks import Task, find_tasks, load_task
from manyhands.evals.verifying import Verdict, check, open_task, solve, verify
from manyhands.ports import Sandboxes
from manyhands.testing.check_sandboxes import fill
from manyhands.wiring.sandboxes import make_sandboxes

pytestmark = pytest.mark.needs("bubblewrap")
EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"
REWARD = 'mkdir -p /logs/verifier; echo "$1" > /logs/verifier/reward.txt'


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYHANDS_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def sandboxes() -> Sandboxes:
    return make_sandboxes()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Task]:
    def make(
        dockerfile: str,
        tests: str = "true",
        files: dict[str, str] | None = None,
        config: str = "",
        solve: str = "true",
    ) -> Task:
        folder = tmp_path / "tasks" / "one"
        for name, text in {
            "task.toml": config,
            "instruction.md": "Do it.",
            "tests/test.sh": f"#!/bin/bash\n{tests}\n",
            "solution/solve.sh": f"#!/bin/bash\n{solve}\n",
            "environment/Dockerfile": f"FROM debian:12\nWORKDIR /app\n{dockerfile}\n",
            **{f"environment/{name}": text for name, text in (files or {}).items()},
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return load_task(folder)

    return make


# ---------------------------------------------------------------- the ten examples


@pytest.mark.parametrize("path", find_tasks(EXAMPLES), ids=lambda path: path.name)
async def test_the_reference_solves_it_and_nobody_does_not(
    path: Path, sandboxes: Sandboxes
) -> None:
    task = load_task(path)
    nobody = await check(task, sandboxes, "nop")
    assert (nobody.reward, nobody.problem) == (0.0, ""), nobody.output
    done = await check(task, sandboxes, "oracle")
    assert (done.reward, done.problem) == (1.0, ""), done.output


# ---------------------------------------------------------------- preparing


async def test_a_workspace_is_what_the_dockerfile_makes(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    task = make(
        "ENV WHO=me\nARG EXTRA=more\nCOPY a.txt ./\nCOPY a.txt renamed.txt\nCOPY a.txt new/\n"
        "COPY src /app/lib\nCOPY src/*.py src/deep there/\nCOPY . all/\n"
        "RUN echo $WHO $EXTRA > run.txt && ln -s run.txt link && mkdir -m 700 empty\n"
        'RUN ["sh", "-c", "pwd > \\"a b\\"; chmod 750 run.txt"]\nWORKDIR lib\n'
        "RUN pwd > ../where\nCOPY a.txt .\nWORKDIR /app\nRUN apt-get update && apt-get install -y"
        " bash coreutils && echo x > y\n",
        files={"a.txt": "a\n", "src/m.py": "m\n", "src/n.py": "n\n", "src/deep/d": "d\n"},
    )
    (task.path / "environment" / "src" / "m.py").chmod(0o755)
    base = await prepare(task, sandboxes)
    found = {str(p.relative_to(base)): p for p in base.rglob("*") if not p.is_dir()}
    names = [name for name in found if not name.startswith("all/")]
    made = "a.txt renamed.txt new/a.txt lib/m.py lib/n.py lib/deep/d lib/a.txt there/m.py"
    assert sorted(names) == sorted(
        [*made.split(), "there/n.py", "there/d", "run.txt", "link", "a b", "where", "y"]
    )
    assert {"all/Dockerfile", "all/a.txt", "all/src/deep/d"} <= set(found)
    assert found["run.txt"].read_text() == "me more\n"
    assert found["a b"].read_text() == "/app\n"
    assert found["where"].read_text() == "/app/lib\n"
    assert os.readlink(found["link"]) == "run.txt"
    assert found["run.txt"].stat().st_mode & 0o777 == 0o750
    assert found["lib/m.py"].stat().st_mode & 0o777 == 0o755
    assert (base / "empty").stat().st_mode & 0o777 == 0o700
    async with open_task(task, sandboxes, base) as sandbox:
        assert (await sandbox.exec("pwd; echo $WHO$EXTRA; cat run.txt")).output == (
            b"/app\nme\nme more\n"
        )


FAILING = {
    "RUN echo said; exit 3": (TaskError, ":3", "exit code 3: said"),
    "RUN touch /etc/x": (TaskError, ":3", "Read-only"),
    "RUN getent hosts example.org": (TaskError, ":3", "exit code 2"),
    "COPY none ./": (TaskUnsupported, ":3", "there is no none"),
    "COPY *.none ./": (TaskUnsupported, ":3", "there is no *.none"),
    "RUN apt-get install -y no-such-package-here": (
        TaskUnsupported,
        ":3",
        "this machine has no no-such-package-here",
    ),
    "RUN pip install no_such_module_here": (TaskUnsupported, ":3", "no_such_module_here"),
    "RUN echo '[user]' > ~/.gitconfig": (TaskUnsupported, "", ".gitconfig"),
    "RUN touch /tmp/left": (TaskUnsupported, "", "/tmp/left"),
}


@pytest.mark.parametrize("line", FAILING)
async def test_what_fails_is_told_by_line_and_leaves_nothing(
    line: str, make: Callable[..., Task], sandboxes: Sandboxes, tmp_path: Path
) -> None:
    kind, where, value = FAILING[line]
    with pytest.raises(kind) as caught:
        await prepare(make(line), sandboxes)
    assert type(caught.value) is kind
    assert f"Dockerfile{where}" in caught.value.what if where else True
    assert value in caught.value.what
    assert caught.value.next
    assert os.listdir(tmp_path / "home" / "tasks") == []


async def test_a_link_out_of_the_environment_is_not_followed(
    make: Callable[..., Task], sandboxes: Sandboxes, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    task = make("COPY link/secret ./")
    link = task.path / "environment" / "link"
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(TaskUnsupported, match="leads out"):
        await prepare(task, sandboxes)
    base = await prepare(make("COPY link ./\nCOPY . all/"), sandboxes)
    assert (base / "link").is_symlink()
    assert os.readlink(base / "all" / "link") == str(tmp_path / "outside")


async def test_a_newer_python_than_this_is_refused(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    task = make("")
    file = task.path / "environment" / "Dockerfile"
    file.write_text("FROM python:3.99-slim\nWORKDIR /app\n")
    with pytest.raises(TaskUnsupported, match=r"Python 3\.99"):
        await prepare(load_task(task.path), sandboxes)
    file.write_text("FROM python:3.8-slim\nWORKDIR /app\n")
    assert list((await prepare(load_task(task.path), sandboxes)).iterdir()) == []


async def test_without_isolation_no_task_is_prepared(make: Callable[..., Task]) -> None:
    with pytest.raises(SandboxError, match="isolation"):
        await prepare(make("RUN true"), make_sandboxes("unsafe-local"))


async def test_it_is_made_once_and_again_when_the_environment_changed(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    told: list[str] = []
    task = make("COPY x ./\nRUN date +%N > when", files={"x": "1"})
    bases = await asyncio.gather(*(prepare(task, sandboxes, on_step=told.append) for _ in range(3)))
    assert len(set(bases)) == 1
    assert told.count("COPY x ./") == 3
    when = (bases[0] / "when").read_text()
    assert await prepare(task, sandboxes, on_step=told.append) == bases[0]
    assert len(told) == 6
    assert (bases[0] / "when").read_text() == when
    (task.path / "environment" / "x").write_text("2")
    other = await prepare(task, sandboxes)
    assert other != bases[0]
    assert (other / "x").read_text() == "2"
    assert (bases[0] / "x").read_text() == "1"


PREPARE = """
import asyncio, sys
from pathlib import Path
from manyhands.evals import preparing
from manyhands.evals.tasks import load_task
from manyhands.wiring.sandboxes import make_sandboxes

export = preparing.export
async def slow(sandbox, folder):
    await export(sandbox, folder)
    print("written", flush=True)
    await asyncio.sleep(60)

preparing.export = slow
asyncio.run(preparing.prepare(load_task(Path(sys.argv[1])), make_sandboxes()))
"""


async def test_killed_in_its_middle_it_leaves_no_half_of_one(
    make: Callable[..., Task], sandboxes: Sandboxes, tmp_path: Path
) -> None:
    task = make("COPY x ./", files={"x": "1"})
    cache = tmp_path / "home" / "tasks"
    command = [sys.executable, "-c", PREPARE, str(task.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        (aside,) = os.listdir(cache)
        assert aside.startswith(ASIDE)
        assert (cache / aside / "base" / "x").read_text() == "1"
        preparing.remove_dead(cache)
        assert os.listdir(cache) == [aside], "it belongs to a process that lives"
        process.send_signal(signal.SIGKILL)
    base = await prepare(task, sandboxes)
    assert os.listdir(cache) == [base.name]
    assert (base / "x").read_text() == "1"


# ---------------------------------------------------------------- verifying


async def verified(task: Task, sandboxes: Sandboxes, work: str = "true") -> Verdict:
    base = await prepare(task, sandboxes)
    async with open_task(task, sandboxes, base) as sandbox:
        assert (await sandbox.exec(work, background=True)).code == 0
        return await verify(task, sandbox)


@pytest.mark.parametrize(
    ("write", "rewards", "reward"),
    [
        ("echo 1 > reward.txt", {"reward": 1.0}, 1.0),
        (" printf 0.25 > reward.txt", {"reward": 0.25}, 0.25),
        ('echo \'{"reward": 0.5, "style": 0}\' > reward.json', {"reward": 0.5, "style": 0}, 0.5),
        ('echo 1 >reward.txt; echo \'{"a": 1, "b": 0.5}\' >reward.json', {"a": 1, "b": 0.5}, 0.5),
    ],
)
async def test_rewards_are_read(
    write: str,
    rewards: dict[str, float],
    reward: float,
    make: Callable[..., Task],
    sandboxes: Sandboxes,
) -> None:
    found = await verified(make("", f"cd /logs/verifier; {write}"), sandboxes)
    assert (found.rewards, found.reward, found.problem) == (rewards, reward, "")
    assert found.passed is (reward == 1)


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        (
            "echo said; exit 4",
            "no reward.txt and no reward.json was written; the tests ended with exit code 4",
        ),
        ("echo many > /logs/verifier/reward.txt", "many"),
        ("echo nan > /logs/verifier/reward.txt", "nan"),
        ("echo '{}' > /logs/verifier/reward.json", "no reward"),
        ('echo \'{"a": "1"}\' > /logs/verifier/reward.json', "'1'"),
        ("> /logs/verifier/reward.txt", "could not convert"),
        ("echo said; sleep 30", "limit on time"),
    ],
)
async def test_without_a_reward_it_is_nothing_and_told(
    tests: str, problem: str, make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    task = make("", tests, config="[verifier]\ntimeout_sec = 2")
    found = await verified(task, sandboxes)
    assert (found.reward, found.passed) == (0.0, False)
    assert problem in found.problem
    assert ("said" in found.output) == ("said" in tests)


async def test_the_tests_are_seen_by_nobody_but_themselves(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    """And what the agent left beside its workspace, or still runs, is not seen by them."""
    task = make(
        "",
        "set -e; test -f /tests/test.sh; test ! -e /tmp/left; test ! -e ~/left; cat done\n"
        'test -z "$(ls /logs/verifier)"; test ! -e /solution; touch mine\n'
        'sleep 0.3; first=$(cat beat); sleep 0.3; test "$first" = "$(cat beat)"\n'
        f"set -- $SCORE; {REWARD}",
        config='[verifier.env]\nSCORE = "0.75"',
    )
    work = (
        "ls /tests /logs /solution; echo yes > done; touch /tmp/left ~/left\n"
        "(while :; do date +%N > beat; sleep 0.05; done) >/dev/null 2>&1 & sleep 0.3"
    )
    base = await prepare(task, sandboxes)
    async with open_task(task, sandboxes, base) as sandbox:
        looked = await sandbox.exec(work, background=True)
        assert looked.output.count(b"No such file") == 3, looked.output
        found = await verify(task, sandbox)
        assert (found.reward, found.problem) == (0.75, ""), found
        assert "yes" in found.output
        again = await sandbox.exec("ls /tests; ls")
        assert again.output.split()[-2:] == [b"beat", b"done"]
        assert b"No such file" in again.output
        assert (await verify(task, sandbox)).reward == 0.75


async def test_the_agent_cannot_give_itself_a_reward(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    task = make("", "test -f solved && echo 1 > /logs/verifier/reward.txt")
    base = await prepare(task, sandboxes)
    cheat = "mkdir -p /logs/verifier /tests; echo 1 > /logs/verifier/reward.txt"
    scratch = ["/logs", "/tests"]
    limits, place = task.limits(), task.workdir
    opened = sandboxes.open(base, place=place, limits=limits, scratch=scratch)
    async with opened as sandbox:
        assert (await sandbox.exec(cheat)).code == 0
        assert (await verify(task, sandbox)).reward == 0
        await sandbox.write("solved", b"")
        assert (await verify(task, sandbox)).reward == 1


async def test_a_reference_that_fails_is_told(
    make: Callable[..., Task], sandboxes: Sandboxes
) -> None:
    task = make("", solve="echo $S; exit 7", config='[solution.env]\nS = "from env"')
    with pytest.raises(TaskError, match="exit code 7: from env"):
        await check(task, sandboxes, "oracle")
    (task.path / "solution" / "solve.sh").unlink()
    base = await prepare(task, sandboxes)
    async with open_task(task, sandboxes, base) as sandbox:
        with pytest.raises(TaskError, match="no solution"):
            await solve(task, sandbox)


# ---------------------------------------------------------------- landing


@pytest.mark.parametrize("backend", ["auto", "copy"])
async def test_changes_of_a_fork_land_in_another_sandbox(backend: str, tmp_path: Path) -> None:
    base = fill(tmp_path)
    (base / "kept").mkdir()
    (base / "kept" / "only").write_text("x")
    work = (
        "echo new > a.txt; rm -r deep; mkdir -m 700 empty; ln -sf a.txt inner; chmod 700 run.sh;"
        "rm outer; mkdir outer; echo in > outer/-file; echo n > ./-n; ln -s nowhere 'odd\nname';"
        "rm .hidden; mkdir .hidden; echo x > .hidden/x; rm kept/only; printf '\\0\\377' > raw"
    )
    made = make_sandboxes("copy" if backend == "copy" else "auto")
    async with made.open(base) as one, made.open(base) as two:
        await two.write("theirs", b"stays")
        assert (await one.exec(work)).output == b""
        assert await land(one, two) == len(await one.diff())
        look = "find . ! -name theirs -printf '%P %y %m %l\\n' | sort; cat a.txt outer/-file raw"
        assert (await two.exec(look)).output == (await one.exec(look)).output
        assert (await two.read("theirs")).data == b"stays"
        changes = [change for change in await two.diff() if change.path != "theirs"]
        assert changes == list(await one.diff())
        async with one.fork() as fork:
            assert await land(fork, two) == 0
    assert (base / "a.txt").read_text() == "alpha\n"


async def test_sandboxes_that_begin_as_forks(tmp_path: Path) -> None:
    base = fill(tmp_path)
    made = make_sandboxes()
    async with made.open(base, place="/app") as parent:
        await parent.write("a.txt", b"parent")
        forks = ForkedSandboxes(parent, made)
        assert forks.capabilities == made.capabilities
        async with forks.open(Path("/app"), place="/app") as one:
            assert (await one.exec("cat /app/a.txt; echo one > a.txt")).output == b"parent"
            async with forks.open(Path("/app"), writable=False) as two:
                assert (await two.exec("cat a.txt")).output == b"parent"
            await land(one, parent)
        assert (await parent.read("a.txt")).data == b"one\n"
        for wrong in ({"place": "/other"}, {"env": {"A": "1"}}, {"readable": [Path("/")]}):
            with pytest.raises(SandboxError):
                forks.open(Path("/app"), **wrong)
        with pytest.raises(SandboxError):
            forks.open(base)


# ---------------------------------------------------------------- the command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "manyhands.cli", "tasks", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "150"}
    )


def test_the_command_lists(make: Callable[..., Task]) -> None:
    task = make("")
    (task.path / "environment" / "Dockerfile").write_text("FROM alpine\n")
    shown = run("list", str(task.path.parent))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "alpine" in shown.stdout
    (told,) = json.loads(run("list", str(task.path), "--json").stdout)
    assert told["task"] == "one"
    assert "Dockerfile:1" in told["problem"]
    rows = json.loads(run("list", str(EXAMPLES), "--json").stdout)
    assert len(rows) == 10
    assert {row["problem"] for row in rows} == {""}
    assert {row["difficulty"] for row in rows} == {"easy", "medium", "hard"}
    none = run("list", str(task.path / "tests"))
    assert none.returncode == 2
    assert "holds no task" in none.stderr


def test_the_command_checks(make: Callable[..., Task]) -> None:
    task = make("", f"echo why not; set -- $(test -f solved; echo $((1 - $?))); {REWARD}")
    broken = task.path.parent / "two"
    (broken / "tests").mkdir(parents=True)
    (broken / "task.toml").write_text("")
    nobody = run("check", str(task.path), "--agent", "nop")
    assert nobody.returncode == 0, nobody.stderr
    assert "as it should be" in nobody.stdout
    oracle = run("check", str(task.path.parent))
    assert oracle.returncode == 1
    assert "should be 1" in oracle.stdout
    assert "2 of 2: two" in oracle.stderr
    assert "why not" in oracle.stderr
    assert "instruction.md" in oracle.stderr
    (task.path / "solution" / "solve.sh").write_text("#!/bin/bash\ntouch solved\n")
    done = run("check", str(task.path), "--json")
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)
    assert (row["task"], row["reward"], row["problem"]) == ("one", 1.0, "")


@pytest.mark.parametrize("command", ["list", "check"])
def test_the_help_has_examples(command: str) -> None:
    told = CliRunner().invoke(app, ["tasks", command, "--help"]).output
    assert f"manyhands tasks {command} " in told
