"""One pass over a model's text: think blocks, calls, and what is neither.

Invariants: every character of the text ends up in exactly one place (content, reasoning, a call,
an error, a mark that is no part of the answer); a mark inside of a call's payload is payload; a
call in a closed think block is reasoning; what cannot be read is told once and never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from manyhands.agents.dialects import bare, harmony
from manyhands.agents.dialects.marks import THINKING, THOUGHT, Speech, code_end
from manyhands.agents.dialects.objects import begins_line, unread
from manyhands.agents.dialects.outcome import Block, Source
from manyhands.agents.literals import skip

IN_THINKING = "found in a think block that does not end"


@dataclass(frozen=True, slots=True)
class Pieces:
    """The text in order of meaning; ``unclosed``: the last think block does not end."""

    reasoning: tuple[str, ...]
    content: str
    blocks: tuple[Block, ...]
    unclosed: bool


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of text (content or reasoning), or a block."""

    start: int
    end: int
    reasoning: bool = False
    block: Block | None = None


def walk(source: Source, speech: Speech) -> Pieces:
    return _Walk(source, speech).run()


def walk_harmony(source: Source) -> Pieces:
    found = harmony.read(source)
    content = "\n".join(found.content) if len(found.content) > 1 else "".join(found.content)
    return Pieces(tuple(found.reasoning), content, tuple(found.blocks), unclosed=False)


class _Walk:
    def __init__(self, source: Source, speech: Speech) -> None:
        self.source = source
        self.speech = speech
        self.text = source.text
        self.pos = 0  # everything before it is understood
        self.mark = 0  # where the present stretch of text begins
        self.spans: list[_Span] = []
        self.tried: dict[int, Block | None] = {}
        self.dialect: str = ""  # of the first call: a text has one
        self.thought: bool = False  # a think block was seen
        self.unclosed = False  # the last one goes to the end of the text
        self.bares: Iterator[Block] = iter(())
        self.first: Block | None = None  # a call without a mark right after a think block
        self.bare: Block | None = None  # the next one, or the wreck of one
        self.quoted = 0  # up to here an open backtick may make code of the line

    def run(self) -> Pieces:
        self._listen(0)
        while (found := self.speech.landmark.search(self.text, self.pos)) is not None:
            if found["mark"] is not None:
                self._meet(found["mark"], found.start())
                continue
            self.pos, self.quoted = code_end(self.text, found, self.quoted)
            if found["fence"] and not self.thought:
                self._fence(found.end(), self.pos)
        self._flush(len(self.text))
        if not any(span.block for span in self.spans):
            self._without_marks()
        return self._pieces()

    def _fence(self, at: int, end: int) -> None:
        """A fence inside of which thinking ends that began outside of it is none."""
        open_: set[str] = set()
        for found in self.speech.landmark.finditer(self.text, at, end):
            mark = found["mark"] or ""
            if mark in THINKING:
                open_.add(THINKING[mark])
            elif mark in THOUGHT and mark not in open_:
                self._thought_before(found.start(), found.end())
                return

    def _meet(self, mark: str, at: int) -> None:
        after = at + len(mark)
        self.pos = at + 1
        if (end := self._payload(at)) > 0:
            self.pos = end
            return
        if mark in THINKING and self._opens_thinking(mark, at):
            self._think(mark, at)
        elif mark in THOUGHT and not self.thought and not mention(self.text, mark, at):
            self._thought_before(at, after)
        elif at < self.quoted:
            return
        elif mark in self.speech.wrappers and not self.unclosed:
            self._flush(at)
            self.pos = self.mark = skip(self.text, after)
            self.thought = True  # an answer begins where thinking is over
        elif mark in self.speech.forms:
            self._call(at)

    # ------------------------------------------------------------ thinking

    def _opens_thinking(self, mark: str, at: int) -> bool:
        """A tag between words is talked about; a token of the model's own never is."""
        if self.unclosed or at < self.quoted:
            return False
        return (mark[:2] != "<t" and mark != "<reasoning>") or self._at_start(at)

    def _at_start(self, at: int) -> bool:
        before = not self.text[self.mark : at].strip() if at - self.mark < 1000 else False
        return before or begins_line(self.text, at)

    def _think(self, mark: str, at: int) -> None:
        self._flush(at)
        self.thought = True
        close = THINKING[mark]
        inside = at + len(mark)
        end = self._thinking_ends(inside, close)
        if end < 0:
            self.unclosed = True
            self.pos = self.mark = inside
            return
        self.quoted = 0
        self.spans.append(_Span(inside, end, reasoning=True))
        self.pos = self.mark = skip(self.text, end + len(close))
        self._listen(self.pos)

    def _thinking_ends(self, at: int, close: str) -> int:
        """The closing mark that is not inside of a call's payload; -1: there is none."""
        while (end := self.text.find(close, at)) >= 0:
            at = self._call_over(at, end)
            if at < 0:
                return end
        return -1

    def _call_over(self, at: int, end: int) -> int:
        """Where a whole call ends that begins before ``end`` and goes on past it; -1: none does."""
        quoted = 0
        while (found := self.speech.landmark.search(self.text, at, end)) is not None:
            if found["mark"] is None:
                at, quoted = code_end(self.text, found, quoted)
                continue
            at = found.start() + 1
            listened = found["mark"] in self.speech.forms and found.start() >= quoted
            block = self._try(found.start()) if listened else None
            if block is None:
                continue
            if block.cut:
                return -1
            if not block.errors:
                at = block.end
                if at > end:
                    return at
        return -1

    def _thought_before(self, at: int, after: int) -> None:
        """A think block whose opening mark is missing: it stood in the prompt."""
        self.thought = True
        self.quoted = 0
        self.spans = [_Span(0, at, reasoning=True)]
        self.dialect = ""
        self.pos = self.mark = skip(self.text, after)
        self._listen(self.pos)

    # ------------------------------------------------------------ calls

    def _try(self, at: int) -> Block | None:
        """The block at a mark, read at most once."""
        if at not in self.tried and self._payload(at):
            self.tried[at] = None
        if at not in self.tried:
            mark = self.speech.landmark.match(self.text, at)
            forms = self.speech.forms.get(mark["mark"] or "", ()) if mark else ()
            blocks = (form.read(self.source, at) for form in forms)
            self.tried[at] = next((block for block in blocks if block is not None), None)
        return self.tried[at]

    def _call(self, at: int) -> None:
        if _is_quote(self.text, at):
            return
        block = self._try(at) or self._unread(at)
        if block is None or (self.dialect and block.dialect != self.dialect):
            return
        if block.errors and not self.thought and (end := self._thought_in(block)) >= 0:
            mark = self.speech.landmark.match(self.text, end)
            self._thought_before(end, end + len(mark[0]) if mark else end)
            return
        self._flush(at)
        self.spans.append(_Span(block.start, block.end, block=block))
        self.pos = self.mark = block.end
        if block.calls:
            self.dialect = block.dialect

    def _unread(self, at: int) -> Block | None:
        """Marks around something that no form reads, where they are all that the answer is."""
        if self.dialect or self.unclosed or self.text[self.mark : at].strip():
            return None
        if any(span.block is None and not span.reasoning for span in self.spans):
            return None
        found = self.speech.landmark.match(self.text, at)
        mark = (found["mark"] if found else None) or ""
        return unread(self.source, self.speech.forms.get(mark, ()), mark, at)

    def _thought_in(self, block: Block) -> int:
        """Where thinking ends inside of what could not be read; -1: nowhere."""
        for found in self.speech.landmark.finditer(self.text, block.start, block.end):
            if found["mark"] in THOUGHT:
                return found.start()
        return -1

    def _payload(self, at: int) -> int:
        """Where the JSON or the call without a mark ends that was begun before ``at``; 0: there is
        none there."""
        while self.bare is not None and self.bare.end <= at:
            self.bare = next(self.bares, None)
        over = (each for each in (self.bare, self.first) if each and each.start < at < each.end)
        return max((each.end for each in over), default=0)

    def _listen(self, at: int) -> None:
        """They are looked for anew where thinking ended in what looked like one."""
        self.first = bare.first(self.source, self.speech, at)
        if at == 0 or (self.bare is not None and self.bare.start < at < self.bare.end):
            self.bares = bare.every(self.source, self.speech, at)
            self.bare = next(self.bares, None)

    def _without_marks(self) -> None:
        """Calls in shapes that have no mark, where no mark was found."""
        if not self.speech.bare:
            return
        texts = [span for span in self.spans if not span.reasoning or self.unclosed]
        texts = texts[-1:] if self.speech.strict else texts
        for span in texts:
            if span.reasoning and span is not self.spans[-1]:
                continue
            blocks = bare.find(self.source, self.speech, span.start, span.end)
            at = self.spans.index(span)
            self.spans[at : at + 1] = list(_split(span, blocks))

    # ------------------------------------------------------------ the whole

    def _flush(self, end: int) -> None:
        if end > self.mark:
            self.spans.append(_Span(self.mark, end, reasoning=self.unclosed))
        self.mark = end

    def _pieces(self) -> Pieces:
        text = self.text
        reasoning = [text[span.start : span.end] for span in self.spans if span.reasoning]
        content = [
            text[span.start : span.end]
            for span in self.spans
            if not span.reasoning and span.block is None
        ]
        if len(self.spans) > 1:
            content = [part for part in content if part.strip()]
        blocks = tuple(span.block for span in self.spans if span.block is not None)
        if self.unclosed:
            blocks = tuple(_noted(block) for block in blocks)
        return Pieces(tuple(reasoning), "".join(content), blocks, self.unclosed)


def _is_quote(text: str, at: int) -> bool:
    """Whether ``at`` is on a line of a block quote."""
    line = text.rfind("\n", max(0, at - 200), at) + 1
    return text[line:at].lstrip(" \t").startswith(">") and (line > 0 or at <= 200)


def mention(text: str, mark: str, at: int) -> bool:
    """Whether a closing mark stands between words, as one does that is talked about."""
    before, after = text[max(0, at - 1) : at], text[at + len(mark) : at + len(mark) + 1]
    return before in (" ", "\t", '"', "'", "(") and after != "" and after in " \t\"',.;:)?!"


def _split(span: _Span, blocks: list[Block]) -> Iterator[_Span]:
    at = span.start
    for block in blocks:
        if block.start > at:
            yield replace(span, start=at, end=block.start)
        yield _Span(block.start, block.end, block=block)
        at = block.end
    if at < span.end:
        yield replace(span, start=at)


def _noted(block: Block) -> Block:
    calls = tuple(replace(call, notes=(*call.notes, IN_THINKING)) for call in block.calls)
    return replace(block, calls=calls)
