"""A durable program in one screen: steps, a map, a budget, a kill and a resume.

    python examples/durable_steps.py

It counts the words of some texts, each in a step of its own, and lets itself be killed with SIGKILL
after the third. A second process resumes the run: what was finished comes from the journal.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from manyhands.errors import BudgetExceeded
from manyhands.runtime import Budget, Run, Runtime, Workflow

TEXTS = {
    "dickinson": "I'm Nobody! Who are you? Are you Nobody too?",
    "melville": "Call me Ishmael.",
    "austen": "It is a truth universally acknowledged",
    "carroll": "Curiouser and curiouser!",
    "woolf": "Mrs. Dalloway said she would buy the flowers herself.",
}


def count_words(diary: Path, die_after: int, name: str) -> int:
    """The work: it leaves a line in a diary, so that everybody can see how often it was done."""
    with diary.open("a") as out:
        out.write(name + "\n")
    if len(diary.read_text().splitlines()) > die_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(TEXTS[name].split())


async def count_all(run: Run, order: dict) -> dict:
    count = partial(count_words, Path(order["diary"]), int(os.environ.get("DIE_AFTER", "99")))

    async def one(scope: Run, name: str) -> int:
        # One credit is reserved before the call. A replay takes the value from the journal.
        return await scope.step("count", count, name, cost={"credits": 1})

    counts = await run.map("texts", one, order["names"], key_of=str, limit=1)
    began = await run.now("now")  # time and chance belong into steps, too
    return {"words": dict(zip(order["names"], counts, strict=True)), "at": began}


WORDS = Workflow("words", count_all)


async def work(folder: Path) -> None:
    """One process: begin the run, or go on with it."""
    async with Runtime.open(folder / "journal.db", workflows=[WORDS]) as runtime:
        if runtime.runs():
            handle = await runtime.resume("counting")
        else:
            order = {"diary": str(folder / "diary.txt"), "names": list(TEXTS)}
            budget = Budget(units={"credits": 6})
            handle = await runtime.start(WORDS, order, run_id="counting", budget=budget)
        print("result:", (await handle.result())["words"])
        view = runtime.view("counting")
        print("status:", view.status, "· processes:", view.epoch, "· spent:", dict(view.spent()))


async def too_little(folder: Path) -> None:
    """The same with a budget that does not suffice: refused before the call, not after it."""
    async with Runtime.open(folder / "journal.db", workflows=[WORDS]) as runtime:
        order = {"diary": str(folder / "other.txt"), "names": list(TEXTS)}
        try:
            await runtime.run(WORDS, order, budget=Budget(units={"credits": 2}))
        except BudgetExceeded as error:
            print(error)
    print("done within that budget:", (folder / "other.txt").read_text().split())


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(work(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as made:
        again = [sys.executable, __file__, made]
        first = subprocess.run(again, env=os.environ | {"DIE_AFTER": "3"}, check=False)
        print("the first process ended with", first.returncode, flush=True)
        subprocess.run(again, check=True)
        print("done, in order:", (Path(made) / "diary.txt").read_text().split())
        asyncio.run(too_little(Path(made)))


if __name__ == "__main__":
    main()
