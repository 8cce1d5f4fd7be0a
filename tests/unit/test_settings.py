"""Settings: found by syntax, ranged, replaced to the byte."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import StudyError
from manyhands.teams.lab.schema import SettingRange
from manyhands.teams.lab.settings import Setting, apply, find_settings, value_problem

AUTORESEARCH = '''"""Doc."""
import os
from dataclasses import dataclass

@dataclass
class Config:
    width: int = 3

# Model architecture
ASPECT_RATIO = 64       # model_dim = depth * ASPECT_RATIO
WINDOW_PATTERN = "SSSL" # sliding window pattern
TOTAL_BATCH_SIZE = 2**19 # ~524K tokens
MATRIX_LR = 0.04        # learning rate
ADAM_BETAS = (0.8, 0.95) # Adam beta1, beta2
WARMUP_RATIO = 0.0      # fraction
DEPTH = 8               # layers
CAUTIOUS = True
PEAK_FLOPS = 989.5e12
step = 0
seed_everything: int = 7
dropout: float = 0.1
TABLE = [1, 2, 3, 4, 5]
TWICE = 1
TWICE = 2
A = B = 3
C, D = 1, 2
PATH = os.getcwd()
for INDEX in range(3):
    pass
COUNTER = 0

def f():
    global COUNTER
    COUNTER += 1
    LOCAL = 3
    return LOCAL
'''


@pytest.fixture
def found() -> dict[str, Setting]:
    return find_settings({"train.py": AUTORESEARCH, "notes.md": "X = 3"})


def test_what_is_a_setting(found: dict[str, Setting]) -> None:
    assert {name: s.value for name, s in found.items()} == {
        "ASPECT_RATIO": 64,
        "WINDOW_PATTERN": "SSSL",
        "TOTAL_BATCH_SIZE": 524288,
        "MATRIX_LR": 0.04,
        "ADAM_BETAS[0]": 0.8,
        "ADAM_BETAS[1]": 0.95,
        "WARMUP_RATIO": 0.0,
        "DEPTH": 8,
        "CAUTIOUS": True,
        "PEAK_FLOPS": 989.5e12,
        "seed_everything": 7,
        "dropout": 0.1,
    }
    assert (found["DEPTH"].path, found["DEPTH"].line, found["DEPTH"].kind) == (
        "train.py",
        16,
        "int",
    )


class TestInference:
    @pytest.mark.parametrize(
        ("text", "low", "high", "log"),
        [
            ("X = 100", 25, 400, True),
            ("X = 3", 1, 12, False),
            ("X = 0.04", 0.004, 0.4, True),
            ("X = 0.6", 0.06, 1.0, True),
            ("X = 3.0", 0.3, 30.0, True),
            ("ADAM_BETA2 = 0.95", 0.5, 0.995, False),
            ("WARMUP_RATIO = 0.0", 0.0, 1.0, False),
        ],
    )
    def test_a_range(self, text: str, low: float, high: float, log: bool) -> None:
        (setting,) = find_settings({"a.py": text}).values()
        assert setting.low == pytest.approx(low)
        assert setting.high == pytest.approx(high)
        assert setting.log is log
        assert setting.inferred
        assert setting.note

    @pytest.mark.parametrize(
        ("text", "choices"),
        [
            ("X = 64", (16, 32, 64, 128, 256)),
            ("X = 2**3", (2, 4, 8, 16, 32)),
            ("X = True", (False, True)),
        ],
    )
    def test_choices(self, text: str, choices: tuple[int, ...]) -> None:
        (setting,) = find_settings({"a.py": text}).values()
        assert setting.choices == choices

    @pytest.mark.parametrize(
        "text",
        ["X = 0", "X = 0.0", "X = -3", "X = -0.5", 'X = "a"', "X = 1e12", "RANDOM_SEED = 42"],
    )
    def test_what_is_not_searched_says_why(self, text: str) -> None:
        (setting,) = find_settings({"a.py": text}).values()
        assert not setting.searched
        assert setting.note.startswith("not searched: ")


class TestDeclared:
    def test_a_range(self) -> None:
        ranges = {"X": SettingRange(low=1, high=9, log=True), "Y": SettingRange(choices=("a", "b"))}
        found = find_settings({"a.py": "X = 4\nY = 'a'"}, ranges)
        assert (found["X"].low, found["X"].high, found["X"].log) == (1.0, 9.0, True)
        assert found["X"].choices == ()
        assert found["Y"].choices == ("a", "b")
        assert not found["X"].inferred

    @pytest.mark.parametrize(
        ("given_range", "says"),
        [
            (SettingRange(low=1.5, high=9), "1.5 does not fit 4"),
            (SettingRange(choices=("a", "b")), "'a', 'b' does not fit 4"),
            (SettingRange(low=5, high=9), r"outside of \[5, 9\]"),
            (SettingRange(choices=(1, 2)), "none of 1, 2"),
        ],
    )
    def test_one_that_does_not_fit(self, given_range: SettingRange, says: str) -> None:
        with pytest.raises(StudyError, match=says) as caught:
            find_settings({"a.py": "X = 4"}, {"X": given_range})
        assert "study.toml: settings.X" in caught.value.what
        assert caught.value.next

    def test_a_text_has_no_range(self) -> None:
        with pytest.raises(StudyError, match="does not fit 'a'"):
            find_settings({"a.py": "X = 'a'"}, {"X": SettingRange(low=1, high=2)})

    def test_an_unknown_name(self) -> None:
        with pytest.raises(StudyError, match=r"Y is no setting of a\.py") as caught:
            find_settings({"a.py": "X = 4"}, {"Y": SettingRange(low=1, high=2)})
        assert "X" in caught.value.next

    def test_a_name_in_two_files_is_ambiguous(self) -> None:
        files = {"a.py": "X = 4\nY = 1", "b.py": "X = 4"}
        assert set(find_settings(files)) == {"Y"}
        with pytest.raises(StudyError, match="several files"):
            find_settings(files, {"X": SettingRange(low=1, high=9)})

    def test_a_file_that_is_not_python(self) -> None:
        with pytest.raises(StudyError, match=r"a\.py: not valid Python"):
            find_settings({"a.py": "X = "})


class TestApply:
    @pytest.mark.parametrize(
        ("text", "name", "value", "after"),
        [
            ("X = 0.04   # rate\n", "X", 0.1, "X = 0.1   # rate\n"),
            ("é = 'ü'; X = 3  # ö", "X", 5, "é = 'ü'; X = 5  # ö"),
            ("X = 2**19\n", "X", 2**17, "X = 2**17\n"),
            ("X = 2 ** 19\n", "X", 3, "X = 3\n"),
            ("X = 1 << 4\n", "X", 8, "X = 1 << 3\n"),
            ("X = 10_000\n", "X", 2_000_000, "X = 2_000_000\n"),
            (
                "X: float = (\n    0.5  # half\n)\n",
                "X",
                0.25,
                "X: float = (\n    0.25  # half\n)\n",
            ),
            ("X = -0.5\n", "X", 0.5, "X = 0.5\n"),
            ("X = (0.8, 0.95)\n", "X[1]", 0.99, "X = (0.8, 0.99)\n"),
            ('X = "a"\n', "X", 'b"\\', 'X = "b\\"\\\\"\n'),
            ("X = 'a'\n", "X", "b", "X = 'b'\n"),
            ("X = True\r\nY = 1\r\n", "X", False, "X = False\r\nY = 1\r\n"),
            ("'''\f\x0b'''\nX = 1\rY = 2\n", "Y", 3, "'''\f\x0b'''\nX = 1\rY = 3\n"),
            ("X = 1.0\n", "X", 3, "X = 3.0\n"),
            ("X = 8\n", "X", 16.0, "X = 16\n"),
            ("X = 1e-3\n", "X", 0.001, "X = 1e-3\n"),
        ],
    )
    def test_exactly_the_literal(self, text: str, name: str, value: object, after: str) -> None:
        assert isinstance(value, bool | int | float | str)
        assert apply(text, name, value) == after

    @pytest.mark.parametrize(
        "name", ["NONE", "TWICE", "A", "C", "step", "COUNTER", "INDEX", "LOCAL"]
    )
    def test_absent_and_ambiguous_names(self, name: str) -> None:
        with pytest.raises(StudyError, match=f"{name} is not one unambiguous setting") as caught:
            apply(AUTORESEARCH, name, 1)
        assert "DEPTH" in caught.value.next

    @pytest.mark.parametrize(
        ("name", "value"),
        [("DEPTH", 1.5), ("DEPTH", True), ("MATRIX_LR", "0.1"), ("MATRIX_LR", float("nan"))],
    )
    def test_another_type(self, name: str, value: float | str) -> None:
        with pytest.raises(StudyError, match=name):
            apply(AUTORESEARCH, name, value)

    @given(st.one_of(st.text(), st.floats(allow_nan=False, allow_infinity=False)))
    def test_what_is_written_is_what_is_read(self, value: str | float) -> None:
        text = "# ä\nT = 'x'  # t\nN = 1.0  # n\n"
        name = "T" if isinstance(value, str) else "N"
        try:
            value_text = isinstance(value, str) and value.encode()
        except UnicodeEncodeError:
            return
        assert value_text is not None
        changed = apply(text, name, value)
        assert find_settings({"a.py": changed})[name].value == value
        assert changed.endswith("  # n\n")
        ast.parse(changed)


@pytest.mark.parametrize(
    "text",
    ["X = 9**9**9", "X = 10**10**10", "X = 1 << 10**9", "X = 1e999", "X = 1/0", "X = (-1)**0.5",
     "X = 0x" + "f" * 9999, "X = 1j", "X = b''", "X = None", "X = f'{1}'", "X = 'a' * 10**9",
     "X = [1] * 3", "X = {}", "X = ()", "X = -'a'", "X = True + True"],
)  # fmt: skip
def test_what_is_no_setting(text: str) -> None:
    assert find_settings({"a.py": text}) == {}


@pytest.mark.parametrize(
    ("present", "value", "wrong"),
    [
        (8, 16, False),
        (8, 8.0, True),
        (0.5, 1, False),
        (True, 1, True),
        ("a", 1, True),
        (8, 99, True),
    ],
)
def test_value_problem(present: int, value: int, wrong: bool) -> None:
    limits = SettingRange(low=1, high=50) if isinstance(present, int) and present > 1 else None
    assert bool(value_problem("X", present, value, limits)) is wrong
