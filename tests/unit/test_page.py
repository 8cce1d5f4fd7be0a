"""The report page: complete in itself, inert whatever agents wrote, honest about what it cuts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from manyhands.teams.lab import page
from manyhands.teams.lab.records import (
    Anomaly,
    Experiment,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Master,
    Note,
    Phase,
    Verdict,
)
from manyhands.teams.lab.reporter import summarize

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\x1b[31m\u202e'
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Elements, attributes and text; balanced tags are checked on the way."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def dossier(count: int = 4, *, text: str = "plain", rows: int = 8) -> page.Dossier:
    ledger = [
        LedgerRow(
            row=n, campaign=text, experiment=f"e{n:04d}", hypothesis=text, title=text,
            phase=Phase.BASELINE if n == 1 else Phase.SCREEN, parent="m0", candidate=text, seed=n,
            worker=text, fillers={text: text, "planner": "optuna-tpe"}, metric=2.5 - n / 1e5,
            delta=0.0, holdout=None, duration=5.0, cpu_seconds=4.0, peak_memory_mb=90.0, exit=text,
            verdict=Verdict.BASELINE if n == 1 else Verdict.NOT_BETTER, rule=text, comment=text,
            environment=text, started_at=10.0 * n,
        )
        for n in range(1, rows + 1)
    ]  # fmt: skip
    decision = GateDecision(
        verdict="promoted", pairs=6, looks=2, gain=0.1, low=0.05, high=0.15, p_value=0.01,
        alpha=0.05, reason=text,
    )  # fmt: skip
    kinds = [Verdict.PROMOTED, Verdict.CRASHED, Verdict.REJECTED, Verdict.NOT_BETTER]
    experiments = [
        Experiment(
            id=f"e{n:04d}", candidate=text, parent="m0", verdict=kinds[(n - 1) % 4 if n < 5 else 3],
            rule=text, comment=text, diff=f"--- a/{text}\n+++ b/x\n@@ 1 @@\n-{text}\n+{text}\n",
            decision=decision if n == 1 else None, holdout_gain=0.09 if n == 1 else None,
            hypothesis=Hypothesis(
                id=text, title=text, rationale=text, kind="structural", parent="m0",
                instructions=text, source=text,
            ),
        )
        for n in range(1, count + 1)
    ]  # fmt: skip
    masters = [
        Master(commit="m0", experiment="e0000", version=0, reference={1: 2.5}, noise_sd=0.01)
    ]
    anomalies = [Anomaly(kind=text, text=text, experiment=text)]
    summary = summarize(
        study=text, metric=text, direction="lower", rows=ledger, experiments=experiments,
        masters=masters, found=anomalies, started_at=0.0, now=100.0,
    )  # fmt: skip
    return page.Dossier(
        summary=summary, objective=text, state=text, rows=ledger, experiments=experiments,
        masters=masters, notes=[Note(kind="insight", text=text, experiment=text)],
        anomalies=anomalies, environment={text: text}, told=f"{text}\n{text}", whole=text,
        run_id=text, made_at=1_790_000_000.0,
    )  # fmt: skip


@pytest.fixture
def plotless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; the plots have tests of their own."""
    monkeypatch.setattr(page.plots, "FIGURES", {})


def test_nothing_on_the_page_is_loaded_or_run() -> None:
    found = read(page.render(dossier()))
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "img", "form", "base"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, value)


def test_hostile_text_is_text_everywhere() -> None:
    html = page.render(dossier(text=HOSTILE))
    found = read(html)
    assert "<script" not in html
    assert "<img" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "49" not in [text.strip() for text in found.text]
    assert not any(name.startswith("on") for _, a in found.tags for name in a)
    shown = "".join(found.text)
    assert shown.count("<script>alert(1)</script>") >= 20
    assert "{{ 7*7 }}" in shown


def test_it_is_the_same_each_time_and_works_in_light_and_dark() -> None:
    one = dossier()
    html = page.render(one)
    assert html == page.render(one)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert html.count("<svg") == 3
    assert "#010203" not in html
    ids = [a["id"] for _, a in read(html).tags if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("plotless")
def test_all_ids_are_unique_and_all_anchors_lead_somewhere() -> None:
    found = read(page.render(dossier()))
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in found.tags:
        href = attributes.get("href")
        assert href is None or href[1:] in ids


@pytest.mark.usefixtures("plotless")
def test_verdicts_are_told_by_words_and_marks() -> None:
    shown = " ".join("".join(read(page.render(dossier())).text).split())
    for words in ("▲ promoted", "✗ crashed", "⊘ rejected", "▽ not better"):
        assert words in shown
    assert "error rate is 0.05 per decision" in shown
    assert "1 of 1" in shown


@pytest.mark.usefixtures("plotless")
def test_what_is_left_out_is_said_and_promotions_stay() -> None:
    html = page.render(dossier(count=page.EXPERIMENTS + 50, rows=page.ROWS + 20))
    assert "49 earlier ones without a promotion are left out" in html
    assert "20 earlier rows are left out" in html
    assert 'id="e0001"' in html
    assert 'id="e0002"' not in html
    assert len(re.findall(r'<tr id="e', html)) == page.EXPERIMENTS + 1


@pytest.mark.usefixtures("plotless")
def test_long_diffs_are_cut() -> None:
    one = dossier(1)
    long = one.experiments[0].model_copy(update={"diff": "+x\n" * 2000})
    html = page.render(page.Dossier(**{f: getattr(one, f) for f in one.__slots__} | {
        "experiments": [long]}))  # fmt: skip
    assert f"… {2000 - page.DIFF_LINES} more lines" in html


@pytest.mark.usefixtures("plotless")
def test_an_empty_study_has_a_page() -> None:
    summary = summarize(
        study="s", metric="m", direction="lower", rows=(), experiments=(), masters=()
    )
    html = page.render(
        page.Dossier(summary=summary, objective="", state="", rows=(), experiments=(), masters=())
    )
    read(html)
    assert "No run has given m yet." in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\r\nb\rc", "a\nb\nc"), ("\tx", "    x"), ("a\x1b[0m\u202eb", "a\ufffd[0m\ufffdb")],
)
def test_block_keeps_lines_and_shows_what_hides(text: str, expected: str) -> None:
    assert page.block(text) == expected
