"""Checks on one reply's form: what it says cannot be read, is nothing, is cut, or is said again.

For our own agents the turn loop has decided some of this already (`agents.checks.read`, and
`agents.calls` for what could not be run): its verdict comes in as a step's ``fault`` and a result's
``refused``, and is repeated here, so that a flag stands beside it. A foreign trace has neither, so
the same is looked for in the text.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from manyhands.agents.arguments import violation
from manyhands.agents.report import Ending
from manyhands.agents.stepcheck.records import Call, Evidence, Flag, Kind, Severity, Step, quoted
from manyhands.agents.stepcheck.trace import Trace, mark_of

_CUT = frozenset({"length", "max_tokens", "model_length"})
_MARKUP = re.compile(
    r"<tool_call>|</?function[=_ >]|<\|(?:im_start|im_end|python_tag|tool[_▁]call\w*|call|channel)"
    r"[^|]*\|>|\[TOOL_CALLS\]|<invoke |</think>|<think>|```tool_(?:call|code)"
)
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_JSON = re.compile(r"\A\s*(?:```(?:json)?\s*\n(.*?)\n\s*```\s*\Z|(?=[{\[]))", re.DOTALL)


def flag(
    name: str,
    step: Step,
    reason: str,
    where: str = "step",
    quote: str = "",
    severity: Severity = "medium",
    of: int | None = None,
) -> Flag:
    """``of``: the step that the evidence is in, where it is another one."""
    evidence = Evidence(step.index if of is None else of, where, quoted(quote))
    return Flag(name, step.agent, step.index, reason, evidence, severity, step.at, step.role)


def schema(trace: Trace, step: Step) -> Flag | None:
    """A call that cannot be run as it stands: no such tool, or arguments that do not fit it."""
    for at, result in enumerate(step.results):
        if result.refused:
            return _schema(step, f"result {at}", f"{result.name} was not run", result.text)
    if step.fault in (Ending.BAD_CALL, Ending.MALFORMED):
        return _schema(step, "text", f"its runtime called it {step.fault}", step.text)
    for at, call in enumerate(step.calls):
        problem = _problem(trace, step, call)
        if problem:
            return _schema(step, f"call {at}", f"{call.name}: {problem}", call.arguments)
    return None


def _schema(step: Step, where: str, reason: str, quote: str) -> Flag:
    return flag("schema", step, reason, where, quote, "high")


def _problem(trace: Trace, step: Step, call: Call) -> str:
    if call.parsed is None:
        return "its arguments are no JSON object"
    tools = trace.source.tools
    if tools is None or (step.kind is Kind.REPORT and call.name not in tools):
        return ""
    if call.name not in tools:
        return f"there is no such tool; there are {', '.join(list(tools)[:8]) or 'none'}"
    known = tools[call.name]
    return violation(call.parsed, known)[:160] if known else ""


def format(trace: Trace, step: Step) -> Flag | None:
    """Marks of a chat template or of a call in the text; an answer in JSON that is none."""
    found = _MARKUP.search(step.text)
    if found and not (step.calls and found[0] in ("<think>", "</think>")):
        shown = step.text[found.start() :]
        return flag("format", step, f"{found[0]!r} stands in its text", "text", shown)
    body = _JSON.match(step.text)
    if body is None or step.finish_reason in _CUT:
        return None
    text = body[1] or step.text
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "[" and not text.rstrip().endswith("]"):
            return None  # a text that begins with a word in brackets
        return flag("format", step, f"its JSON cannot be read: {error}", "text", text)
    return None


def empty(trace: Trace, step: Step) -> Flag | None:
    """It says nothing and does nothing."""
    if step.kind is Kind.TOOL or step.calls or step.text.strip():
        return None
    return flag("empty", step, "the reply holds neither text nor a call", "text", "", "high")


def truncated(trace: Trace, step: Step) -> Flag | None:
    """It was cut: by the limit of tokens, or inside of a block of code."""
    if step.finish_reason.lower() in _CUT or step.fault == Ending.CUT:
        reason = "it was cut at the limit of tokens"
        return flag("truncated", step, reason, "finish", step.text[-200:], "high")
    if len(_FENCE.findall(step.text)) % 2:
        reason = "a block of code is begun and not ended"
        return flag("truncated", step, reason, "text", step.text[-200:])
    return None


def repeated(trace: Trace, step: Step) -> Flag | None:
    """It says again what it has said, goes round inside of its text, or makes one call twice."""
    if len({(c.name, c.arguments) for c in step.calls}) < len(step.calls):
        twice = next(c for i, c in enumerate(step.calls) if _is_in(c, step.calls[:i]))
        quote = f"{twice.name} {twice.arguments}"
        return flag("repeated", step, "one reply makes the same call twice", "call", quote)
    if len(step.text) < 40:
        return None
    earlier = trace.texts.get(hash(" ".join(step.text.split())))
    if earlier is not None and (not step.calls or mark_of(step) in trace.marks):
        reason = f"it said the same at step {earlier}"
        return flag("repeated", step, reason, "text", step.text, of=earlier)
    if _goes_round(step.text):
        return flag("repeated", step, "its text goes round", "text", step.text[-200:], "high")
    return None


def _is_in(call: Call, others: tuple[Call, ...]) -> bool:
    return any(o.name == call.name and o.arguments == call.arguments for o in others)


def _goes_round(text: str) -> bool:
    lines = [line.strip() for line in text[-4000:].splitlines()[-40:]]
    counted = Counter(line for line in lines if len(line) >= 12)
    if counted and max(counted.values()) >= 6:
        return True
    tail = text[-240:]
    if len(tail) < 240 or len(set(tail)) < 4:
        return False
    return any(tail[period:] == tail[:-period] for period in range(4, 61))
