"""The process that is llama.cpp's HTTP server; `embedded_host` starts it and nobody else does.

Invariant: it does not outlive its host, whatever it is doing when the host ends.

The order and the key come as a line of JSON on standard input, which is held open: its end is the
host's. One line of JSON on standard output says where the server listens, or why it cannot; the log
is standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from manyhands.adapters.models.embedded_limits import free_memory

#: Threads that speak HTTP: a burst of requests must not find them all taken.
HTTP_THREADS = 64
_GIGABYTE = 1e9
_PR_SET_PDEATHSIG = 1
#: Of a device; what is none has memory of its own.
_CPU = 0


def main() -> None:
    report = _take_output()
    _die_with(os.getppid())
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, daemon=True).start()
    _be_the_victim()
    try:
        told = _serve(order)
    except ImportError as error:
        told = _failure(f"xllamacpp cannot be imported: {error}", "pip install 'manyhands[local]'")
    report.write(json.dumps(told) + "\n")
    report.flush()
    if "url" not in told:
        # Not os._exit: llama.cpp writes its log in a thread, and that is what tells the reason.
        sys.exit(1)
    threading.Event().wait()


def _serve(order: dict[str, Any]) -> dict[str, Any]:
    """Load the model and listen. llama.cpp holds the interpreter for as long as it loads."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    cpu_only = all(int(device["type"]) == _CPU for device in xllamacpp.get_device_info())
    if cpu_only and (short := _shortage(order)):
        return short
    try:
        server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), order, fit=not cpu_only))
    except (RuntimeError, ValueError) as error:
        return _failure(str(error), "", unexplained=True)
    _KEPT.append(server)
    return {"url": server.listening_address}


#: The server ends with the object that holds it.
_KEPT: list[Any] = []


def _parameters(params: Any, order: dict[str, Any], *, fit: bool) -> Any:
    """``fit``: let llama.cpp decide how much of the model goes to the accelerator."""
    params.model.path = order["path"]
    params.n_parallel = order["slots"]
    # Each slot has the whole length to itself: no agent's context is cut by another's.
    params.n_ctx = order["context_length"] * order["slots"]
    params.kv_unified = False
    params.fit_params = fit
    params.cpuparams.n_threads = order["threads"]
    params.cpuparams_batch.n_threads = order["threads"]
    # Memory is what was asked for: no second cache of contexts beside the slots'.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.cors_origins = ""
    params.cors_credentials = False
    params.n_threads_http = HTTP_THREADS
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.endpoint_metrics = False
    return params


def _shortage(order: dict[str, Any]) -> dict[str, Any] | None:
    """llama.cpp takes memory until the kernel kills something, so it is counted before."""
    weights = int(order["size"])
    context = int(order["kv_bytes"]) * int(order["context_length"]) * int(order["slots"])
    free = free_memory()
    if weights + context <= free:
        return None
    return _failure(
        f"too little memory: about {(weights + context) / _GIGABYTE:.1f} GB are needed "
        f"({weights / _GIGABYTE:.1f} GB weights, {context / _GIGABYTE:.1f} GB for {order['slots']} "
        f"contexts of {order['context_length']} tokens), {free / _GIGABYTE:.1f} GB are free",
        "lower the context length or the number of slots, take a smaller model, or free memory",
    )


def _failure(reason: str, next: str, *, unexplained: bool = False) -> dict[str, Any]:
    """``unexplained``: the reason stands in the log."""
    return {"reason": reason, "next": next, "unexplained": unexplained}


# -------------------------------------------------------------------- life and death


def _take_output() -> TextIO:
    """Standard output for the report alone; what libraries print goes to the log."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return report


def _die_with(parent: int) -> None:
    """On Linux the kernel sees to it, even while llama.cpp holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _watch() -> None:
    # Not sys.stdin: its lock, held here, would abort the interpreter at its end.
    while os.read(0, 1):
        pass
    os._exit(0)


def _be_the_victim() -> None:
    """If the machine runs out of memory, this can be started again; what uses it cannot."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main()
