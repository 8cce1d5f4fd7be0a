"""Faults, each placed at a random position of a good run: what changed, and which step is wrong.

A fault is ``(good, dice, words) -> Faulty | None``; None: this run has no place for it. ``words``:
``0`` takes the wordings that the checks were tuned on, ``1`` those that were held out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from manyhands.agents.stepcheck import Call, Kind, Read, Result, Step
from tests.stepcheck.good import Good

Dice = random.Random


@dataclass(frozen=True)
class Faulty:
    """``check`` is to flag step ``index`` of ``agent``."""

    check: str
    read: Read
    agent: str
    index: int


Fault = Callable[[Good, Dice, int], Faulty | None]


def _pick(dice: Dice, words: int, tuned: Sequence[str], held_out: Sequence[str]) -> str:
    return dice.choice((tuned, held_out)[words])


def _at(good: Good, dice: Dice, fits: Callable[[Step], bool]) -> int | None:
    places = [i for i, step in enumerate(good.steps) if fits(step)]
    return dice.choice(places) if places else None


def _put(good: Good, steps: Iterable[Step]) -> Read:
    """With every agent's steps numbered anew."""
    counts: dict[str, int] = {}
    numbered: list[Step] = []
    for step in steps:
        index = counts[step.agent] = counts.get(step.agent, -1) + 1
        numbered.append(replace(step, index=index))
    return replace(good.read, steps=tuple(numbered))


def _made(check: str, good: Good, steps: Sequence[Step], wrong: int) -> Faulty:
    read = _put(good, steps)
    step = read.steps[wrong]
    return Faulty(check, read, step.agent, step.index)


def _change(check: str, good: Good, at: int, changed: Step) -> Faulty:
    return _made(check, good, [*good.steps[:at], changed, *good.steps[at + 1 :]], at)


def _insert(check: str, good: Good, at: int, new: Sequence[Step], wrong: int = -1) -> Faulty:
    steps = [*good.steps[:at], *new, *good.steps[at:]]
    return _made(check, good, steps, at + (wrong if wrong >= 0 else len(new) - 1))


def _acts(step: Step) -> bool:
    return bool(step.calls) and len(step.calls) == len(step.results)


def _reports(step: Step) -> bool:
    return step.kind is Kind.REPORT


def _last_report(good: Good, dice: Dice) -> int | None:
    """A report whose agent has seen results of its own."""
    acted: set[str] = set()
    places: list[int] = []
    for i, step in enumerate(good.steps):
        if _reports(step) and step.agent in acted:
            places.append(i)
        if step.results:
            acted.add(step.agent)
    return dice.choice(places) if places else None


def _say_more(step: Step, text: str) -> Step:
    """The report with a sentence more, wherever it says its words."""
    if not step.calls:
        return replace(step, text=f"{step.text} {text}".strip())
    call = step.calls[0]
    value = dict(call.parsed or {})
    key = "summary" if "summary" in value else "text"
    value[key] = f"{value.get(key, '')} {text}".strip()
    return replace(step, calls=(replace(call, arguments=json.dumps(value)), *step.calls[1:]))


# -------------------------------------------------------------------- form


def broken_arguments(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, _acts)
    if at is None:
        return None
    step = good.steps[at]
    call = step.calls[0]
    broken = _pick(
        dice,
        words,
        [call.arguments[: len(call.arguments) // 2], f"path={call.name}"],
        [call.arguments + "}", call.arguments.replace('"', "'"), json.dumps([call.arguments])],
    )
    if Call(call.name, broken).parsed is not None:
        return None  # there was nothing in it to break
    calls = (replace(call, arguments=broken), *step.calls[1:])
    return _change("schema", good, at, replace(step, calls=calls))


def unknown_tool(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _acts(s) and bool(good.read.sources[s.agent].tools))
    if at is None:
        return None
    step = good.steps[at]
    name = _pick(dice, words, ["open_browser", "functions.lookup"], ["send_email", "sql_query"])
    calls = (replace(step.calls[0], name=name), *step.calls[1:])
    return _change("schema", good, at, replace(step, calls=calls))


def call_as_text(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, _acts)
    if at is None:
        return None
    step = good.steps[at]
    call = step.calls[0]
    body = json.dumps({"name": call.name, "arguments": call.parsed})
    text = _pick(
        dice,
        words,
        [f"<tool_call>\n{body}\n</tool_call>", f"<|python_tag|>{body}"],
        [f"[TOOL_CALLS] [{body}]", f"I see.\n<function={call.name}>{call.arguments}</function>"],
    )
    return _change("format", good, at, replace(step, text=text, calls=(), results=()))


def broken_json(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _reports(s) and not s.calls)
    if at is None:
        return None
    said = json.dumps({"summary": good.steps[at].text, "done": True})
    text = _pick(dice, words, [said[:-1], said[:-9]], [f"```json\n{said[:-7]}\n```", said + "]"])
    return _change("format", good, at, replace(good.steps[at], text=text))


def nothing_said(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = dice.randrange(len(good.steps))
    text = _pick(dice, words, ["", "\n"], ["  ", "\n\n \t"])
    kind = Kind.MODEL
    changed = replace(good.steps[at], text=text, calls=(), results=(), kind=kind)
    return _change("empty", good, at, changed)


def cut_off(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: len(s.text) > 30)
    if at is None:
        return None
    step = good.steps[at]
    text = step.text[: dice.randint(10, len(step.text) - 5)]
    if words and dice.random() < 0.5:
        changed = replace(step, text=f"{text}\n```python\ndef total(values):\n    retu")
    else:
        changed = replace(step, text=text, finish_reason=("length", "MAX_TOKENS")[words])
    return _change("truncated", good, at, replace(changed, calls=(), results=()))


def said_again(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: len(s.text) >= 40 and not s.calls)
    if at is None:
        return None
    step = good.steps[at]
    text = step.text if not words else "  " + step.text.replace(" ", "  ", 3) + "\n"
    again = replace(step, text=text, given=("Go on.",))
    return _insert("repeated", good, at + 1, [again])


def goes_round(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = dice.randrange(len(good.steps))
    piece = _pick(
        dice,
        words,
        ["I need to check the file again. ", "Let me think about it once more.\n"],
        ["and then the next one, ", "The answer is in the table, as I said before; "],
    )
    text = f"{good.steps[at].text} {piece * dice.randint(15, 40)}"
    return _change("repeated", good, at, replace(good.steps[at], text=text))


# -------------------------------------------------------------------- course


def circle(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _acts(s))
    if at is None:
        return None
    step = replace(good.steps[at], given=(), text="")
    if not words or at == 0 or not _acts(good.steps[at - 1]):
        return _insert("cycle", good, at + 1, [step, step])
    before = good.steps[at - 1]
    if before.agent != step.agent or before.calls == step.calls:
        return _insert("cycle", good, at + 1, [step, step])
    return _insert("cycle", good, at + 1, [replace(before, given=()), step])


def error_ignored(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, _acts)
    if at is None:
        return None
    step = good.steps[at]
    error = _pick(
        dice,
        words,
        ["Error: connection refused by host", "Traceback (most recent call last):\nValueError: 7"],
        ["PermissionError: [Errno 13] denied", "fatal: unable to access the remote: timeout"],
    )
    command = Call("bash", json.dumps({"command": f"deploy --stage {dice.randint(30, 99)}"}), "x1")
    failing = Step(
        agent=step.agent,
        role=step.role,
        index=0,
        calls=(command,),
        results=(Result("bash", error, False if words else None, "x1"),),
    )
    text = _pick(dice, words, ["Good. Next the notes.", ""], ["That is set up now.", "Perfect."])
    todo = Call("todo", json.dumps({"items": ["notes", "summary"]}), "x2")
    result = (Result("todo", "2 items", True, "x2"),)
    following = replace(failing, text=text, calls=(todo,), results=result)
    return _insert("ignored-error", good, at + 1, [failing, following])


def other_act(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _acts(s) and s.calls[0].name in ("read_file", "read", "search"))
    if at is None:
        return None
    step = good.steps[at]
    text = _pick(
        dice,
        words,
        ["Let me run the test suite.", "I'll now read settings/production.toml."],
        ["Next, I'll execute the migration.", "I am going to open notes/old_plan.md."],
    )
    if step.calls[0].name == "search":
        text = ("Let me run the test suite.", "Next, I'll execute the migration.")[words]
    return _change("mismatch", good, at, replace(step, text=text))


def announced_only(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _acts(s) and s.index > 0)
    if at is None:
        return None
    text = _pick(
        dice,
        words,
        ["I will now run the tests.", "Let me look at the file."],
        ["Next, I'll search the index for it.", "I'm going to update the module."],
    )
    changed = replace(good.steps[at], text=text, calls=(), results=())
    return _change("mismatch", good, at, changed)


def no_change(good: Good, dice: Dice, words: int) -> Faulty | None:
    """Edits that undo each other, or change nothing, in a workspace whose state is known."""
    at = _at(good, dice, _acts)
    if at is None:
        return None
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
    return _insert("no-progress", good, at + 1, [edit(tree, n) for n, tree in enumerate(trees)])


def nothing_new(good: Good, dice: Dice, words: int) -> Faulty | None:
    """Looks at the same few things again, in an order that is no circle."""
    at = _at(good, dice, lambda s: _acts(s))
    if at is None:
        return None
    step = replace(good.steps[at], given=(), text="")
    known = ["alpha", "beta", "gamma"]

    def look(name: str, n: int) -> Step:
        call = Call("read_file", json.dumps({"path": f"{name}.txt", "from": n}), f"l{n}")
        result = Result("read_file", f"the text of {name}", True, f"l{n}")
        return replace(step, calls=(call,), results=(result,))

    order = ["alpha", "beta", "gamma", *(dice.choice(known) for _ in range(6))]
    return _insert("no-progress", good, at + 1, [look(name, n) for n, name in enumerate(order)])


def after_report(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _at(good, dice, lambda s: _reports(s) and s is good.steps[-1])
    if at is None:
        return None
    step = good.steps[at]
    if words:
        new = replace(step, text="Is there anything else that you need?", calls=(), given=())
    else:
        call = Call("bash", json.dumps({"command": "git log"}), "y1")
        result = (Result("bash", "nothing", True, "y1"),)
        new = replace(step, text="", calls=(call,), results=result, given=(), kind=Kind.MODEL)
    return _insert("after-end", good, at + 1, [new])


def too_much(good: Good, dice: Dice, words: int) -> Faulty | None:
    """The same run, with steps before it by which its role is known."""
    first = good.steps[0]
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
    return _made("outlier", good, steps, len(plain))


# -------------------------------------------------------------------- claims


def edit_claimed(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None or not good.read.sources[good.steps[at].agent].tools:
        return None
    path = f"deploy/values_{dice.randint(100, 999)}.yaml"
    text = _pick(
        dice,
        words,
        [f"I also updated {path}.", f"I have changed `{path}` accordingly."],
        [f"Added the new section to {path}.", f"We successfully modified {path} as well."],
    )
    return _change("claimed-edit", good, at, _say_more(good.steps[at], text))


def _failed_test(step: Step, dice: Dice) -> Step:
    call = Call("bash", json.dumps({"command": "pytest tests"}), "t1")
    failed = f"FAILED tests/test_x.py::test_it\n{dice.randint(1, 9)} failed, 3 passed"
    result = (Result("bash", failed, None, "t1"),)
    kind = Kind.MODEL
    return replace(step, text="", calls=(call,), results=result, given=(), kind=kind)


def pass_claimed(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None:
        return None
    step = good.steps[at]
    text = _pick(
        dice,
        words,
        ["All tests pass.", "The test suite passes now."],
        ["Everything is done, and the checks succeed.", "I ran the whole suite and it is green."],
    )
    steps = [_failed_test(step, dice), replace(step, text=text, calls=())]
    kept = [*good.steps[:at], *steps, *good.steps[at + 1 :]]
    return _made("claimed-test", good, kept, at + 1)


def never_ran(good: Good, dice: Dice, words: int) -> Faulty | None:
    """A claim of tests where nothing was ever run."""
    at = _last_report(good, dice)
    if at is None:
        return None
    step = good.steps[at]
    ran = ("bash", "python")
    before = [s for s in good.steps[:at] if not any(c.name in ran for c in s.calls)]
    tools = good.read.sources[step.agent].tools
    if not tools or not set(ran) & set(tools) or not any(s.calls for s in before):
        return None
    text = _pick(
        dice,
        words,
        ["All tests pass."],
        ["I verified the result with the checks.", "Tests passed."],
    )
    return _made("claimed-test", good, [*before, replace(step, text=text, calls=())], len(before))


def failure_left_out(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None:
        return None
    step = good.steps[at]
    text = _pick(
        dice,
        words,
        ["The work is done as asked.", "Done. The change is in place."],
        ["Completed; the module behaves as described.", "The task is finished and ready to use."],
    )
    steps = [*good.steps[:at], _failed_test(step, dice), replace(step, text=text, calls=())]
    return _made("omitted-failure", good, [*steps, *good.steps[at + 1 :]], at + 1)


def not_verified(good: Good, dice: Dice, words: int) -> Faulty | None:
    """A last edit, and no run after it."""
    at = _last_report(good, dice)
    if at is None:
        return None
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
    return _made("unverified", good, [*good.steps[:at], edit, end], at + 1)


def made_up_number(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None:
        return None
    number = dice.randint(10_000_000, 99_999_999)
    text = _pick(
        dice,
        words,
        [f"It took {number:,} steps.", f"It reached {number / 1e6:.6f} in the end."],
        [f"There were {number} rows.", f"The cost was ${number / 1e4:.4f}."],
    )
    return _change("ungrounded-number", good, at, _say_more(good.steps[at], text))


def made_up_path(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None:
        return None
    n = dice.randint(100, 999)
    text = _pick(
        dice,
        words,
        [f"See src/internal/helper_{n}.py for it.", f"The reason is in `notes_{n}.md`."],
        [f"It comes from /etc/app/rules_{n}.conf.", f"Details are in lib/core/engine{n}.rs."],
    )
    return _change("ungrounded-path", good, at, _say_more(good.steps[at], text))


def made_up_quote(good: Good, dice: Dice, words: int) -> Faulty | None:
    at = _last_report(good, dice)
    if at is None:
        return None
    text = _pick(
        dice,
        words,
        [
            'The page says "all services were moved to the new cluster in May".',
            'It states that "the old interface is no longer supported by anyone".',
        ],
        [
            "As the manual has it, “every request is retried until it is answered”.",
            'In its words: "nobody has ever measured this under load".',
        ],
    )
    return _change("ungrounded-quote", good, at, _say_more(good.steps[at], text))


#: Name -> fault, and the MAST mode that it is one of ('': none of them).
FAULTS: dict[str, tuple[Fault, str]] = {
    "arguments that are no JSON": (broken_arguments, ""),
    "a tool that is not there": (unknown_tool, ""),
    "a call printed as text": (call_as_text, ""),
    "an answer in broken JSON": (broken_json, ""),
    "nothing said": (nothing_said, ""),
    "a reply that was cut": (cut_off, ""),
    "the same said again": (said_again, "step repetition"),
    "a text that goes round": (goes_round, "step repetition"),
    "the same calls in a circle": (circle, "step repetition"),
    "an error passed over": (error_ignored, "ignored input"),
    "another act than announced": (other_act, "reasoning-action mismatch"),
    "a call announced and not made": (announced_only, "reasoning-action mismatch"),
    "edits that change nothing": (no_change, "step repetition"),
    "results that were all seen": (nothing_new, "unaware of termination"),
    "work after the report": (after_report, "unaware of termination"),
    "far more tokens or time": (too_much, ""),
    "an edit that was not made": (edit_claimed, "incorrect verification"),
    "a pass of tests that failed": (pass_claimed, "incorrect verification"),
    "a pass of tests never run": (never_ran, "incorrect verification"),
    "a failure left out": (failure_left_out, "information withholding"),
    "an edit that nothing checked": (not_verified, "no or incomplete verification"),
    "a number from nowhere": (made_up_number, "incorrect verification"),
    "a file from nowhere": (made_up_path, "incorrect verification"),
    "a quote from nowhere": (made_up_quote, "incorrect verification"),
}
