"""The corpus: the running Python's own standard library, split into training, validation, holdout.

Invariant: a file belongs to one split, decided by the SHA-256 of its bytes, so equal files never
lie on both sides; equal libraries give equal bytes and an equal manifest on every machine.

``python data.py --out D --sealed S`` writes

- ``D/train.bin``, ``D/val.bin``: parts of the files, one after the other, a zero byte after each;
- ``D/manifest.json`` (a copy in ``S``): SHA-256 and size of every part, files and Python version;
- ``S/holdout.bin``, and ``S/hidden.json``: the absolute paths that a training job must not read;
- ``D/pycache``: bytecode for ``PYTHONPYCACHEPREFIX``. With it Python and numpy start although the
  holdout's sources are masked by empty files: the masked modules' bytecode (docstrings left out)
  is never compared with a source.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import platform
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

#: Bytes of each split, and the shares of the files that it draws from.
SIZES = {"train": 1_500_000, "val": 64_000, "holdout": 64_000}
SHARES = {"train": 0.80, "val": 0.10, "holdout": 0.10}
#: At most this much of a file, from its middle, so that no single one decides a split.
PER_FILE = {"train": 12_000, "val": 3_000, "holdout": 3_000}
SMALLEST = 500
#: Missing in some installations, written by the build, or tables rather than text.
LEFT_OUT = {
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3",
    "distutils", "ensurepip", "encodings", "pydoc_data", "lib-dynload", "turtledemo",
}  # fmt: skip
#: What train.py and evaluate.py import: their bytecode is kept at hand as well.
IMPORTED = "import argparse, contextlib, dataclasses, json, math, os, pathlib, zipfile, numpy"


def sources(root: Path) -> Iterator[Path]:
    """The library's own Python files below ``root``, in the order of their relative paths."""
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts
        build = parts[0].startswith(("_sysconfigdata", "config-"))
        if not LEFT_OUT.intersection(parts) and not build and path.is_file():
            yield path


def split_of(digest: str) -> str:
    """Where a file goes, from the SHA-256 of its bytes: uniform over `SHARES`."""
    point, reached = int(digest[:12], 16) / 16**12, 0.0
    for name, share in SHARES.items():
        reached += share
        if point < reached:
            return name
    return name


def collect(root: Path) -> dict[str, list[tuple[Path, bytes]]]:
    """The files of each split with their bytes, in the order of their hashes, up to its size."""
    seen: dict[str, tuple[Path, bytes]] = {}
    for path in sources(root):
        text = path.read_bytes()
        if len(text) >= SMALLEST:
            seen.setdefault(hashlib.sha256(text).hexdigest(), (path, text))
    splits: dict[str, list[tuple[Path, bytes]]] = {name: [] for name in SIZES}
    taken = dict.fromkeys(SIZES, 0)
    # The split is the head of the hash; its tail orders, so the two do not depend on one another.
    for digest in sorted(seen, key=lambda digest: digest[::-1]):
        name = split_of(digest)
        if taken[name] < SIZES[name]:
            splits[name].append(seen[digest])
            taken[name] += len(part_of(name, seen[digest][1])) + 1
    return splits


def part_of(split: str, text: bytes) -> bytes:
    start = max(0, len(text) - PER_FILE[split]) // 2
    return text[start : start + PER_FILE[split]]


def joined(split: str, files: list[tuple[Path, bytes]]) -> bytes:
    return b"".join(part_of(split, text) + b"\0" for _, text in files)[: SIZES[split]]


def cached_path(source: str, prefix: Path) -> Path:
    """Where Python looks for the bytecode of ``source`` under ``PYTHONPYCACHEPREFIX=prefix``."""
    before, sys.pycache_prefix = sys.pycache_prefix, str(prefix)
    try:
        return Path(importlib.util.cache_from_source(source, optimization=""))
    finally:
        sys.pycache_prefix = before


def compile_hidden(hidden: list[Path], prefix: Path) -> None:
    """Bytecode of the masked modules, without docstrings, valid whatever their sources hold."""
    for path in hidden:
        py_compile.compile(
            str(path),
            cfile=str(cached_path(str(path), prefix)),
            doraise=True,
            optimize=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def copy_bytecode(prefix: Path) -> None:
    """Bytecode of everything else that training imports: the prefix replaces the usual places."""
    script = f"{IMPORTED}\nimport sys\nfor m in list(sys.modules.values()):\n"
    script += "    s = getattr(m, '__spec__', None)\n"
    script += "    if s and s.cached and s.has_location: print(s.origin, s.cached, sep='\\t')"
    listed = subprocess.run(
        [sys.executable, "-B", "-c", script], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        reason = listed.stderr.strip().splitlines()[-1]
        raise SystemExit(f"{sys.executable} cannot import what training needs: {reason}")
    for line in listed.stdout.splitlines():
        source, cached = line.split("\t")
        target = cached_path(source, prefix)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(cached).is_file():
            shutil.copyfile(cached, target)
        else:
            with contextlib.suppress(OSError, py_compile.PyCompileError):
                py_compile.compile(source, cfile=str(target), doraise=True)


def describe(root: Path, splits: dict[str, list[tuple[Path, bytes]]]) -> dict[str, object]:
    """The manifest: what the splits are, enough to tell any other corpus from this one."""
    parts: dict[str, object] = {}
    for name, files in splits.items():
        content = joined(name, files)
        parts[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "files": len(files),
            "sources": {
                path.relative_to(root).as_posix(): hashlib.sha256(text).hexdigest()
                for path, text in files
            },
        }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {"python": platform.python_version(), "sha256": digest, "splits": parts}


def write_all(out: Path, sealed: Path) -> dict[str, object]:
    root = Path(sysconfig.get_path("stdlib"))
    splits = collect(root)
    short = [name for name in SIZES if len(joined(name, splits[name])) < SIZES[name] / 2]
    if short:
        raise SystemExit(
            f"{root} holds too few Python sources for {', '.join(short)}; "
            "use a Python whose standard library is installed as .py files"
        )
    manifest = describe(root, splits)
    for folder in (out, sealed):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    for name, files in splits.items():
        folder = sealed if name == "holdout" else out
        (folder / f"{name}.bin").write_bytes(joined(name, files))
    hidden = [path for path, _ in splits["holdout"]]
    (sealed / "hidden.json").write_text(json.dumps(hidden_paths(hidden), indent=1) + "\n")
    compile_hidden(hidden, out / "pycache")
    copy_bytecode(out / "pycache")
    return manifest


def hidden_paths(sources: list[Path]) -> list[str]:
    """The sources and their ordinary bytecode (it carries the docstrings), as absolute paths."""
    found: list[str] = []
    for path in sources:
        compiled = sorted((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
        found += [str(each.resolve()) for each in (path, *compiled)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the corpus and its sealed holdout.")
    parser.add_argument("--out", type=Path, required=True, help="folder that training reads")
    parser.add_argument("--sealed", type=Path, required=True, help="folder that it must not read")
    arguments = parser.parse_args()
    manifest = write_all(arguments.out, arguments.sealed)
    print(f"python {manifest['python']}, corpus sha256 {manifest['sha256']}")


if __name__ == "__main__":
    main()
