"""A team without models that does the task `page-count` as a real one would: it looks, lets two
coders work in forks, brings their work together, checks it, and hands in what it has."""

from __future__ import annotations

import asyncio

from manyhands.evals.assignments import Assignment, Spent
from manyhands.evals.landing import land
from manyhands.ports import Sandbox

FILE = "pager/pages.py"
CHECK = "from pager import pages; assert pages([1, 2, 3], 2) == [[1, 2], [3]]"


async def solve(given: Assignment) -> Spent:
    assert "pager" in given.instruction
    options = {"place": given.place, "env": given.env, "limits": given.limits}
    async with given.sandboxes.open(given.base, writable=False, **options) as explorer:
        assert FILE in await explorer.glob()
        seen = await explorer.exec("find /tests /solution /logs -type f -name '*.*'")
        assert b"check.py" not in seen.output, seen.output
        assert b"solve.sh" not in seen.output, seen.output
    async with given.sandboxes.open(given.base, **options) as main:
        async with main.fork() as one, main.fork() as two:
            await asyncio.gather(
                edit(one, "return total // size", "return -(-total // size)"), notes(two)
            )
            await land(two, main)
            await land(one, main)
        await edit(main, "start + size - 1", "start + size")
        await edit(
            main, "range(1, count(len(items), size))", "range(1, count(len(items), size) + 1)"
        )
        checked = await main.exec(["python3", "-c", CHECK])
        assert checked.code == 0, checked.output
        await given.land(main)
    (given.folder / "standin.txt").write_text(f"{given.model} {given.seconds}")
    return Spent("complete", input_tokens=12, cached_tokens=2, output_tokens=3, usd=0.5)


async def edit(sandbox: Sandbox, old: str, new: str) -> None:
    text = (await sandbox.read(FILE)).data.decode()
    assert text.count(old) == 1, text
    await sandbox.write(FILE, text.replace(old, new).encode())


async def notes(sandbox: Sandbox) -> None:
    await sandbox.exec("mkdir -p notes && echo mended > notes/a && ln -s a notes/b && rm README.md")


async def nothing(given: Assignment) -> Spent:
    """Works, and hands in nothing."""
    async with given.sandboxes.open(given.base, place=given.place) as main:
        await edit(main, "return total // size", "return -(-total // size)")
    return Spent("partial")
