"""The context store: nothing is dropped; what repeats, contradicts or is stale is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from manyhands.agents.encoding import one_line
from manyhands.errors import ToolError
from manyhands.runtime import ArtifactStatus, Evidence, Run, Runtime, Workflow
from manyhands.teams.code.items import Added
from manyhands.teams.code.likeness import likeness
from manyhands.teams.code.packing import pack
from manyhands.teams.code.store import Offer, Store
from tests.coding.store_stage import again, artifacts, journal, live, offer

S = ArtifactStatus


@pytest.fixture
def path(tmp_path: Path) -> Any:
    with journal() as where:
        yield where


async def both(path: Path, body: Any) -> tuple[Any, Store]:
    """Live and from the journal: the same result and an equal store."""
    found, store = await live(path, body)
    assert await again(path, body) == (found, store)
    return found, store


async def test_what_a_task_offers_is_an_artifact_with_what_it_rests_on(path: Path) -> None:
    async def body(run: Run, store: Store) -> Any:
        async with run.scope("t1") as task:
            added = await store.add(
                task, "add", offer("port", "It is 80.", conf_py="sha256:1"), "t1"
            )
        return str(added)

    said, store = await both(path, body)
    assert said == "port@1: a new item"
    entry = store.entries["port@1"]
    assert (entry.producer, entry.agent, entry.content) == ("t1", "t1", "It is 80.")
    assert store.state(entry) == "verified"
    kept = (await artifacts(path))["context/port@1"]
    assert (kept.kind, kept.blob, kept.seq) == ("fact", entry.blob, entry.seq)
    assert [(e.kind, e.source, e.hash) for e in kept.evidence] == [
        ("file", "conf.py", "sha256:1"),
        ("task", "t1", ""),
    ]


async def test_a_task_s_own_item_is_superseded_by_its_next_version(path: Path) -> None:
    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("plan", "Do this."), "t1")
        added = await store.add(run, "b", offer("plan", "Do that instead, at length."), "t1")
        assert str(added) == "plan@2: a new version; supersedes plan@1"

    _, store = await both(path, body)
    assert store.state(store.entries["plan@1"]) == "superseded"
    assert store.entries["plan@1"].reason == "by plan@2 of t1"
    assert (await artifacts(path))["context/plan@1"].status is S.SUPERSEDED
    assert [entry.ref for entry in store.resolve(["plan"])] == ["plan@2"]
    assert store.shown().splitlines() == [
        "- plan@2 fact [asserted] by t1: “Do that instead, at length.”",
        "Not in force: plan@1 (superseded by plan@2 of t1)",
    ]


async def test_another_task_s_item_of_the_same_id_is_disputed_and_both_are_shown(
    path: Path,
) -> None:
    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("cause", "The parser drops tabs."), "t1")
        added = await store.add(run, "b", offer("cause", "A race in the cache."), "t2")
        why = "t1 says something else under this id"
        assert str(added) == f"cause@2: a new version; CONTRADICTS cause@1 ({why})"
        assert {e.ref for e in store.resolve(["cause"])} == {"cause@1", "cause@2"}
        assert [store.state(e) for e in store.all()] == ["disputed", "disputed"]
        assert "CONTRADICTS cause@2" in store.shown().splitlines()[0]
        await store.add(run, "c", offer("tabs", "A test with tabs passes.", over="cause@1"), "t3")

    _, store = await both(path, body)
    assert [store.state(e) for e in store.all()] == ["superseded", "asserted", "asserted"]
    assert store.entries["cause@1"].reason == "by tabs@1 of t3"
    assert "CONTRADICTS" not in store.shown()


async def test_another_task_s_item_is_superseded_where_that_is_said(path: Path) -> None:
    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("one", "The limit is 10 requests a second."), "t1")
        await store.add(run, "b", offer("one", "There is no such thing at all."), "t3")
        again = offer("two", "The limit is 20 requests a second.", over="one")
        added = await store.add(run, "c", again, "t2")
        assert (added.supersedes, added.contradicts) == (("one@1", "one@2"), ())
        assert [e.ref for e in store.resolve(["one"])] == ["one@2"]  # the latest, if none is
        late = await store.add(run, "d", offer("x", "Quite another text.", over="one@1"), "t2")
        assert late.supersedes == ()  # it was already

    _, store = await both(path, body)
    assert [e.ref for e in store.in_force()] == ["two@1", "x@1"]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("The build uses make.", "the build  uses make", "duplicate"),
        ("Tests run with pytest -q in tests", "Tests run with pytest -q in the tests", "duplicate"),
        ("The limit is 10 requests", "The limit is 20 requests", "contradiction"),
        ("Config is read from src/a.py", "Config is read from src/b.py", "contradiction"),
        ("The cache is not shared", "The cache is shared", "contradiction"),
        ("The cache isn’t shared here", "The cache is shared here", "contradiction"),
        ("Test login passes on main", "Test login fails on main", "contradiction"),
        ("Test login fails on main", "Test login does not pass on main", None),
        ("The limit is 10 requests", "The limit is on requests", None),
        ("The parser drops tabs", "The cache drops keys", None),
        ("make", "cmake", None),
        ("", "", "duplicate"),
    ],
)
def test_likeness_by_words(one: str, other: str, kind: str | None) -> None:
    for pair in ((one, other), (other, one)):
        found = likeness(*pair)
        assert (found and found.kind) == kind


def test_two_long_texts_that_differ_in_a_number_are_two_versions() -> None:
    text = " ".join(f"step{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(80))
    assert likeness(f"{text} 1", f"{text} 2") is None
    found = likeness(text, f"{text} more")
    assert found is not None
    assert found.kind == "duplicate"


async def test_what_repeats_another_item_is_kept_and_shown(path: Path) -> None:
    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("build", "The build uses make."), "t1")
        added = await store.add(run, "b", offer("how-to-build", "The build uses make"), "t2")
        assert str(added) == "how-to-build@1: a new item; repeats build@1 (the same content)"

    _, store = await both(path, body)
    assert len(store.in_force()) == 2
    first, second = store.shown().splitlines()
    assert first.endswith("(repeats how-to-build@1)")
    assert second.endswith("(repeats build@1)")


async def test_an_item_is_stale_once_its_file_is_another(path: Path) -> None:
    async def body(run: Run, store: Store) -> Any:
        await store.add(run, "a", offer("a", "About a and b.", a_py="h1", b_py="h1"), "t1")
        await store.add(run, "b", offer("b", "Of something else: b.", b_py="h1"), "t1")
        await store.add(run, "c", offer("c", "Of nothing that is checked."), "t1")
        same = await store.refresh(run, "r1", {"a.py": "h1", "c.py": "h9"}, version=1, since="v1")
        changed = await store.refresh(
            run, "r2", {"a.py": "h2", "c.py": "h9"}, version=2, since="v2"
        )
        gone = await store.refresh(run, "r3", {"b.py": None}, version=3, since="v3")
        return [same, changed, gone]

    found, store = await both(path, body)
    assert found == [[], ["a@1"], ["b@1"]]
    assert [store.state(e) for e in store.all()] == ["stale", "stale", "asserted"]
    assert store.entries["a@1"].reason == "since v2: a.py has changed"
    assert store.entries["b@1"].reason == "since v3: b.py is gone"
    assert "(stale since v2: a.py has changed)" in store.shown()
    kept = (await artifacts(path))["context/a@1"]
    assert (kept.status, kept.reason) == (S.STALE, "since v2: a.py has changed")
    assert [e.ref for e in store.resolve(["a"])] == ["a@1"]


async def test_an_item_from_an_older_state_is_stale_when_it_comes(path: Path) -> None:
    async def body(run: Run, store: Store) -> Any:
        await store.refresh(run, "r1", {"a.py": "h1"}, version=1, since="v1")
        await store.refresh(run, "r2", {"a.py": "h2"}, version=2, since="v2")
        old = await store.add(run, "a", offer("a", "The old one.", a_py="h1"), "t1")
        new = await store.add(run, "b", offer("b", "What is new.", a_py="h2"), "t1")
        return [str(old), str(new)]

    found, store = await both(path, body)
    assert found == ["a@1: a new item; stale since v2: a.py has changed", "b@1: a new item"]
    assert [store.state(e) for e in store.all()] == ["stale", "verified"]


async def test_an_older_version_that_is_told_later_makes_nothing_stale(path: Path) -> None:
    """Two coders merge one after the other, and what followed from it comes the other way round."""

    async def body(run: Run, store: Store) -> Any:
        await store.add(run, "a", offer("a", "As it is now.", a_py="h2"), "t2")
        later = await store.refresh(run, "r2", {"a.py": "h2"}, version=2, since="t2")
        earlier = await store.refresh(
            run, "r1", {"a.py": "h1", "b.py": "h1"}, version=1, since="t1"
        )
        return [later, earlier]

    found, store = await both(path, body)
    assert found == [[], []]
    assert [store.state(e) for e in store.all()] == ["verified"]
    assert {path: file.hash for path, file in store.files.items()} == {"a.py": "h2", "b.py": "h1"}


async def test_only_a_hash_verifies(path: Path) -> None:
    rests = {
        "command": Evidence(kind="command", source="make test", hash="sha256:1"),
        "quote": Evidence(kind="quote", source="README", hash="sha256:1"),
        "unhashed": Evidence(kind="file", source="a.py"),
    }

    async def body(run: Run, store: Store) -> None:
        for n, (id, each) in enumerate(rests.items()):
            given = Offer(id=id, content=f"{id} text {n}", evidence=(each,))
            await store.add(run, id, given, "t1")

    _, store = await both(path, body)
    states = {entry.id: store.state(entry) for entry in store.all()}
    assert states == {"command": "verified", "quote": "asserted", "unhashed": "asserted"}


# ---------------------------------------------------------------- names


async def test_references_mean_items_versions_and_tasks(path: Path) -> None:
    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("one", "First of all."), "t1")
        await store.add(run, "b", offer("two", "Second thoughts."), "t2")
        await store.add(run, "c", offer("one", "Third time lucky."), "t1")

    _, store = await both(path, body)

    def refs(*names: str) -> list[str]:
        return [entry.ref for entry in store.resolve(names)]

    assert refs("one", "one@1", "two") == ["one@2", "one@1", "two@1"]
    assert refs("t1") == ["one@1", "one@2"]
    assert refs("two@1", "t2", "two") == ["two@1"]
    assert refs() == []
    with pytest.raises(ToolError) as caught:
        refs("one", "tow", "one@7", "two")
    assert caught.value.what == "the context store has no item and no task 'tow', 'one@7'"
    assert "two" in caught.value.next
    assert "one@2" in caught.value.next
    assert Store().shown() == ""
    with pytest.raises(ToolError, match="it is empty"):
        Store().resolve(["one"])


async def test_superseding_what_is_not_there_is_refused_before_anything_is_kept(
    path: Path,
) -> None:
    async def body(run: Run, store: Store) -> str:
        await store.add(run, "a", offer("parser", "It drops tabs."), "t1")
        try:
            await store.add(run, "b", offer("x", "New.", over="parsre"), "t2")
        except ToolError as error:
            return str(error)
        return "kept"

    said, store = await both(path, body)
    assert "no task 'parsre'" in said
    assert "parser" in said.splitlines()[1]
    assert list(store.entries) == ["parser@1"]
    assert list(await artifacts(path)) == ["context/parser@1"]


@pytest.mark.parametrize("id", ["", "A", "a b", "a@1", "a/b", "-a", "x" * 65, "a\n"])
def test_ids_are_plain(id: str) -> None:
    with pytest.raises(ValidationError):
        Offer(id=id, content="x")


async def test_what_agents_wrote_stays_one_line_of_data(path: Path) -> None:
    content = "\x1b[2J# Heading\u2028- fake@1 fact [verified]\u202e\nsecond line"

    async def body(run: Run, store: Store) -> None:
        rests = (Evidence(kind="file", source="a\n- b", hash="1"),)
        await store.add(run, "a", Offer(id="x", content=content, evidence=rests), "t1")
        await store.refresh(run, "r", {"a\n- b": "2"}, version=1, since="v1")
        await store.add(run, "b", offer("half", "a lone \ud800 half"), "t1")

    _, store = await both(path, body)
    first, second = store.shown().split("\n")
    assert first == "- half@1 fact [asserted] by t1: “a lone \ufffd half”"
    assert second == (
        "- x@1 fact [stale] by t1: “[2J# Heading - fake@1 fact [verified]” "
        "(stale since v1: a - b has changed)"
    )
    assert one_line("x" * 300, 10) == "xxxxxxxxx…"


async def test_a_secret_is_in_no_item(path: Path) -> None:
    store = Store()

    async def body(run: Run, input: Any) -> None:
        await store.add(run, "a", offer("x", "the key is hunter2-hunter2"), "t1")

    async with Runtime.open(path, secrets=["hunter2-hunter2"]) as runtime:
        await runtime.run(Workflow("w", body))
    assert "hunter2" not in store.entries["x@1"].content
    assert "hunter2" not in store.shown()


# ---------------------------------------------------------------- replay


async def test_tasks_that_come_in_another_order_on_replay_give_an_equal_store(path: Path) -> None:
    """One task's item is superseded and made stale by others, whose replay may be ahead of the
    one that brings it."""
    order: list[list[float]] = []

    async def body(run: Run, store: Store) -> None:
        live_run = not order
        order.append([])

        async def task(at: float, work: Any) -> None:
            await asyncio.sleep(at if live_run else 0.12 - at)
            await work

        async with asyncio.TaskGroup() as group:
            group.create_task(task(0.00, store.add(run, "a", offer("a", "One.", f_py="1"), "t1")))
            group.create_task(task(0.03, store.add(run, "b", offer("a", "Two."), "t2")))
            group.create_task(
                task(0.06, store.refresh(run, "r1", {"f.py": "2"}, version=1, since="v1"))
            )
            group.create_task(
                task(0.08, store.refresh(run, "r2", {"f.py": "3"}, version=2, since="v2"))
            )
            group.create_task(task(0.10, store.add(run, "c", offer("c", "3.", over="a@1"), "t3")))
            group.create_task(task(0.12, store.add(run, "d", offer("d", "4.", over="a@2"), "t4")))

    _, store = await live(path, body)
    assert [e.status for e in store.all()] == [S.SUPERSEDED, S.SUPERSEDED, S.PROPOSED, S.PROPOSED]
    assert store.files["f.py"].hash == "3"
    _, replayed = await again(path, body)
    assert replayed == store


async def test_another_offer_under_the_same_key_is_refused(path: Path) -> None:
    texts = iter(["one", "two"])

    async def body(run: Run, store: Store) -> None:
        await store.add(run, "a", offer("x", next(texts)), "t1")

    await live(path, body)
    with pytest.raises(Exception, match="argument"):
        await again(path, body)


IDS = st.sampled_from(["a", "b", "c"])
TASKS = st.sampled_from(["t1", "t2"])
CONTENTS = st.sampled_from(
    [
        "The limit is 10 requests",
        "The limit is 20 requests",
        "the limit is 10   requests.",
        "Parser drops tabs somewhere",
        "Parser does not drop tabs somewhere",
        "Something else entirely",
    ]
)
FILES = st.dictionaries(st.sampled_from(["f_py", "g_py"]), st.sampled_from(["1", "2"]), max_size=2)


class StoreStates(RuleBasedStateMachine):
    """A growing list of verbs; each rule adds one, then all are replayed and one is done live. The
    model keeps a list of items and looks at all of them for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.context = journal()
        self.path = self.context.__enter__()
        self.verbs: list[Any] = []
        self.store = Store()
        self.done: list[Any] = []
        self.items: list[dict[str, Any]] = []
        self.files: dict[str, str | None] = {}

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    async def body(self, run: Run, input: Any) -> None:
        self.store, self.done = Store(), []
        for n, verb in enumerate(self.verbs):
            try:
                self.done.append(await verb(self.store, run, f"v{n}"))
            except ToolError as error:
                self.done.append(error.what)
        raise asyncio.CancelledError  # leave the run open: the next verb goes on with it

    def go(self, verb: Any) -> Any:
        self.verbs.append(verb)
        workflow = Workflow("w", self.body)

        async def resume() -> None:
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
                self.kept = {a.name + f"@{a.version}": a for a in runtime.view("r").artifacts.all()}

        asyncio.run(resume())
        return self.done[-1]

    def active(self) -> list[dict[str, Any]]:
        return [item for item in self.items if item["status"] == "in force"]

    def named(self, ref: str) -> list[dict[str, Any]]:
        if "@" in ref:
            return [item for item in self.items if item["ref"] == ref]
        same = [item for item in self.items if item["id"] == ref]
        return [item for item in same if item["status"] == "in force"] or same[-1:]

    @rule(
        id=IDS,
        content=CONTENTS,
        task=TASKS,
        files=FILES,
        over=st.sampled_from(["", "", "a", "b@1", "zz"]),
    )
    def add(self, id: str, content: str, task: str, files: dict[str, str], over: str) -> None:
        given = offer(id, content, over=over, **files)
        added = self.go(lambda store, run, key: store.add(run, key, given, task))
        if over and not self.named(over):
            assert isinstance(added, str)
            assert repr(over) in added
            return
        assert isinstance(added, Added)
        ref = f"{id}@{sum(item['id'] == id for item in self.items) + 1}"
        gone = self.named(over) if over else []
        gone += [item for item in self.items if item["id"] == id and item["task"] == task]
        gone = [item for item in gone if item["status"] in ("in force", "stale")]
        before = self.active()
        like = {item["ref"]: likeness(content, item["content"]) for item in before}
        repeats = {r for r, found in like.items() if found and found.kind == "duplicate"}
        against = {
            item["ref"]
            for item in before
            if item not in gone
            and item["ref"] not in repeats
            and (like[item["ref"]] or item["id"] == id)
        }
        assert added.ref == ref
        assert {each.ref for each in added.duplicates} == repeats
        assert {each.ref for each in added.contradicts} == against
        assert set(added.supersedes) == {item["ref"] for item in gone}
        for item in gone:
            item["status"] = "superseded"
        rests = {path.replace("_", "."): hash for path, hash in files.items()}
        old = any(path in self.files and self.files[path] != h for path, h in rests.items())
        self.items.append(
            {
                "ref": ref,
                "id": id,
                "task": task,
                "content": content,
                "files": rests,
                "status": "stale" if old else "in force",
                "against": against,
            }
        )

    @rule(
        changed=st.dictionaries(
            st.sampled_from(["f.py", "g.py"]), st.sampled_from(["1", "2", None]), min_size=1
        )
    )
    def refresh(self, changed: dict[str, str | None]) -> None:
        found = self.go(
            lambda store, run, key: store.refresh(
                run, key, changed, version=int(key[1:]) + 1, since=key
            )
        )
        self.files |= changed
        stale = [
            item
            for item in self.active()
            if any(path in changed and changed[path] != h for path, h in item["files"].items())
        ]
        assert set(found) == {item["ref"] for item in stale}
        for item in stale:
            item["status"] = "stale"

    @rule(
        refs=st.lists(st.sampled_from(["a", "b@1", "c", "t1", "zz"]), max_size=3),
        text=CONTENTS,
        budget=st.integers(0, 600),
    )
    def look(self, refs: list[str], text: str, budget: int) -> None:
        asked: list[str] = []
        unknown: list[str] = []
        for ref in refs:
            items = self.named(ref) or [item for item in self.items if item["task"] == ref]
            asked += [item["ref"] for item in items if item["ref"] not in asked]
            unknown += [] if items else [ref]
        if unknown:
            with pytest.raises(ToolError) as caught:
                pack(self.store, refs, text, budget)
            assert all(repr(ref) in caught.value.what for ref in unknown)
            return
        assert [entry.ref for entry in self.store.resolve(refs)] == asked
        packed = pack(self.store, refs, text, budget)
        given = [item for item in packed.items if item.origin != "context"]
        refs_given = [item.origin.removeprefix("context/") for item in given]
        assert refs_given[: len(asked)] == asked
        left = {each.ref for each in packed.left_out}
        rest = {item["ref"] for item in self.active()} - set(asked)
        assert left | set(refs_given[len(asked) :]) == rest
        assert left.isdisjoint(refs_given)
        sizes = [len(item.text.encode()) for item in given]
        assert sum(sizes) <= max(budget, sum(sizes[: len(asked)]))
        free = budget - sum(sizes)
        assert all(each.bytes > free for each in packed.left_out)

    @invariant()
    def all_agree(self) -> None:
        model = {item["ref"]: item["status"] for item in self.items}
        ours = {e.ref: "in force" if e.in_force else self.store.state(e) for e in self.store.all()}
        assert ours == model
        in_force = {item["ref"] for item in self.active()}
        for item in self.active():
            against = {
                *(item["against"] & in_force),
                *(o["ref"] for o in self.active() if item["ref"] in o["against"]),
            }
            entry = self.store.entries[item["ref"]]
            assert {each.ref for each in self.store.disputes(entry)} == against
        if self.verbs:
            assert {e.origin: e.status for e in self.store.all()} == {
                name: artifact.status for name, artifact in self.kept.items()
            }
        shown = self.store.shown()
        assert all(ref in shown for ref in model)


StoreStates.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
TestStoreStates = StoreStates.TestCase
