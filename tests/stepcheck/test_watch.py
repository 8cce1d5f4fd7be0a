"""Flags while an agent works: they are those of its journal, and what a role says follows, once and
on every replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands.agents.contract import Completion
from manyhands.agents.flagging import OnFlag, Policy
from manyhands.agents.report import Report, ReportStatus
from manyhands.agents.role import Role, parse_role
from manyhands.agents.stepcheck import Flag, Step, Trace, check_all, from_journal
from manyhands.agents.stepcheck.watch import FLAG, Watch
from manyhands.agents.tools import Toolbox, tool
from manyhands.agents.turn import run_agent
from manyhands.errors import ModelRefused, RoleError
from manyhands.ports import ModelRequest
from manyhands.runtime import Effect, Event, Run, Runtime, Status, Workflow
from manyhands.testing import ManualClock, ScriptedModel
from manyhands.testing.models import Reply, answer, call


class Done(BaseModel):
    summary: str


@tool(effect=Effect.PURE)
def bash(command: str) -> str:
    """Run a command."""
    return "1 failed, 2 passed\nexit status 1" if "pytest" in command else "ok"


LIE, TRUTH = "All tests pass.", "One test still fails."
SCRIPT = (call("bash", command="pytest"), answer(Done(summary=LIE)), answer(Done(summary=TRUTH)))


def role(on_flag: Any = "note", **more: Any) -> Role:
    policy = OnFlag.model_validate(on_flag)
    return Role("worker", "", "x", tools=("bash",), max_turns=8, on_flag=policy, **more)


class Trial:
    def __init__(
        self, path: Path, script: Sequence[Reply], role: Role, watch: Watch | None
    ) -> None:
        self.path = path
        self.models = [ScriptedModel(self._of(script), name=name) for name in ("first", "second")]
        self.role = role
        self.watch = watch
        self.events: list[Event] = []
        self.flow = Workflow("w", self._work, returns=Report[Done])

    @staticmethod
    def _of(script: Sequence[Reply]) -> Callable[[ModelRequest], Reply]:
        def say(request: ModelRequest) -> Reply:
            spoken = sum(b'"role":"assistant"' in message[:30] for message in request.messages)
            return script[min(spoken, len(script) - 1)]

        return say

    async def _work(self, run: Run, _: None) -> Report[Done]:
        return await run_agent(
            run,
            self.role,
            "Mend it.",
            model=self.models,
            output=Done,
            toolbox=Toolbox.of(bash),
            watch=self.watch,
        )

    async def run(self) -> Report[Done]:
        async with Runtime.open(self.path, clock=ManualClock(jump=True)) as runtime:
            report = await runtime.run(self.flow, run_id="r")
            self.events = [event async for event in runtime.events("r")]
            self.read = from_journal(self.events, runtime.journal.blob)
        return report

    @property
    def flags(self) -> list[tuple[str, list[str]]]:
        return [
            (event.data["policy"], [flag["check"] for flag in event.data["flags"]])
            for event in self.events
            if event.type == FLAG
        ]

    @property
    def last_told(self) -> str:
        return self.models[0].requests[-1].messages[-1].decode()


WATCH = Watch()
LIED = ["claimed-test", "omitted-failure"]


async def test_a_flag_is_journaled_with_its_evidence_and_nothing_else_follows(
    fast_path: Path,
) -> None:
    trial = Trial(fast_path, SCRIPT, role(), WATCH)
    report = await trial.run()
    assert report.value == Done(summary=LIE)
    assert trial.flags == [("note", ["ignored-error", *LIED])]
    flag = next(e for e in trial.events if e.type == FLAG).data["flags"][1]
    assert flag["at"] == "worker/turn/1"
    assert flag["evidence"]["quote"] == LIE
    assert not any("/flags" in event.key for event in trial.events)


async def test_live_flags_are_those_that_the_journal_gives(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role("nudge"), WATCH)
    await trial.run()
    live = [flag for event in trial.events if event.type == FLAG for flag in event.data["flags"]]
    assert live == [flag.to_json() for flag in check_all(trial.read)]
    assert live


async def test_without_a_watch_there_is_no_check(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role("nudge"), None)
    await trial.run()
    assert trial.flags == []
    assert check_all(trial.read) != ()


async def test_a_good_run_has_no_flag(fast_path: Path) -> None:
    trial = Trial(fast_path, (SCRIPT[0], SCRIPT[2]), role("pause"), WATCH)
    report = await trial.run()
    assert report.status is ReportStatus.COMPLETE
    assert trial.flags == []


async def test_a_nudge_sends_a_flagged_report_back(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role("nudge"), WATCH)
    report = await trial.run()
    assert report.value == Done(summary=TRUTH)
    assert trial.flags == [("nudge", ["ignored-error", *LIED])]
    assert "claimed-test: it says that it passes, and the last run failed" in trial.last_told


async def test_only_what_a_policy_is_for_is_told(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role({"claimed-test": "nudge"}), WATCH)
    await trial.run()
    assert "claimed-test" in trial.last_told
    assert "omitted-failure" not in trial.last_told


async def test_a_nudge_on_the_way_is_said_before_the_next_turn(fast_path: Path) -> None:
    one, other = call("bash", command="ls"), call("bash", command="ls lib")
    script = (one, other, one, other, answer(Done(summary="It lists.")))
    trial = Trial(fast_path, script, role({"cycle": "nudge", "default": "note"}), WATCH)
    report = await trial.run()
    assert report.status is ReportStatus.COMPLETE
    assert ("nudge", ["cycle"]) in trial.flags
    told = trial.models[0].requests[-1].messages
    assert any(b"cycle: the same 2 steps with the same results" in message for message in told)


async def test_what_the_turn_loop_tells_itself_is_not_told_twice(fast_path: Path) -> None:
    same = call("bash", command="ls")
    trial = Trial(fast_path, (same, same, same, SCRIPT[2]), role({"cycle": "nudge"}), WATCH)
    await trial.run()
    assert ("note", ["cycle"]) in trial.flags
    assert any(event.type == "agent:nudge" for event in trial.events)
    told = trial.models[0].requests[-1].messages
    assert sum(b"with the same result" in message for message in told) == 1


async def test_nudges_are_bounded_and_then_the_report_is_taken(fast_path: Path) -> None:
    lies = (SCRIPT[0], *(answer(Done(summary=f"{LIE} Part {n}.")) for n in range(9)))
    trial = Trial(fast_path, lies, role({"default": "nudge", "most": 2}), WATCH)
    report = await trial.run()
    assert report.status is ReportStatus.COMPLETE
    assert [policy for policy, _ in trial.flags] == ["nudge", "nudge", "note"]
    assert report.value == Done(summary=f"{LIE} Part 2.")


async def test_a_contract_without_pushes_takes_the_report(fast_path: Path) -> None:
    strict = role("nudge", completion=Completion(nudges=0))
    trial = Trial(fast_path, SCRIPT, strict, WATCH)
    report = await trial.run()
    assert (report.status, report.value) == (ReportStatus.COMPLETE, Done(summary=LIE))


async def test_escalation_hands_over_to_the_next_model(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role("escalate"), WATCH)
    report = await trial.run()
    assert (report.model, report.fallbacks) == ("second", 1)
    assert report.value == Done(summary=TRUTH)
    assert [len(model.requests) for model in trial.models] == [2, 1]


async def test_a_retry_takes_the_step_back_and_says_nothing_of_it(fast_path: Path) -> None:
    replies = iter(SCRIPT)
    trial = Trial(fast_path, SCRIPT, role("retry"), WATCH)
    trial.models[0] = ScriptedModel(lambda _: next(replies), name="first")
    report = await trial.run()
    assert report.value == Done(summary=TRUTH)
    assert trial.flags == [("retry", ["ignored-error", *LIED])]
    second, third = (request.messages for request in trial.models[0].requests[1:])
    assert second == third
    live = [flag for event in trial.events if event.type == FLAG for flag in event.data["flags"]]
    assert live == [flag.to_json() for flag in check_all(trial.read)]


async def test_a_retry_on_the_way_takes_calls_and_results_back(fast_path: Path) -> None:
    one, other = call("bash", command="ls"), call("bash", command="ls lib")
    replies = iter((one, other, one, other, answer(Done(summary="It lists."))))
    trial = Trial(fast_path, SCRIPT, role({"cycle": "retry", "default": "note"}), WATCH)
    trial.models[0] = ScriptedModel(lambda _: next(replies), name="first")
    report = await trial.run()
    assert report.status is ReportStatus.COMPLETE
    assert ("retry", ["cycle"]) in trial.flags
    before, after = (request.messages for request in trial.models[0].requests[3:5])
    assert before == after


@pytest.mark.parametrize(
    ("verdict", "policy", "value"),
    [
        ({"broken": False, "why": "It is as it says."}, "note", LIE),
        ({"broken": True, "why": "The last run failed."}, "nudge", TRUTH),
        ("I think it is fine.", "nudge", TRUTH),
        ({"verdict": "fine"}, "nudge", TRUTH),
        (ModelRefused("no"), "nudge", TRUTH),
    ],
)
async def test_a_judge_sees_what_was_flagged_and_can_only_clear_it(
    fast_path: Path, verdict: Any, policy: str, value: str
) -> None:
    judge = ScriptedModel(
        lambda _: answer(verdict) if isinstance(verdict, dict) else verdict, name="judge"
    )
    trial = Trial(fast_path, SCRIPT, role("nudge"), replace(WATCH, judge=judge))
    report = await trial.run()
    assert report.value == Done(summary=value)
    assert [flagged for flagged, _ in trial.flags] == [policy]
    told = next(event for event in trial.events if event.type == FLAG).data["judge"]
    assert told.get("broken") == (verdict.get("broken") if isinstance(verdict, dict) else None)
    assert len(judge.requests) == 1
    shown = judge.requests[0].messages[-1]
    assert LIE.encode() in shown
    assert b"claimed-test" in shown
    assert report.usage.requests == sum(len(m.requests) for m in [*trial.models, judge])


async def test_a_good_run_asks_no_judge(fast_path: Path) -> None:
    judge = ScriptedModel([], name="judge")
    script = (SCRIPT[0], SCRIPT[2])
    trial = Trial(fast_path, script, role("nudge"), replace(WATCH, judge=judge))
    assert (await trial.run()).status is ReportStatus.COMPLETE
    assert judge.requests == []


async def test_a_pause_waits_for_a_person_across_a_restart(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role("pause"), WATCH)
    async with Runtime.open(fast_path, workflows=[trial.flow]) as runtime:
        handle = await runtime.start(trial.flow, run_id="r")
        async for event in runtime.events("r", follow=True):
            if event.type == "wait.set":
                break
        assert runtime.view("r").status is Status.RUNNING
        del handle
    asked = [len(model.requests) for model in trial.models]
    async with Runtime.open(fast_path, workflows=[trial.flow]) as runtime:
        handle = await runtime.resume("r")
        await runtime.answer("r", "worker/turn/1/flag/person", "Then say that it fails.")
        report = await asyncio.wait_for(handle.result(), 20)
    assert report.value == Done(summary=TRUTH)
    assert b"Then say that it fails." in trial.models[0].requests[-1].messages[-1]
    assert sum(len(model.requests) for model in trial.models) == sum(asked) + 1


async def test_a_replay_with_other_checks_goes_the_same_way(fast_path: Path) -> None:
    """What was decided by a flag is in the journal: the checks are not asked again."""
    slow = replace(SCRIPT[2], seconds=60.0)
    trial = Trial(fast_path, (*SCRIPT[:2], slow), role("nudge"), WATCH)
    async with Runtime.open(fast_path, workflows=[trial.flow]) as runtime:
        await runtime.start(trial.flow, run_id="r")
        async for event in runtime.events("r", follow=True):
            if event.key == "worker/turn/2/request/1":
                break

    def never(trace: Trace, step: Step) -> Flag | None:
        return None

    again = Trial(fast_path, SCRIPT, role("nudge"), Watch(dict.fromkeys(WATCH.checks, never)))
    async with Runtime.open(fast_path, workflows=[again.flow]) as runtime:
        report = await (await runtime.resume("r")).result()
        events = [event async for event in runtime.events("r")]
    assert report.value == Done(summary=TRUTH)
    assert sum(event.type == FLAG for event in events) == 1
    assert [len(model.requests) for model in again.models] == [1, 0]


# -------------------------------------------------------------------- the role's words


def test_a_role_file_says_what_follows() -> None:
    text = "---\ndescription: x\non_flag:\n  claimed-test: pause\n  most: 2\n---\nWork."
    found = parse_role(text, Path("worker.md")).on_flag
    assert (found.default, found.most, found.decides) == (Policy.NOTE, 2, True)
    assert found.of(["cycle"]) is Policy.NOTE
    assert found.of(["cycle", "claimed-test"]) is Policy.PAUSE
    short = parse_role("---\ndescription: x\non_flag: nudge\n---\nWork.", Path("worker.md"))
    assert short.on_flag == OnFlag(default=Policy.NUDGE)
    assert not OnFlag().decides


@pytest.mark.parametrize("given", ["shout", "{cycle: shout}", "{most: 0}"])
def test_a_policy_that_there_is_not_is_refused(given: str) -> None:
    with pytest.raises(RoleError, match=r"worker.md: on_flag"):
        parse_role(f"---\ndescription: x\non_flag: {given}\n---\nWork.", Path("worker.md"))


async def test_a_check_that_there_is_not_is_refused_before_anything_starts(fast_path: Path) -> None:
    trial = Trial(fast_path, SCRIPT, role({"cycles": "nudge"}), WATCH)
    with pytest.raises(RoleError, match=r"on_flag names 'cycles'; checks: schema"):
        await trial.run()
    assert not trial.models[0].requests
