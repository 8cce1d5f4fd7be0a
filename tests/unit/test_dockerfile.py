"""Dockerfiles as instructions, and what of them can be had without Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.errors import TaskError, TaskUnsupported
from manyhands.evals.dockerfile import Instruction, read_dockerfile
from manyhands.evals.image import Copy, Image, Need, Run, read_image
from manyhands.evals.installs import installs, segments


def read(tmp_path: Path, text: str) -> tuple[Instruction, ...]:
    file = tmp_path / "Dockerfile"
    file.write_text(text)
    return read_dockerfile(file)


def image(tmp_path: Path, text: str, workdir: str = "") -> Image:
    file = tmp_path / "Dockerfile"
    file.write_text(text)
    return read_image(file, path="/usr/bin:/bin", workdir=workdir)


def test_lines_are_joined_and_comments_dropped(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "# syntax=docker/dockerfile:1\n\n  from debian:12 \nRUN one && \\\n    # not this\n\n"
        "  two \\\n"
        ' three\r\nCOPY --chown=a --link x\\\n y z\nCMD ["a", "b c"]\nRUN echo \'# kept\' \\\\\n',
    )
    assert [(i.line, i.name, i.flags, i.text, i.listed) for i in found] == [
        (3, "FROM", (), "debian:12", None),
        (4, "RUN", (), "one &&   two  three", None),
        (9, "COPY", ("--chown=a", "--link"), "x y z", None),
        (11, "CMD", (), '["a", "b c"]', ("a", "b c")),
        (12, "RUN", (), "echo '# kept' \\\\", None),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("a\\ b", ["a b"]),
        ("$X ${X}y \"$X\" '$X' \\$X", ["ex", "exy", "ex", "$X", "$X"]),
        ("${NONE:-one} ${NONE-two} ${X:-three}", ["one", "two", "ex"]),
        ("${EMPTY:-one} ${EMPTY-two}", ["one", ""]),
        ("${X:+set} ${NONE:+set}", ["set", ""]),
        ("$ a$", ["$", "a$"]),
        ("K=\"two words\" L='it''s'", ["K=two words", "L=its"]),
        ('"a \\" b \\x"', ['a " b \\x']),
    ],
)
def test_words(tmp_path: Path, text: str, words: list[str]) -> None:
    (found,) = read(tmp_path, f"ENV {text}")
    got = found.words({"X": "ex", "EMPTY": ""})
    assert [word for word in got if word or "EMPTY" in text or "NONE" in text] == words


def test_an_image_is_what_its_instructions_make(tmp_path: Path) -> None:
    found = image(
        tmp_path,
        "ARG VERSION=3.11\nFROM python:${VERSION}-slim\nLABEL a=b\nARG VERSION\nARG WHO=me\n"
        'ENV A=1 B="two words"\nENV OLD its value\nENV PATH=/app/bin:$PATH C=$A\nWORKDIR /app\n'
        "WORKDIR sub\nCOPY a.txt b/ ./in/\nADD c.txt ../d.txt\nRUN echo $A\n"
        'SHELL ["/bin/bash", "-c"]\nRUN echo two\nRUN ["ls", "-l", "a b"]\nWORKDIR /app\n'
        'CMD ["sh"]\n',
    )
    assert (found.base, found.workdir) == ("python:3.11-slim", "/app")
    assert found.env == {
        "A": "1",
        "B": "two words",
        "OLD": "its value",
        "PATH": "/app/bin:/usr/bin:/bin",
        "C": "1",
    }
    need, one, two, *runs = found.actions
    assert isinstance(need, Need)
    assert need.python == "3.11"
    assert isinstance(one, Copy)
    assert (one.sources, one.target, one.into) == (("a.txt", "b/"), "/app/sub/in", True)
    assert isinstance(two, Copy)
    assert (two.sources, two.target, two.into) == (("c.txt",), "/app/d.txt", False)
    assert all(isinstance(run, Run) and run.cwd == "/app/sub" for run in runs)
    assert [run.argv for run in runs if isinstance(run, Run)] == [
        ("/bin/sh", "-c", "echo $A"),
        ("/bin/bash", "-c", "echo two"),
        ("ls", "-l", "a b"),
    ]
    assert isinstance(runs[0], Run)
    assert runs[0].env["WHO"] == "me"
    assert runs[0].env["VERSION"] == "3.11"


REFUSED = {
    "FROM alpine:3": ("1", "alpine:3"),
    "FROM ghcr.io/someone/debian": ("1", "ghcr.io/someone/debian"),
    "FROM debian AS one\nFROM one": ("1", "stages"),
    "FROM debian\nFROM ubuntu": ("2", "stages"),
    "FROM --platform=linux/arm64 debian": ("1", "--platform"),
    "RUN true\nFROM debian": ("1", "before FROM"),
    "FROM debian\nUSER nobody": ("2", "one user"),
    "FROM debian\nEXPOSE 80": ("2", "80"),
    "FROM debian\nENTRYPOINT serve": ("2", "serve"),
    "FROM debian\nVOLUME /data": ("2", "/data"),
    "FROM debian\nHEALTHCHECK CMD true": ("2", "HEALTHCHECK"),
    "FROM debian\nONBUILD RUN true": ("2", "ONBUILD"),
    "FROM debian\nFLY away": ("2", "FLY"),
    "FROM debian\nADD https://example.org/x /app/": ("2", "https://example.org/x"),
    "FROM debian\nADD git@example.org:x.git /app/": ("2", "git@example.org"),
    "FROM debian\nADD x.tar.gz /app/": ("2", "archives"),
    "FROM debian\nCOPY --from=build /x /app/": ("2", "--from"),
    "FROM debian\nCOPY --chown=me x /app/": ("2", "--chown"),
    "FROM debian\nCOPY ../x /app/": ("2", "../x"),
    "FROM debian\nCOPY x": ("2", "source and a target"),
    "FROM debian\nWORKDIR /app\nCOPY x /data/": ("3", "/data lies outside of WORKDIR /app"),
    "FROM debian\nCOPY <<EOF /app/x\nhi\nEOF": ("2", "heredoc"),
    "FROM debian\nRUN <<EOF\nhi\nEOF": ("2", "heredoc"),
    "FROM debian\nRUN cat <<'EOF' > x\nhi\nEOF": ("2", "heredoc"),
    "FROM debian\nRUN --mount=type=cache,target=/x true": ("2", "--mount"),
    "FROM debian\nRUN curl -L https://example.org | sh": ("2", "curl needs the network"),
    "FROM debian\nRUN cd x && git clone https://example.org/x": ("2", "git needs the network"),
    "FROM debian\nRUN npm install": ("2", "npm"),
    "FROM debian\nRUN pip install -r requirements.txt": ("2", "-r of pip"),
    "FROM debian\nRUN pip install ./package": ("2", "./package"),
    "FROM debian\nRUN apt-get install -y git || true": ("2", "other shell constructs"),
    "FROM debian\nRUN apt-get source git": ("2", "apt-get source git"),
    "FROM debian\nENV A=${X/a/b}": ("2", "form of a variable"),
    "FROM debian\nENV A='open": ("2", "no end"),
    "FROM debian\nENV A": ("2", "without a value"),
    "FROM debian\nSHELL /bin/sh": ("2", "no list"),
    "# escape=`\nFROM debian": ("1", "escape"),
    "FROM debian": ("", "the working folder is /"),
    "FROM debian\nWORKDIR /usr/src/app": ("", "/usr/src/app lies in a folder of this machine"),
    "FROM debian\nWORKDIR /tests": ("", "/tests"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_known_is_refused_by_line_and_value(tmp_path: Path, text: str) -> None:
    line, value = REFUSED[text]
    with pytest.raises(TaskUnsupported) as caught:
        image(tmp_path, text)
    assert value in caught.value.what
    assert f"Dockerfile:{line}" in caught.value.what if line else True
    assert str(tmp_path / "Dockerfile") in caught.value.what
    assert caught.value.next


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no FROM"):
        image(tmp_path, "# nothing\n")
    with pytest.raises(TaskError, match="cannot be read"):
        read_image(tmp_path / "none", path="")
    (tmp_path / ".dockerignore").write_text("x")
    with pytest.raises(TaskUnsupported, match="dockerignore"):
        image(tmp_path, "FROM debian\nWORKDIR /app\n")


def test_a_working_folder_can_be_given_from_outside(tmp_path: Path) -> None:
    assert image(tmp_path, "FROM debian\n", "/work").workdir == "/work"


@pytest.mark.parametrize(
    ("run", "packages", "modules", "rest"),
    [
        ("apt-get update && apt-get install -y git curl", ["git", "curl"], [], ""),
        (
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -y install"
            " --no-install-recommends git=1:2.3* jq/stable && apt-get clean"
            " && rm -rf /var/lib/apt/lists/*",
            ["git", "jq"],
            [],
            "",
        ),
        ("apt install -t stable -o A=B make", ["make"], [], ""),
        ("pip install --no-cache-dir 'pytest>=8' numpy==2.0 -q", [], ["pytest", "numpy"], ""),
        ("python3 -m pip install -i https://x.example/simple a[b]", [], ["a"], ""),
        ("apt-get install -y git && git init . && touch x", ["git"], [], "git init . && touch x"),
        ("mkdir a; apt-get install -y git; touch b", ["git"], [], "mkdir a ; touch b"),
        (
            "echo 'apt-get install x' > y && (cd a; ls)",
            [],
            [],
            "echo 'apt-get install x' > y && (cd a; ls)",
        ),
        ("for i in 1 2; do echo $i; done", [], [], "for i in 1 2; do echo $i; done"),
    ],
)
def test_installations_are_told_from_commands(
    tmp_path: Path, run: str, packages: list[str], modules: list[str], rest: str
) -> None:
    (at,) = read(tmp_path, f"RUN {run}")
    found = installs(at)
    assert (found.packages, found.modules, found.rest) == (packages, modules, rest)


def test_segments_end_outside_of_quotes_only() -> None:
    found = list(segments('a \'b && c\' && d "e; \\" f"; g \\; h & i'))
    assert found == [("a 'b && c' ", "&&"), (' d "e; \\" f"', ";"), (" g \\; h & i", "&&")]
