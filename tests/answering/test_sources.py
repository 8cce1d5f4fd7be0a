"""What agents of the answer team can read beside documents: pages, a server's tools, a sandboxed
Python; all of it can be cited. And who decides where the rules do not."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from manyhands.config import Config
from manyhands.errors import ConfigError
from manyhands.ports import ModelRequest
from manyhands.runtime import Runtime
from manyhands.teams.answer.records import Order, Outcome
from manyhands.testing import ScriptedModel
from manyhands.testing.models import Conversation, Scripted, answer, call, say
from manyhands.wiring import Endpoints
from manyhands.wiring.answer import answer_models, answer_workflow
from tests.answering.stage import FACTS, Cast, Stage, finding, honest_worker, named
from tests.answering.test_team import check_honest

PAGE = (
    "<html><head><title>Flask news</title></head><body><h1>Flask news</h1>"
    "<p>Flask 4.2 was released on 3 March 2026 and needs Python 3.12.</p></body></html>"
)
SERVER = Path(__file__).parents[1] / "rude_server.py"
WEIGHT = {"name": "weight", "inputSchema": {"type": "object", "properties": {}}}


def cited(text: str, last: str, quote: str) -> Scripted:
    """An answer that cites the passage whose id stands in the last result."""
    found = re.search(r"\[([^\[\]\n]+#\d+)\]", last)
    assert found, last
    return answer({"findings": [finding(text, found[1], quote)], "not_found": []})


# -------------------------------------------------------------------- sources


async def test_a_page_is_fetched_and_cited(tmp_path: Path) -> None:
    async def serve(request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=404)
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"

    def solo(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("fetch_url", url=f"http://{host}/news")
        if conversation.spoken == 1:
            return call("fetch_url", url="http://127.0.0.1:9/elsewhere")
        return answer(
            {
                "findings": [
                    finding(
                        "Flask 4.2 needs Python 3.12.",
                        f"http://{host}/news#1",
                        "Flask 4.2 was released on 3 March 2026 and needs Python 3.12",
                    )
                ],
                "not_found": [],
            }
        )

    stage = Stage(tmp_path, Cast(solo=solo))
    outcome = await stage.ask("Which Python does Flask 4.2 need?", docs="", urls=(host,))
    await runner.cleanup()
    assert outcome.complete
    assert outcome.checked
    assert outcome.sources[0].passage == f"http://{host}/news#1"
    refused = b"".join(stage.asked("solo")[-1].messages).decode()
    assert "9/elsewhere" in refused
    assert "allow" in refused


@pytest.mark.needs("bubblewrap")
async def test_what_python_prints_is_cited(tmp_path: Path) -> None:
    def solo(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("python", code="print('The sum is', sum(range(101)))")
        return cited("The sum is 5050.", conversation.last, "The sum is 5050")

    outcome = await Stage(tmp_path, Cast(solo=solo)).ask(
        "What is the sum of 1 to 100?", python=True
    )
    assert outcome.complete
    assert outcome.sources[0].passage.startswith("python-")
    assert "The sum is 5050. [1]" in outcome.answer


async def test_a_servers_tool_is_called_and_cited(tmp_path: Path) -> None:
    def solo(request: ModelRequest, conversation: Conversation) -> Scripted:
        if conversation.spoken == 0:
            return call("shop_weight")
        return cited("It is ok.", conversation.last, "ok")

    asked = json.dumps({"tools": [WEIGHT]})
    config = Config.model_validate(
        {"mcp": {"shop": {"command": sys.executable, "args": [str(SERVER), asked]}}}
    )
    stage = Stage(tmp_path, Cast(solo=solo))
    workflow = answer_workflow(config, models={"": stage.model})
    async with Runtime.open(stage.journal, workflows=[workflow]) as runtime:
        order = stage.order("Is it ok?", docs="", mcp=("shop",))
        outcome: Outcome = await runtime.run(workflow, order)
    assert outcome.checked
    assert any("shop_weight" in p.passage for p in outcome.sources) or outcome.dropped
    shown = b"".join(stage.asked("solo")[-1].messages).decode()
    assert "[shop_weight-" in shown


async def test_a_server_that_nobody_has_configured_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(ConfigError, match="no tool server 'shop'"):
        await stage.ask(mcp=("shop",))


async def test_a_role_that_no_team_has_is_refused() -> None:
    config = Config(roles={"critik": "script:a.json"})
    with pytest.raises(ConfigError, match="no role 'critik'; roles: coder, critic, explorer"):
        await answer_models(Order(question="What?"), config, Endpoints(config))


async def test_a_question_alone_is_an_order(tmp_path: Path) -> None:
    said = answer({"findings": [{"text": "Flask is small."}], "not_found": []})
    model = ScriptedModel(lambda request: said)
    workflow = answer_workflow(Config(), models={"": model})
    async with Runtime.open(tmp_path / "journal.db", workflows=[workflow]) as runtime:
        outcome: Outcome = await runtime.run(workflow, "Is Flask small?")
    assert outcome.question == "Is Flask small?"
    assert outcome.route.way == "single"


async def test_an_order_keeps_its_form() -> None:
    order = Order(question="What?", models={"": "script:a.json"})
    assert Order.model_validate(order.model_dump(mode="json")) == order


# -------------------------------------------------------------------- where rules are unsure

UNSURE = (
    "We run a service that reads sensor data, keeps them for a year and shows them on a page that "
    "people open about once a week; what would you keep in mind about Flask for it?"
)


@pytest.mark.parametrize("way", ["single", "team"])
async def test_a_model_routes_what_the_rules_leave_open(tmp_path: Path, way: str) -> None:
    router = answer({"way": way, "reason": "It is so."})
    stage = Stage(tmp_path, Cast(router=lambda r, c: router))
    outcome = await stage.ask(UNSURE)
    assert (outcome.route.way, outcome.route.by) == (way, "model:scripted")
    assert outcome.route.reason == "It is so."
    assert "router" in {agent.role for agent in outcome.agents}


async def test_a_router_that_does_not_answer_costs_little(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Cast(router=lambda r, c: say("Hm, hard to say.")))
    outcome = await stage.ask(UNSURE)
    assert (outcome.route.way, outcome.route.by) == ("single", "rule:unsure")
    check_honest(outcome)


async def test_a_worker_that_hangs_is_cut_and_said_to_be_missing(tmp_path: Path) -> None:
    def worker(request: ModelRequest, conversation: Conversation) -> Scripted:
        if named(conversation) == "flask":
            return say("late", seconds=3600)
        return honest_worker(request, conversation)

    outcome = await Stage(tmp_path, Cast(worker=worker)).ask(patience=0.2)
    check_honest(outcome)
    assert "Flask: no answer (its model did not answer)" in outcome.missing
    assert FACTS["django"][1]["text"] in outcome.answer


def test_patience_is_thirty_seconds() -> None:
    assert Order(question="What?").patience == 30.0
