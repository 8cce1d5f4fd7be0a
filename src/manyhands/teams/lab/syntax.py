"""Programs compared as syntax: what is the same but for its writing, and what differs.

Invariant: formatting, comments, docstrings, ``pass`` beside other statements, the spelling of a
number and the choice of names that a file binds itself make no difference here; everything else
does. Nothing is run. Equal programs are equal within one version of Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeVar, cast

from manyhands.teams.lab.literals import bindings, literal_value

T = TypeVar("T", bound=Hashable)
#: Above this many pairs of statements an alignment of them may be rough.
_PAIRS = 4_000_000
#: Signs of a file. What is longer is data, or written to keep a reader busy.
LARGEST = 2**19
#: Bits of an integer literal. Python refuses to print what is much longer.
_LONGEST = 4096


def parse(text: str) -> ast.Module:
    """The syntax tree of ``text``. Raises SyntaxError for whatever cannot be read, or is too long
    to be read."""
    if len(text) > LARGEST:
        raise SyntaxError(f"{len(text)} signs, more than {LARGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (ValueError, RecursionError, MemoryError, UnicodeError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        if isinstance(value, int) and value.bit_length() > _LONGEST:
            raise SyntaxError(f"a number of {value.bit_length()} bits")
    return tree


def fingerprint(files: Mapping[str, str]) -> str:
    """A hash of the program in ``files`` (path -> text), equal for programs that are the same.

    What is not Python, or cannot be read as such, counts with its bytes.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{_plain(path, files[path])}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _plain(path: str, text: str) -> str:
    return _dumped(text) if path.endswith(".py") else text


@functools.lru_cache(maxsize=128)
def _dumped(text: str) -> str:
    """Kept: a candidate is compared with its parent, and both with all that was tried."""
    try:
        return ast.dump(normal(parse(text)))
    except (SyntaxError, RecursionError):
        return text


def normal(tree: ast.Module, masked: Mapping[int, str] | None = None) -> ast.Module:
    """``tree`` as a new tree without what makes no difference.

    ``masked``: ``id`` of a node -> name of the hole that stands in its place.
    """
    plain = stripped(tree, masked)
    _rename(plain, _numbered(plain))
    return plain


def stripped(tree: ast.Module, masked: Mapping[int, str] | None = None) -> ast.Module:
    """As `normal`, with the names as they are written."""
    copy = _copied(tree, masked or {})
    assert isinstance(copy, ast.Module)
    return copy


def _copied(node: ast.AST, masked: Mapping[int, str]) -> ast.AST:
    hole = masked.get(id(node))
    if hole is not None:
        return ast.Name(f"<{hole}>", ast.Load())
    value = literal_value(node) if isinstance(node, ast.expr) else None
    if value is not None:
        return ast.Constant(value)
    fields = {name: _copied_field(name, f, masked) for name, f in ast.iter_fields(node)}
    return cast(Any, type(node))(**fields)


def _copied_field(name: str, value: object, masked: Mapping[int, str]) -> object:
    if isinstance(value, ast.AST):
        return _copied(value, masked)
    if not isinstance(value, list):
        return value
    old = cast(list[object], value)
    items = [_copied_field("", item, masked) for item in old if not _is_idle(item)]
    return items or ([ast.Pass()] if name == "body" and old else items)


def _is_idle(node: object) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _numbered(tree: ast.Module) -> dict[str, str]:
    """The names that the file binds itself -> numbers, in the order in which they appear."""
    within_classes = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        for inner in _own_scope(statement)
        for name in bindings(inner)
    }
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        for name in bindings(node):
            # Attributes reach what a class binds, and Python itself reads dunder names.
            if name not in within_classes and not name.startswith("__"):
                names.setdefault(name, f"<{len(names)}>")
    return names


def _own_scope(statement: ast.stmt) -> Iterator[ast.AST]:
    yield statement
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from ast.walk(statement)


def _rename(tree: ast.AST, names: Mapping[str, str]) -> None:
    """Renames in place what the file binds; what names of other files stand for stays."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "asname", "rest"):
            value = getattr(node, field, None)
            outward = isinstance(node, ast.keyword) or (
                isinstance(node, ast.alias) and field == "name"
            )
            if isinstance(value, str) and not outward:
                setattr(node, field, names.get(value, value))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [names.get(name, name) for name in node.names]


# ---------------------------------------------------------------- literals that differ

Line = tuple[str, tuple[str, ...]]


def literal_changes(before: ast.Module, after: ast.Module) -> set[tuple[str, str]]:
    """The distinct (old, new) literals in statements that differ in nothing but literals.

    Statements are aligned where they are equal and, between those, where they are equal but for
    literals. What ``print`` is called with is passed over.
    """
    old, new = _lines(normal(before)), _lines(normal(after))
    if [key for key, _ in old] != [key for key, _ in new]:
        # Numbered names shift with every name that is added: align by the names as written.
        old, new = _lines(stripped(before)), _lines(stripped(after))
    pairs: set[tuple[str, str]] = set()
    for same, one, other in _aligned(old, new):
        if not same:
            pairs |= _pairs(one, other)
    return pairs


def _pairs(old: Sequence[Line], new: Sequence[Line]) -> set[tuple[str, str]]:
    """The (old, new) literals of those lines that are equal but for them."""
    pairs: set[tuple[str, str]] = set()
    done, done_new = 0, 0
    for same, keys, keys_new in _aligned([key for key, _ in old], [key for key, _ in new]):
        if same:
            lines = zip(old[done : done + len(keys)], new[done_new : done_new + len(keys)])
            pairs |= {(a, b) for one, other in lines for a, b in zip(one[1], other[1]) if a != b}
        done, done_new = done + len(keys), done_new + len(keys_new)
    return pairs


def _aligned(old: Sequence[T], new: Sequence[T]) -> Iterator[tuple[bool, Sequence[T], Sequence[T]]]:
    """Both sequences in pieces, in order, and whether the two pieces are equal."""
    matcher = SequenceMatcher(None, old, new, autojunk=len(old) * len(new) > _PAIRS)
    for tag, start, stop, start_new, stop_new in matcher.get_opcodes():
        yield tag == "equal", old[start:stop], new[start_new:stop_new]


def _lines(node: ast.AST, depth: int = -1) -> list[Line]:
    """Each statement (of a compound one the header) without its literals, and these."""
    if _is_print(node):
        return []
    literals: list[str] = []
    blocks: list[ast.AST] = []
    key = [f"{depth} {type(node).__name__}"]
    for name, value in ast.iter_fields(node):
        block = _block(value)
        blocks += block
        key.append(name if block else f"{name}={_hollow(value, literals)}")
    header = [] if isinstance(node, ast.Module) else [(" ".join(key), tuple(literals))]
    return [*header, *(line for inner in blocks for line in _lines(inner, depth + 1))]


def _block(value: object) -> list[ast.AST]:
    nodes = cast(list[object], value) if isinstance(value, list) else []
    kinds = (ast.stmt, ast.excepthandler, ast.match_case)
    return [node for node in nodes if isinstance(node, kinds)]


def _is_print(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return True
        case _:
            return False


def _hollow(value: object, literals: list[str]) -> str:
    """``value`` dumped with ``?`` for every literal; the literals are appended in order."""
    if isinstance(value, ast.Constant):
        literals.append(repr(cast(object, value.value)))
        return "?"
    if isinstance(value, ast.AST):
        fields = ", ".join(_hollow(inner, literals) for _, inner in ast.iter_fields(value))
        return f"{type(value).__name__}({fields})"
    if isinstance(value, list):
        items = cast(list[object], value)
        return f"[{', '.join(_hollow(inner, literals) for inner in items)}]"
    return repr(value)
