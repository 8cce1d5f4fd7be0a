"""Harbor itself, in an interpreter of its own: our environment, and our agent in two of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import harbor_python

pytestmark = [pytest.mark.needs("harbor"), pytest.mark.needs("bubblewrap")]
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "tasks"
OURS = "manyhands.evals.harbor:BubblewrapEnvironment"
TEAM = "manyhands.evals.harbor:CodeTeam"


@dataclass(frozen=True)
class Trial:
    task: str
    reward: float | None
    told: dict[str, Any]
    folder: Path

    @property
    def exception(self) -> str:
        found = self.told["exception_info"] or {}
        return f"{found.get('exception_type')}: {found.get('exception_message')}"


def harbor(tmp_path: Path, task: Path, *arguments: str) -> dict[str, Trial]:
    """`harbor run`: its trials by the names of their tasks."""
    program = Path(str(harbor_python())).parent / "harbor"
    jobs = tmp_path / "jobs"
    jobs.mkdir(parents=True)
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "MANYHANDS_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        "HARBOR_TELEMETRY": "0",
    }
    command = [str(program), "run", "-p", str(task), "-o", str(jobs), "-n", "2", "-y", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, timeout=250, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Trial] = {}
    for file in jobs.glob("*/*/result.json"):
        told = json.loads(file.read_text())
        rewards = (told["verifier_result"] or {}).get("rewards") or {}
        name = Path(told["task_name"]).name
        found[name] = Trial(name, rewards.get("reward"), told, file.parent)
    return found


@pytest.mark.parametrize(("agent", "reward"), [("oracle", 1.0), ("nop", 0.0)])
def test_harbor_runs_the_ten_tasks_without_docker(
    agent: str, reward: float, tmp_path: Path
) -> None:
    trials = harbor(tmp_path, EXAMPLES, "-a", agent, "-e", OURS)
    assert {name: trial.reward for name, trial in trials.items()} == dict.fromkeys(
        [folder.parent.name for folder in EXAMPLES.glob("*/task.toml")], reward
    ), [trial.exception for trial in trials.values()]


@pytest.mark.parametrize(
    ("environment", "backend", "seconds"),
    [(OURS, "overlay", "600.0"), ("tests.harbor.plain:PlainEnvironment", "harbor", "None")],
    ids=["over forks", "over copies in a container"],
)
def test_a_team_works_through_sandboxes_and_hands_in(
    environment: str, backend: str, seconds: str, tmp_path: Path
) -> None:
    asked = ("-a", TEAM, "-m", "some/model", "-e", environment)
    stand_in = ("--ak", "team=tests.harbor.standin:solve")
    trial = harbor(tmp_path, EXAMPLES / "page-count", *asked, *stand_in)["page-count"]
    assert trial.reward == 1.0, trial.exception
    told = trial.told["agent_result"]
    assert (told["n_input_tokens"], told["n_cache_tokens"], told["n_output_tokens"]) == (12, 2, 3)
    assert told["cost_usd"] == 0.5
    assert told["metadata"]["outcome"] == "complete"
    assert told["metadata"]["sandboxes"] in (backend, "copy" if backend == "overlay" else backend)
    note = trial.folder / "agent" / "standin.txt"
    assert note.read_text() == f"some/model {seconds}"


@pytest.mark.parametrize(
    "environment", [OURS, "tests.harbor.plain:PlainEnvironment"], ids=["over forks", "over copies"]
)
def test_the_code_team_itself_solves_a_task(environment: str, tmp_path: Path) -> None:
    """With a scripted model that makes real calls: two coders at once, merged, landed."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"name": "scripted", "rules": RULES}))
    asked = ("-a", TEAM, "-m", f"script:{script}", "-e", environment)
    trial = harbor(tmp_path, EXAMPLES / "page-count", *asked)["page-count"]
    assert trial.reward == 1.0, (trial.exception, list(trial.folder.rglob("*")))
    told = trial.told["agent_result"]
    assert told["metadata"]["outcome"] == "complete"
    assert told["n_input_tokens"] > 1000
    assert (trial.folder / "agent/journal.db").exists()


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": name, "arguments": arguments}]}


def _coder(id: str, instructions: str) -> dict[str, str]:
    return {"id": id, "role": "coder", "title": f"Do {id}", "instructions": instructions}


RULES = [
    {
        "role": "orchestrator",
        "replies": [
            _call("delegate_many", tasks=[_coder("count", "Mend."), _coder("ends", "Mend.")]),
            {"answer": {"summary": "Done."}},
        ],
    },
    {
        "role": "coder",
        "task": "Do count",
        "replies": [
            _call(
                "edit",
                path="/app/pager/pages.py",
                old="return total // size",
                new="return -(-total // size)",
            ),
            {"answer": {"summary": "Done.", "changed": ["pager/pages.py"]}},
        ],
    },
    {
        "role": "coder",
        "task": "Do ends",
        "replies": [
            _call(
                "bash",
                command="sed -i -e 's|start + size - 1|start + size|' "
                "-e 's|range(1, count(len(items), size))|range(1, count(len(items), size) + 1)|' "
                "pager/pages.py && touch empty && mkdir new && ln -s pages.py pager/link",
            ),
            {"answer": {"summary": "Done.", "changed": ["pager/pages.py"]}},
        ],
    },
]


def test_what_is_not_handed_in_does_not_count(tmp_path: Path) -> None:
    asked = ("-a", TEAM, "-e", OURS, "--ak", "team=tests.harbor.standin:nothing")
    trial = harbor(tmp_path, EXAMPLES / "page-count", *asked)["page-count"]
    assert trial.reward == 0.0, trial.exception
    assert trial.told["agent_result"]["metadata"]["outcome"] == "partial"


def test_a_team_that_is_not_there_is_told(tmp_path: Path) -> None:
    asked = ("-a", TEAM, "-e", OURS, "--ak", "team=no.such.team:solve")
    trial = harbor(tmp_path, EXAMPLES / "page-count", *asked)["page-count"]
    assert trial.reward is None or trial.reward == 0
    assert "there is no team 'no.such.team:solve'" in trial.exception


def test_a_task_that_allows_the_network_is_refused_unless_it_is_said(tmp_path: Path) -> None:
    task = tmp_path / "page-count"
    shutil.copytree(EXAMPLES / "page-count", task)
    config = task / "task.toml"
    config.write_text(config.read_text().replace('network_mode = "no-network"\n', ""))
    refused = harbor(tmp_path / "a", task, "-a", "oracle", "-e", OURS)
    assert all(trial.reward is None for trial in refused.values())
    assert any("no network here" in trial.exception for trial in refused.values()), refused
    said = harbor(tmp_path / "b", task, "-a", "oracle", "-e", OURS, "--ek", "offline=true")
    assert said["page-count"].reward == 1.0, said["page-count"].exception
