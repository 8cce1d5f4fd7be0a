"""The reporter: gains from confirmation runs only, and every kind of anomaly found."""

from __future__ import annotations

import pytest

from manyhands.teams.lab.anomalies import ActiveJob, anomalies, paired
from manyhands.teams.lab.records import (
    Experiment,
    GateDecision,
    Hypothesis,
    LedgerRow,
    Master,
    Phase,
    Verdict,
)
from manyhands.teams.lab.reporter import (
    MARKS,
    experiments_table,
    holdout_of,
    render_summary,
    summarize,
)

HOSTILE = "<script>alert(1)</script>\x1b[31m\n| `x` **b**"


def row(number: int, metric: float | None, **more: object) -> LedgerRow:
    fields: dict[str, object] = {
        "row": number, "campaign": "c", "experiment": "e0001", "hypothesis": "h0001",
        "title": "t", "phase": Phase.SCREEN, "parent": "m0", "candidate": "c1", "seed": number,
        "worker": "w", "fillers": {"planner": "optuna-tpe"}, "metric": metric, "delta": None,
        "holdout": None, "duration": 10.0, "cpu_seconds": 9.0, "peak_memory_mb": 100.0,
        "exit": "ok" if metric is not None else "failed", "verdict": Verdict.NOT_BETTER,
        "cost_usd": 0.25,
    }  # fmt: skip
    return LedgerRow.model_validate(fields | more)


def experiment(
    ident: str = "e0001",
    verdict: Verdict = Verdict.PROMOTED,
    *,
    gain: float | None = 0.1,
    screened: float | None = 0.12,
    title: str = "RATE 0.1 → 0.2",
) -> Experiment:
    decision = None if gain is None else GateDecision(
        verdict="promoted" if verdict is Verdict.PROMOTED else "not_better", pairs=3, looks=2,
        gain=gain, low=gain - 0.02, high=gain + 0.02, p_value=0.01, alpha=0.05, reason="r",
    )  # fmt: skip
    change = Hypothesis(id="h1", title=title, rationale="", kind="setting", parent="m0")
    return Experiment(
        id=ident, hypothesis=change, candidate="c1", parent="m0", verdict=verdict,
        screen_gain=screened, decision=decision,
    )  # fmt: skip


def pairs(gains: list[float], sealed: list[float], *, first: int = 100) -> list[LedgerRow]:
    """Rows of a confirmation with these gains on validation and on the sealed split."""
    rows: list[LedgerRow] = []
    for at, (gain, held) in enumerate(zip(gains, sealed, strict=True)):
        both = {"phase": Phase.CONFIRM, "seed": first + at}
        n = first + 2 * at
        rows.append(row(n, 2.5, candidate="m0", verdict=Verdict.BASELINE, holdout=2.6, **both))
        rows.append(row(n + 1, 2.5 - gain, verdict=Verdict.PROMOTED, holdout=2.6 - held, **both))
    return rows


BASE = Master(
    commit="m0", experiment="e0000", version=0, reference={1: 2.5, 2: 2.52}, noise_sd=0.01
)
BEST = Master(commit="c1", experiment="e0001", version=1, reference={3: 2.4, 4: 2.4}, noise_sd=0.01)
BASELINE = [
    row(n, 2.5, experiment="e0000", phase=Phase.BASELINE, verdict=Verdict.BASELINE, candidate="m0")
    for n in (1, 2)
]


def kinds(**given: object) -> list[str]:
    fields = {"experiments": (), "masters": (BASE,), "direction": "lower"} | given
    rows = fields.pop("rows", ())
    return [found.kind for found in anomalies(rows, **fields)]


def test_the_summary_reports_confirmation_runs_only() -> None:
    lucky = row(3, 2.0)
    rows = [*BASELINE, lucky, row(4, None), *pairs([0.1, 0.1, 0.1], [0.09, 0.1, 0.11])]
    found = summarize(
        study="s", metric="val_bpb", direction="lower", rows=rows, experiments=[experiment()],
        masters=[BASE, BEST], active=[ActiveJob(id="j", kind="prepare")], started_at=0.0, now=360.0,
    )  # fmt: skip
    assert (found.baseline_metric, found.best_metric, found.best_run) == (2.5, 2.4, 2.0)
    assert found.confirmed_gain == pytest.approx(0.1)
    assert found.best_delta_vs_master == pytest.approx(0.1)
    assert (found.runs, found.completed_jobs, found.failed_jobs) == (10, 9, 1)
    assert found.runs_per_hour == pytest.approx(100.0)
    assert (found.active_jobs, found.active_experiment_jobs) == (1, 0)
    assert found.active_non_experiment_jobs == 1
    assert found.verdicts == {"promoted": 1}
    assert found.fillers == {"planner": ("optuna-tpe",)}
    assert found.cost_usd == pytest.approx(2.5)
    (line,) = found.promotions
    assert line.holdout is not None
    assert line.holdout.confirmed
    assert line.holdout.gain == pytest.approx(0.1)


def test_the_best_run_goes_with_the_direction() -> None:
    rows = [row(1, 0.5), row(2, 0.9)]
    for direction, best in (("lower", 0.5), ("higher", 0.9)):
        found = summarize(
            study="s", metric="m", direction=direction, rows=rows, experiments=(), masters=()
        )
        assert found.best_run == best


def test_an_empty_study_has_a_summary() -> None:
    found = summarize(study="s", metric="m", direction="lower", rows=(), experiments=(), masters=())
    assert found.best_metric is None
    assert found.runs_per_hour is None
    assert "none yet" in render_summary(found, (), ())


def test_rows_that_never_ran_are_no_runs() -> None:
    unrun = row(1, None, exit="not_run", verdict=Verdict.REJECTED)
    found = summarize(
        study="s", metric="m", direction="lower", rows=[unrun], experiments=(), masters=()
    )
    assert (found.runs, found.failed_jobs) == (0, 0)


def test_what_the_study_ended_early_is_no_failure() -> None:
    rows = [row(1, 2.5), row(2, None, exit="pruned"), row(3, None, exit="diverged")]
    found = summarize(
        study="s", metric="m", direction="lower", rows=rows, experiments=(), masters=()
    )
    assert (found.completed_jobs, found.failed_jobs, found.pruned_jobs) == (1, 1, 1)
    assert "3 runs (1 failed, 1 ended early)" in render_summary(found, (), ())


def test_pairs_are_matched_by_seed_and_direction() -> None:
    rows = pairs([0.1, 0.2], [0.1, 0.1])
    assert [p.gain for p in paired(experiment(), rows, -1.0)] == pytest.approx([0.1, 0.2])
    assert [p.gain for p in paired(experiment(), rows, 1.0)] == pytest.approx([-0.1, -0.2])
    lone = rows[:1]
    assert paired(experiment(), lone, -1.0) == ()
    assert holdout_of(()) is None


# ---------------------------------------------------------------- anomalies


def job(ident: str, **more: object) -> ActiveJob:
    fields = {"kind": "experiment", "experiment": "e1", "candidate": "c", "seed": 1}
    return ActiveJob.model_validate({"id": ident} | fields | more)


def test_a_healthy_study_has_no_anomaly() -> None:
    active = [job("a"), job("b", candidate="m0"), job("c", seed=2), job("d", experiment="e2")]
    rows = [*BASELINE, *pairs([0.1, 0.1, 0.1], [0.1, 0.09, 0.1])]
    assert kinds(rows=rows, experiments=[experiment()], active=active, now=10.0) == []


@pytest.mark.parametrize(
    ("active", "kind"),
    [
        ([job("p", kind="prepare")], "prepare-with-experiment"),
        ([job("a"), job("b")], "duplicate-job"),
        (
            [job("a", hypothesis="RATE=0.2"), job("b", experiment="e2", hypothesis="RATE=0.2")],
            "duplicate-hypothesis",
        ),
        ([job("a", started_at=1.0)], "stuck-job"),
        ([job("a", started_at=1.0, last_output_at=500.0)], "stuck-job"),
    ],
)
def test_anomalies_of_jobs(active: list[ActiveJob], kind: str) -> None:
    assert kinds(active=active, now=1000.0 if kind == "stuck-job" else 0.0) == [kind]


def test_a_job_that_prints_is_not_stuck() -> None:
    assert kinds(active=[job("a", started_at=1.0, last_output_at=900.0)], now=1000.0) == []


def test_a_training_without_a_metric() -> None:
    rows = [
        row(1, None, exit="no_metric", verdict=Verdict.CRASHED, comment="val_bpb is nan"),
        row(2, None, exit="failed", verdict=Verdict.CRASHED),
    ]
    (found,) = anomalies(rows, experiments=(), masters=(BASE,), direction="lower")
    assert found.kind == "no-metric"
    assert "val_bpb is nan" in found.text


def test_processes_that_outlive_their_job() -> None:
    rows = [row(1, 2.5, comment="done; 3 left-over processes")]
    assert kinds(rows=rows) == ["survivors"]


def test_an_implausible_jump_that_does_not_confirm() -> None:
    jumped = experiment(verdict=Verdict.NOT_BETTER, gain=0.0, screened=0.5)
    assert kinds(experiments=[jumped]) == ["implausible-jump"]
    assert kinds(experiments=[experiment(screened=0.5)]) == []
    assert kinds(experiments=[experiment(verdict=Verdict.NOT_BETTER, screened=0.05)]) == []


def test_a_gain_on_validation_alone() -> None:
    rows = pairs([0.5, 0.51, 0.5], [0.01, 0.0, 0.01])
    assert kinds(rows=rows, experiments=[experiment()]) == ["only-on-validation"]
    shared = pairs([0.5, 0.51, 0.5], [0.4, 0.45, 0.5])
    assert kinds(rows=shared, experiments=[experiment()]) == []
    few = pairs([0.5, 0.5], [0.0, 0.0])
    assert kinds(rows=few, experiments=[experiment()]) == []


def test_a_master_that_measures_otherwise_now() -> None:
    rows = [
        row(n, 2.6, candidate="m0", phase=Phase.CONFIRM, verdict=Verdict.BASELINE) for n in (5, 6)
    ]
    assert kinds(rows=rows) == ["noise-drift"]
    assert kinds(rows=[r.model_copy(update={"metric": 2.515}) for r in rows]) == []


# ---------------------------------------------------------------- text


def test_the_report_is_inert_markdown() -> None:
    hostile = experiment(title=HOSTILE)
    found = anomalies(
        [row(1, None, exit="no_metric", comment=HOSTILE)],
        experiments=[hostile], masters=(BASE,), direction="lower",
    )  # fmt: skip
    summary = summarize(
        study=HOSTILE, metric=HOSTILE, direction="lower", rows=[*BASELINE], experiments=[hostile],
        masters=[BASE, BEST], found=found,
    )  # fmt: skip
    text = render_summary(summary, [hostile], found)
    assert all(c.isprintable() or c == "\n" for c in text)
    for line in text.splitlines():
        assert line == "" or line.startswith(("# ", "## ", "- "))
        outside = "".join(line.split("`")[::2])
        assert "<script" not in outside.replace("\\<", "")
        assert "**b" not in outside.replace("\\*", "")


def test_the_table_of_experiments_shows_marks_and_words() -> None:
    some = [
        experiment(f"e{n:04d}", verdict, gain=None, title=HOSTILE)
        for n, verdict in enumerate(Verdict)
    ]
    table = experiments_table(some, width=90)
    assert all(c.isprintable() or c == "\n" for c in table)
    assert max(len(line) for line in table.splitlines()) <= 90
    for verdict in Verdict:
        assert f"{MARKS[verdict]} {verdict.value.replace('_', ' ')}" in table
    assert len(set(MARKS.values())) == len(Verdict)


def test_a_long_history_is_cut_with_a_note() -> None:
    many = [experiment(f"e{n:04d}") for n in range(50)]
    summary = summarize(
        study="s", metric="m", direction="lower", rows=(), experiments=many, masters=()
    )
    text = render_summary(summary, many, (), last=10)
    assert "… and 40 earlier" in text
