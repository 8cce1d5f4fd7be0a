"""A file's bytes to a `Document`, by what kind of file it is.

Invariant: every file is read, or `Unreadable` with a reason, or of a kind that holds no text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from manyhands.adapters.documents.blocks import blocks
from manyhands.adapters.documents.chunks import plain_title
from manyhands.adapters.documents.html import html_to_text
from manyhands.adapters.documents.pdf import pdf_pages
from manyhands.adapters.documents.text import (
    Document,
    Form,
    Part,
    Unreadable,
    decode,
    one_line,
    words,
)

_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mdx", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_CODE = words(
    ".py .pyi .pyx .c .h .cc .cpp .hpp .cu .js .mjs .ts .tsx .jsx .go .rs .java .kt .scala .swift "
    ".rb .php .cs .sh .bash .pl .lua .jl .r .sql .toml .ini .cfg .yaml .yml"
)
#: Images, sound, video, archives, objects, databases: nobody looks for text in them.
_NO_TEXT = words(
    ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico .heic .avif .svg .mp3 .wav .ogg .flac .m4a "
    ".mp4 .mkv .mov .avi .webm .zip .gz .bz2 .xz .zst .7z .rar .tar .tgz .whl .jar .so .dll .dylib "
    ".exe .o .a .pyc .pyo .class .wasm .bin .db .sqlite .sqlite3 .db-wal .db-shm .npy .npz .pt "
    ".pth .ckpt .safetensors .gguf .onnx .parquet .feather .arrow .h5 .pkl .pickle .ttf .otf "
    ".woff .woff2 .eot .css .map .lock"
)
_FRONT_TITLE = re.compile(r"(?m)^title:[ \t]*(.+)$")


#: Changes with what a file's passages are: all files are read again.
READER = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What is read of a folder. Files over a limit are listed with the reason, not cut."""

    files: int = 100_000
    file_bytes: int = 20_000_000
    #: Characters of text that one file may have.
    text: int = 5_000_000
    #: For one PDF.
    seconds: float = 60.0


def holds_text(path: PurePosixPath) -> bool:
    return path.suffix.lower() not in _NO_TEXT


def read_document(
    path: PurePosixPath,
    data: bytes,
    limits: Limits,
    now: Callable[[], float] = time.monotonic,
) -> Document:
    """Raises `Unreadable`, and `ConfigError` where a package is missing."""
    suffix = path.suffix.lower()
    if not data.strip():
        return Document("", ())
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        return pdf_document(data, limits.text, now() + limits.seconds)
    if suffix in _HTML:
        title, text = html_to_text(data)
        return _checked(text_document(text, Form.MARKDOWN, title), limits)
    return _checked(text_document(decode(data), _form(suffix)), limits)


def _form(suffix: str) -> Form:
    if suffix in _MARKDOWN:
        return Form.MARKDOWN
    return Form.CODE if suffix in _CODE else Form.PLAIN


def text_document(text: str, form: Form, title: str = "") -> Document:
    """``title``: where it is empty, the text's own is taken."""
    return Document(title or _own_title(text, form), (Part("", text, form),))


def pdf_document(data: bytes, most_text: int, until: float) -> Document:
    title, pages = pdf_pages(data, most_text=most_text, until=until)
    parts = (Part(f"page {n}", text, Form.PLAIN) for n, text in enumerate(pages, 1))
    return Document(title, tuple(part for part in parts if part.text))


def _own_title(text: str, form: Form) -> str:
    if form is Form.CODE:
        return ""
    found = blocks(text, form)
    if form is Form.MARKDOWN and text.startswith("---\n") and found:
        front = _FRONT_TITLE.search(text, 0, found[0].end)
        if front:
            return one_line(front[1].strip("\"' "))
    # In plain text a heading further down is a section's; in Markdown it is often below a badge.
    headings = [block for block in found[: 1 if form is Form.PLAIN else None] if block.level]
    first = next((block for block in headings if block.level == 1), None)
    return plain_title(first.title) if first else ""


def _checked(document: Document, limits: Limits) -> Document:
    length = sum(len(part.text) for part in document.parts)
    if length > limits.text:
        raise Unreadable(f"{length:,} characters of text; the limit is {limits.text:,}")
    if not any(part.text.strip() for part in document.parts):
        raise Unreadable("it holds no text")
    return document
