"""OpenTelemetry: the spans of a run, read from its journal, by the conventions for generative AI.

`Fold` turns events into finished spans and needs no library; what sends and writes them needs
`manyhands[otel]`. The journal remains the truth: nothing here writes to it, and a run does not know
whether anybody exports it.
"""

from manyhands.telemetry.content import LIMIT, Content
from manyhands.telemetry.fold import Fold
from manyhands.telemetry.spans import Ids, Link, Mark, Span

__all__ = ["LIMIT", "Content", "Fold", "Ids", "Link", "Mark", "Span"]
