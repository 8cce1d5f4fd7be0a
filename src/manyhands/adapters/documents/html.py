"""HTML to readable text: headings and lists as Markdown, links as their text.

Invariant: what a browser would not show is not in the text, and a page cannot make the parser take
more than a moment: it is looked through for what makes parsing quadratic before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from manyhands.adapters.documents.extras import need
from manyhands.adapters.documents.text import Unreadable, clean, decode, one_line, words

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

# lexbor's work grows with the square of both: 20,000 open <div>s took 0.6 s, 200,000 85 s;
# 20,000 attributes of one element 0.8 s.
MOST_OPEN = 5_000
MOST_ATTRIBUTES = 2_000

# As HTML's tokenizer reads them: a ">" within quotes ends no tag.
_ATTRIBUTE = r"""[^\s/>][^\s/>=]*(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>"'][^\s>]*)?)?"""
_TAG = re.compile(rf"<(/?)([a-zA-Z][^\s/>]*)((?:[\s/]+|{_ATTRIBUTE})*)", re.ASCII)
_ATTRIBUTES = re.compile(_ATTRIBUTE, re.ASCII)
#: Have no end, or one that is left out in good HTML: they don't nest by themselves.
_NO_END = words(
    "area base br col embed hr img input link meta source track wbr "
    "p li dt dd tr td th thead tbody tfoot option optgroup rp rt colgroup"
)
_SKIPPED = words(
    "script style noscript template svg iframe object embed canvas audio video select textarea "
    "button nav head"
)
_BLOCKS = words(
    "address article aside blockquote body center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr li main menu ol p pre "
    "search section summary table tbody tfoot thead tr ul"
)
_HEADING = re.compile(r"h([1-6])")
_INVISIBLE = re.compile(
    r"(?i)(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden"
    r"|(?:opacity|font-size)\s*:\s*0(?![.\d]*[1-9]))"
)
_CHARSET = re.compile(rb"(?i)<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-z0-9_:.-]+)")
_LOOKS_LIKE_HEADING = re.compile(r"(?m)^(?=#{1,6}(?:\s|$))")


def html_to_text(data: bytes, charset: str | None = None) -> tuple[str, str]:
    """Title and text of a page. ``charset``: what the server said. Raises `Unreadable`."""
    source = decode(data, charset or _declared(data))
    _check(source)
    parser = need("selectolax.lexbor", "HTML").LexborHTMLParser(source)
    writer = _Writer()
    if parser.body is not None:
        for step, node in _walk(parser.body):
            writer.take(step, node)
    title = parser.css_first("head title") or parser.css_first("h1")
    return one_line(title.text() if title else "").rstrip(" ¶"), writer.text()


def _declared(data: bytes) -> str | None:
    found = _CHARSET.search(data[:2048])
    return found[1].decode("ascii") if found else None


def _check(source: str) -> None:
    opened = most = 0
    for found in _TAG.finditer(source):
        end, tag, rest = found.groups()
        if len(rest) > MOST_ATTRIBUTES and len(_ATTRIBUTES.findall(rest)) > MOST_ATTRIBUTES:
            raise Unreadable(f"<{tag}> has more than {MOST_ATTRIBUTES} attributes")
        if tag.lower() in _NO_END:
            continue
        opened = max(0, opened - 1) if end else opened + 1
        most = max(most, opened)
    if most > MOST_OPEN:
        raise Unreadable(f"{most} elements are open at once; the limit is {MOST_OPEN}")


def _walk(root: LexborNode) -> Iterator[tuple[str, LexborNode]]:
    """``open`` and ``close`` of each element that is shown, ``text`` of what is in it.

    Without recursion: depth is the page's choice.
    """
    node: LexborNode | None = root
    while node is not None:
        child = None
        if node.is_text_node:
            yield "text", node
        elif node.is_element_node and not _hidden(node):
            yield "open", node
            child = node.child
            if child is None:
                yield "close", node
        if child is not None:
            node = child
            continue
        while node is not None and node.mem_id != root.mem_id and node.next is None:
            node = node.parent
            if node is not None:
                yield "close", node
        node = None if node is None or node.mem_id == root.mem_id else node.next


def _hidden(node: LexborNode) -> bool:
    if node.tag in _SKIPPED:
        return True
    said = node.attributes
    if not said:
        return False
    if "hidden" in said or (said.get("aria-hidden") or "").lower() == "true":
        return True
    if "headerlink" in (said.get("class") or "").split():  # Sphinx's ¶
        return True
    return _INVISIBLE.search(said.get("style") or "") is not None


class _Writer:
    """Blocks of text, in order. A list's items and a table's rows stand on lines of their own."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, bool]] = []
        self._line: list[str] = []
        self._filled = False
        self._prefix = ""
        self._fenced = 0
        self._lists = 0

    def take(self, step: str, node: LexborNode) -> None:
        tag = node.tag or ""
        if step == "text":
            self._take_text(node.text_content or "")
        elif step == "open":
            self._open(tag)
        else:
            self._close(tag)

    def text(self) -> str:
        self._flush()
        made: list[str] = []
        tight = False
        for text, is_row in self._blocks:
            made.append("" if not made else "\n" if tight and is_row else "\n\n")
            made.append(text)
            tight = is_row
        return "".join(made)

    def _take_text(self, text: str) -> None:
        self._filled = self._filled or not text.isspace()
        self._line.append(text if self._fenced else re.sub(r"\s+", " ", text))

    def _open(self, tag: str) -> None:
        if tag == "br":
            self._line.append("\n")
        elif tag in ("td", "th"):
            if self._filled:
                self._line.append(" | ")
        elif tag in _BLOCKS and not self._fenced:
            self._open_block(tag)
        elif tag == "pre":
            self._fenced += 1

    def _open_block(self, tag: str) -> None:
        self._flush(tag == "tr")
        heading = _HEADING.fullmatch(tag)
        if heading:
            self._prefix = "#" * int(heading[1]) + " "
        elif tag == "li":
            self._prefix = "  " * max(0, self._lists - 1) + "- "
        elif tag in ("ul", "ol"):
            self._lists += 1
        elif tag == "pre":
            self._fenced += 1

    def _close(self, tag: str) -> None:
        if self._fenced:
            if tag == "pre":
                self._fenced -= 1
                if not self._fenced:
                    self._flush_fence()
            elif tag in _BLOCKS:
                self._line.append("\n")
        elif tag in _BLOCKS:
            self._flush(tag == "tr")
            if _HEADING.fullmatch(tag) or tag == "li":
                self._prefix = ""
            elif tag in ("ul", "ol"):
                self._lists = max(0, self._lists - 1)

    def _flush(self, is_row: bool = False) -> None:
        if self._fenced:  # a page that ends inside of <pre>
            self._fenced = 0
            self._flush_fence()
            return
        lines = (" ".join(line.split()) for line in clean("".join(self._line)).split("\n"))
        text = "\n".join(line for line in lines if line)
        self._line.clear()
        self._filled = False
        if not text:
            return
        if self._prefix.startswith("#"):
            text = text.replace("\n", " ")
        else:
            text = _LOOKS_LIKE_HEADING.sub(r"\\", text)
        self._blocks.append((self._prefix + text, is_row or self._prefix.endswith("- ")))
        self._prefix = ""

    def _flush_fence(self) -> None:
        code = clean("".join(self._line)).strip("\n").rstrip()
        self._line.clear()
        if code.strip():
            ticks = max((len(run) for run in re.findall(r"`+", code)), default=0)
            fence = "`" * max(3, ticks + 1)
            self._blocks.append((f"{fence}\n{code}\n{fence}", False))
