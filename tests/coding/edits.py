"""Random small repositories, and random edits of them by several coders, for property tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.coding.snapshots import Snapshot, There, link

FILES = ("a.txt", "b.txt", "d/c.txt", "d/e/f.txt")
#: Lines of which a file may have several, and that no coder inserts.
COMMON = ("", "}", "    return x", "x = 1", "=======", "<<<<<<< y")
SHARED = (b"new shared", b"shared before")
CACHES = ("__pycache__/m.pyc", "d/__pycache__/c.pyc")


@dataclass
class Edited:
    """``said``: path -> lines that only this coder has, and that it has put there."""

    state: Snapshot
    said: dict[str, set[bytes]] = field(default_factory=dict)

    def put(self, path: str, there: There | None) -> None:
        self.state.pop(path, None)
        self.said.pop(path, None)
        if there is not None:
            self.state[path] = there


@st.composite
def repositories(draw: st.DrawFn) -> Snapshot:
    found: Snapshot = {}
    for path in draw(st.lists(st.sampled_from(FILES), min_size=1, unique=True)):
        lines = [
            line.encode() + (f" {path} {n}".encode() if unique else b"")
            for n, (line, unique) in enumerate(
                draw(st.lists(st.tuples(st.sampled_from(COMMON), st.booleans()), max_size=12))
            )
        ]
        found[path] = There(text(lines, draw), draw(st.sampled_from([0o644, 0o755])))
    if draw(st.booleans()):
        found["bin"] = There(b"\0\1" + draw(st.binary(max_size=3)))
    if draw(st.booleans()):
        found["link"] = link(draw(st.sampled_from(["a.txt", "d", "nowhere"])))
    if draw(st.booleans()):
        found[CACHES[1]] = There(b"cached")
    return found


def text(lines: list[bytes], draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    whole = end.join(lines)
    return whole + end if lines and draw(st.booleans()) else whole


@st.composite
def edits(draw: st.DrawFn, start: Snapshot, who: str) -> Edited:
    edited = Edited(dict(start))
    for n in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text"] * 5 + ["add", "delete", "mode", "other", "swap"]))
        texts = [path for path, there in edited.state.items() if path in FILES and there.mode]
        if kind == "text" and texts:
            _edit(edited, draw(st.sampled_from(texts)), f"{who}{n}", draw)
        elif kind == "add":
            _add(edited, who, n, draw)
        elif kind == "delete" and texts:
            path = draw(st.sampled_from(texts))
            there = edited.state[path]
            edited.put(path, None)
            if draw(st.booleans()):
                _place(edited, f"moved-{path}", there)
        elif kind == "mode" and texts:
            path = draw(st.sampled_from(texts))
            mode = draw(st.sampled_from([0o600, 0o644, 0o755]))
            edited.state[path] = edited.state[path]._replace(mode=mode)
        elif kind == "other":
            _other(edited, who, draw)
        elif kind == "swap":
            _swap(edited, who, draw)
    return edited


def _edit(edited: Edited, path: str, tag: str, draw: st.DrawFn) -> None:
    """Delete some lines, insert some that the start has nowhere: some are the coder's own, and
    some those that another may insert, too.

    No line is moved: where one coder moves a line and another deletes it, a merge by lines sees an
    insertion and two deletions of the same, and keeps it where it was moved to.
    """
    there = edited.state[path]
    lines = there.content.splitlines(keepends=True)
    end = b"\r\n" if b"\r\n" in there.content else b"\n"
    said = edited.said.setdefault(path, set())
    for n in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines)))
        if draw(st.booleans()) and at < len(lines):
            said.discard(lines.pop(at).rstrip(b"\r\n"))
            continue
        own = draw(st.booleans())
        line = f"new {tag} {n}".encode() if own else SHARED[tag.startswith("before")]
        if at == len(lines) and lines and not lines[-1].endswith(b"\n"):
            lines[-1] += end
        lines.insert(at, line + end)
        if own:
            said.add(line)
    edited.state[path] = there._replace(content=b"".join(lines))


def _add(edited: Edited, who: str, n: int, draw: st.DrawFn) -> None:
    path = draw(st.sampled_from(["new.txt", "d/new.txt", "n/a", "e.txt"]))
    line = draw(st.sampled_from([f"made by {who} {n}".encode(), b"made", b""]))
    _place(edited, path, There(line + b"\n" if line else b""))
    if edited.state.get(path) and line.startswith(b"made by"):
        edited.said[path] = {line}


def _other(edited: Edited, who: str, draw: st.DrawFn) -> None:
    which = draw(st.sampled_from(["bin", "link", "cache"]))
    if which == "bin":
        edited.put("bin", There(b"\0" + draw(st.sampled_from([who.encode(), b"same"]))))
    elif which == "link":
        edited.put("link", link(draw(st.sampled_from(["b.txt", f"to-{who}"]))))
    else:
        path = draw(st.sampled_from(CACHES))
        _place(edited, path, There(who.encode()))


def _swap(edited: Edited, who: str, draw: st.DrawFn) -> None:
    """A file where a folder was, or a folder where a file was."""
    path = draw(st.sampled_from(["d", "a.txt", "d/e"]))
    below = [each for each in edited.state if each.startswith(f"{path}/")]
    if below:
        for each in below:
            edited.put(each, None)
        _place(edited, path, There(f"was a folder {who}\n".encode()))
    elif path in edited.state:
        edited.put(path, None)
        _place(edited, f"{path}/inside", There(b"was a file\n"))


def _place(edited: Edited, path: str, there: There) -> None:
    """Where neither a file is on the way nor a folder in the place."""
    parts = path.split("/")
    above = {"/".join(parts[:n]) for n in range(1, len(parts))}
    below = any(each.startswith(f"{path}/") for each in edited.state)
    if not below and above.isdisjoint(edited.state):
        edited.put(path, there)
