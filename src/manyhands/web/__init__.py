"""The timeline: what a journal holds, as a local page and as one file.

Reads, and changes no run; all that it can add is a fork, which is a run of its own."""

from manyhands.web.page import export_html
from manyhands.web.server import Server

__all__ = ["Server", "export_html"]
