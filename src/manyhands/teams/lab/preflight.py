"""Preflight: what is wrong with a candidate, read from its text before anything of it runs.

Most rules in `RULES` keep an experiment an experiment: exactly one change, in an editable file, of
the program that is the master now, not tried before. ``reaches-outside`` and
``validation-in-training`` are an early and cheap check on what is new in the candidate. They are
no security boundary; the sandbox is.

Exactly one change is one of two things:

- one existing setting has another value, and nothing else differs; or
- one structural edit: every existing setting keeps its name, its value and its only binding (new
  ones may be added); one file differs; and the statements that differ in nothing but literals all
  replace one literal by one other (``4 * n`` by ``3 * n`` in two layers is one change, four
  numbers retuned within functions are four). A file that is not Python may differ in one place.

Invariant: pure; no text makes it raise.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property

from manyhands.teams.lab.contradictions import measuring_files
from manyhands.teams.lab.literals import as_kind, bindings, find_sites, kind_of, literal_nodes
from manyhands.teams.lab.reach import new_reaches, unseen
from manyhands.teams.lab.records import Hypothesis, Literalish
from manyhands.teams.lab.settings import value_problem
from manyhands.teams.lab.study import Study
from manyhands.teams.lab.syntax import fingerprint, literal_changes, normal, parse, stripped

__all__ = ["RULES", "Violation", "fingerprint", "preflight"]

RULES: Mapping[str, str] = {
    "protected-file": "a file that agents may not edit was changed, added, deleted or given "
    "another mode; or an editable one was made a link or executable",
    "syntax-error": "an edited Python file cannot be read as Python",
    "no-op": "the program is the same but for formatting, comments, docstrings or chosen names",
    "duplicate": "the resulting program was tried before",
    "stale-parent": "the hypothesis was made for another master than the present one",
    "more-than-one-change": "more differs than one setting, or than one structural edit",
    "undeclared-change": "the change is not the setting and the value that the hypothesis names",
    "out-of-range": "a setting's value is outside of its range in study.toml, or of another type",
    "reaches-outside": "new code reaches for a process, the network, a path outside, the sealed "
    "data or the evaluator",
    "validation-in-training": "new code reads data that are there to measure, not to train",
    "hidden-text": "new text holds signs that do not show, names that look like others, or lines "
    "that nobody reads to the end",
}
#: Of one rule this many findings are told.
_TOLD = 4


@dataclass(frozen=True)
class Violation:
    """``rule`` is one of `RULES`; ``text`` says where and what."""

    rule: str
    text: str


def preflight(
    study: Study,
    parent_files: Mapping[str, str],
    candidate_files: Mapping[str, str],
    hypothesis: Hypothesis,
    *,
    master: str,
    seen: Mapping[str, str] | None = None,
    parent_modes: Mapping[str, str] | None = None,
    candidate_modes: Mapping[str, str] | None = None,
) -> tuple[Violation, ...]:
    """What is wrong with the candidate, one violation per rule, in the order of `RULES`.

    ``*_files``: path within the study -> text, of all files or at least of all that either side
    might have changed. ``*_modes``: path -> git's mode ("100644"), where known. ``master``: the
    commit that is the master now. ``seen``: `program` of earlier candidates -> their experiment.
    """
    change = _Change(study, parent_files, candidate_files)
    found = [*_protected(change), *_modes(study, parent_modes or {}, candidate_modes or {})]
    if hypothesis.parent != master:
        stale = f"made for {hypothesis.parent[:12]}, and the master is {master[:12]}"
        found.append(Violation("stale-parent", stale))
    try:
        found += _read(change, hypothesis, seen or {})
    except RecursionError:
        found.append(Violation("syntax-error", "nested too deeply to be read"))
    return _told(found)


def program(study: Study, files: Mapping[str, str]) -> str:
    """The fingerprint of the editable part of ``files``: equal for programs that are the same."""
    return fingerprint({path: text for path, text in files.items() if study.editable(path)})


def grounds(study: Study, files: Mapping[str, str]) -> dict[str, str]:
    """What notes may rest on: ``program``, and ``structure``, in which the numbers of settings are
    left open. A file that cannot be read stands for itself."""
    editable = {path: text for path, text in files.items() if study.editable(path)}
    opened = {path: _without_numbers(path, text) for path, text in editable.items()}
    return {"program": fingerprint(editable), "structure": fingerprint(opened)}


def _without_numbers(path: str, text: str) -> str:
    if not path.endswith(".py"):
        return text
    try:
        sites = find_sites(text).values()
    except (SyntaxError, ValueError, RecursionError):
        return text
    raw = text.encode()
    for site in sorted(sites, key=lambda s: -s.start):
        if kind_of(site.value) in ("int", "float"):
            raw = raw[: site.start] + b"0" + raw[site.end :]
    return raw.decode()


def _told(found: list[Violation]) -> tuple[Violation, ...]:
    told: list[Violation] = []
    for rule in RULES:
        texts = list(dict.fromkeys(v.text for v in found if v.rule == rule))
        if texts:
            more = f"; and {len(texts) - _TOLD} more" if len(texts) > _TOLD else ""
            told.append(Violation(rule, "; ".join(texts[:_TOLD]) + more))
    return tuple(told)


# ---------------------------------------------------------------- files


@dataclass(frozen=True)
class _Change:
    """What the candidate does to its parent."""

    study: Study
    before: Mapping[str, str]
    after: Mapping[str, str]

    @cached_property
    def changed(self) -> tuple[str, ...]:
        paths = sorted({*self.before, *self.after})
        return tuple(p for p in paths if self.before.get(p) != self.after.get(p))

    @cached_property
    def edited(self) -> tuple[str, ...]:
        return tuple(p for p in self.changed if self.study.editable(p))

    @cached_property
    def old_trees(self) -> dict[str, ast.Module]:
        return dict(self._trees(self.before))

    @cached_property
    def new_trees(self) -> dict[str, ast.Module]:
        return dict(self._trees(self.after))

    def _trees(self, files: Mapping[str, str]) -> Iterator[tuple[str, ast.Module]]:
        for path in self.edited:
            if path.endswith(".py") and path in files:
                try:
                    yield path, parse(files[path])
                except SyntaxError:
                    continue


def _protected(change: _Change) -> Iterator[Violation]:
    for path in change.changed:
        if change.study.editable(path):
            continue
        what = "changed"
        if path not in change.before:
            what = "added, and files.edit does not match it"
        elif path not in change.after:
            what = "deleted"
        yield Violation("protected-file", f"{path!r} was {what}")


def _modes(
    study: Study, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Violation]:
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        editable = study.editable(path)
        if new is not None and new != (old or "100644") and (editable or old is not None):
            kind = {"120000": "a symbolic link", "160000": "a submodule"}.get(new, f"mode {new}")
            yield Violation("protected-file", f"{path!r} was made {kind}")
        elif not editable and (old is None or new is None):
            yield Violation("protected-file", f"{path!r} was {'added' if new else 'deleted'}")


# ---------------------------------------------------------------- the change


def _read(change: _Change, hypothesis: Hypothesis, seen: Mapping[str, str]) -> Iterator[Violation]:
    unread = list(_syntax_errors(change))
    yield from unread
    if unread:
        return
    after = program(change.study, change.after)
    if after == program(change.study, change.before):
        if not change.changed or change.edited:
            yield Violation("no-op", _nothing(change))
        return
    if after in seen:
        yield Violation("duplicate", f"the same program as in {seen[after]}")
    difference = _difference(change)
    yield from _several(change, difference)
    yield from _undeclared(hypothesis, difference)
    yield from _out_of_range(change.study, difference)
    yield from _reaching(change)


def _syntax_errors(change: _Change) -> Iterator[Violation]:
    for path in change.edited:
        if path.endswith(".py") and path in change.after and path not in change.new_trees:
            try:
                parse(change.after[path])
            except SyntaxError as error:
                yield Violation("syntax-error", f"{path}:{error.lineno or 1}: {error.msg}")


def _nothing(change: _Change) -> str:
    return f"{', '.join(change.edited)}: the same program" if change.edited else "nothing differs"


@dataclass
class _Difference:
    """``turned``: setting -> (old, new) value. ``touched``: setting -> what else was done to it.
    ``other``: files in which more than values of settings differ."""

    turned: dict[str, tuple[Literalish, Literalish]] = field(
        default_factory=dict[str, tuple[Literalish, Literalish]]
    )
    touched: dict[str, str] = field(default_factory=dict[str, str])
    other: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        turned = [f"{n} from {old!r} to {new!r}" for n, (old, new) in self.turned.items()]
        touched = [f"{name} {what}" for name, what in self.touched.items()]
        other = [f"other code of {', '.join(self.other)}"] if self.other else []
        return ", ".join([*turned, *touched, *other])


def _difference(change: _Change) -> _Difference:
    found = _Difference()
    for path in change.edited:
        old, new = change.old_trees.get(path), change.new_trees.get(path)
        if old and new and not _compare(change.before[path], old, change.after[path], new, found):
            continue
        found.other.append(path)
    return found


def _compare(before: str, old: ast.Module, after: str, new: ast.Module, found: _Difference) -> bool:
    """Adds what happened to settings to ``found``; True if anything else differs too."""
    sites, new_sites = find_sites(before, old), find_sites(after, new)
    bound, new_bound = _bound(old), _bound(new)
    for name, site in sites.items():
        base, present = name.partition("[")[0], new_sites.get(name)
        if present is None:
            found.touched[name] = "is no setting any more" if base in new_bound else "is gone"
        elif base.isupper() and new_bound[base] > bound[base]:
            found.touched[name] = "is bound once more"
        elif _exact(present.value) != _exact(site.value):
            found.turned[name] = (site.value, present.value)
    kept = sites.keys() & new_sites.keys()
    return ast.dump(normal(old, _holes(old, kept))) != ast.dump(normal(new, _holes(new, kept)))


def _bound(tree: ast.Module) -> Counter[str]:
    return Counter(name for node in ast.walk(tree) for name in bindings(node))


def _exact(value: Literalish) -> tuple[str, Literalish]:
    return kind_of(value), value


def _holes(tree: ast.Module, names: Iterable[str]) -> dict[int, str]:
    wanted = set(names)
    return {id(node): name for name, node in literal_nodes(tree) if name in wanted}


# ---------------------------------------------------------------- rules about the change


def _several(change: _Change, difference: _Difference) -> Iterator[Violation]:
    others = len(difference.other)
    if difference.touched or len(difference.turned) + others > 1:
        rule = "; beside other changes every setting keeps its name, value and binding"
        what = f"{difference}{rule if difference.other else ''}"
        yield Violation("more-than-one-change", what)
        return
    for path in difference.other:
        old, new = change.old_trees.get(path), change.new_trees.get(path)
        if old is not None and new is not None:
            pairs = sorted(literal_changes(old, new))
            if len(pairs) > 1:
                shown = ", ".join(f"{a} by {b}" for a, b in pairs[:6])
                yield Violation("more-than-one-change", f"{path} replaces literals: {shown}")
        elif not path.endswith(".py"):
            places = _places(change.before.get(path, ""), change.after.get(path, ""))
            if places > 1:
                yield Violation("more-than-one-change", f"{path} differs in {places} places")


def _places(before: str, after: str) -> int:
    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines())
    return sum(tag != "equal" for tag, *_ in matcher.get_opcodes())


def _undeclared(hypothesis: Hypothesis, difference: _Difference) -> Iterator[Violation]:
    if hypothesis.kind != "setting":
        return
    name, value = hypothesis.setting, hypothesis.value
    alone = difference.turned.keys() == {name} and not difference.touched and not difference.other
    if alone and value is not None:
        new = difference.turned[name][1]
        if as_kind(value, kind_of(new)) == new:
            return
    yield Violation("undeclared-change", f"declared {name} = {value!r}; found: {difference}")


def _out_of_range(study: Study, difference: _Difference) -> Iterator[Violation]:
    for name, (old, new) in difference.turned.items():
        problem = value_problem(name, old, new, study.config.settings.get(name))
        if problem:
            yield Violation("out-of-range", problem)


def _reaching(change: _Change) -> Iterator[Violation]:
    measuring = measuring_files(change.study.config, [*change.before])
    for path, new in change.new_trees.items():
        old = change.old_trees.get(path)
        for rule, text in new_reaches(stripped(old) if old else None, stripped(new), measuring):
            yield Violation(rule, f"{path} {text}")
    for path in change.edited:
        for text in unseen(change.before.get(path, ""), change.after.get(path, "")):
            yield Violation("hidden-text", f"{path}: {text}")
