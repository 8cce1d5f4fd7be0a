from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.agents.role import Role, load_roles, parse_role
from manyhands.errors import RoleError
from manyhands.runtime import Budget

FULL = """---
description: Finds things.
model: tiny
temperature: 0.3
max_tokens: 512
max_turns: 5
tools: [look, "go"]
budget: {tokens: 1000, requests: 3, usd: 0.5}
output: Finding
---
You find things.

---
Even below a line.
"""
MINIMAL = "---\ndescription: d\n---\nDo it.\n"


def parse(text: str, name: str = "finder.md", **known: object) -> Role:
    return parse_role(text, Path(name), **known)  # type: ignore[arg-type]


def test_everything_that_a_role_can_say() -> None:
    assert parse(FULL, tools=["look", "go"], outputs=["Finding"]) == Role(
        name="finder",
        description="Finds things.",
        instructions="You find things.\n\n---\nEven below a line.",
        model="tiny",
        temperature=0.3,
        max_tokens=512,
        max_turns=5,
        tools=("look", "go"),
        budget=Budget(tokens=1000, requests=3, usd=0.5),
        output="Finding",
        source=Path("finder.md"),
    )


def test_what_a_role_leaves_out() -> None:
    role = parse("\ufeff" + MINIMAL.replace("\n", "\r\n"))
    assert (role.model, role.temperature, role.budget, role.output) == (None,) * 4
    assert (role.max_tokens, role.max_turns, role.tools) == (2048, 20, ())
    assert role.instructions == "Do it."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no front matter"),
        ("Do it.", "no front matter"),
        ("---\ndescription: d\nDo it.", "no front matter"),
        ("---\n: [\n---\nDo it.", "not YAML"),
        ("---\n- a\n---\nDo it.", "not 'key: value'"),
        ("---\n---\nDo it.", "'description' is missing"),
        ("---\ndescription: d\n---\n", "no instructions"),
        (
            MINIMAL.replace("d\n", "d\ntool: [a]\n"),
            "unknown key 'tool' = ['a']; allowed: approval, budget,",
        ),
        (MINIMAL.replace("d\n", "d\nbudget: {token: 5}\n"), "unknown key 'budget.token' = 5"),
        (MINIMAL.replace("d\n", "d\nbudget: {tokens: -5}\n"), "budget.tokens = -5"),
        (MINIMAL.replace("d\n", "d\ntemperature: 3\n"), "temperature = 3"),
        (MINIMAL.replace("d\n", "d\ntemperature: .nan\n"), "temperature = nan"),
        (MINIMAL.replace("d\n", "d\nmax_turns: many\n"), "max_turns = 'many'"),
        (MINIMAL.replace("d\n", "d\ntools: look\n"), "tools = 'look'"),
        (MINIMAL.replace("d\n", "d\ntools: [lok]\n"), "tools = 'lok' does not exist; allowed: go"),
        (MINIMAL.replace("d\n", "d\ntools: [go, go]\n"), "names 'go' twice"),
        (MINIMAL.replace("d\n", "d\noutput: Nothing\n"), "output = 'Nothing' does not exist"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(RoleError) as caught:
        parse(text, tools=["look", "go"], outputs=["Finding"])
    assert "finder.md" in caught.value.what
    assert said in caught.value.what
    assert caught.value.next


def test_a_file_name_that_is_no_role_name() -> None:
    with pytest.raises(RoleError, match="My Role"):
        parse(MINIMAL, "My Role.md")


def test_an_override_replaces_a_role_wholly(tmp_path: Path) -> None:
    packaged, own = tmp_path / "packaged", tmp_path / "own"
    packaged.mkdir()
    own.mkdir()
    (packaged / "finder.md").write_text(FULL)
    (packaged / "maker.md").write_text(MINIMAL)
    (own / "finder.md").write_text(MINIMAL)
    roles = load_roles(packaged, own)
    assert roles.keys() == {"finder", "maker"}
    assert roles["finder"].tools == ()
    assert roles["finder"].source == own / "finder.md"
    assert load_roles(packaged)["finder"].tools == ("look", "go")


def test_an_override_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    packaged, own = tmp_path / "packaged", tmp_path / "own"
    packaged.mkdir()
    own.mkdir()
    (packaged / "finder.md").write_text(MINIMAL)
    (own / "fnider.md").write_text(MINIMAL)
    with pytest.raises(RoleError, match="there is no role 'fnider'; allowed: finder"):
        load_roles(packaged, own)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RoleError, match="no role files"):
        load_roles(tmp_path)
    (tmp_path / "finder.md").write_bytes(b"---\ndescription: \xff\n---\nx")
    with pytest.raises(RoleError, match="UTF-8"):
        load_roles(tmp_path)
