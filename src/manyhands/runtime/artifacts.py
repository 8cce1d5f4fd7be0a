"""Artifacts: versioned items that know where they came from. Nothing is silently overwritten.

A name has versions 1, 2, …; each keeps its content (a blob), the scope that produced it, the event
that recorded it, what it rests on, and a status that changes only through a journaled mark.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class ArtifactStatus(StrEnum):
    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    STALE = "stale"


class Evidence(BaseModel):
    """What a claim rests on: a command and its output's hash, a file and its hash, a quote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    source: str
    hash: str = ""
    quote: str = ""


class Artifact(BaseModel):
    """``blob``: ``sha256:…``; ``producer``: a scope's path; ``seq``: the event that recorded it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    kind: str
    blob: str
    producer: str
    seq: int
    status: ArtifactStatus = ArtifactStatus.PROPOSED
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""


class Artifacts:
    """The fold of artifact events: name -> versions. At most one version of a name is accepted."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Artifact]] = {}

    def put(self, artifact: Artifact) -> None:
        """Add a version. One that is accepted supersedes the accepted one before it."""
        versions = self._versions.setdefault(artifact.name, {})
        if artifact.status is ArtifactStatus.ACCEPTED:
            self._supersede(artifact.name)
        versions[artifact.version] = artifact

    def _supersede(self, name: str) -> None:
        versions = self._versions[name]
        for version, other in versions.items():
            if other.status is ArtifactStatus.ACCEPTED:
                versions[version] = other.model_copy(update={"status": ArtifactStatus.SUPERSEDED})

    def next_version(self, name: str) -> int:
        return max(self._versions.get(name, ()), default=0) + 1

    def mark(self, name: str, version: int, status: ArtifactStatus, reason: str) -> None:
        if status is ArtifactStatus.ACCEPTED:
            self._supersede(name)
        versions = self._versions[name]
        update = {"status": status, "reason": reason}
        versions[version] = versions[version].model_copy(update=update)

    def mark_as(self, data: dict[str, Any]) -> None:
        """`mark`, as an event says it."""
        self.mark(data["name"], data["version"], ArtifactStatus(data["status"]), data["reason"])

    def get(self, name: str, version: int | None = None) -> Artifact | None:
        """One version; None asks for the latest."""
        versions = self._versions.get(name, {})
        return versions.get(max(versions, default=0) if version is None else version)

    def all(self) -> list[Artifact]:
        return [a for versions in self._versions.values() for a in versions.values()]
