"""Every mark that matters in a model's text, found in one pass.

Invariant: a mark inside of inline code (from a backtick to its partner, or to the end of the line)
or inside of a fenced block (to its end, or to the end of the text) is prose about a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from manyhands.agents.dialects.outcome import Form
from manyhands.agents.dialects.table import TABLE, Dialect

#: What opens and closes thinking, by model family.
THINKING: dict[str, str] = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "<longcat_think>": "</longcat_think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|think_start|>": "<|think_end|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
}
THOUGHT = frozenset(THINKING.values())

_CODE = r"(?P<fence>^[ \t]{0,3}(?:`{3,}|~{3,}))|(?P<tick>`+)"

#: What may end a turn and reach the text when a server does not take it away.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eot|>",
    "<SPECIAL_12>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<|tool_response>",
    "<|observation|>",
    "<|user|>",
    "<end_of_turn>",
    "<turn|>",
    "<seed:eos>",
    "[e~[",
    "</s>",
)


def any_of(words: Iterable[str]) -> str:
    """A regular expression of literals that shares their beginnings; the longest one wins."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _joined(tree)


def _joined(node: dict[str, Any]) -> str:
    ends = "" in node
    parts = [re.escape(letter) + _joined(inner) for letter, inner in node.items() if letter]
    if not parts:
        return ""
    if len(parts) == 1 and not ends:
        return parts[0]
    return f"(?:{'|'.join(parts)})" + ("?" if ends else "")


@dataclass(frozen=True)
class Speech:
    """Which dialects are listened for. ``strict``: none was named, so shapes without a mark count
    only where they end the text."""

    forms: dict[str, tuple[Form, ...]]
    bare: dict[str, str]
    wrappers: frozenset[str]
    landmark: re.Pattern[str]
    strict: bool


@lru_cache(maxsize=64)
def speech(dialect: str) -> Speech:
    """What to listen for; "" is every dialect."""
    chosen = {dialect: TABLE[dialect]} if dialect else TABLE
    forms: dict[str, list[Form]] = {}
    for form in (form for each in chosen.values() for form in each.forms):
        for mark in form.opens:
            forms.setdefault(mark, []).append(form)
    bare: dict[str, str] = {}
    for name, each in chosen.items():
        for shape in each.bare:
            bare.setdefault(shape, name)
    wrappers = frozenset(_wrappers(chosen, named=bool(dialect)))
    words = any_of([*forms, *THINKING, *THOUGHT, *wrappers])
    landmark = re.compile(rf"{_CODE}|(?P<mark>{words})", re.M)
    found = {mark: tuple(each) for mark, each in forms.items()}
    return Speech(found, bare, wrappers, landmark, not dialect)


def _wrappers(chosen: dict[str, Dialect], *, named: bool) -> Iterable[str]:
    every = (mark for each in chosen.values() for mark in each.wrappers)
    return (mark for mark in every if named or mark.startswith("<|"))


def code_end(text: str, found: re.Match[str], quoted: int) -> tuple[int, int]:
    """Where reading goes on after the fence or the backticks ``found``, and where quoting ends.

    Code that does not end quotes what follows, as its end may be cut off: backticks to the end of
    their line, a fence to the end of the text. Only the end of thinking is looked for in there.
    """
    if found.start() < quoted:
        return found.end(), quoted
    if found["fence"]:
        run = found["fence"].strip()
        close = re.compile(rf"\n[ \t]{{0,3}}{re.escape(run[0])}{{{len(run)},}}[ \t]*(?=\n|\Z)")
        end = close.search(text, found.end())
        return (end.end(), 0) if end else (found.end(), len(text))
    run = found["tick"]
    before = text[found.start() - 1 : found.start()] if found.start() else ""
    if before.isalnum():
        return found.end(), 0
    line = text.find("\n", found.end())
    line = len(text) if line < 0 else line
    close = re.compile(rf"(?<!`){run}(?!`)")
    end = close.search(text, found.end(), line)
    return (end.end(), 0) if end else (found.end(), line)


def unquoted(text: str, pattern: str) -> re.Match[str] | None:
    """The first match (group ``mark``) that is not inside of code."""
    landmark = re.compile(rf"{_CODE}|(?P<mark>{pattern})", re.M)
    at = quoted = 0
    while (found := landmark.search(text, at)) is not None:
        if found["mark"] is None:
            at, quoted = code_end(text, found, quoted)
        elif found.start() >= quoted:
            return found
        else:
            at = found.end()
    return None


def without_ends(text: str) -> str:
    """``text`` without the tokens by which a model ends its turn."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        mark = next((mark for mark in ENDS if text.endswith(mark, 0, last)), None)
        if mark is None:
            return text[:end]
        end = last - len(mark)
