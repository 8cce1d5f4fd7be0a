"""Secrets that the runtime was told of are in no file of the journal, and a replay fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import StepFailed
from manyhands.runtime import Effect, Run, Runtime, Workflow

KEY = 'sk-"quoted"/and-slashed-0123456789'
OTHER = "hf_abcdefghijklmnopqrstuvwxyz"


def files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_no_secret_in_any_file_and_a_replay_sees_what_the_live_run_saw(
    tmp_path: Path,
) -> None:
    seen: list[list[Any]] = []
    calls = 0

    def read() -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {"text": f"key={KEY}", "large": OTHER + "x" * 100_000}

    def fail() -> None:
        raise ValueError(f"wrong key {KEY}")

    async def work(run: Run, told: dict[str, str]) -> dict[str, str]:
        found: list[Any] = [told]
        value = await run.step("read", read)
        found += [value["text"], value["large"][:6]]
        # What was read goes into the arguments of the next step: a replay must hash the same.
        found.append(await run.step("use", lambda text: text, value["text"], effect=Effect.ONCE))
        with pytest.raises(StepFailed) as caught:
            await run.step("fail", fail)
        found.append(str(caught.value))
        await run.record("note", "test:note", {"key": KEY, KEY: [OTHER]})
        found.append(await run.blob(f"blob {OTHER}".encode()))
        found.append(run.read_blob(found[-1]))
        await run.put("put", "a", f"artifact {KEY}", kind="text")
        found.append(await run.steers("steers"))
        seen.append(found)
        if len(seen) == 1:
            raise RuntimeError("the first life ends here")
        return {"end": f"done with {OTHER}"}

    flow = Workflow("w", work)
    journal = tmp_path / "journal.db"
    async with Runtime.open(journal, workflows=[flow], secrets=[KEY, OTHER]) as runtime:
        handle = await runtime.start(flow, {"task": f"use {KEY}"}, run_id="r")
        await runtime.command("r", "steer", message=f"here is {OTHER}")
        with pytest.raises(RuntimeError):
            await handle.result()
    async with Runtime.open(journal, workflows=[flow], secrets=[KEY, OTHER]) as runtime:
        handle = await runtime.resume("r", retry_failed=False)
        assert await handle.result() == {"end": "done with ***"}
        held = files_of(tmp_path)
    held += files_of(tmp_path)
    for secret in (KEY, KEY.replace('"', '\\"'), OTHER, "slashed", "mnopq"):
        assert secret.encode() not in held
    assert seen[0] == seen[1]
    assert calls == 1
    assert seen[0][0] == {"task": "use ***"}
    assert seen[0][1:4] == ["key=***", "***xxx", "key=***"]
    assert "wrong key ***" in seen[0][4]
    assert seen[0][6] == b"blob ***"


async def test_without_secrets_nothing_is_touched(tmp_path: Path) -> None:
    async def work(run: Run, told: str) -> str:
        return await run.step("s", lambda: told)

    async with Runtime.open(tmp_path / "journal.db") as runtime:
        assert await runtime.run(Workflow("w", work), KEY) == KEY
