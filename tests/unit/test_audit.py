from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import ConfigError
from manyhands.teams.lab.audit import Promotion, audit, expected_minimum, render, t_quantile
from manyhands.teams.lab.ledger import KARPATHY, MULTIAUTORESEARCH, to_tsv
from manyhands.teams.lab.records import LedgerRow, Phase, Verdict

Row = dict[str, Any]


def by_hash(report_promotions: tuple[Promotion, ...]) -> dict[str, Promotion]:
    return {promotion.hash: promotion for promotion in report_promotions}


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def tsv(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def commit(hash: str, parent: str, value: float | None, message: str = "", **more: Any) -> Row:
    return {"hash": hash, "parent_hash": parent, "val_bpb": value, "message": message, **more}


def on_a_host(rng: random.Random, shift: float = 0.0) -> float:
    """One H100 run of the program that was run 10,000 times: two kinds of hosts."""
    slow = rng.random() < 0.43
    return shift + (rng.gauss(0.964270, 0.00012) if slow else rng.gauss(0.963589, 0.00017))


def shipped_history(seed: int = 0) -> list[Row]:
    """The shape of the history that burtenshaw/multiautoresearch ships, generated.

    14,732 rows; early promotions with large gains, then ever smaller ones; one program run more
    than 10,000 times, the best of whose runs is promoted; one real gain on top of it.
    """
    rng = random.Random(seed)
    gains = [0.006 / (step + 1) if step < 12 else rng.uniform(2e-5, 35e-5) for step in range(47)]
    level = 0.96395 + sum(gains)  # so that the program run 10,000 times comes last
    rows = [commit("root", "", level, "baseline")]
    parent = "root"
    for step, gain in enumerate(gains):
        tries = rng.randint(20, 80)
        for number in range(tries):
            worse = rng.uniform(0.0005, 0.01)
            message = f"step {step} try {number}: lr {rng.random():.4f}"
            rows.append(commit(f"t{step}-{number}", parent, level + worse, message))
        level -= gain
        rows.append(commit(f"m{step}", parent, level, f"change {step}"))
        parent = f"m{step}"
    replicates = [on_a_host(rng) for _ in range(10_900)]
    best = min(range(500), key=lambda at: replicates[at])
    replicates[best] = min(replicates) - 1e-6
    at_best = replicates[best]
    for number, value in enumerate(replicates):
        mark = "best64_rep" if number < 700 else "best64 rep "
        rows.append(commit(f"r{number}", parent, value, f"{mark}{number}"))
        if number == 550:
            rows.append(commit("last", f"r{best}", at_best - 0.0016, "inductor", is_master=True))
    number = 0
    while len(rows) < 14_732:
        rows.append(commit(f"z{number}", "last", on_a_host(rng), f"idea {number}: wd {number}e-5"))
        number += 1
    for at, row in enumerate(rows):
        row["created_at"] = f"2026-03-{14 + at // 1440:02d}T{at % 1440 // 60:02d}:{at % 60:02d}:00Z"
        row.setdefault("is_master", False)
    return rows


def test_the_shipped_history(tmp_path: Path):
    report = audit(write(tmp_path / "history.json", shipped_history()))
    assert report.runs == 14_732
    assert report.noise_sd == pytest.approx(0.00037, rel=0.05)
    assert report.noise_runs == 10_900
    assert "10900 runs of one program fall into two kinds: 0.9635" in report.hosts
    assert len(report.promotions) == 50  # the root, 47, the best of the re-runs, and its child
    found = by_hash(report.promotions)
    assert found["root"].verdict == "unknown"
    assert found["m0"].verdict == "supported"
    small = [p for p in report.promotions if p.gain is not None and p.gain < report.noise_sd]
    assert len(small) >= 35
    best = next(p for p in report.promotions if p.replicates > 10_000)
    assert best.verdict == "min_of_k"
    assert best.k > 10_000
    assert best.corrected == pytest.approx(0.96388, abs=2e-5)
    assert best.reported is not None
    assert best.reported < 0.9632
    assert {p.verdict for p in small if p.hash != best.hash} <= {"within_noise", "min_of_k"}
    assert found["last"].verdict == "supported"
    assert found["last"].corrected_gain == pytest.approx(
        0.96388 - (best.reported - 0.0016), abs=1e-4
    )


def test_the_json_holds_what_was_promised(tmp_path: Path):
    rows = [commit("a", "", 1.0), commit("b", "a", 0.9), commit("c", "b", 0.8)]
    dumped = audit(write(tmp_path / "h.json", rows), noise=0.01).model_dump(mode="json")
    assert dumped["noise_sd"] == 0.01
    b = next(p for p in dumped["promotions"] if p["hash"] == "b")
    promised = {"hash", "reported", "gain", "verdict", "corrected"}
    assert promised <= set(b)
    assert {key: b[key] for key in promised} == {
        "hash": "b",
        "reported": 0.9,
        "gain": pytest.approx(0.1),
        "verdict": "supported",
        "corrected": 0.9,
    }
    assert json.loads(json.dumps(dumped, allow_nan=False)) == dumped


def test_without_replicates_and_without_noise_nothing_is_known(tmp_path: Path):
    report = audit(
        write(
            tmp_path / "h.json",
            [commit("a", "", 1.0), commit("b", "a", 0.5), commit("c", "b", 0.6)],
        )
    )
    assert report.noise_sd is None
    assert {p.verdict for p in report.promotions} == {"unknown"}
    assert by_hash(report.promotions)["b"].gain == 0.5
    assert "give --noise" in render(report)


def test_a_promotion_is_a_parent_or_a_master(tmp_path: Path):
    rows = [
        commit("a", "", 1.0),
        commit("b", "a", 0.9),
        commit("c", "a", 0.95),
        commit("d", "b", 0.85, is_master=True),
    ]
    report = audit(write(tmp_path / "h.json", rows), noise=0.01)
    assert [p.hash for p in report.promotions] == ["a", "b", "d"]


def test_a_gain_below_the_noise_of_two_runs_is_within_noise(tmp_path: Path):
    rows = [commit("a", "", 1.0), commit("b", "a", 0.99, is_master=True)]
    found = by_hash(audit(write(tmp_path / "h.json", rows), noise=0.01).promotions)["b"]
    assert found.verdict == "within_noise"  # 0.01 < 1.645 × √2 × 0.01
    assert found.corrected == 0.99
    assert found.k == 1
    rows = [commit("a", "", 1.0), commit("b", "a", 0.97, is_master=True)]
    found = by_hash(audit(write(tmp_path / "h.json", rows), noise=0.01).promotions)["b"]
    assert found.verdict == "supported"


def test_what_is_enough_for_one_try_is_not_for_the_best_of_many(tmp_path: Path):
    rng = random.Random(1)
    rows = [commit("a", "", 1.0)]
    rows += [commit(f"t{i}", "a", 1.0 + abs(rng.gauss(0, 0.01)), f"idea {i}") for i in range(40)]
    rows += [commit("b", "a", 0.972, "idea b", is_master=True)]
    rows += [commit(f"u{i}", "a", 0.97, f"later {i}") for i in range(40)]  # not tried by then
    found = by_hash(audit(write(tmp_path / "h.json", rows), noise=0.01).promotions)["b"]
    assert found.verdict == "min_of_k"
    assert found.k == 41
    assert found.corrected == pytest.approx(0.972 + 0.01 * expected_minimum(41))


def test_tries_that_were_clearly_worse_do_not_count(tmp_path: Path):
    rows = [commit("a", "", 1.0)]
    rows += [commit(f"t{i}", "a", 1.5, f"bad idea {i}") for i in range(40)]
    rows += [commit("b", "a", 0.972, "idea b", is_master=True)]
    found = by_hash(audit(write(tmp_path / "h.json", rows), noise=0.01).promotions)["b"]
    assert (found.verdict, found.k, found.corrected) == ("supported", 1, 0.972)


def test_the_best_of_the_runs_of_one_hash_is_a_minimum(tmp_path: Path):
    values = [1.003, 0.996, 0.985, 1.004, 1.001, 1.011]
    rows = [commit("a", "", 1.0)]
    rows += [commit("b", "a", value, is_master=value == 0.985) for value in values]
    report = audit(write(tmp_path / "h.json", rows))
    found = by_hash(report.promotions)["b"]
    assert found.verdict == "min_of_k"
    assert (found.reported, found.replicates, found.k) == (0.985, 6, 6)
    assert found.corrected == pytest.approx(1.0)
    assert report.noise_sd == pytest.approx(0.00882, rel=0.01)


def test_a_large_gain_stays_supported_when_it_was_run_again(tmp_path: Path):
    rows = [commit("a", "", value) for value in (1.0, 1.01, 0.99)]
    rows += [commit("b", "a", value, is_master=value == 0.79) for value in (0.8, 0.79, 0.81)]
    found = by_hash(audit(write(tmp_path / "h.json", rows)).promotions)["b"]
    assert found.verdict == "supported"
    assert found.reported == 0.79
    assert found.corrected == pytest.approx(0.8)
    assert found.corrected_gain == pytest.approx(0.2)


@pytest.mark.parametrize(
    "messages",
    [
        ("best64_rep1", "best64 rep 2", "best64_rep33"),
        ("Lower lr.", "Lower lr (resubmit).", "lower lr (resubmit, the worker died)"),
        ("wd 0.1", "wd 0.1", "wd 0.1"),
        ("seed 1", "Seed 43", "seed=7"),
        ("rerun", "re-run of master", "no changes"),
        ("x rep 1/3", "x rep 2/3", "x rep 3/3"),
        ("again: x", "replicate 2 of x", "x"),
    ],
)
def test_messages_that_mark_a_re_run(tmp_path: Path, messages: tuple[str, str, str]):
    rows = [commit("a", "", 1.0), *(commit(f"o{i}", "a", 2.0 + i, f"o {i}") for i in range(4))]
    values = (0.9, 0.94, 0.95)
    rows += [commit(f"r{i}", "a", values[i], message) for i, message in enumerate(messages)]
    report = audit(write(tmp_path / "h.json", rows))
    own_parent = messages[0] in ("seed 1", "rerun")
    assert report.noise_programs == 1
    assert report.noise_runs == (4 if own_parent else 3)


@pytest.mark.parametrize(
    "messages", [("prep 1", "prep 2"), ("candidate 1", "candidate 2"), ("", ""), ("lr 1", "lr 2")]
)
def test_messages_that_do_not(tmp_path: Path, messages: tuple[str, str]):
    rows = [commit("a", "", 1.0), *(commit(f"o{i}", "a", 2.0 + i, f"o {i}") for i in range(4))]
    rows += [commit(f"r{i}", "a", 0.9 + i, message) for i, message in enumerate(messages)]
    assert audit(write(tmp_path / "h.json", rows)).noise_sd is None


def test_words_that_most_rows_share_are_no_re_runs(tmp_path: Path):
    rows = [commit("a", "", 1.0), *(commit(f"r{i}", "a", 1.0 + i, "experiment") for i in range(9))]
    assert audit(write(tmp_path / "h.json", rows)).noise_sd is None


def test_one_diverged_re_run_does_not_set_the_noise(tmp_path: Path):
    rng = random.Random(0)
    rows = [commit("a", "", rng.gauss(1.0, 0.01)) for _ in range(60)]
    calm = audit(write(tmp_path / "h.json", rows)).noise_sd
    wild = audit(write(tmp_path / "h.json", [*rows, commit("a", "", 9.0)])).noise_sd
    assert calm == pytest.approx(0.01, rel=0.3)
    assert wild is not None
    assert wild < 0.05


def test_few_re_runs_make_a_careful_verdict(tmp_path: Path):
    rows = [commit("a", "", 1.0), commit("a", "", 1.01), commit("b", "a", 0.98, is_master=True)]
    rows += [commit("z", "b", 2.0)]
    careful = by_hash(audit(write(tmp_path / "h.json", rows)).promotions)["b"]
    sure = by_hash(audit(write(tmp_path / "h.json", rows), noise=0.00707).promotions)["b"]
    assert (careful.verdict, sure.verdict) == ("within_noise", "supported")


def test_higher_can_be_better(tmp_path: Path):
    rows = [commit("a", "", 0.5), commit("b", "a", 0.6), commit("c", "b", 0.59, is_master=True)]
    report = audit(write(tmp_path / "h.json", rows), noise=0.01, direction="higher")
    found = by_hash(report.promotions)
    assert (found["b"].verdict, found["b"].gain) == ("supported", pytest.approx(0.1))
    assert (found["c"].verdict, found["c"].reason) == (
        "within_noise",
        "no better than its parent's runs",
    )


def test_karpathys_ledger(tmp_path: Path):
    rows = [
        ("a1", 0.9979, 44.0, "keep", "baseline"),
        ("b2", 0.9932, 44.2, "keep", "increase LR to 0.04"),
        ("c3", 1.0050, 44.0, "discard", "switch to GeLU"),
        ("d4", 0.000000, 0.0, "crash", "double width (OOM)"),
        ("b2", 0.9931, 44.2, "discard", "bigger batch"),
        ("e5", 0.9930, 44.2, "keep", "warmup 5 %"),
    ]
    report = audit(tsv(tmp_path / "results.tsv", KARPATHY, rows), noise=0.0005)
    assert (report.kind, report.runs, report.without_metric) == ("karpathy", 6, 1)
    assert report.problems == ()
    found = [(p.hash, p.verdict, p.line) for p in report.promotions]
    assert found == [("a1", "unknown", 2), ("b2", "supported", 3), ("e5", "within_noise", 7)]
    assert report.promotions[2].gain == pytest.approx(0.0002)
    assert report.promotions[2].k == 2  # the bigger batch, but not GeLU
    assert report.promotions[2].parent == "b2"


def test_a_repeated_commit_with_another_description_is_no_re_run(tmp_path: Path):
    header = ("commit", "val_rmse", "status", "description")
    rows = [
        ("a", 343.9, "keep", "baseline"),
        ("a", 321.2, "discard", "car age"),
        ("a", 313.6, "discard", "log mileage"),
        ("b", 285.9, "keep", "log price"),
    ]
    report = audit(tsv(tmp_path / "results.tsv", header, rows))
    assert (report.metric, report.noise_sd) == ("val_rmse", None)
    assert [p.hash for p in report.promotions] == ["a", "b"]


def test_multiautoresearchs_ledger(tmp_path: Path):
    def row(number: int, parent: str, candidate: str, value: object, promoted: bool) -> Row:
        return {
            "run_id": number,
            "created_at": f"2026-04-0{number}T00:00:00Z",
            "status": "completed",
            "hypothesis": f'say "{number}"',
            "parent_hash": parent,
            "candidate_hash": candidate,
            "val_bpb": value,
            "promoted": promoted,
            "comment": '"two\nlines"' if number == 3 else "",
        }

    rows = [
        row(1, "", "aa", 0.9979, True),
        row(2, "aa", "bb", 0.9980, False),
        row(3, "aa", "bb", 0.9975, True),
        row(4, "bb", "cc", "nan", False),
        row(5, "bb", "cc", "", False),
        row(6, "bb", "dd", 0.95, True),
    ]
    cells = [tuple(row.get(name, "") for name in MULTIAUTORESEARCH) for row in rows]
    report = audit(tsv(tmp_path / "results.tsv", MULTIAUTORESEARCH, cells))
    assert (report.kind, report.runs, report.without_metric) == ("multiautoresearch", 6, 2)
    assert report.problems == ()
    found = by_hash(report.promotions)
    assert report.noise_sd == pytest.approx(0.00035, rel=0.02)
    assert found["bb"].verdict == "min_of_k"
    assert found["bb"].corrected == pytest.approx(0.99775)
    assert found["dd"].verdict == "supported"
    assert found["dd"].title == 'say "6"'


def test_what_is_wrong_with_a_line_is_said_and_the_rest_is_read(tmp_path: Path):
    path = tmp_path / "results.tsv"
    path.write_text(
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\r\n"
        "a1\t1.0\t44\tkeep\tbaseline\r\n"
        "\r\n"
        "b2\tabout one\t44\tkeep\tloose words\r\n"
        "c3\r\n"
        "d4\t0.9\t44\tkeep\twith a\ttab in it\r\n"
        "e5\t0.0\t44\tkeep\tprints zero\r\n"
        "f6\t0.5\t44\tkeep\tform\x0cfeed\u2028and separator\r\n",
        newline="",
    )
    report = audit(path, noise=0.01)
    assert [problem.split(":")[0] for problem in report.problems] == [
        "line 4",
        "line 5",
        "line 6",
        "line 7",
    ]
    assert "'about one' is no number" in report.problems[0]
    assert "1 columns, expected 5" in report.problems[1]
    assert "0.0 is no measurement" in report.problems[3]
    found = by_hash(report.promotions)
    assert found["b2"].verdict == found["e5"].verdict == "unknown"
    assert found["d4"].title == "with a tab in it"
    assert found["f6"].line == 8
    assert "problem: line 4" in render(report)


def test_a_json_list_that_breaks_off_is_read_up_to_the_break(tmp_path: Path):
    path = tmp_path / "h.json"
    whole = json.dumps([commit("a", "", 1.0), commit("b", "a", 0.5), 7, {"x": 1}], indent=1)
    path.write_text(whole[:-2] + ', {"hash": "c", "parent_h')
    report = audit(path, noise=0.01)
    assert report.runs == 2
    assert len(report.problems) == 3
    assert "the JSON breaks off" in report.problems[0]
    assert report.problems[2] == "item 4: left out, it has the fields x"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("name\tage\nann\t3\n", "has the columns name, age"),
        ("hello world\n", "has the columns hello world"),
        ('{"nodes": [], "edges": []}', "JSON object with nodes, edges"),
        ("[]", "no row that can be read"),
        ('[{"id": 1}]', "it has the fields id"),
        ("[1, 2", "breaks off"),
        ("commit\tval_bpb\tmemory_gb\tstatus\tdescription\n", "no row that can be read"),
    ],
)
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, text: str, named: str):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as refused:
        audit(path)
    assert "commit, val_bpb, memory_gb, status, description" in refused.value.next
    assert "hash, parent_hash, val_bpb, message, created_at" in refused.value.next


def test_a_missing_file_and_settings_that_make_no_sense_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        audit(tmp_path / "none.tsv")
    path = write(tmp_path / "h.json", [commit("a", "", 1.0)])
    for noise in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="noise is"):
            audit(path, noise=noise)
    with pytest.raises(ConfigError, match="direction is 'up'"):
        audit(path, direction="up")  # type: ignore[arg-type]


def own_ledger(gain: float, seed: int = 0) -> str:
    rng = random.Random(seed)

    def row(
        number: int,
        candidate: str,
        parent: str,
        phase: Phase,
        metric: float | None,
        verdict: Verdict,
        delta: float | None = None,
        title: str = "LR = 0.1",
    ) -> LedgerRow:
        return LedgerRow(
            row=number, campaign="c", experiment=candidate, hypothesis="h", title=title,
            phase=phase, parent=parent, candidate=candidate, seed=number, worker="w", fillers={},
            metric=metric, delta=delta, holdout=None, duration=1.0, cpu_seconds=1.0,
            peak_memory_mb=1.0, exit="ok" if metric else "failed", verdict=verdict,
            created_at=1.7e9 + number,
        )  # fmt: skip

    rows = [
        row(i, "aaaa", "", Phase.BASELINE, rng.gauss(2.5, 0.01), Verdict.BASELINE)
        for i in range(1, 5)
    ]
    rows.append(row(5, "bbbb", "aaaa", Phase.SCREEN, 1.9, Verdict.PROMOTED))
    for number in range(6, 18, 2):
        master, mine = rng.gauss(2.5, 0.01), rng.gauss(2.5 - gain, 0.01)
        rows.append(row(number, "aaaa", "", Phase.CONFIRM, master, Verdict.BASELINE))
        rows.append(
            row(number + 1, "bbbb", "aaaa", Phase.CONFIRM, mine, Verdict.PROMOTED, mine - master)
        )
    rows.append(row(18, "cccc", "bbbb", Phase.SCREEN, None, Verdict.CRASHED))
    return to_tsv(rows)


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "supported"), (0.0001, "within_noise")])
def test_this_labs_own_ledger_is_judged_by_its_confirmation_runs(
    tmp_path: Path, gain: float, verdict: str
):
    path = tmp_path / "results.tsv"
    path.write_text(own_ledger(gain))
    report = audit(path)
    assert (report.kind, report.problems) == ("manyhands", ())
    found = by_hash(report.promotions)
    assert set(found) == {"aaaa", "bbbb"}
    assert found["bbbb"].verdict == verdict
    # From the six confirmation runs alone: the screening run (1.9) selected and does not count.
    assert found["bbbb"].gain == pytest.approx(gain, abs=0.015)
    assert found["bbbb"].reported == pytest.approx(2.5 - gain, abs=0.015)
    assert "6 pairs" in found["bbbb"].reason


def test_noise_zero_supports_every_gain(tmp_path: Path):
    rows = [commit("a", "", 1.0), commit("b", "a", 0.999999), commit("c", "b", 2.0)]
    assert by_hash(audit(write(tmp_path / "h.json", rows), 0.0).promotions)["b"].verdict == (
        "supported"
    )


def test_the_table_is_short_and_fits(tmp_path: Path):
    report = audit(write(tmp_path / "history.json", shipped_history()))
    text = render(report)
    lines = text.splitlines()
    assert lines[0].startswith("14732 runs (0 without a metric), 50 promotions; val_bpb, lower")
    assert len([line for line in lines if " supported " in line]) >= 5
    assert max(len(line) for line in lines) <= 100


def test_when_nothing_is_real_at_most_alpha_is_supported(tmp_path: Path):
    """Lower-once histories in which every candidate is the master: the audit is not fooled."""
    promotions = supported = 0
    for seed in range(60):
        rng = random.Random(seed)
        level = rng.gauss(1, 0.01)
        rows, master = [commit("m", "", level)], "m"
        for number in range(60):
            value = rng.gauss(1, 0.01)
            rows.append(commit(f"c{number}", master, value, f"idea {number}"))
            if value < level:
                master, level = f"c{number}", value
        report = audit(write(tmp_path / "h.json", rows), noise=0.01)
        promotions += len(report.promotions) - 1
        supported += report.supported
    assert promotions > 150
    assert supported <= 0.05 * promotions


def test_the_expected_minimum_matches_published_values():
    # Harter, Biometrika 48 (1961), expected values of normal order statistics
    for k, value in ((1, 0.0), (2, 0.56419), (3, 0.84628), (10, 1.53875), (100, 2.50759)):
        assert expected_minimum(k) == pytest.approx(value, abs=1e-4)
    assert expected_minimum(10_000) == pytest.approx(3.8516, abs=1e-3)


def test_t_quantiles_match_published_values():
    for tail, freedom, value in (
        (0.05, 1, 6.3138),
        (0.05, 2, 2.9200),
        (0.025, 3, 3.1824),
        (0.01, 5, 3.3649),
        (0.05, 10, 1.8125),
        (0.005, 29, 2.7564),
        (0.05, math.inf, 1.6449),
    ):
        assert t_quantile(tail, freedom) == pytest.approx(value, abs=1e-4)
