"""Data that are made once: whole, or not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyhands.published import MANIFEST, publish, published, sums_of, try_lock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "a").write_text("one")
    (made / "deep" / "b").write_text("two")
    return made


def test_what_is_published_is_whole(folder: Path) -> None:
    assert published(str(folder)) == ("", "it was never finished")
    digest = publish(str(folder))
    assert published(str(folder)) == (digest, "")
    assert publish(str(folder)) == digest
    assert published(str(folder / "none")) == ("", "it is not there")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda f: (f / "a").write_text("other!"), "a has 6 bytes, and had 3"),
        (lambda f: (f / "a").write_text("eno"), "a has other contents than it had"),
        (lambda f: (f / "deep" / "b").unlink(), "b cannot be read"),
        (lambda f: (f / MANIFEST).write_text("{"), "is none"),
        (lambda f: (f / MANIFEST).write_text('{"version": 9, "files": {}}'), "of version 9"),
        (lambda f: (f / MANIFEST).write_text("[]"), "is none"),
        (lambda f: (f / MANIFEST).unlink(), "never finished"),
    ],
)
def test_what_is_not_as_it_was_is_not_used(folder: Path, harm, why: str) -> None:
    publish(str(folder))
    harm(folder)
    digest, told = published(str(folder))
    assert digest == ""
    assert why in told


def test_sizes_alone_are_a_quick_look(folder: Path) -> None:
    digest = publish(str(folder))
    (folder / "a").write_text("eno")
    assert published(str(folder), full=False) == (digest, "")


def test_what_is_left_out_is_in_no_manifest(folder: Path) -> None:
    assert set(sums_of(str(folder), [str(folder / "deep")])) == {"a"}
    assert set(sums_of(str(folder / "a"))) == {""}
    publish(str(folder))
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == {"a", "deep/b"}


def test_one_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    assert try_lock(path, shared=True) is None
