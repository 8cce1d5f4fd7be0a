"""Which HTTP client: CPU of a request with a ready body, at one connection and at 200.

One connection is asked without a pause by a server without latency; 200 are asked at once by one
that takes 50 ms, as 200 agents would be. All connections are open when the clock starts.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.loop_server import serving
from tests.bench.rounds import Contestant, Options, interleave, ratios, say
from tests.bench.rows import Row

#: The one that the package uses.
CHOSEN = "aiohttp"
CLIENTS = {name: f"http_{name}" for name in (CHOSEN, "httpx2", "httpx")}
#: Characters of the history in a body: some ten turns.
BODY = 8_000
LATENCY = 0.05


def rows(options: Options) -> list[Row]:
    one = _at(options, 1, options.pick(1000, 200), 0.0)
    many = options.pick(200, 50)
    return [*one, *_at(options, many, options.pick(5, 3), LATENCY)]


def _at(options: Options, connections: int, each: int, latency: float) -> list[Row]:
    rounds = options.pick(5, 1)
    where = f"{connections} connection{'s' if connections > 1 else ''}"
    say(f"http: {where}, {each} requests over each, {rounds} rounds")

    def once(name: str, _: int) -> dict[str, Any]:
        contestant = Contestant(name, "http_course", "requests", {"client": CLIENTS[name]})
        arguments = {"connections": connections, "each": each, "body_bytes": BODY}
        with TemporaryDirectory(dir=options.folder) as folder, serving(each + 2, latency) as url:
            return contestant.run(Path(folder), url=url, **arguments)

    found = interleave(list(CLIENTS), rounds, once)
    made = [
        Row(
            "http",
            f"{name}: a request, {where}",
            [sample["cpu"] / sample["count"] * 1e3 for sample in samples],
            "ms",
            raw={name: samples},
        )
        for name, samples in found.items()
    ]
    for name in CLIENTS:
        if name != CHOSEN:
            values = ratios(found[name], found[CHOSEN], "cpu")
            raw = {name: found[name], CHOSEN: found[CHOSEN]}
            made.append(Row("http", f"{name} ÷ {CHOSEN}, cpu, {where}", values, raw=raw))
    return made
