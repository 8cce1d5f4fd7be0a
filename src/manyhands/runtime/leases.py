"""Who drives a scope: a lease in the journal's file, beside the events.

Invariant: of a scope and those around and below it, one person at a time holds the lease; whoever
orders something shows the token of a lease that has not ended. The events say who took what, when,
and how it ended; heartbeats are no events.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from time import gmtime, strftime

from manyhands.errors import LeaseHeld, LeaseLost
from manyhands.runtime.holds import reaches

TABLE = """CREATE TABLE IF NOT EXISTS leases (
  run_id TEXT NOT NULL, target TEXT NOT NULL, owner TEXT NOT NULL, token TEXT NOT NULL,
  alone INTEGER NOT NULL, expires REAL NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (run_id, target))"""


@dataclass(frozen=True, slots=True)
class Lease:
    """``alone``: of the scope itself, and none below it. ``seconds``: how long it lasts without a
    heartbeat. ``token`` is a secret of its owner."""

    run_id: str
    target: str
    owner: str
    token: str
    seconds: float
    alone: bool = False


def take(
    db: sqlite3.Connection,
    run_id: str,
    target: str,
    owner: str,
    *,
    now: float,
    seconds: float,
    most: float,
    alone: bool,
) -> Lease:
    """Take the lease, for ``most`` seconds in all. Raises `LeaseHeld` where somebody else drives
    the scope, or what it would reach, or what reaches it."""
    db.execute(TABLE)
    for held, by, its, expires in db.execute(
        "SELECT target, owner, alone, expires FROM leases WHERE run_id=? AND expires>?",
        (run_id, now),
    ):
        if reaches(held, target, alone=bool(its)) or reaches(target, held, alone=alone):
            raise LeaseHeld(
                f"{held or 'the run'} is driven by {by} until "
                f"{strftime('%H:%M:%S', gmtime(expires))} UTC, if not renewed",
                next="wait for it to be handed back, or for its lease to end",
            )
    lease = Lease(run_id, target, owner, secrets.token_urlsafe(18), seconds, alone)
    db.execute(
        "INSERT OR REPLACE INTO leases VALUES (?,?,?,?,?,?,?)",
        (run_id, target, owner, lease.token, alone, now + min(seconds, most), now + most),
    )
    return lease


def check(db: sqlite3.Connection, lease: Lease, now: float) -> None:
    """Raises `LeaseLost` for one that has ended."""
    row = (
        db.execute(
            "SELECT 1 FROM leases WHERE run_id=? AND target=? AND token=? AND expires>?",
            (lease.run_id, lease.target, lease.token, now),
        ).fetchone()
        if _there(db)
        else None
    )
    if row is None:
        raise LeaseLost(
            f"the lease of {lease.owner} on {lease.target or 'the run'} has ended",
            next=f"take it again: manyhands takeover {lease.run_id} {lease.target}",
        )


def renew(db: sqlite3.Connection, lease: Lease, now: float) -> None:
    check(db, lease, now)
    db.execute(
        "UPDATE leases SET expires=min(?, until) WHERE run_id=? AND target=? AND token=?",
        (now + lease.seconds, lease.run_id, lease.target, lease.token),
    )


def give_up(db: sqlite3.Connection, lease: Lease, now: float) -> None:
    check(db, lease, now)
    db.execute("DELETE FROM leases WHERE run_id=? AND target=?", (lease.run_id, lease.target))


def expire(db: sqlite3.Connection, run_id: str, target: str, now: float) -> bool:
    """Whether nobody holds a lease on ``target`` that has not ended; what has is removed."""
    if not _there(db):
        return True
    where = "WHERE run_id=? AND target=?"
    row = db.execute(f"SELECT expires FROM leases {where}", (run_id, target)).fetchone()
    if row is not None and row[0] > now:
        return False
    db.execute(f"DELETE FROM leases {where}", (run_id, target))
    return True


def _there(db: sqlite3.Connection) -> bool:
    """A journal in which nobody has ever driven has no such table."""
    query = "SELECT 1 FROM sqlite_master WHERE type='table' AND name='leases'"
    return db.execute(query).fetchone() is not None
