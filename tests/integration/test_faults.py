"""The failure table over real HTTP: every row ends as it says, and nothing else comes to harm.

One agent in a real run does the task of the table against a server that misbehaves. Judged from
outside: what the report says, what the tool was asked, what the server was sent, what was charged.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from manyhands.agents.report import ReportStatus
from manyhands.agents.role import Role
from manyhands.testing import ManualClock
from manyhands.testing.faults import ALWAYS, FAULTS, By, Fault, FaultServer, Group, violations
from manyhands.testing.faults_task import ARGUMENTS, FLOOR, KEY, Talk, call, encode, fit
from tests.bench.peers.faults_ask import Ask
from tests.bench.peers.faults_ours import BUDGET, ROLE, Trial, attempt

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "failures.md"
#: Rows in which the server itself asks for another key than the right one.
_OTHER_KEYS = {"call-ids-equal", "arguments-twice"}

WHOLE = [fault for fault in FAULTS if fault.whole]
STREAMED = [fault for fault in FAULTS if fault.streamed]


@pytest.fixture
def journal() -> Iterator[Path]:
    """In memory where the system has that: the disk is not what is tested."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "journal.db"


async def attempt_on(
    server: FaultServer,
    journal: Path,
    *,
    seconds: float = 20.0,
    streamed: bool = False,
    role: Role = ROLE,
) -> Trial:
    ask = Ask(server.url, server.lookup, seconds, streamed, typed=True)
    return await attempt(ask, journal, clock=ManualClock(jump=True), role=role)


async def run_row(fault: Fault, journal: Path, *, streamed: bool) -> None:
    async with FaultServer(fault, seed=f"{fault.name}/{streamed}") as server:
        trial = await attempt_on(server, journal, seconds=fault.seconds, streamed=streamed)
    check_outcome(fault, server, trial)
    check_no_guess(fault, server)
    assert not server.violations  # nothing poisoned
    check_by(fault, server)
    check_charges(server, trial)


@pytest.mark.parametrize("fault", WHOLE, ids=lambda fault: fault.name)
async def test_whole(fault: Fault, journal: Path) -> None:
    await run_row(fault, journal, streamed=False)


@pytest.mark.parametrize("fault", STREAMED, ids=lambda fault: fault.name)
async def test_streamed(fault: Fault, journal: Path) -> None:
    await run_row(fault, journal, streamed=True)


# -------------------------------------------------------------------- what is checked


def check_outcome(fault: Fault, server: FaultServer, trial: Trial) -> None:
    report = trial.report
    assert server.faulted, "the fault never came"
    if fault.times < ALWAYS:
        assert len(server.faulted) == fault.times
    if report.status is ReportStatus.COMPLETE:
        assert report.value is not None
        assert report.value.number == server.lookup.secret, "a wrong answer as success"
        assert (KEY, FLOOR) in server.lookup.called
    if fault.ends is None:
        assert report.status is ReportStatus.COMPLETE, f"{report.ending}: {report.detail}"
    else:
        assert (report.status, report.ending) == (fault.status, fault.ends)
    if report.status is ReportStatus.PARTIAL:
        assert report.value is not None
        found = (KEY, FLOOR) in server.lookup.called
        assert (report.value.number == server.lookup.secret) is found


def check_no_guess(fault: Fault, server: FaultServer) -> None:
    """The tool was never run with a payload that was cut, rounded or made up."""
    if fault.group is Group.ENDLESS or fault.name in _OTHER_KEYS:
        return
    known = {(KEY, FLOOR), (f"{KEY}\ufffd", FLOOR)}
    assert set(server.lookup.called) <= known


def check_by(fault: Fault, server: FaultServer) -> None:
    if fault.by is None:
        return
    if fault.by is By.TAKEN:
        assert len(server.requests) == 2
        return
    assert len(server.requests) == 2 + len(server.faulted)
    for at in server.faulted:
        before, after = (server.requests[i]["messages"] for i in (at, at + 1))
        if fault.by is By.RETRIED:
            assert after == before
        else:
            assert len(after) > len(before)


def check_charges(server: FaultServer, trial: Trial) -> None:
    """Every request is charged, within its reservation, and nothing stays reserved."""
    spend = trial.report.usage
    assert spend.requests == len(server.requests)
    spent = {"tokens": spend.tokens, "requests": spend.requests, "micro_usd": spend.micro_usd}
    assert trial.left == {unit: n - spent[unit] for unit, n in BUDGET.limits().items()}
    open_steps: dict[str, dict[str, int]] = {}
    used: Counter[str] = Counter()
    for event in trial.events:
        if event.type == "step.started" and "cost" in event.data:
            open_steps[event.key] = event.data["cost"]
        elif event.type in ("step.done", "step.failed") and event.key in open_steps:
            cost = open_steps.pop(event.key)
            assert all(event.data["used"][unit] <= cost[unit] for unit in cost)
            used.update(event.data["used"])
    assert not open_steps
    assert {unit: used[unit] for unit in spent} == spent


USAGE = [fault for fault in FAULTS if fault.group is Group.USAGE]


@pytest.mark.parametrize("fault", USAGE, ids=lambda fault: fault.name)
async def test_a_lying_server_is_charged_for_what_went_over_the_wire(
    fault: Fault, journal: Path
) -> None:
    async with FaultServer(fault) as server:
        trial = await attempt_on(server, journal)
    messages = sum(len(encode(m).encode()) for r in server.requests for m in r["messages"])
    most = sum(len(json.dumps(request)) + 1024 for request in server.requests)
    assert messages // 16 <= trial.report.usage.input_tokens <= most
    assert 0 <= trial.report.usage.output_tokens <= 256 * len(server.requests)


ALWAYS_WRONG = [fault for fault in FAULTS if fault.times == ALWAYS and not fault.recovers]


@pytest.mark.parametrize("nudges", [0, 1, 2])
@pytest.mark.parametrize("fault", ALWAYS_WRONG, ids=lambda fault: fault.name)
async def test_nothing_is_poisoned_wherever_the_pushes_end(
    fault: Fault, nudges: int, journal: Path
) -> None:
    """The last request of a report may come right after any kind of fault."""
    completion = ROLE.completion.model_copy(update={"nudges": nudges})
    async with FaultServer(fault) as server:
        role = replace(ROLE, completion=completion)
        trial = await attempt_on(server, journal, seconds=fault.seconds, role=role)
    assert not server.violations
    assert trial.report.status is not ReportStatus.COMPLETE
    check_charges(server, trial)


# -------------------------------------------------------------------- the table and its server


def test_the_table_is_as_large_as_promised() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert sum(fault.whole for fault in FAULTS) >= 35
    assert sum(fault.group is Group.STREAM for fault in FAULTS) >= 7
    assert {fault.group for fault in FAULTS} == set(Group)


def test_the_documentation_has_every_row_with_its_outcome() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    told = {name: (about, outcome) for name, about, outcome in rows}
    assert told == {fault.name: (fault.about, fault.outcome) for fault in FAULTS}


async def test_without_a_fault_the_server_behaves(journal: Path) -> None:
    good = Fault(Group.SHAPE, "none", "", FAULTS[0].act, times=0)
    for streamed in (False, True):
        path = journal.with_name(f"{streamed}.db")
        async with FaultServer(good) as server:
            trial = await attempt_on(server, path, streamed=streamed)
        assert trial.report.value is not None
        assert trial.report.value.number == server.lookup.secret
        assert len(server.requests) == 2
        assert (server.faulted, server.violations) == ([], [])


def test_another_seed_has_another_number() -> None:
    numbers = {FaultServer(seed=str(seed)).lookup.secret for seed in range(100)}
    assert len(numbers) > 95


def _talk(*messages: dict[str, Any], **more: Any) -> Talk:
    return Talk({"messages": [{"role": "user", "content": "U"}, *messages], **more})


def test_the_model_trusts_a_tool_that_was_asked_for_the_wrong_key() -> None:
    told = {"role": "tool", "content": "Grün-7 on floor 2 has the number 123456"}
    assert _talk(told).found == 123456
    right = {"role": "tool", "content": f"{KEY} on floor {FLOOR} has the number 654321"}
    assert _talk(right, told).found == 654321


def test_a_value_is_made_for_the_schema_of_any_harness() -> None:
    calls = {
        "anyOf": [
            {"$ref": "#/$defs/Answer"},
            {
                "type": "object",
                "properties": {
                    "tool": {"const": "look"},
                    "arguments": {
                        "type": "object",
                        "properties": {"key": {"type": "string"}, "floor": {"type": "integer"}},
                    },
                },
            },
        ],
        "$defs": {
            "Answer": {
                "type": "object",
                "properties": {
                    "tool": {"enum": ["answer"]},
                    "arguments": {"type": "object", "properties": {"number": {"type": "integer"}}},
                },
            }
        },
    }
    assert fit(calls, "look", ARGUMENTS) == {"tool": "look", "arguments": dict(ARGUMENTS)}
    answered = {"tool": "answer", "arguments": {"number": 7}}
    assert fit(calls, "answer", {"number": 7}, 7) == answered


# -------------------------------------------------------------------- the strict server


def _request(*messages: dict[str, Any], **more: Any) -> bytes:
    return encode({"messages": [{"role": "user", "content": "U"}, *messages], **more}).encode()


_RESULT = {"role": "tool", "tool_call_id": "call_0", "content": "R"}
_CALL = call("look", "{}")

POISON: dict[str, tuple[dict[str, Any], ...]] = {
    "arguments that are not JSON": (call("look", '{"key": "a'), _RESULT),
    "arguments that are no object": (call("look", "[1]"), _RESULT),
    "arguments that are no text": (call("look", {}), _RESULT),
    "arguments with NaN": (call("look", '{"a":NaN}'), _RESULT),
    "arguments with half of a surrogate pair": (call("look", '{"a":"\\ud83d"}'), _RESULT),
    "a name that is none": (call("functions.look", "{}"), _RESULT),
    "a call without a result": (_CALL,),
    "a call whose result comes late": (_CALL, {"role": "user", "content": "?"}, _RESULT),
    "a result without a call": (_RESULT,),
    "a second result": (_CALL, _RESULT, _RESULT),
    "an id that is used twice": (_CALL, _RESULT, _CALL, _RESULT),
    "an empty reply": ({"role": "assistant", "content": ""}, {"role": "user", "content": "?"}),
    "an empty list of calls": (
        {"role": "assistant", "content": "A", "tool_calls": []},
        {"role": "user", "content": "?"},
    ),
    "a system message in the middle": ({"role": "system", "content": "S"},),
    "a role that is none": ({"role": "harness", "content": "?"},),
    "content that is an object": ({"role": "user", "content": {}},),
    "half of a surrogate pair": ({"role": "user", "content": "@"},),
    "the assistant's word as the last": ({"role": "assistant", "content": "A"},),
}


@pytest.mark.parametrize("messages", POISON.values(), ids=POISON)
def test_a_strict_server_finds(messages: tuple[dict[str, Any], ...]) -> None:
    body = _request(*messages).replace(b'"@"', b'"\\ud83d"')
    assert violations(body)


def test_a_strict_server_takes_what_is_right() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    two = {**_CALL, "tool_calls": [*_CALL["tool_calls"], *call("look", "{}", at=1)["tool_calls"]]}
    other = {**_RESULT, "tool_call_id": "call_1"}
    assert not violations(_request(two, other, _RESULT, tools=[tool], tool_choice="auto"))
    assert not violations(
        _request(
            {"role": "assistant", "content": "A"},
            {"role": "user", "content": [{"type": "text", "text": "B"}]},
        )
    )


def test_a_strict_server_looks_at_tools_and_schemas() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "oops"}}}
    assert violations(_request(tools=[tool]))
    assert violations(_request(tools=[]))
    named = {"type": "function", "function": {"name": "other"}}
    assert violations(_request(tool_choice=named))
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 1}}}
    assert violations(_request(response_format=form))
    assert violations(b"{oops")
    assert violations(b'{"messages":[]}')
