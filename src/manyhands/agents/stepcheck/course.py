"""Checks on the course of an agent: circles, errors that it passes over, work that gets nowhere.

A circle is what it is for the turn loop (`agents.progress`), which pushes an agent on that has gone
round as often as its role's contract says. `cycle` says so of any trace, and of several steps one
round earlier: a flag is less than a push.
"""

from __future__ import annotations

from manyhands.agents.progress import LONGEST, closed
from manyhands.agents.report import Ending
from manyhands.agents.stepcheck.acts import Does, does
from manyhands.agents.stepcheck.form import flag
from manyhands.agents.stepcheck.records import Flag, Kind, Step
from manyhands.agents.stepcheck.seen import base, paths
from manyhands.agents.stepcheck.trace import Failure, Trace, mark_of, words_of
from manyhands.agents.stepcheck.words import announced, owns_up

#: How often a single step, and a circle of several, must have closed.
_ONE, _SEVERAL = 3, 2
#: Steps in a row that bring nothing new; returns to an earlier state of the workspace.
_STALE, _RETURNS = 6, 1


def cycle(trace: Trace, step: Step) -> Flag | None:
    """The same calls with the same results, round and round; a result that changes is no circle."""
    if step.fault == Ending.LOOP:
        return flag("cycle", step, "its runtime called it a loop", "step", step.text, "high")
    mark = mark_of(step)
    if not mark or mark not in trace.marks:
        return None
    marks = (*trace.marks, mark)
    for length in range(1, LONGEST + 1):
        times = _ONE if length == 1 else _SEVERAL
        if closed(marks, length, times) and all(marks[-length:]):
            what = "the same calls" if length == 1 else f"the same {length} steps"
            reason = f"{what} with the same results, {times} times over"
            quote = "; ".join(f"{c.name} {c.arguments}" for c in step.calls)
            return flag("cycle", step, reason, "call 0", quote, "high")
    return None


def ignored_error(trace: Trace, step: Step) -> Flag | None:
    """The step before failed, and this one neither says so nor does anything about it."""
    if not trace.ignored or step.kind is Kind.TOOL or owns_up(step.told):
        return None
    missed = next((f for f in trace.ignored if not _about(f, step)), None)
    if missed is None:
        return None
    reason = f"{missed.act.name} failed at step {missed.index}, and this goes on as if it had not"
    where = f"result {missed.act.at}"
    return flag("ignored-error", step, reason, where, missed.act.text, "medium", missed.index)


def _about(failure: Failure, step: Step) -> bool:
    """A call that tries it again or touches what the error is about. Who looked for something in
    vain may look elsewhere."""
    act = failure.act
    if step.kind is Kind.REPORT:
        return act.looks or speaks_of(failure, step)
    for call in step.calls:
        kind = does(call.name, call.parsed or {})
        if act.looks and kind not in (Does.EDIT, Does.DELEGATE):
            return True
        if call.name == act.name and act.does is not Does.COMMAND:
            return True
        if not failure.tokens.isdisjoint(words_of(call.arguments[:4000])):
            return True
    return not step.calls and bool(failure.tokens & words_of(step.text[:4000]))


def speaks_of(failure: Failure, step: Step) -> bool:
    """Its words are those of the failure: a report on a cause need not say that it failed."""
    return len(failure.tokens & words_of(step.told[:8000])) >= 2


def no_progress(trace: Trace, step: Step) -> Flag | None:
    """The workspace is as it was: edits that change nothing, or undo each other; or many calls
    whose results were all seen before."""
    edited = [act for act in trace.acts if act.does is Does.EDIT and not act.failed]
    if edited and step.tree and step.tree == trace.tree:
        quote = f"{edited[0].name} {edited[0].arguments}"
        return flag("no-progress", step, "an edit left the workspace as it was", "call", quote)
    if step.tree and step.tree != trace.tree and trace.returns >= _RETURNS:
        earlier = trace.trees.get(hash(step.tree))
        if earlier is not None:
            reason = f"the workspace is again as after step {earlier}, and not for the first time"
            return flag("no-progress", step, reason, "step", step.tree, of=earlier)
    if trace.stale + 1 >= _STALE and step.calls and not _new(trace, step):
        reason = f"nothing new for {trace.stale + 1} steps: no change, and results seen before"
        return flag("no-progress", step, reason, "step", step.calls[0].arguments)
    return None


def _new(trace: Trace, step: Step) -> bool:
    if step.tree and trace.trees.get(hash(step.tree)) is None:
        return True
    return any(trace.results.get(hash(result.text)) is None for result in step.results)


def outlier(trace: Trace, step: Step) -> Flag | None:
    """Far more tokens or time than steps of this role took before it."""
    for unit, value in (("tokens", step.tokens), ("seconds", step.seconds)):
        median = trace.norms.above(unit, None if value is None else float(value))
        if median is not None:
            reason = f"{value:.6g} {unit}, where the median of its role is {median:.6g}"
            return flag("outlier", step, reason, "step", step.text, "low")
    return None


def mismatch(trace: Trace, step: Step) -> Flag | None:
    """It announces one act and makes another, or none."""
    if not step.text or not trace.has_tools or step.kind is Kind.TOOL:
        return None
    if step.fault == Ending.UNANSWERED and not step.calls:
        reason = "it stopped with neither a call nor an answer"
        return flag("mismatch", step, reason, "text", step.text[-200:])
    found = announced(step.text)
    if found is None:
        return None
    kind, words = found
    if not step.calls:
        return flag("mismatch", step, "it announces a call and makes none", "text", words, "high")
    arguments = "\n".join(call.arguments for call in step.calls)
    named = {base(path) for path in paths(words)}
    if named and any(base(path) in named for path in paths(arguments)):
        return None
    kinds = {does(call.name, call.parsed or {}) for call in step.calls}
    if Does.OTHER in kinds or kind is Does.OTHER:
        return None
    elsewhere = bool(named) and bool(paths(arguments))
    if kind in kinds and not elsewhere:
        return None
    if Does.COMMAND in kinds and not elsewhere:
        return None  # a shell can do anything
    if kind is Does.EDIT and Does.READ in kinds and not elsewhere:
        return None  # it looks before it edits
    made = ", ".join(f"{call.name} {call.arguments[:80]}" for call in step.calls)
    return flag("mismatch", step, f"it announces {words.strip()!r} and calls {made}", "text", words)


def after_end(trace: Trace, step: Step) -> Flag | None:
    """It goes on after it had handed in its report, and nobody asked."""
    before = trace.before
    if before is None or before.kind is not Kind.REPORT or before.fault or step.given:
        return None
    reason = f"it had reported at step {before.index}, and nothing was said to it since"
    return flag("after-end", step, reason, "step", before.told, "medium", before.index)
