"""Preflight of the server: version, rights to see, who is in the way, room for a copy. Reads only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rehearsal.catalog.findings import Finding
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.checks.scratch import require_entry
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection

OLDEST = 140000
# What only a rehearsal needs, and not before its restore drill.
OF_THE_DRILL = ("right-createdb", "restore-drill")


def check_server(row: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at version and role of the server, what the role may see, and who holds old transactions."""
    if row["version"] < OLDEST:
        yield finding("server-version", "server", version=row["version_text"])
    if row["is_standby"]:
        yield finding("standby", "server")
    if row["encoding"] == "SQL_ASCII":
        yield finding("encoding", "database")
    if not row["may_read_stats"]:
        yield finding("right-read-stats", "role")
    if not row["may_create_database"]:
        yield finding("right-createdb", "role")
    for session in row["old_transactions"]:
        yield finding("old-transaction", "server", session=session)
    for name in row["prepared"]:
        yield finding("prepared-transaction", "server", name=name)


def check_drill(conn: Connection, scratch: Database) -> Iterator[Finding]:
    """Look whether the server lets the role into the scratch database of the restore drill; it is not made."""
    try:
        require_entry(conn, scratch)
    except CannotSee as exc:
        condition, _, remedy = str(exc).partition("; ")
        yield finding("restore-drill", "server", condition=condition, remedy=remedy)


def check_room(need: int, free: int | None) -> Iterator[Finding]:
    """Look whether the disk has room for `need` bytes of tables, where it can be seen."""
    # Target and its indexes, and as much WAL again (measured: 228 MB for 190 MB of rows and indexes).
    if free is not None and free < 2 * need:
        yield finding("room", "disk", free=f"{free / 1e9:.1f}", needed=f"{2 * need / 1e9:.1f}")


def check_wal_files(need: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    """Files that are used again cost nothing; a new one is filled with zeros and synced while all commits wait."""
    wanted, kept = min(need, server["max_wal_bytes"]), server["min_wal_bytes"]
    if kept < wanted:
        words = {"kept": f"{kept / 1e6:.0f}", "written": f"{need / 1e6:.0f}", "wanted": math.ceil(wanted / (1 << 20))}
        yield finding("wal-files", "server", **words)


def check_lock_slots(leaves: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    """Look whether a statement may lock all partitions with their indexes."""
    slots = server["max_locks"] * server["max_connections"]
    if leaves * 4 > slots:
        yield finding("lock-slots", "server", slots=slots)
