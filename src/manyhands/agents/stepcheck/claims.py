"""Checks on what an agent says is so: against what it was shown, and against what it did.

`claimed_edit` and `claimed_test` ask of any agent, at every step, whether an event could bear a
sentence out. The code team asks more of its coders' answers (`teams.code.claims`): their workspace
knows what has changed in the end and which command left which code, so there it is decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from manyhands.agents.stepcheck import seen, words
from manyhands.agents.stepcheck.acts import Does
from manyhands.agents.stepcheck.course import speaks_of
from manyhands.agents.stepcheck.form import flag
from manyhands.agents.stepcheck.records import Flag, Kind, Step, texts
from manyhands.agents.stepcheck.seen import base
from manyhands.agents.stepcheck.trace import Trace

#: Statements of one report that are looked up.
_MOST = 64


def _judged(trace: Trace, step: Step) -> bool:
    """A report of an agent that was shown something, all of which is known."""
    return step.kind is Kind.REPORT and trace.shown > 0 and not trace.seen.full


def ungrounded_number(trace: Trace, step: Step) -> Flag | None:
    """A number in a report that stood in nothing that the agent was shown, nor follows from it."""
    if not _judged(trace, step):
        return None
    derived = _derives(step.told)
    for written, number in islice(seen.numbers(step.told), _MOST):
        if not trace.seen.has_number(number, derived=derived):
            reason = f"{written} stands in nothing that it was shown"
            return flag("ungrounded-number", step, reason, "text", _around(step.told, written))
    return None


def _derives(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in _DERIVED)


_DERIVED = (
    *("total", "sum ", "together", "difference", "average", "mean", "ratio", "times ", "percent"),
    *("%", " more ", " less ", "faster", "slower", "twice", "altogether", " in all"),
)


def ungrounded_path(trace: Trace, step: Step) -> Flag | None:
    """A file in a report that the agent never came across."""
    if not _judged(trace, step):
        return None
    for path in seen.paths(step.told)[:_MOST]:
        if not trace.seen.has_path(path) and base(path) not in trace.edited:
            reason = f"{path} was never shown to it, nor written by it"
            return flag("ungrounded-path", step, reason, "text", _around(step.told, path))
    return None


def ungrounded_quote(trace: Trace, step: Step) -> Flag | None:
    """Words in quotation marks, or in a field for quotes, that nothing it was shown contains."""
    if not _judged(trace, step):
        return None
    quotes = seen.quotes(step.told)
    for value in step.answers:
        quotes += [text for key, text in texts(value) if key.lower().endswith("quote")]
    for quote in quotes[:_MOST]:
        if not trace.seen.has_quote(quote):
            return flag(
                "ungrounded-quote", step, "nothing that it was shown says so", "text", quote
            )
    return None


def _around(text: str, part: str) -> str:
    at = text.find(part)
    return text[max(0, at - 60) : at + len(part) + 60]


# -------------------------------------------------------------------- claims of acts


def claimed_edit(trace: Trace, step: Step) -> Flag | None:
    """It says that it changed a file, and no event shows a change of it."""
    if step.kind is Kind.TOOL or not trace.has_tools:
        return None
    for path in _listed(step, "changed"):
        if not _was_edited(trace, path):
            return _no_edit(step, path, path)
    for sentence in words.edits_claimed(step.told[:20_000]):
        named = seen.paths(sentence)
        missing = next((path for path in named if not _was_edited(trace, path)), None)
        if missing is not None and not any(_was_edited(trace, path) for path in named):
            return _no_edit(step, missing, sentence)
        nothing = not trace.edits and not any(act.writes for act in trace.acts)
        if not named and nothing and trace.can(Does.EDIT) and step.kind is Kind.REPORT:
            return _no_edit(step, "anything", sentence)
    return None


def _no_edit(step: Step, what: str, quote: str) -> Flag:
    reason = f"it says that it changed {what}, and no event shows that"
    return flag("claimed-edit", step, reason, "text", quote, "high")


def _was_edited(trace: Trace, path: str) -> bool:
    name = base(path)
    if name in trace.edited:
        return True
    for act in trace.acts:
        if act.writes and (name in map(base, act.paths) or name in act.command):
            return True
    return False


def claimed_test(trace: Trace, step: Step) -> Flag | None:
    """It says that a test or a command passed: it was never run, it failed, or files changed
    after it."""
    if step.kind is Kind.TOOL or not trace.has_tools:
        return None
    for command in _listed(step, "passed"):
        at = trace.passed.get(" ".join(command.split()))
        if at is None:
            return _no_pass(step, f"`{command}` passed, and no run of it did", command)
        if at < trace.last_edit:
            return _no_pass(step, f"`{command}` passed, and files changed after it", command)
    sentence = words.pass_claimed(step.told[:20_000])
    if not sentence or any(act.tests and not act.failed for act in trace.acts):
        return None
    failed = trace.test_failed or next((a for a in trace.acts if a.tests and a.failed), None)
    if failed is not None:
        return _no_pass(step, "it passes, and the last run failed", sentence)
    if trace.last_run < 0 and trace.can(Does.COMMAND):
        return _no_pass(step, "it passes, and nothing was run", sentence)
    if step.kind is Kind.REPORT and 0 <= trace.last_test < trace.last_edit:
        return _no_pass(step, "it passes, and files changed after the last run", sentence)
    return None


def _no_pass(step: Step, what: str, quote: str) -> Flag:
    return flag("claimed-test", step, f"it says that {what}", "text", quote, "high")


def _listed(step: Step, field: str) -> Iterator[str]:
    for value in step.answers:
        found: Any = value.get(field)
        if isinstance(found, list):
            yield from (each for each in cast(list[Any], found) if isinstance(each, str))


def omitted_failure(trace: Trace, step: Step) -> Flag | None:
    """A report without a word of a failure that the agent's own steps show, and that still stands:
    of a test, an edit or a delegated task, or of all that it tried."""
    if step.kind is not Kind.REPORT or words.owns_up(step.told) or _admits(step):
        return None
    if trace.open:
        failure = next(reversed(trace.open.values()))
        if not trace.edits and speaks_of(failure, step):
            return None  # it was to find the cause, and tells it
        reason = f"{failure.act.name} failed at step {failure.index}, and it does not say so"
        where = f"result {failure.act.at}"
        text = failure.act.text
        return flag("omitted-failure", step, reason, where, text, "high", failure.index)
    if trace.acted and not trace.worked and trace.ignored:
        failure = trace.ignored[-1]
        reason = "every call that it made failed, and it does not say so"
        where = f"result {failure.act.at}"
        return flag("omitted-failure", step, reason, where, failure.act.text, "high", failure.index)
    return None


def _admits(step: Step) -> bool:
    """Fields of an answer in which what is not done is named."""
    fields = ("open", "not_found", "leave_out", "missing", "errors", "issues", "unresolved")
    return any(value.get(field) for value in step.answers for field in fields)


def unverified(trace: Trace, step: Step) -> Flag | None:
    """A report on changed files, after which nothing was run, though it could."""
    if step.kind is not Kind.REPORT or trace.last_edit < 0 or not trace.can(Does.COMMAND):
        return None
    if trace.last_run > trace.last_edit or words.owns_up(step.told) or _admits(step):
        return None
    if trace.open:
        return None  # something was run, and failed: that is another check's
    reason = "files were changed, and nothing was run after it"
    return flag("unverified", step, reason, "step", step.told, "low")
