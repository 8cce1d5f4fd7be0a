"""The timeline: what a journal holds, as a local page and as one file. Reads, and never writes."""

from manyhands.web.page import export_html
from manyhands.web.server import Server

__all__ = ["Server", "export_html"]
