"""The parts of the embedded server that need no server."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.adapters.models.embedded_header import part_names, read_header
from manyhands.adapters.models.embedded_host import server_environment
from manyhands.adapters.models.embedded_limits import free_memory, usable_cores
from manyhands.adapters.models.embedded_state import Folder, Phase, ServerState, running
from manyhands.errors import ConfigError

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def files(root: Path, **contents: str) -> Path:
    """``a__b_c`` is the file a/b.c, as in ``sys__fs__cgroup__cpu_max``."""
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_max", ".max").replace("_now", ".current")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# -------------------------------------------------------------------- cores and memory


def test_without_a_quota_the_cores_are_those_of_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES
    root = files(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_max="max 100000\n")
    assert usable_cores(root) == CORES


@pytest.mark.parametrize(("quota", "cores"), [(50_000, 1), (100_000, 1), (190_000, 1)])
def test_a_quota_counts_whole_cores(tmp_path: Path, quota: int, cores: int) -> None:
    text = f"{quota} 100000\n"
    root = files(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_max=text)
    assert usable_cores(root) == cores


def test_the_narrowest_group_above_counts(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="0::/a/b\n",
        sys__fs__cgroup__a__cpu_max="100000 100000\n",
        sys__fs__cgroup__a__b__cpu_max="max 100000\n",
    )
    assert usable_cores(root) == 1


def test_the_old_groups_count_too(tmp_path: Path) -> None:
    root = files(tmp_path, proc__self__cgroup="4:memory:/\n3:cpu,cpuacct:/docker/1f\n")
    # The host's path, which is not mounted in the container: its root is the container's group.
    group = root / "sys/fs/cgroup/cpu"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(root) == CORES
    (group / "cpu.cfs_quota_us").write_text("120000\n")
    assert usable_cores(root) == 1


def test_memory_is_what_the_group_leaves(tmp_path: Path) -> None:
    machine = psutil.virtual_memory().available
    assert free_memory(tmp_path) > machine // 2
    root = files(
        tmp_path,
        proc__self__cgroup="0::/a\n",
        sys__fs__cgroup__a__memory_max="1000000\n",
        sys__fs__cgroup__a__memory_now="900000\n",
    )
    assert free_memory(root) == 100_000
    # What is kept of files is given up when it is needed.
    (root / "sys/fs/cgroup/a/memory.stat").write_text("anon 300000\nfile 600000\n")
    assert free_memory(root) == 700_000
    (root / "sys/fs/cgroup/a/memory.max").write_text("max\n")
    assert free_memory(root) > 1_000_000


# -------------------------------------------------------------------- the head of a file


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def numbers(key: str, values: list[int]) -> bytes:
    head = text(key) + struct.pack("<IIQ", 9, 5, len(values))
    return head + b"".join(struct.pack("<i", value) for value in values)


def gguf(path: Path, *values: bytes) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + b"".join(values))
    return path


def test_the_context_costs_what_the_head_says(tmp_path: Path) -> None:
    named = text("general.architecture") + struct.pack("<I", 8) + text("any")
    shape = [number("any.block_count", 32), number("any.embedding_length", 4096)]
    heads = [number("any.attention.head_count", 32), number("any.context_length", 131072)]
    path = tmp_path / "m.gguf"
    # 32 layers × 8 heads × (128 + 128) values × 2 bytes
    few = number("any.attention.head_count_kv", 8)
    assert read_header(gguf(path, named, *shape, *heads, few)).kv_bytes == 131_072
    each = numbers("any.attention.head_count_kv", [0, 2, 8])
    assert read_header(gguf(path, named, *shape, *heads, each)).kv_bytes == 131_072
    wide = [few, number("any.attention.key_length", 256)]
    found = read_header(gguf(path, named, *shape, *heads, *wide))
    assert found.kv_bytes == 32 * 8 * (256 + 128) * 2
    assert (found.architecture, found.context_length) == ("any", 131072)
    unknown = read_header(gguf(path, named))
    assert (unknown.context_length, unknown.kv_bytes) == (None, 0)


def test_nothing_is_read_of_the_tokenizer(tmp_path: Path) -> None:
    named = text("general.architecture") + struct.pack("<I", 8) + text("any")
    length = number("any.context_length", 512)
    path = gguf(tmp_path / "m.gguf", named, length, text("tokenizer.ggml.tokens") + b"\xff" * 8)
    assert read_header(path).context_length == 512


def test_a_model_in_parts(tmp_path: Path) -> None:
    names = part_names("m-00001-of-00003.gguf")
    assert names == [f"m-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    assert part_names("m.gguf") == ["m.gguf"]
    for name in names:
        gguf(tmp_path / name)
    assert read_header(tmp_path / names[0]).size == 3 * 24
    (tmp_path / names[1]).unlink()
    with pytest.raises(ConfigError, match="00002-of-00003"):
        read_header(tmp_path / names[0])


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"GGUF", b"GGUF\x03\0\0\0"]))
def test_a_damaged_head_is_an_error(tail: bytes, head: bytes) -> None:
    path = Path(gettempdir()) / f"manyhands-{os.getpid()}.gguf"
    path.write_bytes(head + tail)
    try:
        with suppress(ConfigError):  # nothing else may come
            assert read_header(path).size == len(head + tail)
    finally:
        path.unlink()


# -------------------------------------------------------------------- the state


def test_a_state_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "one")
    assert folder.read() is None
    assert not folder.hosted
    folder.make()
    state = ServerState(Phase.READY, "g", "m", "/m.gguf", 1, key="k", lines=("a", "b"))
    folder.write(state)
    assert folder.read() == state
    assert "'k'" not in repr(state)
    assert list(running(tmp_path)) == []  # no host lives
    lock = folder.lock("host.lock")
    assert lock.try_alone()
    assert folder.hosted
    assert list(running(tmp_path)) == [state]
    lock.close()
    for broken in ("", "{", "[]", '{"phase":"new"}', '{"phase":"ready","lines":[],"more":1}'):
        (folder.path / "state.json").write_text(broken)
        assert folder.read() is None, broken
    folder.forget()
    folder.forget()


def test_a_lock_is_shared_or_held_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    one, two, three = (folder.lock("use.lock") for _ in range(3))
    assert one.try_shared()
    assert two.try_shared()
    assert not three.try_alone()
    one.release()
    two.close()
    assert three.try_alone()
    assert not one.try_shared()
    assert one.in_place
    (tmp_path / "use.lock").unlink()
    assert not one.in_place
    folder.lock("use.lock")
    assert not one.in_place


def test_a_server_is_given_no_secret() -> None:
    given = {
        "PATH": "/bin",
        "HF_TOKEN": "hf",
        "OPENAI_API_KEY": "sk",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_WAIT_POLICY": "active",
    }
    kept = server_environment(given)
    assert kept == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "OMP_WAIT_POLICY": "active"}
    assert server_environment({}) == {"OMP_WAIT_POLICY": "passive"}
