"""What a task is given of the context store: by name always, the rest by relevance and room."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from manyhands.errors import ToolError
from manyhands.runtime import ArtifactStatus, Evidence
from manyhands.teams.code.items import Entry, Relation
from manyhands.teams.code.packing import MOST_NAMED, LeftOut, pack
from manyhands.teams.code.store import Store


def entry(id: str, content: str, seq: int = 0, **more: object) -> Entry:
    given = {"version": 1, "kind": "fact", "producer": "t1", "agent": "run/t1", "blob": "", **more}
    return Entry.model_validate({"id": id, "content": content, "seq": seq, **given})


def store_of(*entries: Entry) -> Store:
    return Store({each.ref: each for each in entries})


def refs(store: Store, named: Sequence[str], text: str, budget: int) -> list[str]:
    packed = pack(store, named, text, budget)
    return [each.origin.removeprefix("context/") for each in packed.items]


def test_an_item_says_where_it_is_from_and_how_it_stands() -> None:
    rests = (Evidence(kind="file", source="a\nb.py", hash="sha256:0123456789abcdef"),)
    store = store_of(entry("port", "It is 80.\n# not a heading", evidence=rests))
    (item,) = pack(store, [], "", 1000).items
    assert item.title == "fact port@1 (verified)"
    assert (item.origin, item.agent, item.status) == ("context/port@1", "t1", "added")
    assert item.text == (
        "fact port@1, verified, by t1\nrests on file a b.py sha256:0123456789ab\n\n"
        "It is 80.\n# not a heading"
    )


def test_what_bears_on_the_task_comes_first() -> None:
    store = store_of(
        entry("style", "Lines have 100 characters.", 1),
        entry("login", "The loginHandler checks the password hash.", 2),
        entry("old", "Something about the database.", 3),
        entry("pass", "Tests of the password: see test_login_handler.", 4),
    )
    text = "Fix the login handler: it takes any password."
    assert refs(store, [], text, 10_000) == ["login@1", "pass@1", "old@1", "style@1"]
    assert refs(store, ["style"], text, 10_000)[0] == "style@1"


def test_rare_words_count_more_than_common_ones_and_ties_go_to_the_newest() -> None:
    common = [entry(f"c{n}", f"the server does thing {n}", n) for n in range(5)]
    store = store_of(*common, entry("rare", "the zlib does thing x", 0))
    assert refs(store, [], "server zlib", 10_000) == [
        "rare@1",
        *(f"c{n}@1" for n in (4, 3, 2, 1, 0)),
    ]


def test_what_does_not_fit_is_named_with_its_size_and_a_smaller_one_may_still_fit() -> None:
    store = store_of(entry("big", "zlib " * 200, 1), entry("small", "other", 2))
    packed = pack(store, [], "zlib", 500)
    assert [item.origin for item in packed.items] == ["context/small@1", "context"]
    (left,) = packed.left_out
    assert left == LeftOut("big@1", len(b"fact big@1, asserted, by t1\n\n" + b"zlib " * 200))
    assert packed.items[-1].text == (
        f"Left out for want of room, the most relevant first: big@1 ({left.bytes} bytes)."
    )
    assert packed.bytes == len(packed.items[0].text.encode())


def test_bytes_are_counted_not_characters() -> None:
    store = store_of(entry("a", "é" * 100))
    size = len("fact a@1, asserted, by t1\n\n") + 200
    assert [len(pack(store, [], "", size - n).left_out) for n in (0, 1)] == [0, 1]


def test_what_is_asked_for_by_name_is_given_beyond_the_budget_and_that_is_said() -> None:
    store = store_of(entry("a", "x" * 300, 1), entry("b", "y", 2))
    packed = pack(store, ["a"], "y", 100)
    assert [item.origin for item in packed.items] == ["context/a@1", "context"]
    first, second = packed.items[-1].text.splitlines()
    assert first == f"What was asked for by name takes {packed.bytes} bytes, of 100 for all."
    assert second.startswith("Left out for want of room, the most relevant first: b@1 (")


def test_what_is_not_in_force_is_given_only_by_name_and_marked() -> None:
    stale = entry("s", "Old.", 1, status=ArtifactStatus.STALE, reason="since v2: a.py has changed")
    gone = entry("g", "Older.", 2, status=ArtifactStatus.SUPERSEDED, reason="by h@1 of t2")
    store = store_of(stale, gone)
    assert refs(store, [], "Old Older", 1000) == []
    items = pack(store, ["s", "g@1"], "", 1000).items
    assert [item.title for item in items] == ["fact s@1 (stale)", "fact g@1 (superseded)"]
    assert items[0].text.splitlines()[1] == "stale since v2: a.py has changed"
    assert items[1].text.splitlines()[1] == "superseded by h@1 of t2"


def test_a_disputed_item_names_what_contradicts_it() -> None:
    relation = (Relation(ref="a@1", why="number 10 against 20"),)
    store = store_of(entry("a", "10", 1), entry("b", "20", 2, contradicts=relation))
    for item, other in zip(pack(store, ["a", "b"], "", 1000).items, ("b@1", "a@1")):
        assert item.title.endswith("(disputed)")
        assert f"contradicted by {other}: number 10 against 20" in item.text


def test_a_name_that_means_nothing_is_refused_before_anything_is_given() -> None:
    with pytest.raises(ToolError, match="no task 'parsre'") as caught:
        pack(store_of(entry("parser", "x")), ["parser", "parsre"], "", 1000)
    assert "parser" in caught.value.next


def test_of_many_that_were_left_out_the_first_are_named() -> None:
    store = store_of(*(entry(f"n{n}", "text", n) for n in range(MOST_NAMED + 5)))
    packed = pack(store, [], "text", 0)
    assert len(packed.left_out) == MOST_NAMED + 5
    assert packed.items[-1].text.endswith("and 5 more.")
    assert packed.items[-1].text.count("bytes") == MOST_NAMED


def test_nothing_gives_nothing() -> None:
    assert pack(Store(), [], "text", 0).items == ()
