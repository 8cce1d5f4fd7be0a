"""Faults, each placed at a random position of a good run: what changed, and which step is wrong.

`FAULTS` is the table: which check is to flag a fault, where it fits, and what makes it. ``words``:
``0`` takes the wordings that the checks were tuned on, ``1`` those that were held out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from manyhands.agents.stepcheck import Call, Kind, Read, Result, Step
from tests.stepcheck.good import Good

Dice = random.Random
#: The steps of a run with the fault in it, and the position of the wrong one; None: no room there.
Placed = tuple[Sequence[Step], int] | None
Make = Callable[[Good, int, Dice, int], Placed]
#: Tuned on, held out.
Wordings = tuple[Sequence[str], Sequence[str]]


@dataclass(frozen=True)
class Faulty:
    """``check`` is to flag step ``index`` of ``agent``."""

    check: str
    read: Read
    agent: str
    index: int


@dataclass(frozen=True)
class Fault:
    """``where``: the positions of a run that it may have. ``mode``: the MAST mode that it is one of
    ('': none of them)."""

    check: str
    where: Callable[[Good], Sequence[int]]
    make: Make
    mode: str = ""

    def place(self, good: Good, dice: Dice, words: int) -> Faulty | None:
        """None: this run has no place for it."""
        places = self.where(good)
        placed = self.make(good, dice.choice(places), dice, words) if places else None
        if placed is None:
            return None
        steps, wrong = placed
        read = replace(good.read, steps=_numbered(steps))
        step = read.steps[wrong]
        return Faulty(self.check, read, step.agent, step.index)


def _numbered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Every agent's steps numbered anew."""
    counts: dict[str, int] = {}
    numbered: list[Step] = []
    for step in steps:
        index = counts[step.agent] = counts.get(step.agent, -1) + 1
        numbered.append(replace(step, index=index))
    return tuple(numbered)


# -------------------------------------------------------------------- where


def _steps(fits: Callable[[Step], bool]) -> Callable[[Good], Sequence[int]]:
    return lambda good: [i for i, step in enumerate(good.steps) if fits(step)]


def _acts(step: Step) -> bool:
    return bool(step.calls) and len(step.calls) == len(step.results)


def _looks(step: Step) -> bool:
    return _acts(step) and step.calls[0].name in ("read_file", "read", "search")


def _with_known_tools(good: Good) -> Sequence[int]:
    sources = good.read.sources
    return [i for i, s in enumerate(good.steps) if _acts(s) and sources[s.agent].tools]


def _reports(good: Good) -> Sequence[int]:
    """Reports of agents that have seen results of their own."""
    acted: set[str] = set()
    places: list[int] = []
    for i, step in enumerate(good.steps):
        if step.kind is Kind.REPORT and step.agent in acted:
            places.append(i)
        if step.results:
            acted.add(step.agent)
    return places


def _first_step(good: Good) -> Sequence[int]:
    return [0]


def _last_step(good: Good) -> Sequence[int]:
    return [len(good.steps) - 1] if good.steps[-1].kind is Kind.REPORT else []


# -------------------------------------------------------------------- ways to place one


def _change(good: Good, at: int, changed: Step) -> Placed:
    return [*good.steps[:at], changed, *good.steps[at + 1 :]], at


def _insert(good: Good, at: int, *new: Step) -> Placed:
    """The last of them is the wrong one."""
    return [*good.steps[:at], *new, *good.steps[at:]], at + len(new) - 1


def _end(good: Good, at: int, before: Step, text: str) -> Placed:
    """In place of the report: a step, and a report of this text, which is wrong."""
    report = replace(good.steps[at], text=text, calls=())
    return [*good.steps[:at], before, report, *good.steps[at + 1 :]], at + 1


def _say_more(step: Step, text: str) -> Step:
    """The report with a sentence more, wherever it says its words."""
    if not step.calls:
        return replace(step, text=f"{step.text} {text}".strip())
    call = step.calls[0]
    value = dict(call.parsed or {})
    key = "summary" if "summary" in value else "text"
    value[key] = f"{value.get(key, '')} {text}".strip()
    return replace(step, calls=(replace(call, arguments=json.dumps(value)), *step.calls[1:]))


def _says(*wordings: Sequence[str], numbers: tuple[int, int] = (0, 0)) -> Make:
    """A report that says a sentence more, with a number of that range in it (n, in millions and in
    myriads)."""

    def make(good: Good, at: int, dice: Dice, words: int) -> Placed:
        n = dice.randint(*numbers) if numbers[1] else 0
        text = dice.choice(wordings[words])
        text = text.format(n=n, millions=n / 1e6, myriads=n / 1e4)
        return _change(good, at, _say_more(good.steps[at], text))

    return make


# -------------------------------------------------------------------- form


def broken_arguments(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    call = step.calls[0]
    wordings: Wordings = (
        [call.arguments[: len(call.arguments) // 2], f"path={call.name}"],
        [call.arguments + "}", call.arguments.replace('"', "'"), json.dumps([call.arguments])],
    )
    broken = dice.choice(wordings[words])
    if Call(call.name, broken).parsed is not None:
        return None  # there was nothing in it to break
    calls = (replace(call, arguments=broken), *step.calls[1:])
    return _change(good, at, replace(step, calls=calls))


def unknown_tool(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    names: Wordings = (["open_browser", "functions.lookup"], ["send_email", "sql_query"])
    calls = (replace(step.calls[0], name=dice.choice(names[words])), *step.calls[1:])
    return _change(good, at, replace(step, calls=calls))


def call_as_text(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    call = step.calls[0]
    body = json.dumps({"name": call.name, "arguments": call.parsed})
    wordings: Wordings = (
        [f"<tool_call>\n{body}\n</tool_call>", f"<|python_tag|>{body}"],
        [f"[TOOL_CALLS] [{body}]", f"I see.\n<function={call.name}>{call.arguments}</function>"],
    )
    text = dice.choice(wordings[words])
    return _change(good, at, replace(step, text=text, calls=(), results=()))


def broken_json(good: Good, at: int, dice: Dice, words: int) -> Placed:
    said = json.dumps({"summary": good.steps[at].text, "done": True})
    wordings: Wordings = ([said[:-1], said[:-9]], [f"```json\n{said[:-7]}\n```", said + "]"])
    return _change(good, at, replace(good.steps[at], text=dice.choice(wordings[words])))


def nothing_said(good: Good, at: int, dice: Dice, words: int) -> Placed:
    text = dice.choice((["", "\n"], ["  ", "\n\n \t"])[words])
    changed = replace(good.steps[at], text=text, calls=(), results=(), kind=Kind.MODEL)
    return _change(good, at, changed)


def cut_off(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    text = step.text[: dice.randint(10, len(step.text) - 5)]
    if words and dice.random() < 0.5:
        changed = replace(step, text=f"{text}\n```python\ndef total(values):\n    retu")
    else:
        changed = replace(step, text=text, finish_reason=("length", "MAX_TOKENS")[words])
    return _change(good, at, replace(changed, calls=(), results=()))


def said_again(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    text = step.text if not words else "  " + step.text.replace(" ", "  ", 3) + "\n"
    return _insert(good, at + 1, replace(step, text=text, given=("Go on.",)))


def goes_round(good: Good, at: int, dice: Dice, words: int) -> Placed:
    wordings: Wordings = (
        ["I need to check the file again. ", "Let me think about it once more.\n"],
        ["and then the next one, ", "The answer is in the table, as I said before; "],
    )
    piece = dice.choice(wordings[words])
    text = f"{good.steps[at].text} {piece * dice.randint(15, 40)}"
    return _change(good, at, replace(good.steps[at], text=text))


# -------------------------------------------------------------------- course


def circle(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = replace(good.steps[at], given=(), text="")
    before = good.steps[at - 1] if words and at else None
    if before is None or not _acts(before):
        return _insert(good, at + 1, step, step)
    if before.agent != step.agent or before.calls == step.calls:
        return _insert(good, at + 1, step, step)
    return _insert(good, at + 1, replace(before, given=()), step)


def error_ignored(good: Good, at: int, dice: Dice, words: int) -> Placed:
    errors: Wordings = (
        ["Error: connection refused by host", "Traceback (most recent call last):\nValueError: 7"],
        ["PermissionError: [Errno 13] denied", "fatal: unable to access the remote: timeout"],
    )
    error = dice.choice(errors[words])
    command = Call("bash", json.dumps({"command": f"deploy --stage {dice.randint(30, 99)}"}), "x1")
    failing = Step(
        agent=good.steps[at].agent,
        role=good.steps[at].role,
        index=0,
        calls=(command,),
        results=(Result("bash", error, False if words else None, "x1"),),
    )
    wordings: Wordings = (["Good. Next the notes.", ""], ["That is set up now.", "Perfect."])
    todo = Call("todo", json.dumps({"items": ["notes", "summary"]}), "x2")
    result = (Result("todo", "2 items", True, "x2"),)
    text = dice.choice(wordings[words])
    return _insert(
        good, at + 1, failing, replace(failing, text=text, calls=(todo,), results=result)
    )


def other_act(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    wordings: Wordings = (
        ["Let me run the test suite.", "I'll now read settings/production.toml."],
        ["Next, I'll execute the migration.", "I am going to open notes/old_plan.md."],
    )
    text = dice.choice(wordings[words])
    if step.calls[0].name == "search":
        text = wordings[words][0]
    return _change(good, at, replace(step, text=text))


def announced_only(good: Good, at: int, dice: Dice, words: int) -> Placed:
    wordings: Wordings = (
        ["I will now run the tests.", "Let me look at the file."],
        ["Next, I'll search the index for it.", "I'm going to update the module."],
    )
    text = dice.choice(wordings[words])
    return _change(good, at, replace(good.steps[at], text=text, calls=(), results=()))


def no_change(good: Good, at: int, dice: Dice, words: int) -> Placed:
    """Edits that undo each other, or change nothing, in a workspace whose state is known."""
    step = good.steps[at]

    def edit(tree: str, n: int) -> Step:
        arguments = {"path": "src/x.py", "old": f"a{n}", "new": f"b{n}"}
        return Step(
            agent=step.agent,
            role=step.role,
            index=0,
            calls=(Call("edit_file", json.dumps(arguments), f"e{n}"),),
            results=(Result("edit_file", f"edited src/x.py ({n})", True, f"e{n}"),),
            tree=tree,
        )

    trees = ["t-one", "t-one"] if not words else ["t-one", "t-two", "t-one", "t-two"]
    return _insert(good, at + 1, *(edit(tree, n) for n, tree in enumerate(trees)))


def nothing_new(good: Good, at: int, dice: Dice, words: int) -> Placed:
    """Looks at the same few things again, in an order that is no circle."""
    step = replace(good.steps[at], given=(), text="")
    known = ["alpha", "beta", "gamma"]

    def look(name: str, n: int) -> Step:
        call = Call("read_file", json.dumps({"path": f"{name}.txt", "from": n}), f"l{n}")
        result = Result("read_file", f"the text of {name}", True, f"l{n}")
        return replace(step, calls=(call,), results=(result,))

    order = [*known, *(dice.choice(known) for _ in range(6))]
    return _insert(good, at + 1, *(look(name, n) for n, name in enumerate(order)))


def after_report(good: Good, at: int, dice: Dice, words: int) -> Placed:
    step = good.steps[at]
    if words:
        new = replace(step, text="Is there anything else that you need?", calls=(), given=())
    else:
        call = Call("bash", json.dumps({"command": "git log"}), "y1")
        result = (Result("bash", "nothing", True, "y1"),)
        new = replace(step, text="", calls=(call,), results=result, given=(), kind=Kind.MODEL)
    return _insert(good, at + 1, new)


def too_much(good: Good, at: int, dice: Dice, words: int) -> Placed:
    """The same run, with steps before it by which its role is known."""
    first = good.steps[at]
    plain = [
        replace(
            first,
            text="",
            given=first.given if n == 0 else (),
            calls=(Call("search", json.dumps({"query": f"word {n}"}), f"s{n}"),),
            results=(Result("search", f"passage {n}", True, f"s{n}"),),
            tokens=dice.randint(15, 60),
            seconds=dice.uniform(0.5, 2.0),
        )
        for n in range(dice.randint(9, 14))
    ]
    big = replace(plain[-1], calls=(Call("search", '{"query": "all"}', "z"),), results=())
    if words:
        big = replace(big, seconds=dice.uniform(60, 300))
    else:
        big = replace(big, tokens=dice.randint(2000, 9000))
    steps = [*plain, replace(big, given=()), replace(first, given=()), *good.steps[1:]]
    return steps, len(plain)


# -------------------------------------------------------------------- claims


def edit_claimed(good: Good, at: int, dice: Dice, words: int) -> Placed:
    if not good.read.sources[good.steps[at].agent].tools:
        return None
    return _edited(good, at, dice, words)


def _failed_test(step: Step, dice: Dice) -> Step:
    call = Call("bash", json.dumps({"command": "pytest tests"}), "t1")
    failed = f"FAILED tests/test_x.py::test_it\n{dice.randint(1, 9)} failed, 3 passed"
    result = (Result("bash", failed, None, "t1"),)
    return replace(step, text="", calls=(call,), results=result, given=(), kind=Kind.MODEL)


def _after_a_failed_test(*wordings: Sequence[str]) -> Make:
    """A report of one of these texts, where the last test failed."""

    def make(good: Good, at: int, dice: Dice, words: int) -> Placed:
        text = dice.choice(wordings[words])
        return _end(good, at, _failed_test(good.steps[at], dice), text)

    return make


def never_ran(good: Good, at: int, dice: Dice, words: int) -> Placed:
    """A claim of tests where nothing was ever run."""
    step = good.steps[at]
    ran = ("bash", "python")
    before = [s for s in good.steps[:at] if not any(c.name in ran for c in s.calls)]
    tools = good.read.sources[step.agent].tools
    if not tools or not set(ran) & set(tools) or not any(s.calls for s in before):
        return None
    wordings: Wordings = (
        ["All tests pass."],
        ["I verified the result with the checks.", "Tests passed."],
    )
    text = dice.choice(wordings[words])
    return [*before, replace(step, text=text, calls=())], len(before)


def not_verified(good: Good, at: int, dice: Dice, words: int) -> Placed:
    """A last edit, and no run after it."""
    step = good.steps[at]
    own = [s for s in good.steps[:at] if s.agent == step.agent]
    ran = any(c.name in ("bash", "python") for s in own for c in s.calls)
    tools = good.read.sources[step.agent].tools or {}
    if not ran and "bash" not in tools:
        return None
    path = f"src/late_{dice.randint(10, 99)}.py"
    arguments = {"path": path, "old": "a", "new": "b"}
    edit = replace(
        step,
        text="",
        calls=(Call(("edit_file", "write_file")[words], json.dumps(arguments), "u1"),),
        results=(Result("edit_file", f"edited {path}", True, "u1"),),
        kind=Kind.MODEL,
        given=(),
    )
    end = replace(step, text=f"I changed {path} as asked.", calls=())
    return [*good.steps[:at], edit, end], at + 1


_edited = _says(
    [
        "I also updated deploy/values_{n}.yaml.",
        "I have changed `deploy/values_{n}.yaml` accordingly.",
    ],
    [
        "Added the new section to deploy/values_{n}.yaml.",
        "We successfully modified deploy/values_{n}.yaml as well.",
    ],
    numbers=(100, 999),
)
tests_passed = _after_a_failed_test(
    ["All tests pass.", "The test suite passes now."],
    ["Everything is done, and the checks succeed.", "I ran the whole suite and it is green."],
)
left_out = _after_a_failed_test(
    ["The work is done as asked.", "Done. The change is in place."],
    ["Completed; the module behaves as described.", "The task is finished and ready to use."],
)
made_up_number = _says(
    ["It took {n:,} steps.", "It reached {millions:.6f} in the end."],
    ["There were {n} rows.", "The cost was ${myriads:.4f}."],
    numbers=(10_000_000, 99_999_999),
)
made_up_path = _says(
    ["See src/internal/helper_{n}.py for it.", "The reason is in `notes_{n}.md`."],
    ["It comes from /etc/app/rules_{n}.conf.", "Details are in lib/core/engine{n}.rs."],
    numbers=(100, 999),
)
made_up_quote = _says(
    [
        'The page says "all services were moved to the new cluster in May".',
        'It states that "the old interface is no longer supported by anyone".',
    ],
    [
        "As the manual has it, “every request is retried until it is answered”.",
        'In its words: "nobody has ever measured this under load".',
    ],
)

_ANY, _ACTING = _steps(lambda s: True), _steps(_acts)
_REPEATS, _MISMATCH = "step repetition", "reasoning-action mismatch"
_UNAWARE, _UNTRUE = "unaware of termination", "incorrect verification"
FAULTS: dict[str, Fault] = {
    "arguments that are no JSON": Fault("schema", _ACTING, broken_arguments),
    "a tool that is not there": Fault("schema", _with_known_tools, unknown_tool),
    "a call printed as text": Fault("format", _ACTING, call_as_text),
    "an answer in broken JSON": Fault(
        "format", _steps(lambda s: s.kind is Kind.REPORT and not s.calls), broken_json
    ),
    "nothing said": Fault("empty", _ANY, nothing_said),
    "a reply that was cut": Fault("truncated", _steps(lambda s: len(s.text) > 30), cut_off),
    "the same said again": Fault(
        "repeated", _steps(lambda s: len(s.text) >= 40 and not s.calls), said_again, _REPEATS
    ),
    "a text that goes round": Fault("repeated", _ANY, goes_round, _REPEATS),
    "the same calls in a circle": Fault("cycle", _ACTING, circle, _REPEATS),
    "an error passed over": Fault("ignored-error", _ACTING, error_ignored, "ignored input"),
    "another act than announced": Fault("mismatch", _steps(_looks), other_act, _MISMATCH),
    "a call announced and not made": Fault(
        "mismatch", _steps(lambda s: _acts(s) and s.index > 0), announced_only, _MISMATCH
    ),
    "edits that change nothing": Fault("no-progress", _ACTING, no_change, _REPEATS),
    "results that were all seen": Fault("no-progress", _ACTING, nothing_new, _UNAWARE),
    "work after the report": Fault("after-end", _last_step, after_report, _UNAWARE),
    "far more tokens or time": Fault("outlier", _first_step, too_much),
    "an edit that was not made": Fault("claimed-edit", _reports, edit_claimed, _UNTRUE),
    "a pass of tests that failed": Fault("claimed-test", _reports, tests_passed, _UNTRUE),
    "a pass of tests never run": Fault("claimed-test", _reports, never_ran, _UNTRUE),
    "a failure left out": Fault("omitted-failure", _reports, left_out, "information withholding"),
    "an edit that nothing checked": Fault(
        "unverified", _reports, not_verified, "no or incomplete verification"
    ),
    "a number from nowhere": Fault("ungrounded-number", _reports, made_up_number, _UNTRUE),
    "a file from nowhere": Fault("ungrounded-path", _reports, made_up_path, _UNTRUE),
    "a quote from nowhere": Fault("ungrounded-quote", _reports, made_up_quote, _UNTRUE),
}
