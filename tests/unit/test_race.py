"""What a race says: its arms, its shared slots, its verdict, its page."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from manyhands.cli.race import limits, race
from manyhands.config import MANNERS, PLANNERS, role_spec
from manyhands.errors import ConfigError, ManyhandsError
from manyhands.teams.lab import hybrid, samplers
from manyhands.teams.lab.contest import compare
from manyhands.teams.lab.race import check_race, lane_id, order_of, roles_of_arm
from manyhands.teams.lab.race_page import render, rows_of, standings, verdict, write_race
from manyhands.teams.lab.race_records import Lane, RaceOrder, RaceOutcome, Step
from manyhands.teams.lab.state import Pool, Slots
from tests.studies import lay_out

HOSTILE = "hybrid:script:<script>alert(1)</script>"


def outcome(seeds: int, arms: dict[str, float], noise: float = 0.3) -> RaceOutcome:
    """Arms whose final gains lie around these, over so many seeds."""
    draw = random.Random(2)
    finals = {
        (arm, seed): draw.gauss(gain, noise) for seed in range(seeds) for arm, gain in arms.items()
    }
    lanes = [
        Lane(
            arm=arm,
            seed=seed,
            run=f"race-{at}-{seed}",
            state="" if seed else "StudyError: it broke",
            runs=60,
            experiments=30,
            seconds=61.5,
            tokens=1200 * at,
            usd=0.02 * at,
            steps=(
                Step(runs=0, commit="base", program="p", gain=0.0, holdout=0.0),
                Step(runs=19, commit="a", program="q", gain=gain / 2, holdout=gain / 3),
                Step(runs=40, commit="b", program="r", gain=finals[arm, seed], holdout=gain),
            ),
        )
        for seed in range(seeds)
        for at, (arm, gain) in enumerate(arms.items())
    ]
    gains = {a: {str(x.seed): x.gain for x in lanes if x.arm == a} for a in arms}
    return RaceOutcome(
        study="tiny",
        metric="val_bpb",
        direction="lower",
        arms=tuple(arms),
        seeds=seeds,
        budget={"runs": 60.0, "usd": 2.0},
        lanes=tuple(lanes),
        comparisons=compare(gains),
        judges=8,
        judged=64,
    )


# ---------------------------------------------------------------- arms


def test_an_arm_says_who_fills_every_role() -> None:
    assert roles_of_arm("cmaes")["planner"] == "algorithm:cmaes"
    assert set(roles_of_arm("random").values()) == {"algorithm", "algorithm:random"}
    single = roles_of_arm("single:ollama:qwen3:8b")
    assert single["planner"] == "single:ollama:qwen3:8b"
    assert single["worker"] == "ollama:qwen3:8b"
    assert single["researcher"] == "algorithm"
    team = roles_of_arm("team:local")
    assert team["planner"] == "hybrid:local"
    assert (team["researcher"], team["reporter"]) == ("local", "algorithm")
    for arm in ("tpe", "hybrid:x", "team:x", "advised:x"):
        for role, spec in roles_of_arm(arm).items():
            role_spec(role, spec)


@pytest.mark.parametrize("arm", ["tpe:x", "hybrid", "hybrid:", "qwen", "best:x"])
def test_what_is_no_arm_is_told_the_forms(arm: str) -> None:
    with pytest.raises(ConfigError, match="arm") as caught:
        roles_of_arm(arm)
    assert "hybrid:MODEL" in caught.value.next


@pytest.mark.parametrize("arms", [("tpe",), (), ("tpe", "random", "tpe")])
def test_arms_are_two_or_more_and_each_once(arms: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="arm"):
        check_race(RaceOrder(study="x", arms=arms))


def test_arms_get_equal_orders_and_runs_of_their_own() -> None:
    order = RaceOrder(study="x", arms=("tpe", "hybrid:a/b", "hybrid:a-b"), runs=30, slots=2)
    orders = [order_of(order, "r", arm, 3) for arm in order.arms]
    same = {o.model_copy(update={"models": {}, "campaign": ""}).model_dump_json() for o in orders}
    assert len(same) == 1
    assert len({lane_id("r", arm, 3, order.arms) for arm in order.arms}) == 3


def test_the_words_of_the_settings_are_those_of_the_lab() -> None:
    assert set(PLANNERS) == set(samplers.Kind.__args__)
    assert set(MANNERS) == set(hybrid.MANNERS)
    assert (role_spec("planner", "algorithm").how, role_spec("planner", "hf:a/b").how) == ("", "")
    for role, spec in (("planner", "algorithm:best"), ("worker", "single:hf:a/b")):
        with pytest.raises(ConfigError, match=role):
            role_spec(role, spec)


@pytest.mark.parametrize(
    ("arms", "budget", "says"),
    [
        ("tpe", "", "arms: tpe"),
        ("tpe,qwen", "", "arm 'qwen'"),
        ("tpe,random", "runs=5", "cannot promote anything"),
        ("tpe,random", "tokens=-1", "tokens: Input should be"),
        ("tpe,single:hf:x", "", "hf:"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, arms: str, budget: str, says: str
) -> None:
    study = lay_out("regression", tmp_path / "study")
    with pytest.raises(ManyhandsError, match=says):
        race(study, arms=arms, budget=budget)
    assert not (study / ".manyhands").exists()


def test_a_budget_is_read_or_refused() -> None:
    assert limits("runs=60, usd=2.5,tokens=200_000") == {"runs": 60, "usd": 2.5, "tokens": 200000}
    assert limits("") == {}
    for wrong in ("60", "runs=many", "hours=3"):
        with pytest.raises(ConfigError, match="--budget"):
            limits(wrong)


# ---------------------------------------------------------------- slots


async def test_a_free_slot_goes_to_whoever_has_the_fewest() -> None:
    pool, served = Pool(2), []

    async def job(owner: str) -> None:
        async with Slots(2, pool, owner).take() as slot:
            served.append((owner, slot))
            await asyncio.sleep(0)

    await asyncio.gather(*(job("many") for _ in range(8)), *(job("few") for _ in range(2)))
    assert len(served) == 10
    assert [owner for owner, _ in served[:5]].count("few") == 2, served
    assert {slot for _, slot in served} == {0, 1}


async def test_a_job_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    pool = Pool(1)
    async with pool.take("a", None):
        waiting = asyncio.create_task(_hold(pool))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(5), pool.take("c", None) as slot:
        assert slot == 0


async def _hold(pool: Pool) -> None:
    async with pool.take("b", None):
        await asyncio.Event().wait()


# ---------------------------------------------------------------- the report


def test_the_verdict_says_what_is_established() -> None:
    clear = outcome(8, {"random": 1.0, "tpe": 3.0})
    assert "tpe beats random (p 0.0078)" in verdict(clear)
    assert [s.arm for s in standings(clear)] == ["tpe", "random"]
    even = outcome(8, {"random": 1.0, "tpe": 1.0})
    assert "No difference is established" in verdict(even)


def test_too_few_seeds_are_said_to_be_too_few() -> None:
    assert "With one seed no test is possible: give --seeds 6" in verdict(
        outcome(1, {"a": 1.0, "b": 2.0})
    )
    few = verdict(outcome(5, {"a": 1.0, "b": 9.0, "c": 1.0}))
    assert "5 seeds give p 0.062 at best, and 3 comparisons are made; give --seeds 7" in few


def test_a_curve_is_the_gain_of_the_master_of_the_time() -> None:
    lane = outcome(1, {"a": 2.0}).lanes[0]
    assert [lane.gain_at(at) for at in (0, 18.9, 19, 39)] == [0.0, 0.0, 1.0, 1.0]
    assert lane.gain_at(60) == lane.gain


def test_the_page_is_complete_inert_and_the_same_each_time(tmp_path: Path) -> None:
    told = outcome(4, {"tpe": 2.0, HOSTILE: 3.0, "random": 0.5})
    page = render(told, "race-1", 1.7e9)
    assert page == render(told, "race-1", 1.7e9)
    assert "<script" not in page
    assert "alert(1)" in page
    assert "1 of 4 seeds did not come to their end" in page
    assert page.count("<svg") == 2
    written = [Path(p) for p in write_race(told, tmp_path, "race-1", 1.7e9)]
    assert [p.name for p in written] == [
        "race.html",
        "curves.png",
        "curves.svg",
        "gains.png",
        "gains.svg",
    ]
    assert all(p.stat().st_size > 2000 for p in written)
    assert rows_of(told)[0]["time"] == "1 min 2 s"
