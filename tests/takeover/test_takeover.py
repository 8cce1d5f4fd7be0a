"""A person stops an agent, drives, hands back: nothing is done twice, nobody else is touched."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manyhands.agents.approval import Approval
from manyhands.agents.standing import Standings
from manyhands.cli.agent_tree import AgentTree
from manyhands.errors import ConfigError, LeaseHeld, LeaseLost
from manyhands.ports import ModelRequest
from manyhands.runtime import Budget, Runtime, Status, Type
from manyhands.testing import ManualClock
from manyhands.testing.models import Conversation, Scripted, answer, call, calls
from tests.takeover.stage import Stage, act, agent, done, honest, resting, seen


@pytest.fixture
def stage(fast_path: Path) -> Stage:
    return Stage(fast_path)


def told(stage: Stage, name: str) -> list[str]:
    """All messages of the last request of that agent."""
    (found,) = [r for m in stage.models for r in m.requests if r.agent == agent(name)][-1:]
    return [str(json.loads(each)["content"]) for each in found.messages]


def stands(runtime: Runtime, name: str = "a") -> str:
    """How an agent stands, as the page and `manyhands agents` show it."""
    fold = Standings("r", runtime.value).feed(runtime.journal.events("r"))
    return fold.now().agents[agent(name)].stand


# -------------------------------------------------------------------- pauses


async def test_a_pause_lets_the_turn_end_and_touches_nobody_else(stage: Stage) -> None:
    stage.held["team/a"] = asyncio.Event()
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key == f"{agent('a')}/turn/0/tool/0")
        await runtime.command("r", "pause", target=agent("a"), message={"now": False})
        stage.held["team/a"].set()
        await resting(runtime, "a")
        await seen(runtime, lambda e: e.key == f"{agent('b')}/end")
        assert stage.effects.count(f"{agent('a')}:0") == 1
        assert f"{agent('a')}:1" not in stage.effects
        assert not handle.done
        await runtime.command("r", "continue", target=agent("a"))
        assert len(await handle.result()) == 2
    assert max(Counter(stage.effects).values()) == 1


async def test_a_pause_now_holds_the_calls_of_the_turn(stage: Stage) -> None:
    stage.delay = 0.2
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key == f"{agent('a')}/turn/0/request/1")
        await runtime.command("r", "pause", target=agent("a"))
        rest = await resting(runtime, "a")
        assert rest.key == f"{agent('a')}/turn/0/calls/rest"
        assert f"{agent('a')}:0" not in stage.effects
        await runtime.command("r", "continue")
        await handle.result()
    assert Counter(stage.effects) == dict.fromkeys(
        (f"{agent(n)}:{i}" for n in "ab" for i in range(2)), 1
    )


async def test_a_paused_agent_is_still_paused_in_the_next_process(stage: Stage) -> None:
    stage.held["team/a"] = asyncio.Event()
    async with stage.running() as (runtime, _):
        await seen(runtime, lambda e: e.key == f"{agent('a')}/turn/0/tool/0")
        await runtime.command("r", "pause", target=agent("a"), message={"now": False})
        stage.held.pop("team/a").set()
        await resting(runtime, "a")
        await seen(runtime, lambda e: e.key == f"{agent('b')}/end")
    before = list(stage.effects)
    async with stage.running(resume=True) as (runtime, handle):
        await asyncio.sleep(0.1)
        assert stage.effects == before
        await runtime.command("r", "continue", target=agent("a"))
        assert len(await handle.result()) == 2
    assert max(Counter(stage.effects).values()) == 1
    assert len(stage.effects) == 4


# -------------------------------------------------------------------- driving


async def test_a_person_calls_the_agent_s_own_tools_and_hands_back(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        rest = await resting(runtime, "a")
        ok, text = await act(runtime, lease, do="call", tool="note", arguments={"text": "mine"})
        assert (ok, text) == (True, "noted mine")
        step = next(s for s in runtime.view("r").steps.values() if s.actor)
        assert step.actor == "ada"
        assert step.key.startswith(rest.key)
        tree = AgentTree(runtime, "r")
        for event in runtime.journal.events("r"):
            tree.apply(event)
        tree.settle()
        words = {b.path: tree.word(b, Status.RUNNING) for b in tree.walk()}
        assert words[agent("a")] == "human"
        await runtime.hand_back(lease, {"how": "continue", "note": "The rest is yours."})
        await handle.result()
        states = [e.data["state"] async for e in runtime.events("r") if e.type == "agent:driven"]
        assert states == ["human", "resuming"]
    assert stage.effects.count(f"{agent('a')}:mine") == 1
    (card,) = [each for each in told(stage, "a") if "A person has worked in your place" in each]
    assert "They called `note`" in card
    assert "noted mine" in card
    assert "They say: The rest is yours." in card
    assert not any("worked in your place" in each for each in told(stage, "b"))


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"do": "call", "tool": "none", "arguments": {}}, "there is no tool"),
        ({"do": "call", "tool": "note", "arguments": {"wrong": 1}}, "do not fit"),
        ({"do": "call", "tool": "answer", "arguments": {"what": "x"}}, "no tool 'answer'"),
        ({"do": "fly"}, "do"),
        ({"do": "edit", "at": 99, "text": "x"}, "there is no message 99"),
        ({"do": "drop", "at": 0}, "at"),
        ({"do": "edit_call", "call": 0, "arguments": {}}, "no call 0 waits"),
        ({"do": "result", "call": 3, "text": "x"}, "there is no call 3"),
        ({"do": "model", "name": "gone"}, "there is no model 'gone'"),
        ({"do": "report", "value": {"wrong": 1}}, "does not fit the schema"),
    ],
)
async def test_an_order_that_cannot_be_done_changes_nothing(
    stage: Stage, order: dict[str, Any], says: str
) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        ok, text = await act(runtime, lease, **order)
        assert not ok
        assert says in text
        await runtime.hand_back(lease, {})
        await handle.result()
    assert Counter(stage.effects)[f"{agent('a')}:0"] == 1


async def test_what_the_model_is_shown_next_can_be_edited(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        assert (await act(runtime, lease, do="edit", at=1, text="Work as somebody else."))[0]
        assert (await act(runtime, lease, do="say", text="Hurry."))[0]
        await runtime.hand_back(lease, {})
        await handle.result()
    texts = told(stage, "a")
    assert texts[1] == "Work as somebody else."
    assert texts[2].endswith("Hurry.")
    assert "Work as a." not in "".join(texts)


async def test_waiting_calls_are_changed_taken_out_or_answered(stage: Stage) -> None:
    def three(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return calls(*(("note", {"text": t}) for t in ("x", "y", "z")))
        return answer({"what": "done"})

    stage.part, stage.names, stage.delay = three, ("a",), 0.2
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key.endswith("/turn/0/request/1"))
        lease = await runtime.take("r", agent("a"), "ada")
        await seen(runtime, lambda e: e.type == "agent:driven")
        assert (await act(runtime, lease, do="edit_call", call=0, arguments={"text": "X"}))[0]
        assert (await act(runtime, lease, do="edit_call", call=1, arguments=None))[0]
        assert (await act(runtime, lease, do="result", call=2, text="noted by hand"))[0]
        await runtime.hand_back(lease, {})
        await handle.result()
    assert stage.effects == [f"{agent('a')}:X"]
    results = told(stage, "a")[-3:]
    assert 'A person changed its arguments to {"text":"X"}.' in results[0]
    assert "noted X" in results[0]
    assert "a person took this call out" in results[1]
    assert "A person gave this result" in results[2]


async def test_the_last_calls_are_run_again_or_their_results_replaced(stage: Stage) -> None:
    stage.names = ("a",)
    for how, effects, shown in (
        ("retry", 2, "noted 0"),
        ("replace", 1, "A person gave this result"),
    ):
        stage.effects.clear()
        stage.path = stage.path.with_name(f"{how}.db")
        stage.held["team/a"] = asyncio.Event()
        async with stage.running() as (runtime, handle):
            await seen(runtime, lambda e: e.key.endswith("/turn/0/tool/0"))
            lease = await runtime.take("r", agent("a"), "ada")
            stage.held["team/a"].set()
            await seen(runtime, lambda e: e.type == "agent:driven")
            if how == "replace":
                await act(runtime, lease, do="result", call=0, text="it was there")
            await runtime.hand_back(lease, {"how": how})
            await handle.result()
        assert stage.effects.count(f"{agent('a')}:0") == effects
        (result,) = [t for t in told(stage, "a") if (shown in t and "0" in t) or "was there" in t]
        assert result


async def test_a_report_written_by_a_person_reaches_the_parent_as_such(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        assert (await act(runtime, lease, do="report", value={"what": "by hand"}))[0]
        await runtime.hand_back(lease, {"how": "finish"})
        first, second = map(json.loads, await handle.result())
    assert first["value"] == {"what": "by hand"}
    assert first["by"] == "ada"
    assert "by" not in second
    assert not any(each.startswith(agent("a")) for each in stage.effects)


async def test_a_report_is_edited_before_it_goes_out(stage: Stage) -> None:
    stage.names, stage.delay = ("a",), 0.1
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key.endswith("/turn/3/request/1"))
        lease = await runtime.take("r", agent("a"), "ada")
        state = await seen(runtime, lambda e: e.type == "agent:driven")
        assert runtime.value(state)["report"] == {"what": "done"}
        await act(runtime, lease, do="report", value={"what": "better"}, status="partial")
        await runtime.hand_back(lease, {"how": "finish"})
        (report,) = map(json.loads, await handle.result())
    assert (report["value"], report["status"], report["by"]) == (
        {"what": "better"},
        "partial",
        "ada",
    )


async def test_a_hand_back_that_is_not_possible_leaves_the_agent_at_rest(stage: Stage) -> None:
    stage.names = ("a",)
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        await runtime.hand_back(lease, {"how": "finish"})
        why = await seen(runtime, lambda e: e.type == "agent:done")
        assert "no report was written" in runtime.value(why)
        await asyncio.sleep(0.1)
        assert not handle.done
        again = await runtime.take("r", agent("a"), "ada")
        await seen(runtime, lambda e: e.type == "agent:driven", after=why.seq)
        await runtime.hand_back(again, {})
        await handle.result()


async def test_the_model_is_changed_by_a_person(stage: Stage) -> None:
    stage.names = ("a",)
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        assert (await act(runtime, lease, do="model", name="other"))[0]
        await runtime.hand_back(lease, {})
        await handle.result()
        end = await seen(runtime, lambda e: e.type == "agent:end")
    assert end.data["model"] == "other"
    assert not stage.models[0].requests


async def test_an_artifact_is_put_by_a_person(stage: Stage) -> None:
    stage.names = ("a",)
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        await act(runtime, lease, do="put", name="plan", content="Do it.", kind="plan")
        await runtime.hand_back(lease, {})
        await handle.result()
        (artifact,) = runtime.view("r").artifacts.all()
        assert (artifact.name, artifact.evidence[0].kind) == ("plan", "person")
        assert runtime.journal.blob(artifact.blob) == b"Do it."


# -------------------------------------------------------------------- leases


async def test_a_second_driver_gets_a_conflict_that_names_the_first(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        for target, alone in ((agent("a"), True), ("team", False), ("", False)):
            with pytest.raises(LeaseHeld, match="driven by ada"):
                await runtime.take("r", target, "bob", alone=alone)
        other = await runtime.take("r", agent("b"), "bob")
        with pytest.raises(LeaseLost):
            await runtime.act(replace(lease, token="guessed"), {"do": "say", "text": "x"})
        await runtime.hand_back(lease, {})
        with pytest.raises(LeaseLost):
            await runtime.act(lease, {"do": "say", "text": "x"})
        await runtime.hand_back(other, {})
        await handle.result()
        commands = [c.verb for c in runtime.view("r").commands]
        assert commands == ["take", "take", "hand_back", "hand_back"]


@pytest.mark.parametrize("then", ["hold", "continue"])
async def test_a_lease_without_a_heartbeat_ends(fast_path: Path, then: str) -> None:
    stage = Stage(fast_path, names=("a",))
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada", seconds=0.3, then=then)
        await resting(runtime, "a")
        for _ in range(4):
            await asyncio.sleep(0.15)
            await runtime.renew(lease)
        await act(runtime, lease, do="call", tool="note", arguments={"text": "mine"})
        await seen(runtime, lambda e: e.type == "command" and e.data["verb"] == "expire")
        with pytest.raises(LeaseLost, match="takeover r"):
            await runtime.renew(lease)
        if then == "hold":
            await asyncio.sleep(0.2)
            assert not handle.done
            again = await runtime.take("r", agent("a"), "bob")
            await runtime.hand_back(again, {"note": "Bob here."})
        await handle.result()
    assert stage.effects.count(f"{agent('a')}:mine") == 1


async def test_a_lease_has_an_end_however_often_it_is_renewed(fast_path: Path) -> None:
    clock = ManualClock()
    async with Runtime.open(fast_path, clock=clock) as runtime:
        stage = Stage(fast_path, names=("a",))
        handle = await runtime.start(stage.workflow, run_id="r")
        lease = await runtime.take("r", agent("a"), "ada", seconds=60, most=100)
        await clock.advance(59)
        await runtime.renew(lease)
        await clock.advance(40)
        await runtime.renew(lease)
        await clock.advance(2)
        with pytest.raises(LeaseLost):
            await runtime.renew(lease)
        await runtime.command("r", "stop")
        await handle.result()


# -------------------------------------------------------------------- interrupts


async def test_an_interrupted_tool_is_not_repeated_and_its_effect_is_unknown(stage: Stage) -> None:
    stage.names, stage.held["team/a"] = ("a",), asyncio.Event()
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key.endswith("/turn/0/tool/0"))
        await stage.begun.wait()
        await runtime.command("r", "interrupt", target=agent("a"), message="wrong way")
        stage.held.pop("team/a")
        await handle.result()
    assert stage.effects == [f"{agent('a')}:1"]
    (result,) = [t for t in told(stage, "a") if "wrong way" in t]
    assert "whether it took effect is not known" in result


async def test_calls_that_had_not_begun_are_not(stage: Stage) -> None:
    def many(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return calls(*(("note", {"text": str(i)}) for i in range(8)))
        return answer({"what": "done"})

    stage.part, stage.names, stage.held["team/a"] = many, ("a",), asyncio.Event()
    for resume in (False, True):
        async with stage.running(resume=resume) as (runtime, handle):
            if not resume:
                await seen(runtime, lambda e: e.key.endswith("/turn/0/tool/3"))
                await runtime.command("r", "interrupt")
            await handle.result()
            if not resume:
                new = await runtime.fork("r", f"{agent('a')}/turn/1/stopping", new_run_id="f")
                await (await runtime.resume(new)).result()
    assert stage.effects == []
    texts = told(stage, "a")[-8:]
    assert sum("is not known" in t for t in texts) == 4
    assert sum("not started" in t for t in texts) == 4


async def test_an_interrupt_in_mid_reply_is_a_new_turn_and_not_the_end(stage: Stage) -> None:
    stage.names, stage.delay = ("a",), 5.0
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key.endswith("/turn/0/request/1"))
        await stage.asked.wait()
        stage.models[0]._delay = 0.0
        await runtime.command("r", "interrupt", target=agent("a"), message="think again")
        (report,) = map(json.loads, await handle.result())
    assert report["status"] == "complete"
    assert any("think again" in t for t in told(stage, "a"))


# -------------------------------------------------------------------- crashes


async def test_edits_and_what_was_done_survive_the_process(stage: Stage) -> None:
    async with stage.running() as (runtime, _):
        lease = await runtime.take("r", agent("a"), "ada", seconds=600)
        await resting(runtime, "a")
        await seen(runtime, lambda e: e.key == f"{agent('b')}/end")
        await act(runtime, lease, do="call", tool="note", arguments={"text": "mine"})
        await act(runtime, lease, do="edit", at=1, text="Work as edited.")
    before = list(stage.effects)
    async with stage.running(resume=True) as (runtime, handle):
        await act(runtime, lease, do="call", tool="note", arguments={"text": "again"})
        await runtime.hand_back(lease, {"note": "Go on."})
        assert len(await handle.result()) == 2
    assert before == [e for e in before if e in stage.effects]
    assert max(Counter(stage.effects).values()) == 1
    assert len(stage.effects) == 6
    assert told(stage, "a")[1] == "Work as edited."


# -------------------------------------------------------------------- budgets, people, approvals


async def test_a_limit_is_raised_while_the_run_goes_on(fast_path: Path) -> None:
    stage = Stage(fast_path, names=("a",))
    async with Runtime.open(fast_path, workflows=[stage.workflow]) as runtime:
        handle = await runtime.start(stage.workflow, run_id="r", budget=Budget(requests=2))
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        with pytest.raises(ConfigError, match="no budget of its own"):
            await runtime.rebudget("r", agent("a"), Budget(requests=9))
        await runtime.rebudget("r", "", Budget(requests=9))
        await runtime.hand_back(lease, {})
        await handle.result()
        assert runtime.view("r").budget.requests == 9
        assert runtime.view("r").spent()["requests"] == 4


async def test_a_role_is_filled_by_a_person(fast_path: Path) -> None:
    stage = Stage(fast_path, names=("a",), model_name="human")
    async with stage.running() as (runtime, handle):
        await resting(runtime, "a")
        await asyncio.sleep(0.1)
        assert not handle.done
        assert stands(runtime) == "waiting"
        lease = await runtime.take("r", agent("a"), "ada")
        await seen(runtime, lambda e: e.type == "agent:driven")
        assert stands(runtime) == "human"
        await act(runtime, lease, do="call", tool="note", arguments={"text": "mine"})
        await act(runtime, lease, do="report", value={"what": "all by hand"})
        await runtime.hand_back(lease, {"how": "finish"})
        (report,) = map(json.loads, await handle.result())
    assert report["by"] == "ada"
    assert stage.effects == [f"{agent('a')}:mine"]
    assert not stage.models[0].requests


@pytest.mark.parametrize(
    ("decision", "effects", "says"),
    [
        ({"decision": "approve"}, "0", "noted 0"),
        ({"decision": "deny", "note": "too risky"}, None, "a person said no: too risky"),
        (
            {"decision": "approve", "arguments": {"text": "safe"}},
            "safe",
            'A person changed its arguments to {"text":"safe"}.',
        ),
        ({"decision": "approve", "arguments": {"wrong": 1}}, None, "do not fit"),
    ],
)
async def test_a_call_waits_for_a_person_across_restarts(
    fast_path: Path, decision: dict[str, Any], effects: str | None, says: str
) -> None:
    def one(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("note", text="0")
        return answer({"what": "done"})

    stage = Stage(fast_path, one, names=("a",))
    stage.role = replace(stage.role, approval=Approval(tools=("n*",)))
    async with stage.running() as (runtime, _):
        asked = await seen(runtime, lambda e: e.type == "agent:approval")
        assert runtime.value(asked) == {"tool": "note", "arguments": {"text": "0"}}
    async with stage.running(resume=True) as (runtime, handle):
        await asyncio.sleep(0.1)
        assert stage.effects == []
        await runtime.answer("r", asked.data["wait"], decision)
        await handle.result()
    assert stage.effects == ([] if effects is None else [f"{agent('a')}:{effects}"])
    assert any(says in t for t in told(stage, "a"))


async def test_spending_waits_for_a_person(fast_path: Path) -> None:
    stage = Stage(fast_path, names=("a",))
    stage.role = replace(stage.role, approval=Approval(tokens=1))
    async with stage.running() as (runtime, handle):
        asked = await seen(runtime, lambda e: e.type == "agent:approval")
        assert "it asks every 1" in runtime.value(asked)["spend"]
        await runtime.answer("r", asked.data["wait"], {"decision": "deny"})
        (report,) = map(json.loads, await handle.result())
    assert report["status"] != "complete"
    assert report["ending"] == "stopped"


async def test_all_below_a_scope_are_taken_together(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", "team", "ada", alone=False)
        with pytest.raises(LeaseHeld):
            await runtime.take("r", agent("a"), "bob")
        for name in "ab":
            await resting(runtime, name)
            what = {"do": "call", "tool": "note", "arguments": {"text": "x"}}
            id = await runtime.act(lease, what, to=agent(name))
            assert (await done(runtime, id))[0]
        await runtime.hand_back(lease, {})
        await handle.result()
    counted = Counter(stage.effects)
    assert counted[f"{agent('a')}:x"] == counted[f"{agent('b')}:x"] == 1


async def test_one_agent_is_stopped_and_the_others_go_on(stage: Stage) -> None:
    def obedient(request: ModelRequest, conversation: Conversation) -> Scripted:
        if "Report now" in conversation.last:
            return answer({"what": "so far"})
        return honest(request, conversation)

    stage.part = obedient
    stage.held["team/a"] = asyncio.Event()
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key == f"{agent('a')}/turn/0/tool/0")
        await runtime.command("r", "stop", target=agent("a"))
        stage.held["team/a"].set()
        first, second = map(json.loads, await handle.result())
        assert runtime.status("r") is Status.COMPLETED
    assert (first["status"], first["ending"]) == ("partial", "stopped")
    assert (second["status"], second["ending"]) == ("complete", "answered")
    assert stage.effects.count(f"{agent('a')}:1") == 0


@pytest.mark.parametrize("at", ["in a tool", "in a request", "at rest"])
async def test_one_agent_is_killed_and_the_others_go_on(stage: Stage, at: str) -> None:
    """It says nothing more, begins nothing more, and the run completes; so it does on replay."""
    mine = agent("a")
    if at == "in a request":
        stage.delay = 0.5
    else:
        stage.held["team/a"] = asyncio.Event()
    async with stage.running() as (runtime, handle):
        if at == "in a request":
            await seen(runtime, lambda e: e.key == f"{mine}/turn/0/request/1")
        else:
            await seen(runtime, lambda e: e.key == f"{mine}/turn/0/tool/0")
        if at == "at rest":
            await runtime.command("r", "pause", target=mine, message={"now": False})
            stage.held["team/a"].set()
            await resting(runtime, "a")
        await runtime.command("r", "kill", target=mine)
        first, second = map(json.loads, await handle.result())
        assert runtime.status("r") is Status.COMPLETED
        killed = next(c for c in runtime.view("r").commands if c.verb == "kill")
        late = [
            e.key
            for e in runtime.journal.events("r", killed.seq)
            if e.type == Type.STEP_STARTED and e.key.startswith(f"{mine}/")
        ]
    assert (first["status"], first["ending"]) == ("failed", "killed")
    assert (second["status"], second["ending"]) == ("complete", "answered")
    assert not [key for key in late if "/request/" in key or "/tool/" in key]
    assert stage.effects.count(f"{mine}:1") == 0
    async with stage.running(resume=True) as (runtime, handle):
        assert json.loads((await handle.result())[0]) == first


async def test_no_call_begins_in_an_agent_that_was_killed_before_it(stage: Stage) -> None:
    """Between two calls there is nothing to cancel."""
    stage.held["team/a"] = asyncio.Event()

    def two(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return calls(("note", {"text": "0"}), ("note", {"text": "1"}))
        return honest(request, conversation)

    stage.part = two
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key == f"{agent('a')}/turn/0/tool/0")
        await runtime.command("r", "kill", target=agent("a"))
        (first, _) = map(json.loads, await handle.result())
    assert first["ending"] == "killed"
    assert not [e for e in stage.effects if e.startswith(agent("a"))]


async def test_a_stop_frees_whoever_rests(stage: Stage) -> None:
    async with stage.running() as (runtime, handle):
        await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        await runtime.command("r", "stop")
        await handle.result()
        assert runtime.status("r") in (Status.STOPPED, Status.COMPLETED)
