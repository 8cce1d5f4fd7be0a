"""PDF to text, page by page.

Invariant: every failure of the parser is `Unreadable` with its reason, and work ends soon after
``until``, with the page that is being read.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

from manyhands.adapters.documents.extras import need, quiet_pypdf
from manyhands.adapters.documents.text import Unreadable, clean, one_line

MOST_PAGES = 5_000


def pdf_pages(
    data: bytes,
    *,
    most_text: int,
    until: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[str, list[str]]:
    """The title (empty: it has none) and the text of each page. Raises `Unreadable`.

    ``most_text``: characters in all; ``until``: the time (``now()``) at which to give up.
    """
    pypdf = need("pypdf", "PDF")
    quiet_pypdf()
    pages: list[str] = []
    length = 0
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted, and needs a password")
        if len(reader.pages) > MOST_PAGES:
            raise Unreadable(f"{len(reader.pages)} pages; the limit is {MOST_PAGES}")
        for page in reader.pages:
            if until is not None and now() > until:
                raise Unreadable(f"reading was not done in time, at page {len(pages) + 1}")
            pages.append(clean(page.extract_text()).strip())
            length += len(pages[-1])
            if length > most_text:
                raise Unreadable(f"more than {most_text:,} characters of text, the limit")
        said = reader.metadata
        title = one_line(str(said.title or "")) if said else ""
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # pypdf raises what its parser stumbles over: any class there is
        raise Unreadable(f"damaged PDF: {type(error).__name__}: {one_line(str(error))}") from error
    if not any(pages):
        raise Unreadable(f"no text in its {len(pages)} pages (scanned images?)")
    return title, pages
