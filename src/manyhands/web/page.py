"""The page's files, and the same page as one file that opens from a disk.

Invariants: there is no build step: a served page loads the modules as they are, an exported one
holds the same modules joined in one script; what agents wrote stands in an exported file as base64
or as JSON without ``<``, so none of it is markup; its policy names the hash of the one script that
may run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from manyhands.runtime.reading import Reader
from manyhands.runtime.transfer import referenced, whole_file
from manyhands.web.stream import PAGE, is_held
from manyhands.web.wire import WHOLE, page_of

#: In the order in which they need each other.
MODULES = (
    "columns.js",
    "keys.js",
    "view.js",
    "reducer.js",
    "sums.js",
    "contexts.js",
    "dom.js",
    "source.js",
    "layout.js",
    "draw.js",
    "lanes.js",
    "contents.js",
    "card.js",
    "panels.js",
    "charts.js",
    "parts.js",
    "study.js",
    "answer.js",
    "work.js",
    "align.js",
    "compare.js",
    "runs.js",
    "control.js",
    "app.js",
)
_KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_IMPORT = re.compile(r"^import\s[^;]*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)


@cache
def _read(name: str) -> str:
    return files("manyhands.web").joinpath("assets", name).read_text("utf-8")


def index() -> str:
    """The served page."""
    return _read("index.html")


def asset(name: str) -> tuple[str, str] | None:
    """Content and media type of one of the page's files; None: it is none of them."""
    if name not in (*MODULES, "start.js", "style.css"):
        return None
    return _read(name), _KINDS[name.rpartition(".")[2]]


def script() -> str:
    """All modules as one: a module's names are the page's, so each is used once."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", _read(name))) for name in (*MODULES, "start.js")]
    return "\n".join(parts)


def html_pieces(reader: Reader, run_id: str) -> Iterator[str]:
    """The exported file, piece by piece. Raises `RunNotFound`, `JournalUnreadable`."""
    code, style = script(), _read("style.css")
    policy = (
        f"default-src 'none'; script-src '{_sri(code)}'; style-src '{_sri(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head, _, rest = _read("index.html").partition("<!-- head -->")
    body, _, end = rest.partition("<!-- end -->")
    yield head
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield f"<style>{style}</style>\n"
    yield body.partition("<!-- body -->")[2]
    yield from _data(reader, run_id)
    yield f'<script type="module">{code}</script>'
    yield end


def _sri(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(reader: Reader, run_id: str) -> Iterator[str]:
    """The events' structure in pages, then contents: an index, and base64 one after the other."""
    held = is_held(reader, run_id)
    about = {"run": run_id, "held": held}
    yield f'<script type="application/json" id="stored-run">{_inert(json.dumps(about))}</script>\n'
    yield '<script type="application/json" id="stored-events">[[]'
    after = 0
    while True:
        page, after = page_of(reader.journal, run_id, after, PAGE)
        if not page:
            break
        yield "," + _inert(page)
    yield "]</script>\n"
    places: dict[str, tuple[int, int]] = {}
    yield '<script type="text/plain" id="stored-contents">'
    at = 0
    for name, content in _contents(reader, run_id, after):
        text = base64.b64encode(content).decode()
        places[name] = (at, len(text))
        at += len(text)
        yield text
    yield "</script>\n"
    index_ = _inert(json.dumps(places))
    yield f'<script type="application/json" id="stored-places">{index_}</script>\n'


def _contents(reader: Reader, run_id: str, last: int) -> Iterator[tuple[str, bytes]]:
    """``SEQ/value``, and ``SEQ/data`` where the structure lacks it, and every blob named."""
    journal = reader.journal
    for seq, _, _, _, _, data, value, _ in journal.rows(run_id, 0, last + 1):
        if value is not None:
            yield f"{seq}/value", value.encode()
        if len(data) > WHOLE:
            yield f"{seq}/data", data.encode()
    yield from referenced(journal, run_id)


def _inert(text: str) -> str:
    """JSON without the one character that could end the element that it stands in."""
    return text.replace("<", "\\u003c")


def export_html(reader: Reader, run_id: str, path: Path) -> int:
    """Write the timeline of a run to ``path`` (whole or not at all); returns its size in bytes."""
    with whole_file(path) as out:
        out.writelines(html_pieces(reader, run_id))
    return path.stat().st_size
