"""`Tree`, `Ground` and `Workspace`: states are exact, refused ones are undone, replays agree."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.agents.context import Context
from manyhands.agents.workspace import workspace as workspace_module
from manyhands.agents.workspace.tree import GONE, Node, Tree
from manyhands.agents.workspace.workspace import Act
from manyhands.errors import SandboxError, StepFailed
from manyhands.ports import Sandbox
from manyhands.runtime import Run
from tests.workspace.bench import Bench, Hands, list_folder

SECRET = "s3cr3t-t0ken-of-this-machine"

NODES = st.one_of(
    st.just(GONE),
    st.builds(Node, kind=st.just("file"), mode=st.sampled_from([0o644, 0o755]), blob=st.text("ab")),
    st.builds(Node, kind=st.just("link"), link=st.text("ab/.", min_size=1)),
    st.just(Node(kind="folder", mode=0o755)),
)
TREES = st.builds(
    Tree, nodes=st.dictionaries(st.text("ab/ é\n", max_size=4), NODES, max_size=6)
).map(lambda tree: tree.after({}))
DELTAS = st.dictionaries(st.text("ab/ é\n", max_size=4), st.none() | NODES, max_size=6)


@given(TREES, TREES, DELTAS)
@settings(max_examples=500, deadline=None)
def test_a_difference_leads_from_one_state_to_the_other(one: Tree, two: Tree, delta: Any) -> None:
    assert one.after(two.since(one)) == two
    assert one.since(one) == {}
    assert one.after(delta).since(one).items() <= delta.items()
    after = one.after(delta)
    assert after.after(delta) == after
    assert Tree.model_validate_json(after.model_dump_json()) == after
    assert (one.hash == two.hash) == (one == two)


# ---------------------------------------------------------------- restoring

BASE = """
mkdir -p d/e keep/only links 'we ird' empty
echo a > a; echo b > d/b; echo c > d/e/c; echo k > keep/only/file; echo x > 'we ird/new
line'; printf '\\0\\377' > bin; chmod 755 d/b; ln -s a links/to-a; ln -s d links/to-d
ln -s nowhere dangling
"""
CHANGES = [
    "rm a; mkdir a; echo f > a/f",
    "rm a; mkdir a",
    "rm -r d; ln -s keep d",
    "rm -r d; echo file > d",
    "rm -r d/e",
    "rm d/e/c",
    "rm d/e/c; rmdir d/e; mkdir d/e",
    "rm links/to-a; echo not-a-link > links/to-a",
    "rm links/to-d; mkdir links/to-d; echo x > links/to-d/x",
    "rm links/to-d; mkdir links/to-d",
    "ln -sfn d/e links/to-d",
    "rm dangling; mkdir -p dangling/deep/er",
    "[ -d a ] || chmod 600 a; chmod 755 bin",
    "chmod -x d/b; echo more >> d/b",
    "rm -r 'we ird'; mkdir -- '-n' ' '; echo x > '-n/-e'; echo y > ' /é\tt'",
    "ln -s -- '-target with blank' '-link'",
    "mkdir -p new/empty new/full; echo x > new/full/x; ln -s ../a new/link",
    "rm -r keep; mkdir -p keep/only",
    "rm -r keep",
    "rm a; ln -s bin a",
    "touch untouched-copy; rm untouched-copy; cp a copy-of-a",
    "mkfifo pipe; rm bin; mkfifo bin",
    "mv d moved; mkdir d; mv moved d/inner",
    "printf 'x%.0s' $(seq 5000) > huge; : > a",
]


def make_base(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.system(f"cd {folder} && bash -c {_quoted(BASE)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


SEE = """
python3 -I - <<'END'
import os, stat, sys, json, base64
found = {}
for top, folders, files in os.walk("."):
    for name in folders + files:
        path = os.path.join(top, name)
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            found[path] = ["link", os.readlink(path)]
        elif stat.S_ISDIR(status.st_mode):
            found[path] = ["folder"]
        elif stat.S_ISREG(status.st_mode):
            data = base64.b64encode(open(path, "rb").read()).decode()
            found[path] = ["file", stat.S_IMODE(status.st_mode), data]
print(json.dumps(found, sort_keys=True))
END
"""


async def seen(hands: Hands) -> str:
    """All that is there, as a command sees it."""
    await hands.use("bash", command=SEE)
    assert hands.last.code == 0, hands.last.text
    return hands.run.read_blob(hands.last.output).decode()


@pytest.mark.parametrize("order", [*range(len(CHANGES)), "all", *(f"mix {i}" for i in range(6))])
async def test_a_state_is_restored_as_it_was(bench: Bench, order: int | str) -> None:
    make_base(bench.base)
    chance = random.Random(str(order))
    chosen = CHANGES if order == "all" else chance.sample(CHANGES, 5)
    await check_restored(bench, [CHANGES[order]] if isinstance(order, int) else chosen)


@pytest.mark.needs("bubblewrap")
async def test_states_are_restored_in_real_sandboxes(each_bench: Bench) -> None:
    make_base(each_bench.base)
    await check_restored(each_bench, CHANGES)


async def check_restored(bench: Bench, commands: list[str]) -> None:
    async def go(hands: Hands) -> tuple[Tree, str]:
        for command in commands:
            await hands.use("bash", command=command)
        there = await seen(hands)
        assert hands.last.delta == {}
        return hands.workspace.tree, there

    async def again(hands: Hands) -> tuple[str, dict[str, Any]]:
        return await seen(hands), hands.last.delta

    tree, there = await bench.use(go, run_id="one")
    restored, delta = await bench.use(again, run_id="two", tree=tree)
    assert restored == there
    assert delta == {}


# ---------------------------------------------------------------- undone


async def test_too_much_is_undone(each_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (each_bench.base / "a").write_text("a\n")
    monkeypatch.setattr(workspace_module, "MOST_BYTES", 100_000)
    monkeypatch.setattr(workspace_module, "MOST_PATHS", 50)

    async def go(hands: Hands) -> None:
        await hands.use("write", path="kept", content="k\n")
        for command in ("rm a; head -c 200000 /dev/zero > big", "touch $(seq 1 100)"):
            said = await hands.refused("bash", command=command)
            assert said.startswith("undone: the workspace now differs by ")
            assert "exit code 0" in said
            assert (hands.last.ok, hands.last.code, hands.last.delta) == (False, None, {})
            said = await hands.use("bash", command="ls")
            assert said.startswith("(The sandbox was started anew.")
            assert said.endswith("output:\na\nkept\n")
        assert set(hands.workspace.tree.nodes) == {"kept"}

    await each_bench.use(go)


@pytest.mark.parametrize(
    "command",
    [
        f"echo 'key = {SECRET}' > settings",
        f"touch {SECRET}",
        f"ln -s {SECRET} link",
        "touch $(printf 'a\\377b')",
        "ln -s $(printf 'a\\377b') link",
    ],
)
async def test_what_the_journal_would_not_keep_as_it_is_is_undone(
    each_bench: Bench, command: str
) -> None:
    each_bench.secrets = [SECRET]
    encoded = base64.b64encode(command.encode()).decode()

    async def go(hands: Hands) -> None:
        said = await hands.refused("bash", command=f"echo {encoded} | base64 -d | bash; echo x > f")
        assert "undone: " in said
        assert SECRET not in said
        assert "a\\xffb" in said or "holds a secret" in said or "hold a secret" in said
        assert (await hands.use("bash", command="ls | wc -l")).endswith("output:\n0\n")
        assert hands.workspace.tree == Tree()

    await each_bench.use(go)


async def test_a_call_that_does_not_end_leaves_nothing(each_bench: Bench) -> None:
    async def fails(sandbox: Sandbox) -> Act:
        await sandbox.write("half", b"done")
        raise SandboxError("broken")

    async def hangs(sandbox: Sandbox) -> Act:
        await sandbox.write("half", b"done")
        await asyncio.sleep(3600)
        return Act(text="never")

    async def go(hands: Hands) -> None:
        await hands.use("write", path="before", content="x")
        for key, fn in (("fails", fails), ("hangs", hangs)):
            with pytest.raises(StepFailed):
                await hands.workspace.act(hands.run, fn, key=key, timeout=1)
            assert (await hands.use("bash", command="ls")).endswith("output:\nbefore\n")

    await each_bench.use(go)


# ---------------------------------------------------------------- order, replay


async def test_calls_of_one_turn_go_one_after_another(each_bench: Bench) -> None:
    async def go(hands: Hands) -> list[str]:
        results = await hands.turn(
            # Mended (and that is journaled) before it runs; it is the first all the same.
            ("bash", {"command": "sleep 0.3; echo 1 >> log", "timeout": "10"}),
            ("bash", {"command": "echo 2 >> log"}),
            ("read", {"path": "log"}),
            ("write", {"path": "log", "content": "3\n"}),
        )
        assert all(result.ok for result in results)
        assert "     1\t1\n     2\t2" in results[2].text
        assert hands.holds("log") == b"3\n"
        assert [sorted(act.delta) for act in hands.workspace.acts] == [
            ["log"],
            ["log"],
            [],
            ["log"],
        ]
        return [result.text for result in results]

    await each_bench.use(go)


async def test_a_replay_needs_no_sandbox(each_bench: Bench) -> None:
    texts: list[list[str]] = []

    async def program(hands: Hands) -> Any:
        await hands.use("write", path="f", content="x\n")
        await hands.turn(("bash", {"command": "echo 1 >> f"}), ("bash", {"command": "echo 2 >> f"}))
        texts.append([result.text for result in hands.results])
        trees.append(hands.workspace.tree)
        if len(texts) == 1:
            raise RuntimeError("the program stops here, once")
        assert hands.workspace._sandbox is None
        return hands.holds("f")

    trees: list[Tree] = []
    with pytest.raises(RuntimeError):
        await each_bench.use(program)
    shutil.rmtree(each_bench.base)
    each_bench.base.mkdir()
    assert await each_bench.use(program) == b"x\n1\n2\n"
    assert texts[0] == texts[1]
    assert trees[0] == trees[1]


async def test_content_is_that_of_the_state(bench: Bench) -> None:
    make_base(bench.base)
    (bench.folder / "outside").write_text("no")

    async def go(hands: Hands) -> None:
        await hands.use("bash", command="rm a; echo 2 > d/b; ln -s bin l")
        assert hands.holds("a") is None
        assert hands.holds("d/b") == b"2\n"
        assert hands.holds("d/e/c") == b"c\n"
        odd = ["l", "d", "links/to-d/b", "../outside", "/etc/passwd", "x\0", "y" * 5000, "nowhere"]
        assert [hands.holds(path) for path in odd] == [None] * len(odd)

    await bench.use(go)


# ---------------------------------------------------------------- explorers


async def test_an_explorer_has_no_tool_that_writes_and_its_scratch_reaches_nobody(
    each_bench: Bench,
) -> None:
    make_base(each_bench.base)
    before = list_folder(each_bench.base)
    changed = Tree()

    async def coder(hands: Hands) -> Tree:
        await hands.use("write", path="new", content="new\n")
        await hands.use("bash", command="rm d/b")
        return hands.workspace.tree

    async def explorer(hands: Hands) -> None:
        assert {"write", "edit", "multi_edit"} & set(hands.toolbox.tools) == set()
        assert {"read", "glob", "grep", "bash", "todo", "read_more"} <= set(hands.toolbox.tools)
        (result,) = await hands.turn(("write", {"path": "x", "content": "y"}))
        assert (result.ok, result.ran) == (False, False)
        await hands.use("bash", command="echo scratch > s; rm -rf d a; ls")
        assert "scratch" in await hands.use("bash", command="cat s")
        assert hands.workspace.tree == hands.workspace.start
        assert all(act.delta == {} for act in hands.workspace.acts)

    changed = await each_bench.use(coder, run_id="coder")
    await each_bench.use(explorer, writable=False, run_id="explorer")
    await each_bench.use(explorer, writable=False, tree=changed, run_id="later")

    async def sees(hands: Hands) -> None:
        assert "new" in await hands.use("read", path="new")
        await hands.refused("read", path="d/b")
        assert "k" in await hands.use("read", path="keep/only/file")

    await each_bench.use(sees, writable=False, tree=changed, run_id="sees")
    assert list_folder(each_bench.base) == before


# ---------------------------------------------------------------- notes


async def test_todo_is_a_record_of_the_run(bench: Bench) -> None:
    items = [{"content": "look", "status": "done"}, {"content": "do\nit", "status": "doing"}]

    async def go(hands: Hands) -> None:
        said = await hands.use("todo", items=items)
        assert said == "1 of 2 done\n[x] look\n[>] do it"
        assert await hands.use("todo", items=[]) == "0 of 0 done"
        assert "1 to 500" in await hands.refused("todo", items=[{"content": " "}])
        assert "at most 100" in await hands.refused("todo", items=[{"content": "x"}] * 101)
        await hands.refused("todo", items=[{"content": "x", "status": "finished"}])
        assert hands.workspace.acts == []

    await bench.use(go)


async def shortened(run: Run, result: str) -> str:
    """The reference that a shortened history has in the place of a result."""
    context = Context(run)
    context.add({"role": "user", "content": "task"}, origin="x", agent="x")
    for i in range(3):
        message = {"role": "tool", "tool_call_id": f"c{i}", "content": result}
        context.add(message, origin="x", agent="x")
    await context.record("context", {})
    assert context.shrink(100, origin="x", agent="x") == 1
    return json.loads(context.messages()[1])["content"].split("the whole is ")[1].rstrip("]")


async def test_read_more_reads_what_was_named_and_nothing_else(bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        run: Run = hands.run
        text = "é漢🎉\x1b" * 5000
        ref = await run.blob(text.encode())
        got, offset, size = "", 0, len(text.encode())
        while offset < size:
            head, _, piece = (
                await hands.use("read_more", ref=ref, offset=offset, limit=9_999)
            ).partition("\n")
            got += piece
            end = int(head.split("bytes ")[1].split(" of ")[0].split("-")[1])
            assert end > offset
            assert ("read on with offset" in head) == (end < size)
            offset = end
        assert got == text.replace("\x1b", "\\x1b")
        ref = await shortened(run, "line 1\nline 2\n" * 100)
        said = await hands.use("read_more", ref=f" {ref}\n", limit=20)
        assert "a chat message" in said
        assert said.endswith("; read on with offset=20\nline 1\nline 2\nline 1")
        for bad in ("", "sha256:", "f.txt", "sha256:" + "g" * 64, ref[:-1], ref + "0"):
            assert "is no reference" in await hands.refused("read_more", ref=bad)
        said = await hands.refused("read_more", ref="sha256:" + "0" * 64)
        assert "nothing is kept under" in said
        assert "behind its end" in await hands.refused("read_more", ref=ref, offset=10**9)
        await hands.refused("read_more", ref=ref, offset=-1)

    await bench.use(go)
