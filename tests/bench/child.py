"""The process of one contestant: ``python -m tests.bench.child MODULE FUNCTION JSON``.

Calls the function with the JSON object as keyword arguments; the last line of stdout is its result.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    module, function, arguments = sys.argv[1:]
    contestant = getattr(importlib.import_module(f"tests.bench.peers.{module}"), function)
    result = contestant(**json.loads(arguments))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
