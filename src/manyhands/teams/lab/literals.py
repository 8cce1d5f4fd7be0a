"""Literals in Python text: which ones are settings, where they stand, what they are worth.

Invariant: nothing of the text is run, and no text, however hostile, makes a value expensive.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard

from manyhands.teams.lab.records import Literalish

Kind = Literal["bool", "int", "float", "str"]
Number = int | float

_UPPER = re.compile(r"_?[A-Z][A-Z0-9_]*\Z")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
#: Longer tuples are tables, not settings.
_LONGEST_TUPLE = 4
_LARGEST = 2**64


@dataclass(frozen=True)
class Site:
    """A literal where it stands: bytes ``start`` to ``end`` of its file's UTF-8 text."""

    name: str
    value: Literalish
    start: int
    end: int
    line: int


def find_sites(text: str, tree: ast.Module | None = None) -> dict[str, Site]:
    """The literals of ``text`` that are settings. Raises SyntaxError or ValueError."""
    tree = tree or ast.parse(text)
    raw = text.encode()
    starts = [0, *(m.end() for m in _NEWLINE.finditer(raw))]
    bound = Counter(_bound_names(tree.body))
    sites: dict[str, Site] = {}
    for name, node in literal_nodes(tree):
        value = literal_value(node)
        if bound[name.partition("[")[0]] == 1 and value is not None:
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            sites[name] = Site(name, value, start, end, node.lineno)
    return sites


def literal_nodes(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Each top-level literal with the name of its setting, whether or not the name is unique."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _UPPER.match(name):
                yield from _elements(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield from _elements(name, value)
            case _:
                pass


def _elements(name: str, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if literal_value(value) is not None:
        yield name, value
    elif isinstance(value, ast.Tuple | ast.List):
        numbers = all(_is_number(literal_value(e)) for e in value.elts)
        if numbers and len(value.elts) <= _LONGEST_TUPLE:
            yield from ((f"{name}[{i}]", e) for i, e in enumerate(value.elts))


def _bound_names(body: list[ast.stmt]) -> Iterator[str]:
    """Every binding of a name at module level, nested blocks and ``global`` statements included."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield from bindings(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            for inner in ast.walk(node):
                yield from inner.names if isinstance(inner, ast.Global) else ()
        else:
            waiting += ast.iter_child_nodes(node)


def bindings(node: ast.AST) -> Iterator[str]:
    """The names that ``node`` itself binds, in whatever scope; its children are not looked at."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            yield name
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
        case _:
            pass


# ---------------------------------------------------------------- literals


def kind_of(value: Literalish) -> Kind:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "str"


def literal_value(node: ast.expr) -> Literalish | None:
    """The value of a literal or of arithmetic on number literals; None for everything else."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return None if _is_number(value) and not _usable(value) else value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
            number = literal_value(operand)
            if not _is_number(number):
                return None
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(literal_value(left), op, literal_value(right))
        case _:
            return None


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _usable(value: Number) -> bool:
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


def _power(base: Number, exponent: Number) -> Number:
    # Text in an agent's hands: 9**9**9 must cost nothing.
    if abs(exponent) > 64:
        raise ValueError(f"an exponent of {exponent}")
    value: object = base**exponent
    if not _is_number(value):
        raise ValueError(f"{base}**{exponent} is not real")
    return value


def _shift(value: Number, places: Number) -> Number:
    if not (isinstance(value, int) and isinstance(places, int) and 0 <= places <= 64):
        raise ValueError(f"a shift of {value} by {places}")
    return value << places


_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: _power,
    ast.LShift: _shift,
}


def _arithmetic(
    left: Literalish | None, op: ast.operator, right: Literalish | None
) -> Number | None:
    function = _OPERATORS.get(type(op))
    if function is None or not _is_number(left) or not _is_number(right):
        return None
    try:
        value = function(left, right)
    except (ArithmeticError, ValueError):
        return None
    return value if _usable(value) else None


def as_kind(value: Literalish, kind: Kind) -> Literalish | None:
    """``value`` as a value of that kind (1 is a float, 8.0 an int); None if it is none."""
    own = kind_of(value)
    if own == kind:
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if kind == "float" and own == "int":
        return float(value)
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return None
