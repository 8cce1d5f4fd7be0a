"""Any order of puts and marks, with crashes in between: every version is kept as it was put, and
the live view, a replay and a fold from the file agree."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manyhands.runtime import Artifact, ArtifactStatus, Run, Runtime, Workflow

S = ArtifactStatus
NAMES = st.sampled_from(["notes", "plan"])


class ArtifactStates(RuleBasedStateMachine):
    """The workflow is a growing list of verbs: each rule adds one and resumes the run, so that all
    the earlier ones are replayed."""

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = TemporaryDirectory(dir=memory)
        self.path = Path(self.folder.name) / "journal.db"
        self.verbs: list[tuple[Any, ...]] = []
        self.contents: dict[tuple[str, int], str] = {}
        self.statuses: dict[tuple[str, int], ArtifactStatus] = {}
        self.seen: dict[tuple[str, int], Artifact] = {}
        self.stored: dict[tuple[str, int], Artifact] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    async def body(self, run: Run, input: Any) -> None:
        for i, verb in enumerate(self.verbs):
            if verb[0] == "put":
                await run.put(f"v{i}", verb[1], verb[2], kind="text", status=verb[3])
            else:
                await run.mark(f"v{i}", verb[1], verb[2], verb[3], "reason")
        found = {key: run.artifact(*key) for key in self.contents}
        self.seen = {key: a for key, a in found.items() if a is not None}
        assert {run.read_blob(a.blob).decode() for a in self.seen.values()} == set(
            self.contents.values()
        )
        raise asyncio.CancelledError  # leave the run open: the next verb goes on with it

    def go(self) -> None:
        async def resume() -> None:
            workflow = Workflow("w", self.body)
            async with Runtime.open(self.path, workflows=[workflow]) as runtime:
                known = bool(runtime.runs())
                handle = await (
                    runtime.resume("r") if known else runtime.start(workflow, run_id="r")
                )
                try:
                    await handle.result()
                except Exception as error:
                    if "inside of its workflow" not in str(error):
                        raise
                artifacts = runtime.view("r").artifacts.all()
                self.stored = {(a.name, a.version): a for a in artifacts}

        asyncio.run(resume())

    def accept(self, key: tuple[str, int], status: ArtifactStatus) -> None:
        if status is S.ACCEPTED:
            for other, held in self.statuses.items():
                if other[0] == key[0] and held is S.ACCEPTED:
                    self.statuses[other] = S.SUPERSEDED
        self.statuses[key] = status

    @rule(name=NAMES, content=st.text(max_size=4), status=st.sampled_from([S.PROPOSED, S.ACCEPTED]))
    def put(self, name: str, content: str, status: ArtifactStatus) -> None:
        try:
            content.encode()
        except UnicodeEncodeError:
            return
        key = (name, sum(n == name for n, _ in self.contents) + 1)
        self.verbs.append(("put", name, content, status))
        self.contents[key] = content
        self.accept(key, status)
        self.go()

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), status=st.sampled_from(list(S)))
    def mark(self, data: Any, status: ArtifactStatus) -> None:
        key = data.draw(st.sampled_from(sorted(self.contents)))
        self.verbs.append(("mark", *key, status))
        self.accept(key, status)
        self.go()

    @invariant()
    def all_agree(self) -> None:
        assert self.seen == self.stored
        assert {k: a.status for k, a in self.stored.items()} == self.statuses

    @invariant()
    def at_most_one_version_is_accepted(self) -> None:
        for name in {n for n, _ in self.stored}:
            of_name = [a for (n, _), a in self.stored.items() if n == name]
            assert sum(a.status is S.ACCEPTED for a in of_name) <= 1


ArtifactStates.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestArtifacts = ArtifactStates.TestCase
