"""What a document's text is, where it is cut, and what is asked of the index."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath

import pytest

from manyhands.adapters.documents.chunks import LONGEST, TARGET, Chunk, cut, slices
from manyhands.adapters.documents.html import MOST_ATTRIBUTES, MOST_OPEN, html_to_text
from manyhands.adapters.documents.names import name_of_added, name_of_file
from manyhands.adapters.documents.query import MOST_TERMS, expression
from manyhands.adapters.documents.reading import Limits, read_document
from manyhands.adapters.documents.text import Form, Unreadable, decode
from manyhands.errors import ConfigError
from tests.pdfs import pdf

PROSE = "The moon pulls the sea. " * 120


def passages(name: str, data: str | bytes, limits: Limits | None = None) -> list[Chunk]:
    raw = data.encode() if isinstance(data, str) else data
    path = PurePosixPath(name)
    return cut(read_document(path, raw, limits or Limits()), path.name)


def titles(name: str, data: str | bytes) -> list[str]:
    return [each.title for each in passages(name, data)]


def reason(name: str, data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Unreadable) as caught:
        passages(name, data, limits)
    return str(caught.value)


# ------------------------------------------------------------------ headings


def test_markdown_is_cut_at_its_headings() -> None:
    text = (
        "# Sea\n\nWet.\n\n## Tides ##\n\nTwice.\n\n### `Neap` [tide](x)\n\nLow.\n\n## Fish\n\nMany."
    )
    assert titles("sea.md", text) == ["Sea", "Sea > Tides", "Sea > Tides > Neap tide", "Sea > Fish"]


def test_headings_without_text_go_with_the_next_that_has_some() -> None:
    found = passages("a.md", "# A\n\n## B\n\n### C\n\nText.\n")
    assert found == [Chunk("A > B > C", "# A\n\n## B\n\n### C\n\nText.")]


def test_underlined_headings_of_markdown() -> None:
    text = "Sea\n===\n\nWet.\n\nTides\n---\nTwice.\n\n- a\n---\n\n| x |\n---\n"
    assert titles("a.md", text) == ["Sea", "Sea > Tides"]


def test_what_stands_in_a_fence_is_no_heading() -> None:
    text = "# A\n\n```sh\n# not one\n```\n\n~~~~\n~~~\n# nor this\n~~~~\n\n    # nor that\n"
    assert titles("a.md", text) == ["A"]


def test_front_matter_is_no_heading_and_gives_the_title() -> None:
    text = "---\ntitle: 'The sea'\n# a comment\n---\n\n# Tides\n\nTwice.\n"
    assert titles("a.md", text) == ["The sea", "The sea > Tides"]


def test_restructured_text_has_levels_by_style() -> None:
    text = (
        "=====\n Sea\n=====\n\nWet.\n\nTides\n=====\n\nTwice.\n\nNeap\n----\n\nLow.\n\n"
        "Fish\n====\n\nMany.\n\n    Not\n    ---\n"
    )
    assert titles("a.rst", text) == ["Sea", "Sea > Tides", "Sea > Tides > Neap", "Sea > Fish"]


def test_code_is_cut_where_something_is_defined() -> None:
    body = "    x = 1\n\n" * 60
    text = f"import os\n\n@cached\nasync def first():\n{body}\nclass Second(Base):\n{body}"
    found = titles("a.py", text)
    assert found == ["a.py > first", "a.py > Second"]


def test_small_definitions_share_a_passage() -> None:
    assert len(passages("errors.py", "class A: ...\n\n\nclass B: ...\n\n\nclass C: ...\n")) == 1


# ------------------------------------------------------------------ where it is cut


def test_a_long_paragraph_is_cut_behind_a_sentence() -> None:
    found = passages("a.txt", PROSE)
    assert all(each.text.endswith("sea.") for each in found)
    assert all(len(each.text) <= TARGET for each in found)


def test_a_fence_that_fits_stays_whole() -> None:
    code = "```\n" + "line of code\n\n" * 130 + "```"
    assert TARGET < len(code) < LONGEST
    found = [each.text for each in passages("a.md", f"# A\n\n{PROSE}\n\n{code}\n\nEnd.\n")]
    assert code in found


def test_a_fence_that_does_not_fit_is_cut_between_lines() -> None:
    lines = [f"line {n} of the code" for n in range(400)]
    found = passages("a.md", "```\n" + "\n".join(lines) + "\n```\n")
    assert "\n".join(each.text for each in found).split("\n")[1:-1] == lines


def test_chinese_is_cut_behind_its_full_stop() -> None:
    found = [text for _, text in slices("潮汐每天两次。" * 400, Form.PLAIN)]
    assert all(text.endswith("。") for text in found)


def test_scanning_is_linear() -> None:
    """These took minutes if any of them were not."""
    for text in ("# " * 200_000, "`" * 400_000, " \t" * 200_000, "=" * 400_000, "a_" * 200_000):
        for form in Form:
            assert list(slices(text, form)) or not text.strip()


# ------------------------------------------------------------------ bytes


def test_bytes_of_several_encodings() -> None:
    assert decode("\ufeffGrüße\r\n".encode()) == "Grüße\n"
    assert decode("Grüße".encode("latin-1")) == "Grüße"
    assert decode("“x” – €".encode("cp1252")) == "“x” – €"
    assert decode("Привет".encode("cp1251"), "windows-1251") == "Привет"
    assert decode("x\u20ac".encode("utf-16")) == "x€"
    assert decode(b"caf\xc3\xa9", "no-such-charset") == "café"
    assert decode(b"a\x07b\x1bc\td\ne") == "abc\td\ne"


def test_what_is_no_text_is_refused_with_the_reason() -> None:
    assert "NUL" in reason("a.txt", b"PK\x00\x01")
    assert "controls" in reason("a.txt", bytes(range(1, 256)) * 4)
    limits = Limits(text=100)
    assert "501 characters of text; the limit is 100" in reason("a.txt", b"x" * 501, limits)
    assert "no text" in reason("a.html", b"<p hidden>x</p>")
    assert passages("a.txt", b" \n") == []


# ------------------------------------------------------------------ HTML


def test_html_becomes_text_with_markdown_headings() -> None:
    page = b"""<!doctype html><html><head><title>The &amp; sea</title><style>x{}</style></head>
    <body><nav>Home</nav><h1>Sea<a class="headerlink">\xc2\xb6</a></h1>
    <p>The <a href="http://x/">moon</a>
       pulls.<br>Twice.</p><ul><li>one<ul><li>deep</li></ul></li><li>two</li></ul>
    <pre>if x:
    y = ``1``</pre>
    <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
    <p># no heading</p><script>alert(1)</script></body></html>"""
    title, text = html_to_text(page)
    assert title == "The & sea"
    assert text == (
        "# Sea\n\nThe moon pulls.\nTwice.\n\n- one\n  - deep\n- two\n\n"
        "```\nif x:\n    y = ``1``\n```\n\na | b\n1 | 2\n\n\\# no heading"
    )


@pytest.mark.parametrize(
    "hidden",
    [
        *("<p hidden>x", "<p aria-hidden=true>x", "<p style='color:red; display : none'>x"),
        *("<p style='visibility:hidden'>x", "<p style=font-size:0>x", "<p style='opacity:0.0'>x"),
        *("<template>x</template>", "<noscript>x</noscript>", "<!-- x -->", "<svg>x</svg>"),
        *("<div hidden><p>x<p>x</div>", "<select><option>x</select>", "<iframe>x</iframe>"),
    ],
)
def test_what_is_hidden_is_not_in_the_text(hidden: str) -> None:
    assert html_to_text(f"<p>seen</p>{hidden}".encode())[1] == "seen"


def test_html_in_the_charset_that_it_declares() -> None:
    page = '<meta charset="windows-1251"><p>Привет'.encode("windows-1251")
    assert html_to_text(page)[1] == "Привет"
    assert html_to_text("<p>Привет".encode("koi8-r"), "koi8-r")[1] == "Привет"


def test_html_that_would_take_minutes_is_refused() -> None:
    assert "open at once" in reason("a.html", b"<div>" * (MOST_OPEN + 1))
    quoted = b'<p a=">" ' + b" ".join(b"b%d='>'" % n for n in range(MOST_ATTRIBUTES)) + b">x"
    assert "attributes" in reason("a.html", quoted)
    assert (
        html_to_text(b"<p title='a > b' class=x>" + b"one > two, " * 9_000)[1].count("one") == 9_000
    )
    attributes = " ".join(f"a{n}" for n in range(MOST_ATTRIBUTES + 2))
    assert "attributes" in reason("a.html", f"<p {attributes}>x".encode())


def test_deep_html_needs_no_recursion() -> None:
    assert html_to_text(b"<div>" * 4_000 + b"x")[1] == "x"


# ------------------------------------------------------------------ PDF


def test_pdf_page_by_page() -> None:
    found = passages("a.pdf", pdf("The moon.", "The sea.", title="Tides"))
    assert found == [Chunk("Tides > page 1", "The moon."), Chunk("Tides > page 2", "The sea.")]
    assert titles("a.pdf", pdf("x")) == ["a.pdf > page 1"]


def test_pdf_without_text_damaged_or_too_slow() -> None:
    assert "no text in its 2 pages" in reason("a.pdf", pdf("", ""))
    assert "damaged PDF" in reason("a.pdf", b"%PDF-1.4\nno such thing")
    assert "limit" in reason("a.pdf", pdf("x" * 50), Limits(text=10))
    assert "not done in time" in reason("a.pdf", pdf("x"), Limits(seconds=-1))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pypdf", "selectolax.lexbor"):
        monkeypatch.setitem(sys.modules, module, None)
    for name, data in (("a.pdf", pdf("x")), ("a.html", b"<p>x")):
        with pytest.raises(ConfigError, match=r"manyhands\[answer\]"):
            passages(name, data)
    assert passages("a.md", "x")


# ------------------------------------------------------------------ names and queries


def test_names_are_readable_where_they_can_be() -> None:
    assert name_of_file("a/b c (1).md") == "a/b c (1).md"
    assert name_of_file("C#/50% [a], b.md") == "C%23/50%25 %5Ba%5D%2C b.md"
    assert name_of_file("a\nb\u202e") == "a%0Ab%E2%80%AE"
    assert name_of_added(" https://x.org/a%20b?q=1#top ") == "https://x.org/a%20b?q=1%23top"


def test_stop_words_go_where_others_remain() -> None:
    assert expression("What is the tide?") == '"tide?"'
    assert expression("to be or not to be") == '"to" OR "be" OR "or" OR "not"'


def test_names_are_asked_for_whole_and_in_parts() -> None:
    found = expression("asyncio.TaskGroup snake_case").split(" OR ")
    assert {'"asyncio.taskgroup"', '"asyncio"', '"taskgroup"', '"task group"'} <= set(found)
    assert {'"snake_case"', '"snake"', '"case"'} <= set(found)


def test_a_query_has_an_end() -> None:
    assert expression(" ".join(map(str, range(10_000)))).count(" OR ") == MOST_TERMS - 1
