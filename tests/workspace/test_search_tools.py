"""``glob`` and ``grep``, with ripgrep where there is one and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manyhands.agents.workspace import search_program, search_tools
from tests.workspace.bench import Bench, Hands

FILES = {
    "src/a.py": b"import os\ndef needle():\n    pass\n",
    "src/deep/er/b.py": b"needle = 1\r\nother\r\nNEEDLE\r\n",
    "c.txt": b"x" * 3000 + b"needle" + b"y" * 3000 + b"\nno\n",
    "bad.txt": b"\xff\xfe needle \x1b[31m\n",
    "bin.dat": b"needle\0needle\n",
    ".hidden/d.py": b"needle\n",
    ".git/config": b"needle\n",
    "we: ird\nname": b"needle\n",
}


@pytest.fixture
def base(folder: Path) -> Path:
    (folder / "base").mkdir()
    for name, data in FILES.items():
        (folder / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "base" / name).write_bytes(data)
    return folder / "base"


def search(base: Path, rg: bool, **query: Any) -> dict[str, Any]:
    """The program alone, with or without ripgrep on its path."""
    given = {"path": "", "glob": "", "ignore_case": False, "context": 0, "limit": 100, **query}
    path = os.environ["PATH"] if rg else "/nowhere"
    done = subprocess.run(
        [sys.executable, "-I", search_program.__file__],
        cwd=base,
        input=json.dumps(given).encode(),
        env={"PATH": path},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


ENGINES = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not shutil.which("rg"), reason="no ripgrep here")),
]


@pytest.mark.parametrize("rg", ENGINES)
def test_both_engines_find_the_same(base: Path, rg: bool) -> None:
    found = search(base, rg, pattern="needle$|needle ", context=1)
    assert found["lines"] == [
        ["bad.txt", 1, True, "\udcff\udcfe needle \x1b[31m", None],
        ["src/deep/er/b.py", 1, True, "needle = 1", None],
        ["src/deep/er/b.py", 2, False, "other", None],
        ["we: ird\nname", 1, True, "needle", None],
    ]
    assert (found["matches"], found["in_files"], found["binary"]) == (3, 3, [["bin.dat"], 1])
    assert found["hidden"] == 2
    assert search(base, rg, pattern="needle", ignore_case=True, limit=2)["matches"] == 6
    assert len(search(base, rg, pattern="needle", limit=2)["lines"]) == 2
    (line,) = search(base, rg, pattern="needle", path="c.txt")["lines"]
    assert "needle" in line[3]
    assert line[4] == [2901, 3300, 6006]
    assert search(base, rg, pattern="needle", glob=".hidden/*")["matches"] == 1
    assert search(base, rg, pattern="(?<=def )needle")["matches"] == 1  # not known to ripgrep
    assert search(base, rg, pattern="(")["error"] == "pattern"


@pytest.mark.parametrize(
    ("glob", "fits", "fails"),
    [
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "a.py/x"]),
        ("src/*.py", ["src/a.py"], ["src/x/a.py", "a/src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/y/a.py"], ["srcx/a.py"]),
        ("src/**", ["src/a", "src/x/y"], ["src", "a/src/x"]),
        ("**/t/*", ["t/a", "x/t/a"], ["t/x/a", "xt/a"]),
        ("{a,b}/*.{c,d}", ["a/x.c", "b/x.d"], ["c/x.c", "a/x.e"]),
        ("[!a]?.txt", ["bb.txt", "x/cc.txt"], ["ab.txt", "b.txt"]),
        ("a[b.txt", ["a[b.txt"], ["ab.txt"]),
        ("{a", ["{a"], ["a"]),
        ("a+(b)", ["a+(b)"], ["aab"]),
    ],
)
def test_patterns_of_paths(glob: str, fits: list[str], fails: list[str]) -> None:
    pattern = search_program.pattern_of(glob)
    assert [path for path in fits if not pattern.match(path)] == []
    assert [path for path in fails if pattern.match(path)] == []


async def test_glob_and_grep_with_the_tools(base: Path, each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use("glob", pattern="**/*.py")
        assert said == "2 files; 2 hidden names were not looked at\nsrc/a.py\nsrc/deep/er/b.py"
        said = await hands.use("glob", pattern="*", limit=2)
        assert said.startswith("6 files; the first 2 are shown, 4 are left out")
        assert ".hidden/d.py" in await hands.use("glob", pattern="**/.hidden/*")
        assert "no file fits" in await hands.use("glob", pattern="*.rs")
        assert "does not exist" in await hands.refused("glob", pattern="nowhere/*.py")
        said = await hands.use("grep", pattern="needle", limit=3)
        assert said.startswith("5 matching lines in 5 files; the first 3 are shown, 2 are left out")
        assert "[1 binary files were not searched: bin.dat]" in said
        assert "[2 hidden names were not looked at]" in said
        assert "     1e: \\xff\\xfe needle \\x1b[31m" in said
        assert "[columns 2901-3300 of 6006]" in said
        assert hands.last.paths == ("bad.txt", "c.txt", "src/a.py")
        said = await hands.use("grep", pattern="needle", glob="we*")
        assert '"we: ird\\nname"\n     1: needle' in said
        assert "     2: def needle" in await hands.use("grep", pattern="needle", path="src/a.py")
        assert "did you mean src/a.py" in await hands.refused("grep", pattern="x", path="a.py")
        assert "no line matches" in await hands.use("grep", pattern="absent")
        assert "pattern '(':" in await hands.refused("grep", pattern="(")
        for given in ({"limit": 0}, {"context": 99}, {"path": "../x"}, {"pattern": "a\0"}):
            await hands.refused("grep", **{"pattern": "x", **given})

    await each_bench.use(go)


async def test_a_pattern_without_end_is_ended(  # ripgrep has no look-around: Python looks
    base: Path, each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tools, "SECONDS", 1.5)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    async def go(hands: Hands) -> None:
        said = await hands.refused("grep", pattern="(?=x)(x+x+)+z", path="c.txt")
        assert "ended after 1.5 s" in said
        assert "nested repetition" in said
        assert "needle" in await hands.use("grep", pattern="needle", path="src")

    await each_bench.use(go)
