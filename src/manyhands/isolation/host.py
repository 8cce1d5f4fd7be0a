"""What kind of machine this is, as far as training can tell: processor, cores, graphics cards.

Invariant: two machines with one name may be different machines, and are of one make; no name, path
or address of a machine is in it.
"""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_MODEL = re.compile(r"(?m)^(?:model name|Hardware|cpu model)\s*:\s*(.+)$")
_CARD = re.compile(r"(?m)^Model:\s*(.+)$")
#: Of a processor's name, what is the same on all: marks and the clock's rate.
_NOISE = re.compile(r"\((?:R|TM|C)\)|\bCPU\b|@.*$|\bProcessor\b", re.IGNORECASE)


@cache
def kind(root: Path = Path("/proc")) -> str:
    """``Intel Xeon Platinum 8481C, 8 cores, 2 x NVIDIA H100``. ``root``: where the kernel tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(root), f"{cores} cores" if cores != 1 else "1 core", *_cards(root)]
    return ", ".join(parts)


def _processor(root: Path) -> str:
    found = _MODEL.search(_text(root / "cpuinfo"))
    name = found[1] if found else platform.processor() or platform.machine()
    return " ".join(_NOISE.sub(" ", name).split()) or platform.machine()


def _cards(root: Path) -> Iterator[str]:
    texts = [_text(file) for file in sorted(root.glob("driver/nvidia/gpus/*/information"))]
    for name, count in Counter(m[1].strip() for text in texts if (m := _CARD.search(text))).items():
        yield name if count == 1 else f"{count} x {name}"


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:100_000]
    except OSError:
        return ""
