"""Artifacts: versioned items that know where they came from. Nothing is silently overwritten.

A name has versions 1, 2, …; each keeps its content (a blob), the scope that produced it, the event
that recorded it, what it rests on, and a status that changes only through a journaled mark.
"""

from __future__ import annotations

from enum import StrEnum

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
    """The fold of artifact events: name -> versions."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Artifact]] = {}

    def put(self, artifact: Artifact) -> None:
        """Add the next version; the accepted one before it, if any, is superseded on acceptance."""
        self._versions.setdefault(artifact.name, []).append(artifact)

    def next_version(self, name: str) -> int:
        return len(self._versions.get(name, ())) + 1

    def mark(self, name: str, version: int, status: ArtifactStatus, reason: str) -> None:
        versions = self._versions[name]
        if status is ArtifactStatus.ACCEPTED:
            for i, other in enumerate(versions):
                if other.status is ArtifactStatus.ACCEPTED and other.version != version:
                    versions[i] = other.model_copy(update={"status": ArtifactStatus.SUPERSEDED})
        i = version - 1
        versions[i] = versions[i].model_copy(update={"status": status, "reason": reason})

    def get(self, name: str, version: int | None = None) -> Artifact | None:
        """One version; None asks for the latest."""
        versions = self._versions.get(name, [])
        if version is None:
            return versions[-1] if versions else None
        return versions[version - 1] if 0 < version <= len(versions) else None

    def all(self) -> list[Artifact]:
        return [a for versions in self._versions.values() for a in versions]
