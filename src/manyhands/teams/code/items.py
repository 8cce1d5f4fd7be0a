"""What the context store holds and says. All of it is journaled, so all of it is frozen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from manyhands.agents.encoding import clean
from manyhands.runtime import ArtifactStatus, Evidence

#: Of one item's content, in characters.
MOST_CONTENT = 40_000
#: Artifacts of the store are named so.
PREFIX = "context/"

Kind = Literal["fact", "file", "plan", "decision", "command", "risk"]
ItemId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
#: What its content rests on: ``verified`` by a hash that still holds, only ``asserted``; or how it
#: stands otherwise.
State = Literal["verified", "asserted", "disputed", "stale", "superseded"]

#: What a later one never undoes, whatever order a replay brings them in.
RANKS = {
    ArtifactStatus.PROPOSED: 0,
    ArtifactStatus.STALE: 1,
    ArtifactStatus.SUPERSEDED: 2,
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(_Record):
    """An item as a task offers it.

    ``evidence``: ``file`` (``source``: path, ``hash``: of the file then) or ``command`` (``hash``:
    of its output); without any it is asserted. ``supersedes``: an id, or ``id@version``.
    """

    id: ItemId
    kind: Kind = "fact"
    content: str = Field(min_length=1, max_length=MOST_CONTENT)
    evidence: tuple[Evidence, ...] = ()
    supersedes: str = ""

    @field_validator("content", "supersedes", mode="before")
    @classmethod
    def _utf8(cls, text: object) -> object:
        return clean(text) if isinstance(text, str) else text


class Relation(_Record):
    """Another item, and how this one stands to it."""

    ref: str
    why: str


class Judgement(_Record):
    """What an offer is to the items there are. ``refused``: why it is none at all; ``stale``: why
    it does not hold any more."""

    supersedes: tuple[str, ...] = ()
    duplicates: tuple[Relation, ...] = ()
    contradicts: tuple[Relation, ...] = ()
    stale: str = ""
    refused: str = ""
    next: str = ""


class Added(_Record):
    """What an offer became; it is kept in any case. ``stale``: a file that it rests on is another
    one already, and why."""

    ref: str
    version: int
    supersedes: tuple[str, ...] = ()
    duplicates: tuple[Relation, ...] = ()
    contradicts: tuple[Relation, ...] = ()
    stale: str = ""

    def __str__(self) -> str:
        said = [f"{self.ref}: {'a new item' if self.version == 1 else 'a new version'}"]
        said += [f"supersedes {ref}" for ref in self.supersedes]
        said += [f"repeats {each.ref} ({each.why})" for each in self.duplicates]
        said += [f"CONTRADICTS {each.ref} ({each.why})" for each in self.contradicts]
        said += [f"stale {self.stale}"] if self.stale else []
        return "; ".join(said)


class Stale(_Record):
    """What a look at the files found: item -> why it is stale now."""

    items: dict[str, str]


class Entry(_Record):
    """One version of an item. ``producer``: a task; ``agent``: the scope that put it; ``seq`` and
    ``blob``: of its artifact; ``reason``: why it is stale or superseded."""

    id: str
    version: int
    kind: Kind
    content: str
    producer: str
    agent: str
    seq: int
    blob: str
    status: ArtifactStatus = ArtifactStatus.PROPOSED
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    duplicates: tuple[Relation, ...] = ()
    contradicts: tuple[Relation, ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.id}@{self.version}"

    @property
    def origin(self) -> str:
        """Its artifact."""
        return f"{PREFIX}{self.ref}"

    @property
    def in_force(self) -> bool:
        return self.status is ArtifactStatus.PROPOSED

    @property
    def over(self) -> bool:
        """Another item has taken its place."""
        return self.status is ArtifactStatus.SUPERSEDED

    @property
    def verified(self) -> bool:
        """Something with a hash bears it out."""
        return any(each.kind in ("file", "command") and each.hash for each in self.evidence)
