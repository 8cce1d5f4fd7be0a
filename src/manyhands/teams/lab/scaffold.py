"""`manyhands lab init`: a study for a repository that exists, proposed, asked about, written.

`inspect_repository` reads and changes nothing; `answer` asks a person; `write_study` writes, and
what it wrote loads with `load_study`.

Invariant: no file is overwritten without ``force``, no file of the user's is changed unless the
patch is asked for, and if the study would not load, everything is as it was before.
"""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from manyhands.errors import StudyError
from manyhands.teams.lab import autoresearch
from manyhands.teams.lab.paths import list_files
from manyhands.teams.lab.schema import FILE, Promotion, StudyBudget
from manyhands.teams.lab.settings import Setting, find_settings
from manyhands.teams.lab.study import load_study

Ask = Callable[[str, str], str]
_INTERPRETERS = (".venv/bin/python", "venv/bin/python")
_SCRIPTS = ("train.py", "main.py", "run.py", "experiment.py")
_EVALUATORS = ("evaluate.py", "eval.py", "score.py")
_WORTH_PROTECTING = ("pyproject.toml", "uv.lock", "requirements.txt", ".python-version")
_METRIC = re.compile(
    r"\b((?:val|valid|validation|test|dev)?_?"
    r"(?:loss|bpb|ppl|perplexity|accuracy|acc|error|rmse|mse|mae|score|auc|f1|reward))\b"
)
_HIGHER = re.compile(r"acc|score|auc|f1|reward")

SKELETON = '''"""Measures what training left behind. Protected: experiments do not change this file.

The harness runs it; no code that training may have changed must run here. Its last line of output
is one JSON object that holds the metric under its name.
"""

import json
import sys

folder = sys.argv[1]  # where training left its artifact
sys.exit("evaluate.py: write down here how to measure what lies in " + folder)
print(json.dumps({"__METRIC__": 0.0}))
'''


@dataclass(frozen=True)
class Proposal:
    """A study to be. ``files``: to add, path -> text. ``patched``: files of the user's as they
    would be with ``patch``, a unified diff that is applied only when asked for. ``notes`` become
    comments in study.toml; ``open``: what a person has to decide or do before the first run."""

    kind: Literal["autoresearch", "general"]
    name: str
    objective: str
    edit: tuple[str, ...]
    protect: tuple[str, ...]
    train: str
    metric: str
    direction: str
    evaluate: str
    holdout: str = ""
    python: str = ""
    prepare: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    read: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    seconds: int = 600
    memory_mb: int = 4096
    output_mb: int = 8
    disk_mb: int = 1024
    slots: int = 1
    runs: int = StudyBudget().runs
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    patched: Mapping[str, str] = field(default_factory=dict[str, str])
    patch: str = ""
    notes: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    def still_open(self, *, patched: bool) -> tuple[str, ...]:
        """What a person has to do before the first run; the patch too, unless it was applied."""
        todo = f"apply the patch to {', '.join(self.patched)}: training leaves no model yet"
        return (*self.open, *((todo,) if self.patch and not patched else ()))


# ---------------------------------------------------------------- inspecting


def inspect_repository(folder: Path | str, **flags: Any) -> Proposal:
    """A proposal for the repository in ``folder``. ``flags``: fields of `Proposal` that are decided
    already (None: not given). Raises `StudyError` if there is nothing to experiment with."""
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder", next="name a repository's folder")
    given = {key: value for key, value in flags.items() if value is not None}
    unknown = given.keys() - {f.name for f in fields(Proposal)}
    if unknown:
        raise StudyError(f"{', '.join(sorted(unknown))}: no part of a study", next="leave it out")
    try:
        proposal = _autoresearch(root, autoresearch.recognise(root))
    except autoresearch.NotThatKind as reason:
        proposal = _general(root, tuple(given.get("edit", ())), f"{reason}")
    return _settled(replace(proposal, **given))


def _settled(proposal: Proposal) -> Proposal:
    """Without the skeleton of an evaluator, where another one measures."""
    unused = {f for f in proposal.files if f not in proposal.evaluate}
    if proposal.kind == "autoresearch" or not unused:
        return proposal
    return replace(
        proposal,
        files={f: text for f, text in proposal.files.items() if f not in unused},
        protect=tuple(f for f in proposal.protect if f not in unused),
        open=tuple(o for o in proposal.open if not any(f in o for f in unused)),
    )


def answer(proposal: Proposal, ask: Ask) -> Proposal:
    """``proposal`` with a person's answers; ``ask(question, default)`` gives each of them."""

    def several(question: str, default: Iterable[str]) -> tuple[str, ...]:
        return tuple(ask(question, " ".join(default)).replace(",", " ").split())

    answered = replace(
        proposal,
        name=ask("Name of the study", proposal.name),
        objective=ask("Objective, in a sentence", proposal.objective),
        edit=several("Files that experiments may edit", proposal.edit),
        train=ask("Command that trains", proposal.train),
        metric=ask("Metric", proposal.metric),
        direction=ask("Better is (lower or higher)", proposal.direction),
        evaluate=ask("Command that measures what training left in {out}", proposal.evaluate),
        runs=_number(ask("Training runs in all", str(proposal.runs))),
    )
    return _settled(answered)


def _number(text: str) -> int:
    if not text.strip().isdecimal():
        raise StudyError(f"{text!r} is no number of runs", next="answer with a whole number")
    return int(text)


#: The user's home is not writable for jobs, and compilers keep their caches there.
_AUTORESEARCH_ENV = {
    "HOME": "~",
    "TRITON_CACHE_DIR": "{out}/cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": "{out}/cache/inductor",
}


def _autoresearch(root: Path, found: autoresearch.Found) -> Proposal:
    budget = found.constants.get("TIME_BUDGET")
    minutes = f" in {budget / 60:g} minutes" if isinstance(budget, int | float) else ""
    read, hidden, notes = _autoresearch_data(found)
    patch = _diff("train.py", found.train, found.patched)
    added = dict((found.artifact, found.evaluate))
    kept = (*autoresearch.FILES[1:], *added, *_WORTH_PROTECTING)
    return Proposal(
        kind="autoresearch",
        name=_slug(root.name),
        objective=f"Lower {autoresearch.METRIC} of the model that train.py trains{minutes}.",
        edit=("train.py",),
        protect=tuple(f for f in kept if f in added or (root / f).is_file()),
        train="python train.py",
        metric=autoresearch.METRIC,
        direction="lower",
        # Jobs have a home of their own; prepare.py looks for its data in the user's.
        evaluate=f"python {found.evaluate[0]} --artifact {{out}} --home ~",
        python=_interpreter(root),
        env=_AUTORESEARCH_ENV | ({"HF_HUB_OFFLINE": "1"} if found.uses_kernels else {}),
        read=read,
        hidden=hidden,
        least=0.1,
        most=10.0,
        # Start, compilation and the saving of the model come on top of the training itself.
        seconds=max(600, 2 * int(budget)) if isinstance(budget, int | float) else 600,
        memory_mb=32768,
        disk_mb=8192,
        files=added,
        patched={"train.py": found.patched} if patch else {},
        patch=patch,
        notes=(*_autoresearch_notes(found, budget), *notes),
    )


def _autoresearch_data(
    found: autoresearch.Found,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(read, hidden, notes): where prepare.py put its data, as far as its text tells."""
    constants = found.constants
    cache = constants.get("CACHE_DIR", "~/.cache/autoresearch")
    read = (str(cache), *(("~/.cache/huggingface",) if found.uses_kernels else ()))
    folder, file = constants.get("DATA_DIR"), constants.get("VAL_FILENAME")
    if isinstance(folder, str) and isinstance(file, str):
        hides = "The validation data is hidden from training: it cannot be trained on."
        return read, (f"{folder}/{file}",), (hides,)
    shows = (
        "Where prepare.py keeps its validation data could not be read from its text: training can "
        "read it. Name it in data.hidden, so that nothing can train on it."
    )
    return read, (), (shows,)


def _autoresearch_notes(found: autoresearch.Found, budget: object) -> Iterator[str]:
    artifact = found.artifact[0]
    yield (
        f"The metric comes from {found.evaluate[0]}, which the harness runs on what training left; "
        "what train.py prints is not looked at. It computes the model as data, with prepare.py's "
        "evaluate_bpb, and refuses a model that looks ahead."
    )
    yield (
        f"For that train.py must call {Path(artifact).stem}.save(model): its forward pass has to "
        "be plain torch operations on token ids, or the run is a crash."
    )
    yield (
        "Batches are a quarter of train.py's, so values differ slightly from those that it prints "
        "by hand."
    )
    if isinstance(budget, int | float):
        yield (
            f"train.py trains for {budget:g} s of wall time: one run at a time, on a machine that "
            "does nothing else, or the noise grows."
        )
    yield (
        "There is no sealed holdout here: promotions are confirmed with fresh seeds, not on unseen "
        "data."
    )


def _general(root: Path, edit: tuple[str, ...], reason: str) -> Proposal:
    files = list_files(root)
    scripts = _ranked(files, _SCRIPTS)
    script = edit[0] if edit else (scripts or [""])[0]
    if not script:
        raise StudyError(
            f"{root}: no Python script to experiment with", next="name the file that may be edited"
        )
    text = _text(root / script)
    evaluators = [f for f in _ranked(files, _EVALUATORS) if Path(f).name in _EVALUATORS]
    evaluator = (evaluators or ["evaluate.py"])[0]
    metric = _metric(text)
    added = {} if evaluators else {evaluator: SKELETON.replace("__METRIC__", metric)}
    kept = (evaluator, *_WORTH_PROTECTING)
    return Proposal(
        kind="general",
        name=_slug(root.name),
        objective=f"{'Raise' if _HIGHER.search(metric) else 'Lower'} {metric}.",
        edit=edit or (script,),
        protect=tuple(f for f in kept if f in added or (root / f).is_file()),
        train=f"python {script}{_options(text, _TRAIN_OPTIONS)}",
        metric=metric,
        direction="higher" if _HIGHER.search(metric) else "lower",
        evaluate=_evaluating(evaluator, text="" if added else _text(root / evaluator)),
        python=_interpreter(root),
        files=added,
        notes=(
            "Training leaves its artifact in {out} (also MANYHANDS_OUT), seeded with {seed} (also "
            "MANYHANDS_SEED). The harness runs metric.evaluate on that; the metric is the last "
            "line of its output, as JSON. What training prints is not looked at.",
        ),
        open=tuple(_still_open(text, evaluator, added)),
    )


_TRAIN_OPTIONS = {"--seed": "{seed}", "--out": "{out}", "--output": "{out}", "--out-dir": "{out}"}
_EVALUATE_OPTIONS = ("--artifact", "--checkpoint", "--model", "--out", "--input")


def _still_open(text: str, evaluator: str, added: Mapping[str, str]) -> Iterator[str]:
    if added:
        yield f"{evaluator} is a skeleton: write down in it how to measure what training leaves"
    if "--seed" not in text and "MANYHANDS_SEED" not in text:
        yield "training does not take a seed yet: read MANYHANDS_SEED, or every run is the same one"
    if not any(o in text for o in (*_TRAIN_OPTIONS, "MANYHANDS_OUT") if o != "--seed"):
        yield "training does not write to {out} yet: read MANYHANDS_OUT"


def _options(text: str, options: Mapping[str, str]) -> str:
    present = {value: key for key, value in options.items() if re.search(rf"{key}\b(?!-)", text)}
    return "".join(f" {key} {value}" for value, key in present.items())


def _evaluating(evaluator: str, text: str) -> str:
    option = next((f"{o} " for o in _EVALUATE_OPTIONS if re.search(rf"{o}\b(?!-)", text)), "")
    return f"python {evaluator} {option}{{out}}"


def _ranked(files: Sequence[str], first: Sequence[str]) -> list[str]:
    """Python scripts near the top, the likely names first."""
    near = [f for f in files if f.endswith(".py") and f.count("/") <= 1]
    odd = re.compile(r"(^|/)(tests?/|test_|setup\.py|conftest\.py|__init__\.py)")
    names = {name: rank for rank, name in enumerate(first)}
    plain = [f for f in near if not odd.search(f)]
    return sorted(plain, key=lambda f: (names.get(Path(f).name, 99), f.count("/"), f))


def _metric(text: str) -> str:
    found = [m[1].strip("_") for m in _METRIC.finditer(text)]
    held_out = [m for m in found if re.match(r"val|test|dev", m)]
    return (held_out or found or ["loss"])[0]


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _interpreter(root: Path) -> str:
    return next((name for name in _INTERPRETERS if (root / name).exists()), "")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "study"


def _diff(path: str, before: str, after: str) -> str:
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, f"a/{path}", f"b/{path}"))


# ---------------------------------------------------------------- writing


def write_study(
    folder: Path | str, proposal: Proposal, *, force: bool = False, patch: bool = False
) -> list[Path]:
    """Write study.toml and the files that it needs; the user's own only with ``patch``. Returns
    what was written. Raises `StudyError`, with nothing changed, if a file is there and ``force``
    is not set, or if the study would not load."""
    root = Path(folder).expanduser().resolve()
    texts = {FILE: study_text(root, proposal), **proposal.files}
    _refuse_overwriting(root, texts, force)
    if patch:
        texts |= proposal.patched
    before = {path: _bytes(root / path) for path in texts}
    try:
        for path, text in texts.items():
            (root / path).write_bytes(text.encode())
        load_study(root)
    except BaseException:
        for path, content in before.items():
            _restore(root / path, content)
        raise
    return [root / path for path in texts if _bytes(root / path) != before[path]]


def _refuse_overwriting(root: Path, texts: Mapping[str, str], force: bool) -> None:
    there = [p for p, text in texts.items() if _bytes(root / p) not in (None, text.encode())]
    if there and not force:
        raise StudyError(
            f"{root}: {', '.join(there)} is there already",
            next="run again with --force to overwrite, or move it away",
        )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


# ---------------------------------------------------------------- study.toml


def study_text(root: Path, proposal: Proposal) -> str:
    """The study.toml of ``proposal``, commented."""
    p, promotion, budget = proposal, Promotion(), StudyBudget()
    study = {"name": p.name, "objective": p.objective, **({"python": p.python} if p.python else {})}
    metric: dict[str, Any] = {"name": p.metric, "direction": p.direction, "evaluate": p.evaluate}
    optional = {"holdout": p.holdout or None, "min": p.least, "max": p.most}
    metric |= {key: value for key, value in optional.items() if value is not None}
    limits = {key: getattr(p, key) for key in ("seconds", "memory_mb", "output_mb", "disk_mb")}
    promoting = {"alpha": promotion.alpha, "max_pairs": promotion.max_pairs}
    sections = [
        _comment(p.notes),
        _section("study", study),
        _section("files", {"edit": p.edit, "protect": p.protect}),
        _section("prepare", {"command": p.prepare}) if p.prepare else "",
        _section("train", {"command": p.train, **({"env": p.env} if p.env else {})}),
        _section("metric", metric),
        _section("data", {"read": p.read, "hidden": p.hidden}) if p.read or p.hidden else "",
        _comment(["Per run: wall time, memory, what it prints, what it leaves."]),
        _section("limits", limits),
        _section("slots", {"count": p.slots}),
        _section("budget", {"runs": p.runs, "plateau": budget.plateau}),
        _section("promotion", promoting),
        _settings(root, proposal),
    ]
    return "\n".join(section for section in sections if section)


def _section(name: str, values: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value).items()
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in items)} }}"
    return json.dumps(value, ensure_ascii=False)


def _comment(texts: Iterable[str]) -> str:
    lines = [line for text in texts for line in textwrap.wrap(text, 97)]
    return "".join(f"# {line}\n" for line in lines)


def _settings(root: Path, proposal: Proposal) -> str:
    """The settings as they would be searched, for a person to take up or change."""
    files = {path: proposal.patched.get(path) or _text(root / path) for path in proposal.edit}
    try:
        found = find_settings({p: text for p, text in files.items() if text})
    except StudyError as error:
        return _comment([f"No settings were read: {error.what}"])
    if not found:
        return ""
    text = "Settings found, and where they are searched. Take the # away to change one.\n\n"
    for setting in found.values():
        now = f"now {setting.value!r}; {setting.note}"
        text += f"[settings.{_key(setting)}]  # {now}\n{_ranges(setting)}\n"
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _key(setting: Setting) -> str:
    return setting.name if re.fullmatch(r"\w+", setting.name) else f'"{setting.name}"'


def _ranges(setting: Setting) -> str:
    if setting.choices:
        return f"choices = {json.dumps(list(setting.choices))}"
    if not setting.searched:
        return "low =\nhigh =" if setting.kind in ("int", "float") else "choices = []"
    log = "\nlog = true" if setting.log else ""
    return f"low = {setting.low:g}\nhigh = {setting.high:g}{log}"
