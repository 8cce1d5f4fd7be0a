"""Finds files and lines; run by a Python inside of the sandbox, as a program of its own.

Invariant: only the standard library is used, and nothing of this package, for the sandbox gets
this file's text alone. It reads a query from stdin as JSON and prints what it found as JSON; what
it leaves out it counts. A pattern that takes for ever takes the sandbox's time, not the harness's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

SHOWN = 400  # characters of a line
BIGGEST = 50_000_000  # bytes of a file
AT_ONCE = 400  # files that rg is given
NOT_RG = (b"regex parse error", b"not allowed in a regex", b"compiled regex exceeds")


def pattern_of(glob: str) -> re.Pattern[str]:
    """A regular expression for paths. ``**/`` any folders, ``*`` and ``?`` within a name, sets,
    ``{a,b}``. A pattern without a slash is for names in every folder."""
    glob = glob.lstrip("/") if "/" in glob else "**/" + glob
    while "**/**/" in glob:
        glob = glob.replace("**/**/", "**/")
    out, i, depth = "", 0, 0
    while i < len(glob):
        if glob.startswith("**/", i) and (i == 0 or glob[i - 1] in "/{,"):
            out, i = out + "(?:[^/]+/)*", i + 3
            continue
        one, i, depth = _piece(glob, i, depth)
        out += one
    return re.compile(out + ")" * depth + r"\Z", re.S)


def _piece(glob: str, i: int, depth: int) -> tuple[str, int, int]:
    """One part as a regular expression, where the next begins, how many braces are open."""
    c = glob[i]
    i += 1
    if c == "*":
        twice = glob.startswith("*", i)
        while glob.startswith("*", i):
            i += 1
        return (".*" if twice and i == len(glob) else "[^/]*"), i, depth
    if c == "?":
        return "[^/]", i, depth
    if c == "[" and (end := glob.find("]", i + 1)) > 0:
        inner = glob[i:end].replace("\\", "\\\\").replace("[", "\\[")
        return "(?!/)[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]", end + 1, depth
    if c == "{" and "}" in glob[i:]:
        return "(?:", i, depth + 1
    if c == "}" and depth:
        return ")", i, depth - 1
    return ("|" if c == "," and depth else re.escape(c)), i, depth


class Found:
    """Lines in order, up to a limit; the rest is counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lines: list[list[Any]] = []
        self.matches = self.in_files = self.hidden = 0
        self.binary: list[str] = []
        self.skipped: list[str] = []

    def add(self, path: str, number: int, text: str, at: int | None) -> None:
        """``at``: where the match is; None: a line around one."""
        self.matches += at is not None
        if self.matches <= self.limit:
            self.lines.append([path, number, at is not None, *cut(text, at or 0)])


def cut(text: str, at: int) -> tuple[str, list[int] | None]:
    """The part of a long line around column ``at``, and from which to which column it is."""
    if len(text) <= SHOWN:
        return text, None
    first = max(0, min(at - SHOWN // 4, len(text) - SHOWN))
    return text[first : first + SHOWN], [first + 1, first + SHOWN, len(text)]


def walk(top: str, hidden: bool, found: Found) -> Iterator[str]:
    """Paths of files and links below ``top``, in order; links are not followed."""
    try:
        entries = sorted(os.scandir(top or "."), key=lambda entry: entry.name)
    except OSError:
        found.skipped.append(top)
        return
    for entry in entries:
        path = f"{top}/{entry.name}" if top else entry.name
        if entry.name == ".git" or (entry.name.startswith(".") and not hidden):
            found.hidden += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from walk(path, hidden, found)
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            yield path


def files(query: dict[str, Any], found: Found) -> list[str]:
    top: str = query["path"]
    if top and os.path.isfile(top):
        return [top]
    wanted = pattern_of(query["glob"]) if query["glob"] else None
    hidden = re.search(r"(^|[/{,])\.[^/]", f"{query['glob']},{top}") is not None
    base = len(top) + 1 if top else 0
    paths = walk(top, hidden, found)
    return [p for p in paths if wanted is None or wanted.match(p) or wanted.match(p[base:])]


def searchable(paths: list[str], found: Found) -> Iterator[str]:
    for path in paths:
        if not os.path.isfile(path):
            continue
        if os.path.getsize(path) > BIGGEST or not os.access(path, os.R_OK):
            found.skipped.append(path)
        else:
            yield path


def by_python(query: dict[str, Any], paths: list[str], found: Found) -> None:
    pattern = re.compile(query["pattern"], re.I if query["ignore_case"] else 0)
    around: int = query["context"]
    for path in searchable(paths, found):
        with open(path, "rb") as file:
            data = file.read()
        if b"\0" in data:
            found.binary.append(path)
            continue
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        if lines[-1] == "":
            lines.pop()
        lines = [line[:-1] if line.endswith("\r") else line for line in lines]
        hits = {i: hit.start() for i, line in enumerate(lines) if (hit := pattern.search(line))}
        found.in_files += bool(hits)
        shown = {j for at in hits for j in range(at - around, at + around + 1)}
        for i in sorted(shown):
            if 0 <= i < len(lines):
                found.add(path, i + 1, lines[i], hits.get(i))


def by_rg(rg: str, query: dict[str, Any], paths: list[str], found: Found) -> bool:
    """False: rg does not know the pattern (it has no look-around, no back references)."""
    command = [rg, "--json", "--no-config", "--no-ignore", "--hidden", "--encoding=none", "--crlf"]
    command += ["--sort=path", f"--context={query['context']}"]
    command += ["--ignore-case"] if query["ignore_case"] else []
    plain = list(searchable(paths, found))
    for at in range(0, len(plain), AT_ONCE):
        given = ["-e", query["pattern"], "--", *plain[at : at + AT_ONCE]]
        done = subprocess.run([*command, *given], capture_output=True, check=False)
        if done.returncode == 2 and any(words in done.stderr for words in NOT_RG):
            return False
        _read_rg(done.stdout, found)
    return True


def _read_rg(output: bytes, found: Found) -> None:
    events: list[tuple[str, Any]] = []
    for line in output.split(b"\n")[:-1]:
        event = json.loads(line)
        kind, data = event["type"], event["data"]
        if kind == "begin":
            events = []
        elif kind in ("match", "context"):
            events.append((kind, data))
        elif kind == "end" and data["binary_offset"] is not None:
            found.binary.append(_rg_text(data["path"]))
        elif kind == "end":
            found.in_files += any(kind == "match" for kind, _ in events)
            for each in events:
                _add_rg(*each, found)


def _add_rg(kind: str, data: Any, found: Found) -> None:
    text = _rg_text(data["lines"])
    text = text[:-1] if text.endswith("\n") else text
    text = text[:-1] if text.endswith("\r") else text
    at = None
    if kind == "match":
        raw = _rg_text(data["lines"]).encode("utf-8", "surrogateescape")
        start: int = data["submatches"][0]["start"] if data["submatches"] else 0
        at = len(raw[:start].decode("utf-8", "surrogateescape"))
    found.add(_rg_text(data["path"]), data["line_number"], text, at)


def _rg_text(given: Any) -> str:
    if "text" in given:
        return str(given["text"])
    return base64.b64decode(given["bytes"]).decode("utf-8", "surrogateescape")


def main(query: dict[str, Any]) -> dict[str, Any]:
    found = Found(query["limit"])
    if query["path"] and not os.path.lexists(query["path"]):
        return {"error": "missing"}
    try:
        paths = files(query, found)
    except re.error as error:
        return {"error": "glob", "why": str(error)}
    if query["pattern"] is None:
        return {"paths": paths[: found.limit], "total": len(paths), "hidden": found.hidden}
    rg = shutil.which("rg")
    if not (rg and by_rg(rg, query, paths, found)):
        found.skipped.clear()
        try:
            by_python(query, paths, found)
        except (re.error, OverflowError, RecursionError) as error:
            return {"error": "pattern", "why": str(error)}
    return {
        "lines": found.lines,
        "matches": found.matches,
        "in_files": found.in_files,
        "searched": len(paths),
        "binary": [found.binary[:5], len(found.binary)],
        "skipped": [found.skipped[:5], len(found.skipped)],
        "hidden": found.hidden,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
