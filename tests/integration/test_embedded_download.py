"""Models from a hub on loopback that breaks off, refuses, hides and lies."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
import tqdm.std
from aiohttp import web

from manyhands.adapters.models.embedded import EmbeddedModel
from manyhands.adapters.models.embedded_download import HubFile, Progress, cached, download
from manyhands.errors import ConfigError, ModelError, ModelRefused, ModelUnreachable
from manyhands.ports import ModelRequest
from tests.tiny_model import SETTINGS, until

pytestmark = pytest.mark.needs("llama")

REPO, COMMIT = "tiny/random-GGUF", "0123456789abcdef0123456789abcdef01234567"
constants = pytest.importorskip("huggingface_hub.constants")


@dataclass
class Hub:
    """Serves ``files``; the first answer with a body is cut after ``cut_at`` bytes."""

    files: dict[str, bytes]
    cut_at: int | None = None
    trouble: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    url: str = ""

    async def serve(self, http: web.Request) -> web.StreamResponse:
        self.seen.append((http.method, http.headers.get("Range", "")))
        self.keys.add(http.headers.get("Authorization"))
        name = http.match_info["file"]
        code = self.trouble.get(name) or ("" if name in self.files else "EntryNotFound")
        if code:
            status = 403 if code == "GatedRepo" else 404
            return web.Response(status=status, headers={"X-Error-Code": code})
        body = self.files[name]
        start = int(http.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{sha256(body).hexdigest()}"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(body) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(http)
        if http.method == "HEAD":
            return response
        if self.cut_at is not None:
            end, self.cut_at = self.cut_at, None
            await response.write(body[start:end])
            await asyncio.sleep(0.3)
            assert http.transport is not None
            http.transport.abort()
            return response
        for at in range(start, len(body), 100_000):
            await response.write(body[at : at + 100_000])
            if self.slow:
                await asyncio.sleep(0.05)
        return response

    async def tree(self, _: web.Request) -> web.Response:
        found = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.files]
        return web.json_response(found)


@pytest.fixture
async def hub(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    made = Hub({"tiny.gguf": tiny_gguf.read_bytes(), "README.md": b"# Tiny"})
    app = web.Application()
    app.router.add_get(f"/{REPO}/resolve/{{revision}}/{{file:.+}}", made.serve)
    app.router.add_get(f"/api/models/{REPO}/tree/{{revision}}", made.tree)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("HF_ENDPOINT", made.url + "/")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    # As it comes, 10 MB: more than the tiny model has, so nothing of it would be kept.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 * 1024)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    yield made
    await runner.cleanup()


async def failed(source: HubFile) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await download(source)
    assert str(source) in caught.value.what
    assert caught.value.next
    assert "hf_of_the_test" not in str(caught.value)
    return caught.value


async def test_a_download_that_breaks_off_is_taken_up_there(hub: Hub, tiny_gguf: Path) -> None:
    hub.cut_at = 1_500_000
    told: list[Progress] = []
    source = HubFile(REPO, "tiny.gguf")
    assert cached(source) is None
    path = await download(source, told.append)
    assert path.read_bytes() == tiny_gguf.read_bytes()
    bodies = [span for method, span in hub.seen if method == "GET"]
    assert bodies[0] == ""
    assert len(bodies) == 2
    assert 0 < int(bodies[1].removeprefix("bytes=").rstrip("-")) <= 1_500_000
    assert hub.keys == {"Bearer hf_of_the_test"}
    size = tiny_gguf.stat().st_size
    assert told[0] == Progress("tiny.gguf", 0, size)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == told[-1].total == size
    hub.seen.clear()
    assert await download(source) == path == cached(source)
    assert all(method == "HEAD" for method, _ in hub.seen)


async def test_a_downloaded_model_answers(hub: Hub, server_folder: Path) -> None:
    told: list[Progress] = []
    source = HubFile(REPO, "tiny.gguf")
    model = EmbeddedModel(
        source, state_folder=server_folder, settings=SETTINGS, on_progress=told.append
    )
    assert model.name == f"gguf:{REPO}:tiny.gguf"
    assert model.context_length == 2048
    assert model.folder is None
    ask = ModelRequest(messages=(b'{"role":"user","content":"Hi"}',), max_tokens=8)
    replies = await asyncio.gather(*(model.request(ask) for _ in range(4)))
    await model.close()
    assert all(reply.usage is not None for reply in replies)
    assert [method for method, _ in hub.seen].count("GET") == 1
    assert told[-1].done == told[-1].total
    # What is in the cache needs no hub.
    again = EmbeddedModel(source, state_folder=server_folder, settings=SETTINGS)
    assert again.folder == model.folder


async def test_a_model_in_parts_is_fetched_whole(hub: Hub) -> None:
    names = [f"big-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    hub.files |= {name: f"GGUF {name}".encode() for name in names}
    path = await download(HubFile(REPO, names[0]))
    assert [path.with_name(name).read_bytes() for name in names] == [hub.files[n] for n in names]


async def test_what_the_hub_does_not_have(hub: Hub) -> None:
    error = await failed(HubFile(REPO, "other.gguf"))
    assert isinstance(error, ModelRefused)
    assert "no file other.gguf" in error.what
    assert error.next == "take one of tiny.gguf"
    hub.trouble = {"secret.gguf": "GatedRepo", "lost.gguf": "RepoNotFound"}
    error = await failed(HubFile(REPO, "secret.gguf"))
    assert "access" in error.what
    assert f"https://huggingface.co/{REPO}" in error.next
    assert "HF_TOKEN" in error.next
    error = await failed(HubFile(REPO, "lost.gguf"))
    assert f"no repository {REPO}" in error.what
    assert not error.retryable
    hub.trouble = {"tiny.gguf": "RevisionNotFound"}
    assert "no revision v9" in (await failed(HubFile(REPO, "tiny.gguf", "v9"))).what


async def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    source = HubFile(REPO, "tiny.gguf")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = await failed(source)
    assert "HF_HUB_OFFLINE" in error.what
    assert not error.retryable
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = await download(source)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert await download(source) == path


@pytest.mark.slow
async def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: huggingface_hub tries for half a minute before it gives up."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = await failed(HubFile(REPO, "tiny.gguf"))
    assert isinstance(error, ModelUnreachable)
    assert "cannot be reached" in error.what


async def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    error = await failed(HubFile(REPO, "tiny.gguf"))
    assert "disk is too full" in error.what
    assert "HF_HOME" in error.next
    assert not error.retryable
    assert all(method == "HEAD" for method, _ in hub.seen)


async def test_what_is_no_model_is_not_run(hub: Hub, tmp_path: Path) -> None:
    hub.files["page.gguf"] = b"<html>Please log in</html>"
    model = EmbeddedModel(HubFile(REPO, "page.gguf"), state_folder=tmp_path, settings=SETTINGS)
    with pytest.raises(ModelError) as caught:
        await model.prepare()
    assert "not a GGUF" in caught.value.what


async def test_a_cancelled_download_stops(hub: Hub, tmp_path: Path) -> None:
    hub.slow = True
    told: list[Progress] = []
    begun = asyncio.Event()

    def hear(progress: Progress) -> None:
        told.append(progress)
        if progress.done:
            begun.set()

    task = asyncio.ensure_future(download(HubFile(REPO, "tiny.gguf"), hear))
    async with asyncio.timeout(60):
        await begun.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    blobs = tmp_path / "hub" / f"models--{REPO.replace('/', '--')}" / "blobs"
    await asyncio.to_thread(until, lambda: not list(blobs.iterdir()), "nothing is left of it")
    assert not any(p.done == p.total for p in told)

    def is_free() -> bool:
        """The lock of all progress bars of the process, which a stopped one must not keep."""
        lock = tqdm.std.TqdmDefaultWriteLock.th_lock
        if free := lock.acquire(timeout=5):
            lock.release()
        return free

    assert await asyncio.to_thread(is_free)


@pytest.mark.parametrize(
    "wrong",
    [("repo", "a.gguf"), ("a/b", ""), ("a/b", "../a.gguf"), ("a/b/c", "a.gguf"), ("a/b", "/a")],
)
def test_what_names_no_file_of_the_hub(wrong: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        HubFile(*wrong)
    assert "gguf:<owner>" in caught.value.next
