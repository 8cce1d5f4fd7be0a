"""No text is lost or doubled by cutting, no name is ambiguous, no query is an error."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.adapters.documents.chunks import LONGEST, TARGET, cut, slices
from manyhands.adapters.documents.html import html_to_text
from manyhands.adapters.documents.names import (
    file_of_name,
    id_of,
    name_of_added,
    name_of_file,
    parse_id,
)
from manyhands.adapters.documents.query import beside, expression
from manyhands.adapters.documents.reading import Limits, read_document
from manyhands.adapters.documents.text import Form, Unreadable, clean, decode

SCRAPS = [
    *("\n", "\n\n", " ", "\t", "# ", "## A\n", "### B ###\n", "Title\n=====\n", "Sub\n---\n"),
    *("```py\n", "```\n", "~~~~\n", "    ```\n", "---\n", "- item. ", "| a | b |\n", "> q\n"),
    *(
        "====\n",
        "Over\n====\n",
        "def f():\n",
        "class A:\n",
        "    x = 1\n",
        "e.g. ",
        "Yes. ",
        "No! ",
    ),
    *("。", "世界", "é\u0301" * 3, "👩\u200d🚀", "word " * 150, "x" * 1300, "line\n" * 120),
    *("\r\n", "\x0c", "\u2028", "\x00", "\ufeff", "\ud800", "<p>", "</div>", "&amp;", "<b hidden>"),
]
texts = st.lists(st.one_of(st.sampled_from(SCRAPS), st.text(max_size=8)), max_size=30).map("".join)


def letters(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("form", Form)
@settings(deadline=None)
@given(text=texts.map(clean))
def test_every_character_is_in_exactly_one_passage(form: Form, text: str) -> None:
    found = [passage for _, passage in slices(text, form)]
    assert letters("".join(found)) == letters(text)
    assert all(passage == passage.strip() and passage for passage in found)
    assert max(map(len, found), default=0) <= LONGEST


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["sea", "moon", "tide.", "harbour!", "Is"]), min_size=5, max_size=20)
)
def test_prose_is_cut_between_words_and_filled(some: list[str]) -> None:
    words = some * 80
    found = [passage for _, passage in slices(" ".join(words), Form.PLAIN)]
    assert " ".join(found).split() == words
    assert all(TARGET / 2 < len(passage) <= TARGET for passage in found[:-1])


@settings(deadline=None)
@given(texts)
def test_cleaning_leaves_what_can_be_stored(text: str) -> None:
    found = clean(text)
    found.encode()
    assert clean(found) == found
    assert all(char.isprintable() or char in "\n\t" or ord(char) >= 0xA0 for char in found)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_are_a_text_or_unreadable(data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        decode(data).encode()


@settings(max_examples=60, deadline=None)
@given(texts.map(lambda text: clean(text).encode()), st.sampled_from([".md", ".html", ".py", ""]))
def test_any_file_is_a_document_or_unreadable(data: bytes, suffix: str) -> None:
    try:
        found = cut(read_document(PurePosixPath("a" + suffix), data, Limits()), "a")
    except Unreadable:
        return
    assert all(chunk.title and chunk.text for chunk in found)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["sea", "<b>", "</b>", "<p>", "<li>", "<pre>", "<td>"])))
def test_what_html_shows_is_kept(pieces: list[str]) -> None:
    _, text = html_to_text(b"<!doctype html><body>" + " ".join(pieces).encode())
    assert text.count("sea") == pieces.count("sea")


file_names = st.text(
    st.one_of(
        st.characters(exclude_characters="/\x00", codec="utf-8"), st.sampled_from("%#[] \udcff")
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(file_names, file_names)
def test_names_of_files_are_unambiguous_and_lead_back(one: str, other: str) -> None:
    name = name_of_file(one)
    assert file_of_name(name) == one
    assert (name == name_of_file(other)) == (one == other)
    assert not set(name) & set("#[],;\n")
    assert parse_id(f"[{id_of(name, 7)}]") == (name, 7)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_names_of_added_texts_fit_into_a_marker(source: str) -> None:
    name = name_of_added(source)
    name.encode()
    assert not set(name) & set("#[],;\n\r\t")
    assert name_of_added(name) == name


@settings(deadline=None)
@given(texts, st.text(max_size=40))
def test_any_query_is_one(text: str, query: str) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE w USING fts5(t, b, tokenize='porter unicode61')")
    db.execute("INSERT INTO w VALUES (?,?)", (clean(text), beside(clean(text))))
    for asked in (query, text, f'"{query}" AND NOT {text} (* : ^'):
        made = expression(asked)
        if made:
            db.execute("SELECT count(*) FROM w WHERE w MATCH ?", (made,)).fetchone()
    db.close()
