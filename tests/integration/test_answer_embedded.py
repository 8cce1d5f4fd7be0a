"""The answer team over a real llama.cpp server: the protocol, not the quality. The model is
random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from manyhands.adapters.models.embedded import EmbeddedModel
from manyhands.config import Config
from manyhands.runtime import Budget, Runtime
from manyhands.teams.answer.records import Order
from manyhands.wiring.answer import answer_workflow
from tests.answering.stage import DOCUMENTS, QUESTION
from tests.tiny_model import SETTINGS

pytestmark = pytest.mark.needs("llama")


@pytest.mark.parametrize("route", ["single", "team"])
async def test_a_random_model_gives_an_outcome_that_invents_nothing(
    tiny_gguf: Path, server_folder: Path, tmp_path: Path, route: str
) -> None:
    settings = replace(SETTINGS, context_length=16_384)
    model = EmbeddedModel(tiny_gguf, state_folder=server_folder, settings=settings)
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, text in DOCUMENTS.items():
        (docs / name).write_text(text)
    workflow = answer_workflow(Config(), models={"": model})
    async with Runtime.open(tmp_path / "journal.db", workflows=[workflow]) as runtime:
        order = Order(
            question=QUESTION,
            docs=str(docs),
            project=str(tmp_path),
            python=False,
            route=route,  # type: ignore[arg-type]
            max_revisions=1,
        )
        budget = Budget(requests=40)
        handle = await runtime.start(workflow, order, run_id="asked", budget=budget)
        outcome = await handle.result()
        assert outcome.requests == runtime.view("asked").spent()["requests"] <= 40
    await model.close()
    assert outcome.requests > 0
    assert outcome.tokens == sum(agent.tokens for agent in outcome.agents)
    text = "\n".join(DOCUMENTS.values())
    assert all(source.quote in text for source in outcome.sources)
    assert outcome.complete or outcome.missing or outcome.open_issues, outcome.answer
