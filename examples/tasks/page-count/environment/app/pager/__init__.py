"""Items in pages."""

from .pages import count, page, pages

__all__ = ["count", "page", "pages"]
