"""study.toml: what loads, and what is said of what does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from manyhands.errors import StudyError
from manyhands.teams.lab.paths import is_plain, matches
from manyhands.teams.lab.study import Study, load_study, parse_study

TOML = """
[study]
name = "tiny"
objective = "Lower it."

[files]
edit = ["train.py"]
protect = ["evaluate.py"]

[prepare]
command = "python data.py --out {data} --sealed {sealed}"

[train]
command = "python train.py --seed {seed} --data {data} --out {out}"
env = { CACHE = "{data}/cache" }

[metric]
name = "loss"
direction = "lower"
evaluate = "python evaluate.py --artifact {out} --data {data}"
holdout = "python evaluate.py --artifact {out} --data {sealed}"
min = 0.5
max = 9.0

[limits]
seconds = 120

[settings.RATE]
low = 0.001
high = 1
log = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.py", "evaluate.py", "data.py"):
        (tmp_path / name).write_text("RATE = 0.1\n")
    (tmp_path / "study.toml").write_text(TOML)
    return tmp_path


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in TOML
    (folder / "study.toml").write_text(TOML.replace(old, new))
    return folder


class TestLoading:
    def test_what_is_there(self, folder: Path) -> None:
        study = load_study(folder)
        assert (study.name, study.dir, study.edit_files) == ("tiny", folder, ("train.py",))
        assert study.config.limits.seconds == 120
        assert study.config.promotion.alpha == 0.05
        assert study.config.settings["RATE"].high == 1
        assert load_study(folder / "study.toml") == study

    def test_the_fingerprint_is_of_what_is_protected(self, folder: Path) -> None:
        first = load_study(folder).fingerprint
        (folder / "train.py").write_text("RATE = 0.2\n")
        assert load_study(folder).fingerprint == first
        (folder / "evaluate.py").write_text("print(0)\n")
        second = load_study(folder).fingerprint
        assert second != first
        changed(folder, "seconds = 120", "seconds = 121")
        assert load_study(folder).fingerprint not in (first, second)

    def test_editable(self, folder: Path) -> None:
        study = load_study(
            changed(
                folder, '["train.py"]', '["train.py", "src/**/*.py"]'.replace(', "src/**/*.py"', "")
            )
        )
        assert study.editable("train.py")
        for path in ("evaluate.py", "study.toml", "x/train.py", "../train.py", "./train.py", ""):
            assert not study.editable(path)


class TestCommands:
    def test_words(self, folder: Path) -> None:
        study = load_study(folder)
        data, out = Path("/with space/d"), Path("/o")
        words = ("train.py", "--seed", "3", "--data", "/with space/d", "--out", "/o")
        assert study.train_argv(3, data, out) == (sys.executable, *words)
        assert study.train_env(3, data, out) == {"CACHE": "/with space/d/cache"}
        assert study.evaluate_argv(out, data)[1:] == (
            "evaluate.py",
            "--artifact",
            "/o",
            "--data",
            str(data),
        )
        assert study.holdout_argv(out, data, Path("/s")) == (
            sys.executable,
            "evaluate.py",
            "--artifact",
            "/o",
            "--data",
            "/s",
        )
        assert study.prepare_argv(data, Path("/s")) is not None

    def test_braces_quotes_and_other_programs(self, folder: Path) -> None:
        study = load_study(folder)
        assert study.argv("""sh -c 'echo "{{x}} {out}"'""", out=Path("/o")) == (
            "sh",
            "-c",
            'echo "{x} /o"',
        )

    def test_another_interpreter(self, folder: Path) -> None:
        python = folder / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        (folder / ".venv/pyvenv.cfg").write_text("")
        study = load_study(
            changed(folder, 'name = "tiny"', 'name = "tiny"\npython = ".venv/bin/python"')
        )
        assert study.train_argv(0, Path("/d"), Path("/o"))[0] == str(python)
        assert folder / ".venv" in study.read_paths

    def test_home(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/h")
        study = load_study(changed(folder, '"{data}/cache"', '"~/{data}"'))
        assert study.train_env(0, Path("d"), Path("/o")) == {"CACHE": "/h/d"}
        assert study.argv("sh ~ ~/x a~ ~b") == ("sh", "/h", "/h/x", "a~", "~b")


class TestPaths:
    def test_hidden(self, folder: Path, tmp_path: Path) -> None:
        study = load_study(
            changed(folder, "[limits]", '[data]\nread = ["~/r"]\nhidden = ["h"]\n[limits]')
        )
        sealed = tmp_path / "sealed"
        sealed.mkdir()
        assert study.hidden_paths() == (folder / "h",)
        assert study.hidden_paths(sealed) == (folder / "h", sealed)
        (sealed / "hidden.json").write_text(json.dumps(["/lib/x.py"]))
        assert study.hidden_paths(sealed) == (folder / "h", sealed, Path("/lib/x.py"))
        assert Path("~/r").expanduser() in study.read_paths
        with pytest.raises(StudyError, match="~/r"):
            study.check_paths()

    @pytest.mark.parametrize("text", ["{", '{"a": 1}', '["relative"]', "[1]"])
    def test_a_list_of_hidden_paths_that_is_none(
        self, folder: Path, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "hidden.json").write_text(text)
        with pytest.raises(StudyError, match=r"hidden\.json"):
            load_study(folder).hidden_paths(tmp_path)


class TestNumbers:
    def test_gain_is_positive_when_better(self, folder: Path) -> None:
        assert load_study(folder).gain(1.0, master=3.0) == 2.0
        changed(folder, '"lower"', '"higher"')
        assert load_study(folder).gain(1.0, master=3.0) == -2.0

    def test_implausible(self, folder: Path) -> None:
        study = load_study(folder)
        assert study.implausible(1.0) == ""
        for value in (0.1, 10.0, float("nan"), float("inf")):
            assert study.implausible(value)

    def test_slots(self, folder: Path) -> None:
        assert load_study(folder).slot_count == 1
        assert (
            load_study(changed(folder, "[limits]", '[slots]\ncount = "auto"\n[limits]')).slot_count
            >= 1
        )


#: (what to replace, by what) -> words that the error must hold.
WRONG: dict[tuple[str, str], tuple[str, ...]] = {
    ('name = "tiny"', 'name = "Tiny Model"'): ("study.name", "Tiny Model"),
    ('objective = "Lower it."', ""): ("study.objective is missing", "add study.objective"),
    ("seconds = 120", "secs = 120"): ("'secs'", "[limits]", "did you mean 'seconds'?"),
    ("[limits]", "[limit]"): ("'limit'", "at the top", "did you mean 'limits'?"),
    ("high = 1\n", "hihg = 1\n"): ("'hihg'", "did you mean 'high'?"),
    ("seconds = 120", "seconds = -3"): ("limits.seconds = -3", "greater than 0"),
    ("seconds = 120", 'seconds = "120"'): ("limits.seconds", '"120"', "number"),
    ("seconds = 120", "seconds = inf"): ("limits.seconds", "finite"),
    ("seconds = 120", "memory_mb = true"): ("limits.memory_mb = true", "integer"),
    ('direction = "lower"', 'direction = "down"'): (
        "metric.direction", '"down"', "'lower' or 'higher'",
    ),
    ("min = 0.5", "min = 9.5"): ("metric.min = 9.5", "metric.max = 9"),
    ("low = 0.001", "low = 2"): ("settings.RATE.low = 2", "settings.RATE.high = 1"),
    ("low = 0.001", "low = 0"): ("settings.RATE.low = 0", "log"),
    ("low = 0.001\n", ""): ("settings.RATE", "low and high"),
    ("log = true", "choices = [1, 2]"): ("settings.RATE", "both choices and a range"),
    ("low = 0.001\nhigh = 1\nlog = true", "choices = [1, 1]"): (
        "settings.RATE.choices", "at least 2",
    ),
    ('edit = ["train.py"]', 'edit = ["trian.py"]'): ("'trian.py'", "matches no file", "'train.py'"),
    ('edit = ["train.py"]', "edit = []"): ("files.edit", "at least 1"),
    ('edit = ["train.py"]', 'edit = ["../train.py"]'): ("'../train.py'", "plain path"),
    ('edit = ["train.py"]', 'edit = ["/etc/passwd"]'): ("'/etc/passwd'", "plain path"),
    ('edit = ["train.py"]', 'edit = ["train.py", "study.toml"]'): (
        "study.toml", "always protected",
    ),
    ('protect = ["evaluate.py"]', 'protect = ["train.py"]'): ("'train.py'", "both files.edit and"),
    ('protect = ["evaluate.py"]', 'protect = ["none.py"]'): ("'none.py'", "matches no file"),
    ('edit = ["train.py"]\nprotect = ["evaluate.py"]', 'edit = ["evaluate.py"]'): (
        "metric.evaluate", "'evaluate.py'", "agents may edit",
    ),
    ("--seed {seed}", "--seed {sed}"): ("train.command", "{sed}", "{seed}"),
    ("--seed {seed}", "--seed {sealed}"): ("train.command", "{sealed}", "take {sealed} out"),
    ('"{data}/cache"', '"{sealed}/cache"'): ("train.env.CACHE", "{sealed}"),
    ("CACHE =", "MANYHANDS_SEED ="): ("MANYHANDS_SEED", "the harness sets"),
    ("evaluate.py --artifact {out} --data {data}", "evaluate.py --data {data}"): (
        "metric.evaluate", "{out}",
    ),
    ("--artifact {out} --data {data}", "--artifact {out} --data {sealed}"): (
        "metric.evaluate", "{sealed}",
    ),
    ("python evaluate.py --artifact {out} --data {data}", "python eval.py {out}"): (
        "metric.evaluate", "'eval.py'", "not there",
    ),
    ("python train.py --seed", "python 'train.py --seed"): ("train.command", "quot"),
    ('evaluate = "python evaluate.py --artifact {out} --data {data}"', ""): (
        "metric.evaluate is missing",
    ),
    ('[prepare]\ncommand = "python data.py --out {data} --sealed {sealed}"', ""): (
        "{data}", "no [prepare]",
    ),
    ("[limits]", "[promotion]\nalpha = 0.7\n[limits]"): ("promotion.alpha = 0.7", "less than 0.5"),
    ("[limits]", "[promotion]\nscreen_seeds = 30\n[limits]"): (
        "screen_seeds = 30", "max_pairs = 2",
    ),
    ("[limits]", "[budget]\nruns = 4\n[limits]"): ("budget.runs = 4", "baseline_seeds = 4"),
    ("[limits]", "[slots]\ncount = 0\n[limits]"): ("slots.count = 0", "greater than or equal to 1"),
    ("[limits]", '[data]\nhidden = ["."]\n[limits]'): ("data.hidden = '.'", "hides the study"),
    ("[limits]", '[data]\nread = ["/a/b"]\nhidden = ["/a"]\n[limits]'): ("'/a/b'", "within"),
    ('name = "tiny"', 'name = "tiny"\npython = "nope/python"'): ("'nope/python'", "executable"),
    ("[study]", "[study"): ("not TOML", "line 2"),
}  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("change", WRONG, ids=lambda c: c[1].strip().replace("\n", " ")[-40:])
    def test_it_names_file_key_value_limit_and_next_action(
        self, folder: Path, change: tuple[str, str]
    ) -> None:
        with pytest.raises(StudyError) as caught:
            load_study(changed(folder, *change))
        said = str(caught.value)
        assert str(folder / "study.toml") in said
        assert caught.value.next
        for word in WRONG[change]:
            assert word in said

    def test_all_problems_are_told_at_once(self, folder: Path) -> None:
        changed(folder, "min = 0.5", "min = 10.0\n[budget]\nruns = 1")
        text = (folder / "study.toml").read_text().replace("max = 9.0", "")
        (folder / "study.toml").write_text(text.replace("low = 0.001", "low = 5"))
        with pytest.raises(StudyError) as caught:
            load_study(folder)
        assert "budget.runs" in str(caught.value)
        assert "settings.RATE" in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match=r"no study\.toml") as caught:
            load_study(tmp_path)
        assert "manyhands lab init" in caught.value.next
        with pytest.raises(StudyError, match="no such folder"):
            load_study(tmp_path / "nowhere")

    def test_not_text(self, folder: Path) -> None:
        (folder / "study.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(StudyError, match="UTF-8"):
            load_study(folder)

    def test_a_link_is_not_edited(self, folder: Path) -> None:
        (folder / "train.py").unlink()
        (folder / "train.py").symlink_to("data.py")
        with pytest.raises(StudyError, match="symbolic link"):
            load_study(folder)

    @pytest.mark.parametrize(
        ("evaluator", "between"),
        [
            ("from train import Model", ""),
            ("import model", "import train"),
            ("import lib.deep", ""),
        ],
    )
    def test_an_evaluator_that_imports_what_agents_edit(
        self, folder: Path, evaluator: str, between: str
    ) -> None:
        (folder / "evaluate.py").write_text(evaluator)
        (folder / "model.py").write_text(between)
        (folder / "lib").mkdir()
        (folder / "lib/__init__.py").write_text("")
        (folder / "lib/deep.py").write_text("from train import x\n")
        with pytest.raises(StudyError, match=r"imports 'train\.py', which agents may edit"):
            load_study(folder)


def test_parsing_needs_no_folder() -> None:
    assert parse_study(TOML).metric.name == "loss"


def test_a_study_is_frozen(folder: Path) -> None:
    study = load_study(folder)
    assert isinstance(study, Study)
    with pytest.raises(ValueError, match="frozen"):
        study.config.limits.seconds = 3


class TestGlobs:
    @pytest.mark.parametrize(
        ("glob", "path", "fits"),
        [
            ("*.py", "a.py", True),
            ("*.py", "b/a.py", False),
            ("**/*.py", "a.py", True),
            ("**/*.py", "b/c/a.py", True),
            ("src/", "src/a/b", True),
            ("src/**", "src", False),
            ("a?c", "abc", True),
            ("a?c", "a/c", False),
            ("[ab].py", "b.py", True),
            ("[!ab].py", "b.py", False),
            ("a.py", "axpy", False),
            ("a.py", "a.py\n", False),
            ("x+(1)", "x+(1)", True),
        ],
    )
    def test_matches(self, glob: str, path: str, fits: bool) -> None:
        assert matches(path, [glob]) is fits

    @pytest.mark.parametrize("path", ["a", "a/b.py", "ä", "a b", "...", ".github/x"])
    def test_plain(self, path: str) -> None:
        assert is_plain(path)

    @pytest.mark.parametrize(
        "path", ["", "/a", "a/", "../a", "a/../b", "./a", "a\\b", "a\0", ".Git/x"]
    )
    def test_not_plain(self, path: str) -> None:
        assert not is_plain(path)
