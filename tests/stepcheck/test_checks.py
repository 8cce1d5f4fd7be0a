"""Single checks where the edge is, checks of a user's own, and memory that stays bounded."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from manyhands.agents.stepcheck import (
    STANDARD,
    Call,
    Checker,
    Flag,
    Kind,
    Result,
    Source,
    Step,
    Trace,
    chosen,
)
from manyhands.agents.stepcheck.checking import BROKEN
from manyhands.agents.stepcheck.seen import MOST_READ, Seen, canonical
from manyhands.errors import ConfigError
from tests.stepcheck.table import DOCS

Made = tuple[str, dict[str, str], str]


class Agent:
    """Steps of one agent, checked as they come."""

    def __init__(self, *tools: str) -> None:
        known = {name: dict[str, Any]() for name in tools} if tools else None
        self.checker = Checker(sources={"a": Source("a", known)})
        self._count = 0

    def step(self, text: str = "", *made: Made, **facts: Any) -> set[str]:
        """The checks that flag it; ``made``: name, arguments, result of each call."""
        calls = tuple(
            Call(name, json.dumps(arguments), f"{self._count}.{i}")
            for i, (name, arguments, _) in enumerate(made)
        )
        results = tuple(Result(n, r, None, c.id) for (n, _, r), c in zip(made, calls, strict=True))
        step = Step("a", self._count, text, "a", calls=calls, results=results, **facts)
        self._count += 1
        return {flag.check for flag in self.checker.see(step)}

    def report(self, text: str) -> set[str]:
        return self.step(text, kind=Kind.REPORT)


def bash(command: str, result: str = "ok") -> Made:
    return "bash", {"command": command}, result


def edit(path: str, result: str = "edited") -> Made:
    return "edit_file", {"path": path, "old": "a", "new": "b"}, result


def look(path: str, result: str) -> Made:
    return "read_file", {"path": path}, result


def test_a_circle_is_flagged_when_it_closes_and_a_changing_result_is_none() -> None:
    agent = Agent()
    assert [agent.step("", bash("ls")) for _ in range(3)] == [set(), set(), {"cycle"}]
    agent = Agent()
    assert not any(agent.step("", bash("status", f"{n} % done")) for n in range(9))


def test_an_error_is_ignored_only_if_nothing_turns_to_it() -> None:
    failing = bash("make widgets", "make: *** [widgets] Error 2\nexit status 2")
    for text, call, flagged in (
        ("", look("notes.txt", "notes"), True),
        ("Great, next the notes.", look("notes.txt", "notes"), True),
        ("That failed; the notes may say why.", look("notes.txt", "notes"), False),
        ("", look("src/widgets.c", "int x;"), False),
    ):
        agent = Agent()
        agent.step("", failing)
        assert ("ignored-error" in agent.step(text, call)) is flagged, (text, call)


def test_no_errors_is_no_admission_of_a_failure() -> None:
    agent = Agent("bash")
    agent.step("", bash("pytest", "1 failed, 2 passed"))
    assert "omitted-failure" in agent.report("Finished without errors.")
    agent = Agent("bash")
    agent.step("", bash("pytest", "1 failed, 2 passed"))
    assert "omitted-failure" not in agent.report("One test still fails.")


def test_a_later_success_settles_a_failure() -> None:
    agent = Agent("bash", "edit_file")
    agent.step("", bash("pytest", "1 failed, 2 passed"))
    agent.step("", edit("tests/x.py"))
    agent.step("", bash("pytest -q", "3 passed"))
    assert agent.report("All tests pass; I fixed x.py.") == set()


def test_claims_of_edits_and_passes_need_their_events() -> None:
    agent = Agent("bash", "edit_file")
    agent.step("", edit("lib/sums.py"))
    agent.step("", bash("pytest", "3 passed"))
    agent.step("", edit("lib/sums.py"))
    flags = agent.report("I updated sums.py and words.txt. I changed words.txt. All tests pass.")
    assert {"claimed-edit", "claimed-test", "unverified"} <= flags
    agent = Agent("bash", "edit_file")
    agent.step("", edit("lib/sums.py", "error: no such text"))
    assert "claimed-edit" in agent.step("I have changed sums.py. Now the tests.", bash("pytest"))


@pytest.mark.parametrize(
    "text",
    [
        "I have not changed words.txt.",
        "I changed nothing.",
        "You should have updated words.txt.",
        "The tests do not pass.",
        "If the tests pass, merge it.",
        "Run it until all tests pass.",
    ],
)
def test_what_is_denied_or_wished_for_is_not_claimed(text: str) -> None:
    agent = Agent("bash", "edit_file")
    agent.step("", look("words.txt", "some words"))
    assert not agent.report(text) & {"claimed-edit", "claimed-test"}


@pytest.mark.parametrize(
    ("said", "grounded"),
    [
        ("It has 9,100 rows.", True),
        ("It has 9100 rows.", True),
        ("It has 91,000 rows.", False),
        ("The loss is 0.87.", True),
        ("The loss is 0.88.", False),
        ("That is 87.3 % of it.", True),
        ("Together that is 9,350 rows.", True),
        ("That is 9,350 rows.", False),
        ("Three of 12 failed.", True),
        ("See version 3.77.41 or build-7781.", True),
    ],
)
def test_a_number_may_be_rounded_written_otherwise_and_derived(said: str, grounded: bool) -> None:
    agent = Agent()
    agent.step("", look("x.csv", "rows,9100\nmore: 250\nval_loss=0.8731"))
    assert ("ungrounded-number" in agent.report(said)) is not grounded


def test_a_quote_may_leave_a_gap_and_change_no_word() -> None:
    page = "The kiln was opened in spring, after long tests, by the guild of potters."
    for quote, grounded in (
        ("The kiln was opened in spring", True),
        ("The kiln was opened … by the guild of potters", True),
        ("the kiln was closed in spring", False),
    ):
        agent = Agent()
        agent.step("", look("k.md", page))
        assert ("ungrounded-quote" in agent.report(f'It says "{quote}".')) is not grounded, quote


def test_a_workspace_that_only_goes_back_and_forth_is_no_progress() -> None:
    agent = Agent()
    seen = [agent.step("", edit(f"f{n}.py", f"edited {n}"), tree=t) for n, t in enumerate("abab")]
    assert seen == [set(), set(), set(), {"no-progress"}]
    assert agent.step("", edit("f.py", "edited again"), tree="b") == {"no-progress"}


def test_schemas_are_held_against_arguments() -> None:
    known = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    checker = Checker(sources={"a": Source("a", {"count": known})})
    found = [
        checker.see(Step("a", i, calls=(Call(name, arguments),)))
        for i, (name, arguments) in enumerate(
            [("count", '{"n": 1}'), ("count", '{"n": "one"}'), ("count", "{}"), ("tally", "{}")]
        )
    ]
    assert [{flag.check for flag in flags} for flags in found] == [set(), *[{"schema"}] * 3]
    assert "'one' is not of type 'integer'" in found[1][0].reason


def test_nothing_is_fetched_for_a_schema_of_a_foreign_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **_: asked.append(given))
    for known in ({"$ref": "http://127.0.0.1:9/schema.json"}, {"type": "no such type"}):
        checker = Checker(sources={"a": Source("a", {"count": known})})
        assert checker.see(Step("a", 0, calls=(Call("count", '{"n": 1}'),))) == ()
    assert asked == []


def test_of_text_that_is_too_long_nothing_is_called_unseen() -> None:
    agent = Agent()
    agent.step("", look("big.txt", "word " * MOST_READ))
    assert agent.report('It has 77,777 rows in src/none.py: "nobody has ever said this".') == set()


def test_memory_does_not_grow_with_steps_that_say_nothing_new() -> None:
    trace = Trace("a")
    sizes: list[int] = []
    for n in range(3000):
        call = Call("bash", json.dumps({"command": f"pytest -k t{n % 50}"}), str(n))
        step = Step("a", n, calls=(call,), results=(Result("bash", f"{n} failed", None, str(n)),))
        trace.begin(step)
        trace.end(step)
        sizes.append(len(trace.open) + len(trace.marks) + len(trace.passed))
    assert max(sizes[1000:]) <= max(sizes[:1000]) < 100


def test_numbers_have_one_form() -> None:
    forms = ["9,100", "9100", "9100.0", "09100"]
    assert {canonical(form) for form in forms} == {"9100"}
    assert [canonical(form) for form in ("0", "00", "0.50")] == ["0", "0", "0.5"]
    seen = Seen()
    seen.add("1.2.3, 4,5 and 10.0.0.1 or 1,2,, ..")
    assert seen.has_number("5", derived=False)


PIECES = [
    *("a.", "a/", " ", "\n", "<|call", "1,", "1.", '"', '"aaaaaaaaaaaaaa', "`a ", "I have now "),
    *("let me now ", "```\n", "test ", "{", "[", "exit code ", "no errors ", "edited ", "http://"),
]


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_makes_a_check_slow(piece: str) -> None:
    text = piece * (30_000 // len(piece))
    agent = Agent("bash", "edit_file")
    begun = time.process_time()
    agent.step("", bash("ls", text), look("x.txt", text))
    agent.step(text, bash(text.replace("\n", ";")))
    agent.report(text)
    assert time.process_time() - begun < 1.0  # a tenth of it is used; a backtracking takes minutes


def test_arguments_may_be_nested_however_deep() -> None:
    checker = Checker()
    for depth in (30, 300, 900, 100_000):
        call = Call("edit_file", '{"path": ' + "[" * depth + '"x"' + "]" * depth + "}", "1")
        step = Step("a", 0, calls=(call,), results=(Result("edit_file", "ok", True, "1"),))
        assert {flag.check for flag in checker.see(step)} <= {"schema", "cycle"}


# -------------------------------------------------------------------- checks of one's own


def test_the_documented_check_of_ones_own_runs() -> None:
    code = re.search(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    watch = names["watch"]
    checker = Checker(watch.checks)
    flags = checker.see(Step("a", 0, "WHY DOES THIS NOT WORK AT ALL"))
    assert [(flag.check, flag.evidence.where) for flag in flags] == [("shouting", "text")]
    assert checker.see(Step("a", 1, "Why does this not work at all")) == ()


def test_a_check_that_raises_is_told_and_the_others_go_on() -> None:
    def broken(trace: Trace, step: Step) -> Flag | None:
        raise KeyError("colour")

    checker = Checker({"broken": broken, "empty": STANDARD["empty"]})
    flags = checker.see(Step("a", 0))
    assert [flag.check for flag in flags] == [BROKEN, "empty"]
    assert "KeyError: 'colour'" in flags[0].reason


def test_an_unknown_check_is_refused_with_those_that_are() -> None:
    assert list(chosen(["cycle"])) == ["cycle"]
    assert list(chosen([])) == list(STANDARD)
    with pytest.raises(ConfigError, match=r"no check 'cycles'; there are schema, .*cycle"):
        chosen(["cycles"])
