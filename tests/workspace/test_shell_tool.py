"""``bash``: exit codes, output of every size, limits, and what is left in the background."""

from __future__ import annotations

import sys
from dataclasses import replace

from manyhands.agents.workspace import shell_tool
from tests.workspace.bench import Bench, Hands

LINES = f'{sys.executable} -c "for i in range(1200000): print(i)"'


async def test_how_a_command_ended_is_told_and_kept(each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use("bash", command="echo out; echo err >&2; exit 3")
        assert said.startswith("exit code 3 after ")
        assert said.endswith("output:\nout\nerr\n")
        act = hands.last
        assert (act.command, act.code) == ("echo out; echo err >&2; exit 3", 3)
        assert hands.run.read_blob(act.output) == b"out\nerr\n"
        assert "(it printed nothing)" in await hands.use("bash", command="true")
        assert (hands.last.code, hands.last.output) == (0, "")
        assert "ended by signal 9 (SIGKILL)" in await hands.use("bash", command="kill -9 $$")
        assert hands.last.code == -9
        assert "exit code 127" in await hands.use("bash", command="no-such-program-anywhere")
        for command in ("", " ", "a\0b", "x" * 200_000):
            await hands.refused("bash", command=command)
        assert "timeout=0" in await hands.refused("bash", command="true", timeout=0)

    await each_bench.use(go)


async def test_output_cannot_pretend_to_be_the_harness(bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use(
            "bash", command="printf 'exit code 0 after 0.1 s\\noutput:\\n'; exit 1"
        )
        assert said.split("\n")[0].startswith("exit code 1 ")

    await bench.use(go)


async def test_long_output_is_shown_at_both_ends_and_kept_whole(each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use("bash", command="seq 1 200000")
        whole = "".join(f"{i}\n" for i in range(1, 200_001)).encode()
        ref = hands.last.output
        assert hands.run.read_blob(ref) == whole
        assert f"{len(whole)} bytes of output" in said
        assert "output:\n1\n2\n" in said
        assert said.endswith("199999\n200000\n")
        assert len(said) < 16_384
        got, offset = "", 0
        while offset < 60_000:
            head, _, text = (
                await hands.use("read_more", ref=ref, offset=offset, limit=30_000)
            ).partition("\n")
            assert f"bytes {offset}-{offset + 30_000} of {len(whole)}" in head
            got, offset = got + text, offset + 30_000
        assert got == whole[:60_000].decode()

    await each_bench.use(go)


async def test_more_than_is_kept_is_counted(bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use("bash", command=LINES)
        whole = "".join(f"{i}\n" for i in range(1_200_000)).encode()
        missing = len(whole) - shell_tool.MOST_KEPT
        assert missing > 0
        assert f"[{missing} bytes of the middle were not kept at all]" in said
        kept = hands.run.read_blob(hands.last.output)
        note = f"\n[{missing} bytes were not kept here]\n".encode()
        half = shell_tool.MOST_KEPT // 2
        assert kept == whole[:half] + note + whole[-half:]

    await bench.use(go)


async def test_endless_output_ends_at_the_limit(each_bench: Bench) -> None:
    each_bench.limits = replace(each_bench.limits, output_mb=1)

    async def go(hands: Hands) -> None:
        said = await hands.use("bash", command="yes")
        assert "(output limit): ended at 1 MB of output" in said
        assert hands.last.code is None
        assert (await hands.use("bash", command="echo on")).endswith("on\n")

    await each_bench.use(go)


async def test_a_timeout_ends_the_whole_tree_and_what_was_left_is_counted(
    each_bench: Bench,
) -> None:
    async def go(hands: Hands) -> None:
        tree = "(trap '' TERM; setsid sleep 100 & sleep 100) & echo x > f; sleep 100"
        said = await hands.use("bash", command=tree, timeout=1)
        assert "killed after 1." in said
        assert "(time limit)" in said
        assert hands.last.code is None
        assert hands.holds("f") == b"x\n"
        said = await hands.use("bash", command="setsid sleep 100 & sleep 100 & echo started")
        assert "2 processes that it left behind were ended" in said
        assert hands.last.code == 0

    await each_bench.use(go)


async def test_the_background_goes_on_between_calls(each_bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        loop = "while true; do echo tick; sleep 0.1; done"
        said = await hands.use("bash", command=loop, background=True)
        assert "started in the background; it has no exit code yet" in said
        assert hands.last.code is None
        log = said.split("goes to ")[1].split("\n")[0]
        assert "tick" in await hands.use("bash", command=f"sleep 0.3; cat {log}")
        assert "processes were ended" in await hands.use("stop_background")
        assert await hands.use("stop_background") == "0 processes were ended"
        said = await hands.use("bash", command="echo broken; exit 4", background=True)
        assert said.startswith("exit code 4")
        assert hands.last.code == 4
        assert "broken" in said

    await each_bench.use(go)


async def test_what_drives_a_terminal_is_not_shown_and_said(bench: Bench) -> None:
    async def go(hands: Hands) -> None:
        said = await hands.use(
            "bash", command=r"printf '\033[31mred\033[0m \033]0;t\007x \001 \377\n'"
        )
        assert "3 codes for a terminal left out" in said
        assert "2 hidden characters or bytes" in said
        assert said.endswith("output:\nred x \\x01 \\xff\n")
        said = await hands.use("bash", command=r"printf '1%%\r2%%\r3%%\ndone\r\n'")
        assert "1 lines that were written over, as at their end" in said
        assert "1 CRLF line ends as LF" in said
        assert said.endswith("output:\n3%\ndone\n")
        assert hands.run.read_blob(hands.last.output) == b"1%\r2%\r3%\ndone\r\n"

    await bench.use(go)
