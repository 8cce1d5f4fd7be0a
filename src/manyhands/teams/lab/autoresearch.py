"""Repositories in the manner of karpathy/autoresearch: `train.py`, `prepare.py` and `program.md`.

There `train.py` evaluates itself and leaves nothing, and a metric must never come from code that
agents edit. So the import adds a protected `artifact.py`, which writes the trained model as data,
and a protected `evaluate.py`, which measures it with `prepare.py`'s own `evaluate_bpb`; and it
proposes the patch by which `train.py` calls the first. Nothing of the repository is run here.

Invariant: the patch changes nothing of a run by hand, outside of a study.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from manyhands.teams.lab.literals import bindings, literal_value
from manyhands.teams.lab.syntax import parse

FILES = ("train.py", "prepare.py", "program.md")
METRIC = "val_bpb"
_EVALUATE = "evaluate_bpb"
#: What evaluate.py.txt knows how to hand to it.
_PARAMETERS = frozenset({"model", "tokenizer", "batch_size", "device"})
_SEEDING = re.compile(r"(.*\.)?(manual_seed|manual_seed_all|seed|default_rng)\Z")
_SIMPLE_FORMAT = re.compile(r"0?\d{0,2}[dxs]?\Z")
_DEFAULT_BATCH = 16

Value = int | float | str


class NotThatKind(Exception):
    """Why a repository is not handled as an autoresearch one."""


@dataclass(frozen=True)
class Found:
    """``patched``: train.py with the calls that a study needs (as it is, if it has them);
    ``artifact`` and ``evaluate``: (file name, text) to add. ``constants``: of prepare.py."""

    train: str
    patched: str
    artifact: tuple[str, str]
    evaluate: tuple[str, str]
    constants: Mapping[str, Value]
    uses_kernels: bool


def recognise(root: Path) -> Found:
    """Read the repository at ``root``. Raises `NotThatKind`."""
    if not all((root / name).is_file() for name in FILES):
        raise NotThatKind(f"it has not all of {', '.join(FILES)}")
    train, prepare = (_read(root / name) for name in FILES[:2])
    tree, constants = _tree(train), constants_of(prepare)
    _check_evaluator(_tree(prepare))
    if "torch" not in _imports(tree):
        raise NotThatKind("train.py does not import torch")
    call = _last_evaluation(tree)
    bound = {name for node in ast.walk(tree) for name in bindings(node)}
    artifact = _template(root, "artifact", bound - _own_import(tree, root))
    evaluate = _template(root, "evaluate", set())
    batch = _batch(call, constants_of(train) | dict(constants))
    return Found(
        train=train,
        patched=patch(train, Path(artifact[0]).stem),
        artifact=(artifact[0], artifact[1].replace("__BATCH__", str(max(1, batch // 4)))),
        evaluate=(evaluate[0], evaluate[1].replace("__METRIC__", METRIC)),
        constants=constants,
        uses_kernels="kernels" in _imports(tree),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotThatKind(f"{path.name} cannot be read: {error}") from error


def _tree(text: str) -> ast.Module:
    try:
        return parse(text)
    except SyntaxError as error:
        raise NotThatKind(f"not Python: {error}") from error


def _imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _check_evaluator(prepare: ast.Module) -> None:
    for node in prepare.body:
        if isinstance(node, ast.FunctionDef) and node.name == _EVALUATE:
            arguments = node.args.posonlyargs + node.args.args
            needed = arguments[: len(arguments) - len(node.args.defaults)]
            unknown = [a.arg for a in needed if a.arg not in _PARAMETERS]
            if unknown or len(arguments) < 3:
                raise NotThatKind(f"{_EVALUATE} takes {', '.join(a.arg for a in arguments)}")
            return
    raise NotThatKind(f"prepare.py defines no {_EVALUATE}")


def _last_evaluation(tree: ast.Module) -> ast.Call:
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == _EVALUATE
        and node.args
    ]
    if not calls:
        raise NotThatKind(f"train.py does not call {_EVALUATE}")
    return max(calls, key=lambda call: call.lineno)


def _batch(call: ast.Call, known: Mapping[str, Value]) -> int:
    named = [k.value for k in call.keywords if k.arg == "batch_size"]
    value = _value((call.args[2:3] or named or [ast.Constant(None)])[0], known)
    return value if isinstance(value, int) and value > 0 else _DEFAULT_BATCH


# ---------------------------------------------------------------- the files to add


def _template(root: Path, name: str, taken: set[str]) -> tuple[str, str]:
    """(file name, text); another name where the repository uses this one for something else."""
    text = (
        resources.files("manyhands.teams.lab")
        .joinpath("templates", "autoresearch", f"{name}.py.txt")
        .read_text("utf-8")
    )
    for candidate in (name, f"study_{name}"):
        file = root / f"{candidate}.py"
        if candidate not in taken and (not file.exists() or _is_ours(file, text)):
            return file.name, text
    raise NotThatKind(f"{name}.py and study_{name}.py are taken")


def _is_ours(file: Path, text: str) -> bool:
    return file.read_text("utf-8", "replace").splitlines()[:1] == text.splitlines()[:1]


def _own_import(tree: ast.Module, root: Path) -> set[str]:
    """The name that an earlier import of this kind added to train.py, if it did."""
    return (
        {"artifact"} if "artifact" in _imports(tree) and (root / "artifact.py").exists() else set()
    )


# ---------------------------------------------------------------- the patch


def patch(train: str, module: str) -> str:
    """``train`` with `save` where it evaluates itself, the harness's seed where it is seeded with a
    number, and the import of ``module``, which has both. As it is, if it calls `save` already.

    In a study `save` returns NaN, which counts as true: the evaluation after ``or`` is not made,
    so that the validation data can be hidden from training. By hand it returns None.
    """
    tree = _tree(train)
    if f"{module}.save(" in train:
        return train
    call = _last_evaluation(tree)
    model = ast.get_source_segment(train, call.args[0]) or "model"
    inserts = list(_around(tree, call, f"{module}.save({model}) or "))
    for seeded in _seeded(tree):
        inserts += [(_start(seeded), f"{module}.seed("), (_end(seeded), ")")]
    imported = _import_of_prepare(tree)
    indent = " " * imported.col_offset
    # A line of its own, after the statement's last one, with whatever comment stands there.
    inserts.append(((imported.end_lineno or imported.lineno, -1), f"\n{indent}import {module}"))
    return _inserted(train, inserts)


Place = tuple[int, int]


def _around(tree: ast.Module, call: ast.Call, text: str) -> Iterator[tuple[Place, str]]:
    """``text`` before ``call``; in parentheses unless the call is all that is assigned."""
    alone = any(
        isinstance(node, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr) and node.value is call
        for node in ast.walk(tree)
    )
    yield _start(call), text if alone else f"({text}"
    if not alone:
        yield _end(call), ")"


def _seeded(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            is_number = isinstance(literal_value(node.args[0]), int)
            if is_number and _SEEDING.match(ast.unparse(node.func)):
                yield node.args[0]


def _import_of_prepare(tree: ast.Module) -> ast.stmt:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "prepare":
            return node
    raise NotThatKind("train.py does not import from prepare")


def _start(node: ast.expr) -> Place:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> Place:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _inserted(text: str, inserts: Sequence[tuple[Place, str]]) -> str:
    """Columns are bytes, as in syntax trees; -1 is the end of the line."""
    lines = text.encode().split(b"\n")
    ordered = sorted(inserts, key=lambda i: (i[0][0], i[0][1] if i[0][1] >= 0 else 2**31))
    for (line, column), new in reversed(ordered):
        raw = lines[line - 1]
        end = len(raw.removesuffix(b"\r"))
        at = end if column < 0 else column
        added = new.replace("\n", "\r\n") if end < len(raw) else new
        lines[line - 1] = raw[:at] + added.encode() + raw[at:]
    return b"\n".join(lines).decode()


# ---------------------------------------------------------------- constants


def constants_of(text: str) -> dict[str, Value]:
    """The top-level names of ``text`` whose value its syntax tells: numbers, texts (formatted ones
    too), joined paths. ``~`` stays as it is."""
    known: dict[str, Value] = {}
    for statement in _tree(text).body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], _value(statement.value, known)
            if isinstance(target, ast.Name) and value is not None:
                known[target.id] = value
    return known


def _value(node: ast.expr, known: Mapping[str, Value]) -> Value | None:
    literal = literal_value(node)
    if literal is not None:
        return literal
    match node:
        case ast.Name(id=name):
            return known.get(name)
        case ast.JoinedStr(values=values):
            return _joined([_piece(v, known) for v in values], "")
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _joined([_value(left, known), _value(right, known)], "/")
        case ast.Call(args=args):
            return _called(ast.unparse(node.func), [_value(a, known) for a in args])
        case _:
            return None


def _piece(node: ast.expr, known: Mapping[str, Value]) -> Value | None:
    if not isinstance(node, ast.FormattedValue):
        return _value(node, known)
    value = _value(node.value, known)
    form = _value(node.format_spec, known) if node.format_spec else ""
    if value is None or not isinstance(form, str) or not _SIMPLE_FORMAT.match(form):
        return None
    try:
        return format(value, form)
    except ValueError:
        return None


def _joined(pieces: Sequence[Value | None], sign: str) -> str | None:
    if any(piece is None or (sign and not isinstance(piece, str)) for piece in pieces):
        return None
    return sign.join(str(piece) for piece in pieces)


def _called(function: str, values: Sequence[Value | None]) -> Value | None:
    if function in ("Path.home", "pathlib.Path.home"):
        return "~"
    if function in ("os.environ.get", "os.getenv"):
        return values[1] if len(values) == 2 else None
    if not values or not all(isinstance(value, str) for value in values):
        return None
    texts = [str(value) for value in values]
    if function in ("os.path.join", "Path", "pathlib.Path"):
        return posixpath.join(*texts)
    return texts[0] if function in ("os.path.expanduser", "str") else None
