"""What the page shows is what happened: held against a server's own ledger, and a sandbox's."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.adapters.models.openai_compatible import OpenAICompatibleModel
from manyhands.config import Config
from manyhands.ports import ModelReply, ModelRequest, Price
from manyhands.runtime import Runtime
from manyhands.testing import ScriptedModel
from manyhands.testing.chat_server import ChatServer
from manyhands.testing.models import Conversation, Scripted, answer, call
from manyhands.wiring.code import code_workflow
from tests.coding.stage import Cast, Stage, coder_task
from tests.web.stage import site

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.needs("bubblewrap")]

#: Leaves in the workspace when it began and ended, by the sandbox's own clock.
NOTED = "date +%s.%N >> ledger; sleep 0.2; date +%s.%N >> ledger"
TIMES = 3

SPANS = """async ([run, token]) => {
  const { View } = await import('/assets/view.js');
  const { apply } = await import('/assets/reducer.js');
  const asked = await fetch(`/api/runs/${run}/events?follow=0`,
    { headers: { authorization: `Bearer ${token}` } });
  const view = new View();
  for (const message of (await asked.text()).split('\\n\\n')) {
    const data = message.split('\\n').find(line => line.startsWith('data: ['));
    for (const event of data ? JSON.parse(data.slice(6)) : []) apply(view, event);
  }
  return { began: view.createdAt, spent: view.spent, spans: view.keys.map((key, at) =>
    [key, view.kind.get(at), view.start.get(at), view.end.get(at)]) };
}"""


class Counted(ScriptedModel):
    """The script behind the server, which keeps a ledger of what it was asked and what it said."""

    ledger: list[tuple[int, int]]

    async def request(self, request: ModelRequest, on_text: object = None) -> ModelReply:
        reply = await super().request(request)
        assert reply.usage is not None
        self.ledger.append((reply.usage.input_tokens, reply.usage.output_tokens))
        return reply


def coder(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken < TIMES:
        return call("bash", command=f"{NOTED}  # {conversation.spoken}")
    return answer({"summary": "Noted.", "changed": ["ledger"]})


def orchestrator(request: ModelRequest, conversation: Conversation) -> Scripted:
    if conversation.spoken == 0:
        return call("delegate_many", tasks=[coder_task("sums", checks=[])])
    return call("finish", summary="Noted.")


async def test_tokens_effects_and_seconds_are_those_of_the_server_and_the_sandbox(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, Cast(orchestrator=orchestrator, coder=coder))
    behind = Counted(stage.cast.model()._next, name="behind")
    behind.ledger = []
    async with ChatServer(behind) as server:
        model = OpenAICompatibleModel("m", server.url, price=Price(1.0, 2.0))
        workflow = code_workflow(Config(), models={"": model})
        async with Runtime.open(stage.journal, workflows=[workflow]) as runtime:
            outcome = await runtime.run(workflow, stage.order(check=""), run_id="r")
            patch = runtime.journal.blob(outcome.patch).decode()
        await model.close()
    ledger = [float(line[1:]) for line in patch.splitlines() if line.startswith("+1")]
    assert len(ledger) == 2 * TIMES
    async with site(stage.journal) as at:
        page = await at.page()
        shown = await page.evaluate(SPANS, ["r", at.server.token])
    asked = [key for key, kind, *_ in shown["spans"] if kind == 0]
    assert len(asked) == len(behind.ledger) == shown["spent"]["requests"]
    assert shown["spent"]["tokens"] == sum(map(sum, behind.ledger))
    told = sum(given + 2 * said for given, said in behind.ledger)
    assert told <= shown["spent"]["micro_usd"] <= told + len(behind.ledger)
    ran = [
        (shown["began"] + start, shown["began"] + end)
        for key, kind, start, end in shown["spans"]
        if kind == 1 and key.endswith("/act") and "/coder/" in key
    ]
    assert len(ran) == TIMES
    pairs = zip(ledger[::2], ledger[1::2], strict=True)
    for (start, end), (first, last) in zip(sorted(ran), pairs, strict=True):
        assert start - 0.05 <= first < last <= end + 0.05
