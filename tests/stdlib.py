"""The standard library's own documentation as a folder of files, for thousands of passages."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from pydoc_data.topics import topics

#: Characters of a docstring below which it is left out: a passage each would be few words.
_SHORTEST = 60


def docstrings() -> Iterator[tuple[str, str]]:
    """Of each module: its name, and what its docstrings say, as Markdown."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        if inner.parts[0] in ("site-packages", "test", "idlelib", "lib2to3", "pydoc_data"):
            continue
        text = _documented(path, ".".join(inner.with_suffix("").parts))
        if text:
            yield str(inner.with_suffix("")), text


def _documented(path: Path, module: str) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found: list[str] = []
    for node in ast.walk(tree):
        said = ast.get_docstring(node) if isinstance(node, kinds) else None
        if said and len(said) >= _SHORTEST:
            name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"  # type: ignore[union-attr]
            found.append(f"{'#' if isinstance(node, ast.Module) else '##'} {name}\n\n{said}\n")
    return "\n".join(found)


def write(folder: Path, passages: int) -> int:
    """Files that make at least that many passages, by the count of their sections; how many files.

    What there is is written again, under other folders, until it is enough.
    """
    texts = [(f"{name}.md", text) for name, text in docstrings()]
    texts += [(f"topics/{name}.txt", text) for name, text in sorted(topics.items())]
    made = files = 0
    for number, (name, text) in enumerate(cycle(texts)):
        if made >= passages:
            return files
        path = folder / f"copy{number // len(texts)}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        files += 1
        made += text.count("\n## ") + 1
    return files
