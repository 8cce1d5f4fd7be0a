"""Papers on the command line and from a Hub that does not always answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.adapters.documents.library import DocumentLibrary
from manyhands.adapters.papers.hub import HubPapers, arxiv_id
from manyhands.errors import PaperError
from manyhands.hub import Hub
from manyhands.testing.check_papers import HOSTILE, PAPERS, WARMDOWN
from manyhands.testing.hub_server import EXPIRED, TOKEN, HubServer
from tests.pdfs import pdf
from tests.shell import Shell


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(PAPERS) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def shell(tmp_path: Path, server: HubServer) -> Shell:
    return Shell(tmp_path)


def papers(tmp_path: Path, **hub: float) -> HubPapers:
    settings = {"seconds": 5, "backoff": 0.01} | hub
    return HubPapers(DocumentLibrary(None, tmp_path / "shelf.db"), Hub(**settings))  # type: ignore[arg-type]


def searches(server: HubServer) -> int:
    return server.paths().count("/api/papers/search")


# ---------------------------------------------------------------- the command


def test_search_and_read(shell: Shell) -> None:
    found = shell("lab", "papers", "warmdown schedule")
    assert f"{WARMDOWN.id}  {WARMDOWN.title}" in found
    assert "Ada Byron" in found
    listed = json.loads(shell("lab", "papers", "warmdown schedule", "--json", "--limit", "1"))
    assert [each["id"] for each in listed] == [WARMDOWN.id]
    assert listed[0]["date"] == WARMDOWN.date
    read = shell("lab", "papers", "--read", f"https://arxiv.org/abs/{WARMDOWN.id}v2")
    assert "A warmdown is a linear decay to zero." in read
    passages = json.loads(shell("lab", "papers", "--read", WARMDOWN.id, "--json"))
    assert passages[0]["id"] == f"{WARMDOWN.id}#1"


@pytest.mark.slow
def test_what_a_paper_says_moves_no_cursor(shell: Shell) -> None:
    for words in (("kelp",), ("kelp", "--json"), ("--read", HOSTILE.id)):
        told = shell("lab", "papers", *words)
        assert "olours" in told
        assert not set("\x1b\x07\u202e\u2066") & set(told)


def test_a_folder_needs_no_network(shell: Shell, server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "decay.pdf").write_bytes(pdf("Weight decay helps with long trainings."))
    (tmp_path / "papers" / "note.md").write_text("# A note\n\nWarmup guards the first steps.\n")
    found = json.loads(shell("lab", "papers", "weight decay", "--from", "papers", "--json"))
    assert [each["id"] for each in found] == ["decay.pdf"]
    assert "guards" in shell("lab", "papers", "--read", "note.md", "--from", "papers")
    assert not server.asked
    assert sorted(p.name for p in (tmp_path / "papers").iterdir()) == ["decay.pdf", "note.md"]


@pytest.mark.slow
def test_errors_say_what_to_do(shell: Shell, server: HubServer) -> None:
    assert "--read ID" in shell("lab", "papers", code=2)
    assert "at once" in shell("lab", "papers", "a", "--read", "b", code=2)
    assert "no folder" in shell("lab", "papers", "a", "--from", "nowhere", code=2)
    assert "[mcp.arxiv]" in shell("lab", "papers", "a", "--from", "mcp:arxiv", code=2)
    assert "no paper" in shell("lab", "papers", "--read", "2499.99999", code=2)
    shell.env["HF_TOKEN"] = EXPIRED
    told = shell("lab", "papers", "warmdown", code=9)
    assert "401" in told
    assert "HF_TOKEN" in told
    assert EXPIRED not in told


@pytest.mark.slow
def test_without_a_network_it_names_the_endpoint_and_the_folder(shell: Shell) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shell.env["HF_ENDPOINT"] = url
        told = shell("lab", "papers", "warmdown", code=9)
    assert url in told
    assert "HF_ENDPOINT" in told
    assert "--from" in told
    shell.env["HF_HUB_OFFLINE"] = "1"
    assert "HF_HUB_OFFLINE" in shell("lab", "papers", "warmdown", code=9)


# ---------------------------------------------------------------- a Hub that fails


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "drop", "cut"])
async def test_what_passes_is_asked_again(kind: str, server: HubServer, tmp_path: Path) -> None:
    server.go_wrong("/api/papers/search", kind, 2)
    found = await papers(tmp_path).search("warmdown")
    assert found[0].id == WARMDOWN.id
    assert searches(server) == 3


@pytest.mark.parametrize("kind", ["429", "500", "drop"])
async def test_what_does_not_pass_is_given_up(kind: str, server: HubServer, tmp_path: Path) -> None:
    server.go_wrong("/api/papers/search", kind, 99)
    with pytest.raises(PaperError) as caught:
        await papers(tmp_path).search("warmdown")
    assert server.url in caught.value.what
    assert "--from FOLDER" in caught.value.next
    assert searches(server) == 3


@pytest.mark.parametrize("kind", ["junk", "400", "401", "403"])
async def test_what_a_retry_does_not_mend_is_not_tried(
    kind: str, server: HubServer, tmp_path: Path
) -> None:
    server.go_wrong("/api/papers/search", kind, 99)
    with pytest.raises(PaperError):
        await papers(tmp_path).search("warmdown")
    assert searches(server) == 1


async def test_the_server_says_when(server: HubServer, tmp_path: Path) -> None:
    server.go_wrong("search", "429", headers={"Retry-After": "1"})
    began = time.monotonic()
    await papers(tmp_path).search("warmdown")
    assert time.monotonic() - began >= 1
    limits = {"RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    server.go_wrong("search", "429", headers=limits)
    began = time.monotonic()
    await papers(tmp_path).search("warmdown")
    assert time.monotonic() - began >= 1
    server.go_wrong("search", "429", headers={"Retry-After": "3600"})
    with pytest.raises(PaperError):
        await papers(tmp_path).search("warmdown")


@pytest.mark.parametrize("kind", ["hang", "drip", "flood"])
async def test_no_call_outlives_its_deadline(kind: str, server: HubServer, tmp_path: Path) -> None:
    server.go_wrong("search", kind, 99, seconds=20.0)
    began = time.monotonic()
    with pytest.raises(PaperError):
        await papers(tmp_path, seconds=0.5, attempts=1, most_bytes=20_000_000).search("warmdown")
    assert time.monotonic() - began < 5


async def test_an_abstract_of_ten_megabytes_is_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with HubServer(PAPERS, padding=10_000_000) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        found = await papers(tmp_path, seconds=60).search("warmdown")
    assert len(found[0].abstract) <= 6_000
    assert found[0].abstract.startswith(WARMDOWN.abstract)


async def test_a_paper_without_a_text_is_its_abstract(server: HubServer, tmp_path: Path) -> None:
    server.go_wrong(f"/papers/{WARMDOWN.id}.md", "404")
    passages = await papers(tmp_path).read(WARMDOWN.id)
    assert [each.text for each in passages] == [WARMDOWN.abstract]


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("2401.00001", "2401.00001"),
        ("arXiv:2401.00001v3", "2401.00001"),
        ("https://arxiv.org/pdf/2401.00001v3.pdf", "2401.00001"),
        ("https://huggingface.co/papers/2401.00001?x=1#2", "2401.00001"),
        ("hep-th/9901001", "hep-th/9901001"),
        ("2401.00001/../../x", None),
        ("", None),
    ],
)
def test_ids(text: str, id: str | None) -> None:
    assert arxiv_id(text) == id


@pytest.mark.real_hub
async def test_the_real_hub(tmp_path: Path) -> None:
    index = HubPapers(DocumentLibrary(None, tmp_path / "shelf.db"))
    found = await index.search("learning rate warmup", 5)
    assert 1 <= len(found) <= 5
    assert all(each.id and each.title and each.abstract for each in found)
    passages = await index.read(found[0].id)
    assert passages[0].id == f"{found[0].id}#1"
    await index.close()
