"""What has to hold of the rates, on each split by itself; the page shows what is measured."""

from __future__ import annotations

import pytest

from manyhands.agents.stepcheck import STANDARD
from tests.stepcheck.faults import FAULTS
from tests.stepcheck.measure import Rates
from tests.stepcheck.table import BEGIN, DOCS, END, render, splits, written

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture(scope="module")
def found() -> dict[str, Rates]:
    return splits()


@pytest.mark.parametrize("split", ["tuned", "held out", "teams", "last"])
def test_faults_are_flagged_at_the_right_step_and_good_steps_are_not(
    found: dict[str, Rates], split: str
) -> None:
    rates = found[split]
    assert rates.found_rate >= 0.95, rates.missed
    assert rates.good_rate < 0.05, rates.wrong


def test_there_is_enough_to_measure_on(found: dict[str, Rates]) -> None:
    assert sum(rates.steps for rates in found.values()) >= 300
    for name in FAULTS:
        assert sum(rates.placed[name] for rates in found.values()) >= 50, name


def test_every_check_finds_nearly_all_faults_of_its_kind(found: dict[str, Rates]) -> None:
    assert {fault.check for fault in FAULTS.values()} == set(STANDARD)
    for name in FAULTS:
        placed = sum(rates.placed[name] for rates in found.values())
        assert sum(rates.found[name] for rates in found.values()) >= 0.9 * placed, name


def test_the_page_shows_what_was_measured(found: dict[str, Rates]) -> None:
    page = DOCS.read_text("utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page == written(page, render(found)), "run: python -m tests.stepcheck.table"


def test_the_page_and_the_checks_name_the_same() -> None:
    listed = DOCS.read_text("utf-8").partition("## Rates")[0]
    assert [line.split("`")[1] for line in listed.splitlines() if line.startswith("| `")] == list(
        STANDARD
    )
