"""The examples run, and what the documentation says is there: links, commands, code."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from manyhands import errors
from manyhands.cli import app
from manyhands.config import Config, ModelConfig
from manyhands.runtime import Type
from manyhands.teams.lab.preflight import RULES
from manyhands.teams.lab.records import Verdict
from manyhands.teams.lab.reviewer import RULES as REVIEW_RULES
from manyhands.teams.lab.schema import (
    AblationRules,
    About,
    Data,
    Drift,
    Files,
    Limits,
    Metric,
    Papers,
    Prepare,
    Promotion,
    Pruning,
    Section,
    Slots,
    StudyBudget,
    StudyConfig,
    Train,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
ANSWER = ROOT / "docs/how-to/answer-a-question.md"
WORKFLOW = ROOT / "docs/how-to/write-a-workflow.md"

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```+)(\w*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_SHOWN = ("text",)  # what a program printed, not what a person types


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(program: Path | str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -------------------------------------------------------------------- examples


def test_durable_steps_prints_what_its_readme_says(tmp_path: Path) -> None:
    printed = run(ROOT / "examples/durable_steps.py", tmp_path)
    shown = (ROOT / "examples/README.md").read_text()
    assert f"```text\n{printed}```" in shown


def test_the_blocks_of_write_a_workflow_are_one_program(tmp_path: Path) -> None:
    blocks = [text for _, kind, text in _FENCE.findall(WORKFLOW.read_text()) if kind == "python"]
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks))
    printed = run(program, tmp_path)
    assert "'characters': 39" in printed
    assert printed.rstrip().endswith("yes")


def test_the_program_of_answer_a_question_answers(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/answer", tmp_path / "examples/answer")
    blocks = [text for _, kind, text in _FENCE.findall(ANSWER.read_text()) if kind == "python"]
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks))
    printed = run(program, tmp_path)
    assert "- A new environment with Flask holds 7 packages. [5]" in printed
    assert "5 flask.md#2 A new environment with Flask holds 7 packages" in printed


# -------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, punctuation away, spaces to hyphens."""
    plain = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+\s+(.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken: list[str] = []
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        there = (page.parent / path).resolve() if path else page
        lost = anchor and there.suffix == ".md" and there.exists() and anchor not in anchors(there)
        if not there.exists() or lost or not there.is_relative_to(ROOT):
            broken.append(target)
    assert not broken


# -------------------------------------------------------------------- commands


def commands(page: Path) -> Iterator[str]:
    """Every `manyhands …` that a page tells its reader to type."""
    text = page.read_text()
    for _, kind, block in _FENCE.findall(text):
        if kind not in (*_SHOWN, "python", "toml", "markdown"):
            yield from _typed(block)
    rest = _FENCE.sub("", text)
    yield from _typed("\n".join(re.findall(r"^    (.*)$", rest, re.MULTILINE)))
    # In a sentence a command may be named over a line's end.
    spans = re.findall(r"`([^`]+)`", re.sub(r"^    .*$", "", rest, flags=re.MULTILINE))
    yield from _typed("\n".join(" ".join(span.split()) for span in spans))


def _typed(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        found = re.match(r"(?:\S*/)?manyhands(?: (.*))?$", line.strip().removeprefix("$ "))
        if found:
            yield found[1] or ""


def problem(words: list[str]) -> str:
    """Why the command line is none; '' if it is. Nothing is run."""
    command: Any = typer.main.get_command(app)
    path: list[str] = []
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word.startswith("-"):
            words.insert(0, word)
            break
        if word == "…":
            return ""
        if word not in command.commands:
            return f"no command {' '.join([*path, word])}"
        command = command.commands[word]
        path.append(word)
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    unknown = [w for w in words if w.startswith("-") and w.partition("=")[0] not in options]
    wrong = [w for w in unknown if w not in ("--help", "-h")]
    return f"{' '.join(path)} has no {', '.join(wrong)}" if wrong else ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    found = {
        line: why
        for line in commands(page)
        if (why := problem(shlex.split(re.split(r"\s[|&>]|\s#", line)[0])))
    }
    assert not found


def test_the_checker_knows_a_wrong_command_from_a_right_one() -> None:
    assert problem(["lab", "run", ".", "--slots", "2"]) == ""
    assert problem(["lab", "rnu", "."]) == "no command lab rnu"
    assert problem(["lab", "run", ".", "--slot", "2"]) == "lab run has no --slot"
    assert len([line for page in PAGES for line in commands(page)]) > 80


def test_the_reference_names_every_command() -> None:
    """What `--help` lists, ``docs/reference/cli.md`` has."""
    text = (ROOT / "docs/reference/cli.md").read_text()
    root: Any = typer.main.get_command(app)
    every = {n for n in root.commands if n != "lab"}
    every |= {f"lab {n}" for n in root.commands["lab"].commands}
    assert not [n for n in sorted(every) if f"`manyhands {n}" not in text]
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


def test_the_reference_names_every_key_of_study_toml() -> None:
    text = (ROOT / "docs/reference/study-toml.md").read_text()
    sections: dict[str, type[Section]] = {
        "study": About,
        "files": Files,
        "prepare": Prepare,
        "train": Train,
        "metric": Metric,
        "data": Data,
        "papers": Papers,
        "limits": Limits,
        "slots": Slots,
        "budget": StudyBudget,
        "promotion": Promotion,
        "ablation": AblationRules,
        "drift": Drift,
        "pruning": Pruning,
    }
    assert {*sections, "settings"} == set(StudyConfig.model_fields)
    keys = [f"{name}.{key}" for name, model in sections.items() for key in model.model_fields]
    assert not [key for key in keys if f"`{key}`" not in text]
    rules = {*RULES, *(rule for rule, _ in REVIEW_RULES)}
    assert not [word for word in {*Verdict, *rules} - {Verdict.BASELINE} if word not in text]


def test_the_reference_names_every_event_and_setting() -> None:
    journal = (ROOT / "docs/reference/journal.md").read_text()
    assert not [t for t in Type if f"`{t}`" not in journal]
    configuration = (ROOT / "docs/reference/configuration.md").read_text()
    keys = {*Config.model_fields, *ModelConfig.model_fields}
    assert not [key for key in keys if key not in configuration]


def test_the_reference_names_every_exit_code() -> None:
    text = (ROOT / "docs/reference/cli.md").read_text()
    codes = {
        e.exit_code
        for e in vars(errors).values()
        if isinstance(e, type) and e.__module__ == errors.__name__
    }
    assert not [code for code in codes - {1} if f"| {code} |" not in text]
