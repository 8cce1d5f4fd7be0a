"""gpt-oss: a text of messages, each with a channel and perhaps a recipient.

Invariant: what is addressed to a tool is a call, whichever channel it is on; ``analysis`` is
reasoning; everything else is content. A call's end is where its JSON ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

from manyhands.agents.dialects.marks import THINKING, THOUGHT, any_of, speech, unquoted
from manyhands.agents.dialects.outcome import Block, Call, Source, failed
from manyhands.agents.literals import Broken, read_json, skip

NAME = "harmony"
#: Marks at which a text of this dialect may begin to differ from plain text.
MARKS = ("<|channel|>", "<|start|>", "<|message|>")

_HEAD = re.compile(
    r"(?:<\|start\|>(?P<author>[^<\n]{0,200}))?(?:<\|channel\|>(?P<channel>[^<\n]{0,200}))?"
    r"(?:<\|constrain\|>(?P<type>[^<\n]{0,60}))?<\|message\|>"
)
#: The prompt ended with `<|start|>assistant`: the recipient is what the text begins with.
_FIRST = re.compile(
    r"(?P<author>\s{0,9}to=[\w.\-]{1,200}\s{0,9})"
    r"<\|channel\|>(?P<channel>[^<\n]{0,200})"
    r"(?:<\|constrain\|>(?P<type>[^<\n]{0,60}))?<\|message\|>"
)
_BEGIN = re.compile(r"<\|(?:start|channel)\|>")
_END = re.compile(r"<\|(?:end|return|call)\|>(?=\s*(?:\Z|<\|(?:start|channel)\|>))")
_MARK = re.compile(r"<\|(?:start|channel|end|return|call)\|>")
_CHANNEL = re.compile(r"<\|channel\|>\s*(?:analysis|commentary|final)\b|<\|start\|>\s*assistant\b")
_TO = re.compile(r"\bto=([\w.\-]{1,200})")


@dataclass
class Messages:
    """A text of this dialect, taken apart."""

    reasoning: list[str] = field(default_factory=list[str])
    content: list[str] = field(default_factory=list[str])
    blocks: list[Block] = field(default_factory=list[Block])


def speaks(text: str) -> bool:
    """Whether the text is of this dialect: a channel's mark that is not quoted as code, and not
    behind another dialect's mark or in JSON, where it is payload."""
    if _CHANNEL.search(text) is None or text.lstrip()[:1] in ("{", "["):
        return False
    heard = speech("")
    others = {*THINKING, *THOUGHT, *heard.wrappers, *heard.forms}
    found = unquoted(text, f"{_CHANNEL.pattern}|{any_of(others)}")
    return found is not None and found[0] not in others


def read(source: Source) -> Messages:
    text = source.text
    found = Messages()
    at = 0
    while at < len(text):
        head = (_FIRST.match(text) if at == 0 else None) or _next_head(text, at)
        before = text[at : head.start() if head else len(text)]
        if before.strip():
            _before(source, found, at, before, last=head is None)
        if head is None:
            break
        at = _message(source, found, head)
    return found


def _next_head(text: str, at: int) -> re.Match[str] | None:
    """The next head of a message; a mark that begins none is text."""
    while (begin := _BEGIN.search(text, at)) is not None:
        if (head := _head(text, begin.start())) is not None:
            return head
        at = begin.end()
    return None


def _head(text: str, at: int) -> re.Match[str] | None:
    return _HEAD.match(text, at) if text[max(0, at - 1) : at] != "`" else None


def _before(source: Source, found: Messages, at: int, text: str, *, last: bool) -> None:
    """Text outside of any message: thinking whose head was taken away, or a cut off head."""
    begun = _BEGIN.search(text)
    if begun and last:
        rest = text[: begun.start()]
        if _TO.search(text, begun.start()):
            broken = Broken("it ends before its arguments", at=len(source.text), cut=True)
            block = failed(NAME, source, at + begun.start(), len(source.text), broken)
            found.blocks.append(block)
            text = rest
    first = not (found.reasoning or found.content or found.blocks)
    ended = _END.search(text)
    if first and not last:
        found.reasoning.append(text[: ended.start()] if ended else text)
    elif text.strip():
        found.content.append(text)


def _message(source: Source, found: Messages, head: re.Match[str]) -> int:
    """Puts the message where it belongs; where it ends."""
    addressed = _TO.search(f"{head['author'] or ''} {head['channel'] or ''}")
    recipient = addressed[1] if addressed else ""
    if recipient and recipient not in ("assistant", "user", "all"):
        block = _call(source, head, recipient)
        found.blocks.append(block)
        return block.end
    end = _body_end(source.text, head.end())
    body = source.text[head.end() : end]
    author = (head["author"] or "assistant").strip()
    if (head["channel"] or "").strip().startswith("analysis"):
        found.reasoning.append(body)
    elif body.strip() or not author.startswith("assistant"):
        whole = author.startswith("assistant") or not author
        found.content.append(body if whole else source.text[head.start() : end])
    closed = _END.match(source.text, end)
    return closed.end() if closed else end


def _body_end(text: str, at: int) -> int:
    while (mark := _MARK.search(text, at)) is not None:
        if _END.match(text, mark.start()) or _head(text, mark.start()):
            return mark.start()
        at = mark.end()
    return len(text)


def _call(source: Source, head: re.Match[str], recipient: str) -> Block:
    text, name = source.text, source.resolve(recipient)
    at = skip(text, head.end())
    try:
        if not name:
            raise Broken("it has no name", at=at)
        if at >= len(text):
            raise Broken("its arguments are missing", at=at, cut=True)
        if text[at] != "{":
            return _raw(source, head, name)
        read = read_json(text, at, re.compile(r"<\|(?:call|end|return|start|channel)\|>"))
        end = skip(text, read.end)
        closed = _END.match(text, end)
        if closed is None and end < len(text) and not _BEGIN.match(text, end):
            raise Broken("something else follows its arguments", at=end)
    except Broken as broken:
        # What follows may be part of the payload: nothing after it is taken for a call.
        return failed(NAME, source, head.start(), len(text), broken)
    call = Call(name, cast(dict[str, Any], read.value), "", read.notes)
    return Block(NAME, head.start(), closed.end() if closed else end, (call,))


def _raw(source: Source, head: re.Match[str], name: str) -> Block:
    """Arguments that are no JSON: the one string that the tool takes, where it takes just one."""
    end = _body_end(source.text, head.end())
    closed = _END.match(source.text, end)
    past = closed.end() if closed else end
    properties: Any = source.schema(name).get("properties")
    if not closed:
        broken = Broken("its arguments do not end", at=len(source.text), cut=True)
        return failed(NAME, source, head.start(), past, broken)
    if not isinstance(properties, dict) or len(cast(Any, properties)) != 1:
        broken = Broken("its arguments are not a JSON object", at=end)
        return failed(NAME, source, head.start(), past, broken)
    key = str(next(iter(cast(dict[str, Any], properties))))
    text = source.text[head.end() : end]
    call = Call(name, {key: text}, "", (f"the text without a name is {key}",))
    return Block(NAME, head.start(), past, (call,))
