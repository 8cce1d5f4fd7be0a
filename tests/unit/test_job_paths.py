"""What a job sees of the machine: the interpreter with its packages, and nothing of a home."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from manyhands.isolation import paths


def test_packages_of_another_environment_are_part_of_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "other" / "lib" / "site-packages"
    project = tmp_path / "project" / "src"
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages), str(project)])
    assert packages in paths.interpreter()
    assert project not in paths.interpreter()


def test_folders_are_named_once() -> None:
    found = paths.interpreter()
    assert Path(sys.prefix) in found
    assert not any(
        a != b and a.name in paths.PACKAGES and a.is_relative_to(b) for a in found for b in found
    )
