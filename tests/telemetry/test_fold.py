"""Events to spans: what is told of a run that went well or wrong, was killed, asked, was forked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.schemas import Schemas

from manyhands.runtime import Budget, Effect, Retry, Run, Runtime, Settled, Workflow
from manyhands.telemetry import names
from manyhands.testing.models import call
from tests.answering.stage import Stage as Answering
from tests.coding.stage import Stage as Coding
from tests.takeover.stage import Stage as Takeover
from tests.takeover.stage import act, agent, resting, seen
from tests.telemetry.stage import (
    Body,
    drive,
    events_of,
    fold,
    one,
    spans_in,
    spent,
    tokens,
    tree,
)


def test_every_name_is_one_of_the_pinned_conventions() -> None:
    known = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_")}
    ours = {v for v in vars(names).values() if isinstance(v, str) and v.startswith("gen_ai.")}
    assert ours - known == {"gen_ai.evaluation.result"}  # an event, and no attribute
    assert Schemas.V1_41_1.value == names.SCHEMA_URL
    operations = gen_ai_attributes.GenAiOperationNameValues
    assert {names.CHAT, names.INVOKE_AGENT, names.EXECUTE_TOOL, names.INVOKE_WORKFLOW} <= {
        each.value for each in operations
    }


async def test_a_team_that_answers_is_a_tree_of_agents_calls_and_tools(tmp_path: Path) -> None:
    stage = Answering(tmp_path)
    await stage.ask(run_id="run")
    spans = spans_in(tmp_path / "journal.db")
    (root,) = tree(spans)
    assert root[0] == "invoke_workflow answer"
    told = ["chat scripted", "execute_tool search", "chat scripted", "check cited"]
    assert [inner for inner in root[1] if inner[0] == "invoke_agent worker"] == [
        ("invoke_agent worker", told)
    ] * 3
    assert tokens(spans) == spent(spans) == stage.spent["tokens"]
    chat = next(span for span in spans if span.name == "chat scripted")
    assert chat.client
    assert chat.facts["gen_ai.operation.name"] == "chat"
    assert chat.facts["gen_ai.request.model"] == "scripted"
    assert chat.facts["gen_ai.response.finish_reasons"] == ["stop"]
    events = events_of(tmp_path / "journal.db")
    assert events[chat.facts["manyhands.seq"] - 1].key == chat.facts["manyhands.step"]
    assert events[chat.facts["manyhands.context.seq"] - 1].type == "agent:context"
    root_span = one(spans, "invoke_workflow answer")
    assert (root_span.start, root_span.end) == (events[0].ts, events[-1].ts)
    assert not any(span.error for span in spans)


async def test_a_delegation_is_a_call_of_a_tool_with_agents_inside(tmp_path: Path) -> None:
    stage = Coding(tmp_path)
    await stage.solve(run_id="run")
    spans = spans_in(tmp_path / "journal.db")
    by_id = {span.id: span for span in spans}
    coder = next(span for span in spans if span.name == "invoke_agent coder")
    above: list[str] = []
    at = coder
    while at.parent:
        at = by_id[at.parent]
        above.append(at.name)
    assert above[1:] == [
        "execute_tool delegate_many",
        "invoke_agent orchestrator",
        "invoke_workflow code",
    ]
    delegation = one(spans, "execute_tool delegate_many")
    assert delegation.start <= coder.start <= coder.end <= delegation.end
    assert {s.name for s in spans if s.parent == coder.id} >= {
        "execute_tool read",
        "execute_tool edit",
        "execute_tool bash",
    }
    bash = next(span for span in spans if span.name == "execute_tool bash")
    assert bash.facts["manyhands.exit_code"] == 0
    assert tokens(spans) == stage.spent["tokens"]


async def test_no_word_of_a_prompt_or_a_reply_is_told_unless_asked_for(tmp_path: Path) -> None:
    await Coding(tmp_path).solve(run_id="run")
    path = tmp_path / "journal.db"
    without = repr(spans_in(path))
    for word in ("Mend", "min(words", "all well", "python3 test_all.py sums"):
        assert word not in without
        assert word in repr(spans_in(path, limit=10_000))
    ids = [(s.id, s.parent, s.name, s.start, s.end, s.error) for s in spans_in(path)]
    assert ids == [
        (s.id, s.parent, s.name, s.start, s.end, s.error) for s in spans_in(path, limit=10_000)
    ]


async def test_content_grows_as_the_run_does_and_is_cut(tmp_path: Path) -> None:
    """What was said to an agent before is not told again with each of its calls."""
    await Coding(tmp_path).solve(run_id="run")
    path = tmp_path / "journal.db"
    spans = spans_in(path, limit=10_000)
    prompt = "You orchestrate" if "You orchestrate" in repr(spans) else "Role: orchestrator"
    assert repr(spans).count(prompt) == 1
    chats = [span for span in spans if span.name == "chat scripted"]
    for chat in chats:
        (message,) = json.loads(chat.facts["gen_ai.output.messages"])
        assert message["role"] == "assistant"
    small = spans_in(path, limit=20)
    texts = [v for span in small for k, v in span.facts.items() if k == "gen_ai.tool.call.result"]
    assert texts
    assert all(len(text) < 150 for text in texts)
    assert any("cut here" in text and "in all" in text for text in texts)


# -------------------------------------------------------------------- what goes wrong


class Flaky(Exception):
    retryable = True


async def test_each_attempt_is_a_span_of_its_own(tmp_path: Path) -> None:
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Flaky("not yet")
        return 7

    async def body(run: Run, input: Any) -> Any:
        await run.step("flaky", flaky, retry=Retry(5, first=0))
        await run.step("broken", lambda: 1 // 0)

    await drive(tmp_path / "j.db", body)
    spans = spans_in(tmp_path / "j.db")
    found = [(s.facts["manyhands.attempt"], s.error) for s in spans if s.name == "flaky"]
    assert found == [(1, "Flaky"), (2, "Flaky"), (3, "")]
    broken = one(spans, "broken")
    assert broken.error == "ZeroDivisionError"
    assert "division" in broken.message
    root = one(spans, "invoke_workflow told")
    assert (root.error, root.facts["manyhands.status"]) == ("StepFailed", "failed")


async def test_what_the_budget_refused_never_began(tmp_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        async with run.scope("small", Budget(tokens=10)) as scope:
            await scope.step("first", lambda: 1, cost={"tokens": 8}, usage=lambda v: {"tokens": 5})
            await scope.step("large", lambda: 1, cost={"tokens": 80})

    await drive(tmp_path / "j.db", body)
    spans = spans_in(tmp_path / "j.db")
    large = one(spans, "large")
    assert (large.error, large.end - large.start, spent([large])) == ("BudgetExceeded", 0.0, 0)
    assert spent(spans) == 5
    assert one(spans, "small").facts["manyhands.scope"] == "small"


async def test_a_killed_run_that_goes_on_is_one_trace(tmp_path: Path) -> None:
    """The process is killed for real, in the middle of a step that costs."""
    path = tmp_path / "j.db"
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from tests.telemetry.test_fold import killed\n"
        "from tests.telemetry.stage import drive\n"
        "from pathlib import Path\n"
        "asyncio.run(drive(Path(sys.argv[1]), killed(wait=True)))\n"
    )
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    child = await asyncio.create_subprocess_exec(sys.executable, program, path, env=env)
    try:
        for _ in range(600):
            await asyncio.sleep(0.05)
            if path.exists() and any(e.key == "work" for e in events_of_quietly(path)):
                break
    finally:
        child.kill()
        await child.wait()
    before = spans_in(path)
    assert one(before, "invoke_workflow told").facts["manyhands.status"] == "interrupted"
    assert one(before, "work").error == "interrupted"
    await drive(path, killed(wait=False))
    spans = spans_in(path)
    work = sorted((s for s in spans if s.name == "work"), key=lambda s: s.start)
    assert [(s.facts["manyhands.attempt"], s.error) for s in work] == [(1, "interrupted"), (2, "")]
    assert [spent([s]) for s in work] == [50, 20]  # all that was reserved is lost
    assert work[0].id in {s.id for s in before}
    assert {s.trace for s in before} == {s.trace for s in spans}
    whole = one(spans, "invoke_workflow told")
    assert whole.id == one(before, "invoke_workflow told").id
    opened = [m.facts["manyhands.epoch"] for m in whole.marks if m.name == "run.opened"]
    assert opened == [1, 2]
    assert whole.facts["manyhands.epochs"] == 2
    events = events_of(path)
    assert (whole.start, whole.end) == (events[0].ts, events[-1].ts)
    async with Runtime.open(path, workflows=[Workflow("told", killed(wait=False))]) as runtime:
        assert spent(spans) == runtime.view("run").spent()["tokens"]


def events_of_quietly(path: Path) -> list[Any]:
    try:
        return list(events_of(path))
    except Exception:
        return []


def killed(*, wait: bool) -> Body:
    async def work() -> int:
        if wait:
            await asyncio.Event().wait()
        return 1

    async def body(run: Run, input: Any) -> Any:
        await run.step("before", lambda: 1)
        return await run.step("work", work, cost={"tokens": 50}, usage=lambda value: {"tokens": 20})

    return body


@pytest.mark.parametrize("verdict", ["result", "retry", "probe", "none"])
async def test_a_step_in_doubt_says_so_and_what_became_of_it(tmp_path: Path, verdict: str) -> None:
    path = tmp_path / "j.db"
    started: list[int] = []

    async def pay() -> str:
        started.append(1)
        if len(started) == 1:
            await asyncio.Event().wait()
        return "paid"

    async def probe() -> Settled | None:
        return Settled(True, "paid") if verdict == "probe" else None

    async def body(run: Run, input: Any) -> Any:
        return await run.step("pay", pay, effect=Effect.ONCE, probe=probe)

    await drive(path, body, until=lambda: bool(started))
    assert one(spans_in(path), "pay").error == "in_doubt"
    await drive(path, body)
    first = next(s for s in spans_in(path) if s.name == "pay")
    if verdict == "probe":
        assert first.error == ""
        assert first.facts["manyhands.settled"] == "result"
        assert first.facts["manyhands.settled.by"] == "probe"
        return
    assert first.error == "in_doubt"
    assert one(spans_in(path), "invoke_workflow told").error == "in_doubt"
    if verdict == "none":
        return
    async with Runtime.open(path, workflows=[Workflow("told", body)]) as runtime:
        await runtime.resolve("run", "pay", verdict, "paid" if verdict == "result" else None)
    await drive(path, body)
    spans = spans_in(path)
    assert one(spans, "settle pay").facts["manyhands.settled"] == verdict
    pays = [(s.facts["manyhands.attempt"], s.error) for s in spans if s.name == "pay"]
    assert pays == [(1, "in_doubt"), (2, "")][: 2 if verdict == "retry" else 1]
    assert one(spans, "invoke_workflow told").error == ""


async def test_a_run_that_failed_and_goes_on_comes_again_longer(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    fails = [True]

    def work() -> int:
        if fails:
            raise ValueError("no")
        return 1

    async def body(run: Run, input: Any) -> Any:
        async with run.scope("inner") as inner:
            await inner.step("work", work)

    await drive(path, body)
    fails.clear()
    workflow = Workflow("told", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        await (await runtime.resume("run", retry_failed=True)).result()
    spans = spans_in(path)
    root = one(spans, "invoke_workflow told")
    assert (root.error, root.facts["manyhands.status"]) == ("", "completed")
    assert [s.error for s in spans if s.name == "work"] == ["ValueError", ""]
    live = [s for s in fold(path, events_of(path)) if s.id == root.id]
    assert [s.facts["manyhands.status"] for s in live] == ["failed", "completed"]
    assert [s.start for s in live] == [root.start] * 2
    assert live[0].end < live[1].end


# -------------------------------------------------------------------- people, time, forks


async def test_waits_for_people_and_sleeps_are_spans(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def body(run: Run, input: Any) -> Any:
        await run.sleep("nap", 0.02)
        return await run.wait("approval", str)

    workflow = Workflow("told", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, None, run_id="run")
        async for event in runtime.events("run", follow=True):
            if event.type == "wait.set":
                break
        assert one(spans_in(path), "wait approval").error == ""
        await runtime.command("run", "steer", message="be quick")
        await runtime.answer("run", "approval", "yes")
        assert await handle.result() == "yes"
    spans = spans_in(path)
    nap, wait = one(spans, "sleep nap"), one(spans, "wait approval")
    assert 0.019 < nap.end - nap.start < 0.021
    assert wait.end > wait.start
    root = one(spans, "invoke_workflow told")
    verbs = [m.facts["manyhands.verb"] for m in root.marks if m.name == "command"]
    assert verbs == ["steer", "answer"]
    assert "be quick" not in repr(spans)


async def test_a_stop_ends_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def body(run: Run, input: Any) -> Any:
        await run.wait("approval", str)

    workflow = Workflow("told", body)
    async with Runtime.open(path, workflows=[workflow]) as runtime:
        handle = await runtime.start(workflow, None, run_id="run")
        async for event in runtime.events("run", follow=True):
            if event.type == "wait.set":
                break
        await runtime.command("run", "stop")
        with pytest.raises(Exception, match="asked to stop"):
            await handle.result()
    spans = spans_in(path)
    assert one(spans, "wait approval").error == "stopped"
    assert one(spans, "invoke_workflow told").facts["manyhands.status"] == "stopped"


async def test_a_fork_links_to_the_run_that_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def body(run: Run, input: Any) -> Any:
        return [await run.step(f"s{i}", lambda i=i: i) for i in range(3)]

    await drive(path, body)
    async with Runtime.open(path, workflows=[Workflow("told", body)]) as runtime:
        await runtime.fork("run", "s1", new_run_id="other")
    await drive(path, body, run_id="other")
    first, second = spans_in(path), spans_in(path, "other")
    assert {s.trace for s in first}.isdisjoint({s.trace for s in second})
    (link,) = one(second, "invoke_workflow told").links
    root = one(first, "invoke_workflow told")
    assert (link.trace, link.span) == (root.trace, root.id)
    assert one(second, "invoke_workflow told").facts["manyhands.forked_from"] == "run@5"
    assert one(second, "invoke_workflow told").facts["manyhands.status"] == "completed"
    assert root.links == ()


async def test_two_runs_of_one_name_are_two_traces(tmp_path: Path) -> None:
    async def body(run: Run, input: Any) -> Any:
        return await run.step("s", lambda: 1)

    await drive(tmp_path / "a.db", body)
    await drive(tmp_path / "b.db", body)
    one_trace, other = spans_in(tmp_path / "a.db"), spans_in(tmp_path / "b.db")
    assert one_trace[0].trace != other[0].trace
    assert spans_in(tmp_path / "a.db") == one_trace


# -------------------------------------------------------------------- agents


async def test_flags_of_checks_are_on_the_reply_that_they_judge(tmp_path: Path) -> None:
    stage = Coding(tmp_path)

    def liar(request: Any, conversation: Any) -> Any:
        """Says that it changed a file, and changed nothing."""
        if conversation.spoken == 0:
            return call("read", path="sums.py")
        return call(
            "answer", summary="I edited sums.py; all tests pass.", changed=["sums.py"], passed=[]
        )

    stage.cast.coder = liar
    await stage.solve(run_id="run")
    path = tmp_path / "journal.db"
    flagged = [e for e in events_of(path) if e.type == "agent:flag"]
    assert flagged
    spans = spans_in(path)
    marks = {
        (m.facts["manyhands.seq"], m.facts["gen_ai.evaluation.name"]): span
        for span in spans
        for m in span.marks
        if m.name == "gen_ai.evaluation.result" and "manyhands.severity" in m.facts
    }
    said = {(e.seq, flag["check"]): e.key for e in flagged for flag in e.data["flags"]}
    assert marks.keys() == said.keys()
    for place, span in marks.items():
        assert span.name == "chat scripted"
        turn = said[place].rpartition("/")[0]
        assert span.facts["manyhands.step"].startswith(turn)
    assert "gen_ai.evaluation.explanation" not in repr(spans)
    assert "gen_ai.evaluation.explanation" in repr(spans_in(path, limit=1000))


async def test_a_person_at_an_agent_s_wheel_is_a_span_and_what_they_did_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.db"
    stage = Takeover(path, names=("a",))
    async with stage.running() as (runtime, handle):
        lease = await runtime.take("r", agent("a"), "ada")
        await resting(runtime, "a")
        assert (await act(runtime, lease, do="call", tool="note", arguments={"text": "mine"}))[0]
        await runtime.hand_back(lease, {"how": "continue", "note": "The rest is yours."})
        await handle.result()
    spans = spans_in(path, "r")
    (rest,) = [span for span in spans if span.name.startswith("rest ")]
    assert rest.facts["manyhands.driver"] == "ada"
    assert rest.parent == one(spans, "invoke_agent worker").id
    (mine,) = [span for span in spans if span.facts.get("manyhands.actor") == "ada"]
    assert rest.start <= mine.start <= mine.end <= rest.end
    assert "The rest is yours" not in repr(spans)


async def test_a_call_that_a_person_has_run_again_is_a_call_of_that_tool(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    stage = Takeover(path, names=("a",))
    stage.held["team/a"] = asyncio.Event()
    async with stage.running() as (runtime, handle):
        await seen(runtime, lambda e: e.key.endswith("/turn/0/tool/0"))
        lease = await runtime.take("r", agent("a"), "ada")
        stage.held["team/a"].set()
        await seen(runtime, lambda e: e.type == "agent:driven")
        await runtime.hand_back(lease, {"how": "retry"})
        await handle.result()
    spans = spans_in(path, "r")
    again = [s for s in spans if "/retry/tool/" in s.facts.get("manyhands.step", "")]
    assert [span.name for span in again] == ["execute_tool note"]
