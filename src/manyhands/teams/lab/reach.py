"""What new code of a candidate reaches for: a process, the network, a file, the data for measuring.

An early and cheap check on syntax, no security boundary: whoever means to hide something from it
can. The sandbox keeps training from what it must not have; this tells an honest worker early, and
names the rule.

Invariant: nothing that the parent's code does already is held against the candidate.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator

#: Modules by which a program leaves its process.
MODULES = frozenset(
    {"aiohttp", "cffi", "ctypes", "ftplib", "http", "httpx", "importlib", "paramiko", "pty"}
    | {"requests", "runpy", "shutil", "smtplib", "socket", "socketserver", "subprocess"}
    | {"telnetlib", "urllib", "urllib3", "webbrowser", "xmlrpc"}
)
#: What of `os` and `sys` does so, or changes files elsewhere.
_OS = re.compile(
    r"(system|popen|fork(pty)?|spawn\w*|posix_spawn\w*|exec\w*|kill(pg)?|setsid|symlink|link"
    r"|remove|unlink|rmdir|removedirs|chmod|chown|chroot|mkfifo)\Z"
)
_SYS = re.compile(r"(modules|settrace|setprofile|_getframe)\Z")
#: Built-ins that run text, or reach names as text.
_DYNAMIC = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "globals"})
_INNER = frozenset({"__builtins__", "__globals__", "__subclasses__", "__code__"})
_ABSOLUTE = re.compile(
    r"~/|/(bin|data|dev|etc|home|mnt|opt|proc|root|run|srv|sys|tmp|usr|var|Users)\b|/[\w.-]+/"
)
_UPWARD = re.compile(r"(^|[/\\])\.\.([/\\]|\Z)")
_SEALED = re.compile(
    r"sealed|holdout|hidden\.json|study\.toml|results\.tsv|\.manyhands|\.git\b", re.IGNORECASE
)
_SPLIT = r"(val|valid|validation|test|heldout|held_out)"
_DATA = r"\.(bin|npy|npz|txt|pt|json|jsonl|parquet|csv|bytes|dat|zst|gz)\Z"
_VALIDATION = re.compile(rf"\A{_SPLIT}\Z|(\A|[/_.-]){_SPLIT}([_.-][\w.-]*)?{_DATA}", re.IGNORECASE)
_VALIDATION_NAME = re.compile(
    rf"\A_*{_SPLIT}_?(data|set|loader|split|tokens|ids|bin|path|file|filename|shard|iter"
    r"|batch|batches|bytes|text|x|y)\Z",
    re.IGNORECASE,
)
_OPENERS = frozenset({"bz2", "codecs", "gzip", "io", "lzma"})
_EVALUATES = re.compile(r"(evaluate(_\w+)?|eval_\w+)\Z", re.IGNORECASE)
_OUT = re.compile(r"(?<![a-z])out(?![a-z])|output|MANYHANDS_OUT", re.IGNORECASE)
#: A line beyond this is not read by anybody.
LONGEST_LINE = 400
_PRINTED = frozenset({"print", "debug", "info", "warning", "error", "log"})
# Text that runs right to left, or that shows nothing at all, and a return that hides a line.
_UNSEEN = re.compile(
    r"[\u200b-\u200f\u202a-\u202e\u2028\u2029\u2060-\u2069\ufeff\x00-\x08\x0b-\x1f\x7f]"
)

Found = tuple[str, str]


def new_reaches(
    before: ast.Module | None, after: ast.Module, measuring: Collection[str] = ()
) -> list[Found]:
    """(rule, text) of what ``after`` reaches for and ``before`` does not, or not as often.

    ``measuring``: the files that measure; their names and modules are none of training's business.
    """
    had = Counter(_reaches(before, measuring)) if before else Counter[Found]()
    return sorted((Counter(_reaches(after, measuring)) - had).keys())


def _reaches(tree: ast.Module, measuring: Collection[str]) -> Iterator[Found]:
    modules = dict(_aliases(tree))
    passed_over = set(_not_paths(tree))
    measured = {name.rpartition("/")[2].removesuffix(".py") for name in measuring}
    for node in ast.walk(tree):
        for text in _leaves(node, modules, measured):
            yield "reaches-outside", text
        for name in _names(node):
            yield from _named(name)
        if isinstance(node, ast.Call) and _EVALUATES.match(_last_name(node.func)):
            yield "validation-in-training", f"calls {_last_name(node.func)}"
        text = _text(node)
        if text is not None and id(node) not in passed_over:
            yield from _worded(text, measuring)


# ---------------------------------------------------------------- code


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Local name -> module, for modules imported whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name


def _leaves(node: ast.AST, modules: dict[str, str], measured: Collection[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield from _imports(alias.name, measured)
        case ast.ImportFrom(module=str(module), names=names):
            yield from _imports(module, measured)
            yield from (t for alias in names for t in _attribute(module, alias.name))
        case ast.Attribute(value=ast.Name(id=name), attr=attr):
            yield from _attribute(modules.get(name, ""), attr)
        case ast.Name(id=name, ctx=ast.Load()) if name in _DYNAMIC:
            yield f"uses {name}"
        case ast.Call():
            yield from _writes(node)
        case _:
            pass
    if getattr(node, "attr", getattr(node, "id", "")) in _INNER:
        yield f"uses {getattr(node, 'attr', getattr(node, 'id', ''))}"


def _imports(module: str, measured: Collection[str]) -> Iterator[str]:
    root = module.partition(".")[0]
    if root in MODULES:
        yield f"imports {root}"
    if root in measured:
        yield f"imports {root}, which measures"


def _attribute(module: str, name: str) -> Iterator[str]:
    pattern = {"os": _OS, "sys": _SYS}.get(module)
    if pattern and pattern.match(name):
        yield f"uses {module}.{name}"


def _writes(call: ast.Call) -> Iterator[str]:
    """Opening for writing, wherever that is not said to be below the output folder."""
    match call.func:
        case ast.Name(id="open"):
            place, mode = (call.args or [None])[0], call.args[1:2]
        case ast.Attribute(
            value=ast.Name(id="io" | "gzip" | "bz2" | "lzma" | "codecs"), attr="open"
        ):
            place, mode = (call.args or [None])[0], call.args[1:2]
        case ast.Attribute(value=value, attr="open"):
            place, mode = value, call.args[:1]
        case ast.Attribute(value=value, attr="write_text" | "write_bytes" | "unlink" | "rmdir"):
            place, mode = value, [ast.Constant("w")]
        case _:
            return
    mode += [k.value for k in call.keywords if k.arg == "mode"]
    if mode and _may_write(mode[0]) and place is not None and not _OUT.search(ast.unparse(place)):
        yield f"writes to {ast.unparse(place)[:60]}"


def _may_write(mode: ast.expr) -> bool:
    text = _text(mode)
    return text is None or any(sign in text for sign in "wax+")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


# ---------------------------------------------------------------- words


def _names(node: ast.AST) -> Iterator[str]:
    for field in ("id", "attr", "arg", "name", "asname"):
        name = getattr(node, field, None)
        if isinstance(name, str):
            yield name


def _named(name: str) -> Iterator[Found]:
    if re.search(r"sealed|holdout", name, re.IGNORECASE):
        yield "reaches-outside", f"names {name}"
    if _VALIDATION_NAME.match(name):
        yield "validation-in-training", f"names {name}"


def _worded(text: str, measuring: Collection[str]) -> Iterator[Found]:
    shown = repr(text[:60])
    if _ABSOLUTE.match(text) or _UPWARD.search(text):
        yield "reaches-outside", f"names the path {shown}"
    elif _SEALED.search(text) or any(name in text for name in measuring):
        yield "reaches-outside", f"names {shown}"
    if _VALIDATION.search(text):
        yield "validation-in-training", f"names the data {shown}"


def _text(node: ast.AST) -> str | None:
    """The text of a literal, or of literals joined by ``+``."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=bytes(raw)):
            return raw.decode("latin-1")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = _text(left), _text(right)
            return None if one is None or other is None else one + other
        case _:
            return None


def _not_paths(tree: ast.Module) -> Iterator[int]:
    """Texts that are shown to people, and the later pieces of formatted ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from map(id, node.values[1:])
        if isinstance(node, ast.Call) and _last_name(node.func) in _PRINTED:
            for argument in node.args:
                yield id(argument)
                if isinstance(argument, ast.JoinedStr):
                    yield from map(id, argument.values)


# ---------------------------------------------------------------- what does not show


def unseen(before: str, after: str) -> list[str]:
    """What new text hides from a reader: signs that do not show, names that look like others, and
    lines longer than `LONGEST_LINE`."""
    old = set(before.split("\n"))
    found: list[str] = []
    for number, line in enumerate(after.split("\n"), 1):
        if line in old:
            continue
        sign = _UNSEEN.search(line.removesuffix("\r"))
        if sign:
            name = unicodedata.name(sign[0], f"U+{ord(sign[0]):04X}")
            found.append(f"line {number} holds an invisible sign ({name})")
        if len(line) > LONGEST_LINE:
            found.append(f"line {number} has {len(line)} signs, more than {LONGEST_LINE}")
    known = set(_odd_names(before))
    return found + [f"the name {n!a} is not ASCII" for n in _odd_names(after) if n not in known]


def _odd_names(text: str) -> Iterator[str]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and not token.string.isascii():
                yield token.string
    except (tokenize.TokenError, SyntaxError):
        return
