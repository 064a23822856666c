"""Preflight of the server: version, rights to see, who is in the way, room for a copy. Reads only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rehearsal.catalog.findings import Finding
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
        yield Finding("server-version", "blocker", "server", f"version {row['version_text']}", "TID ranges and "
                      "other parts need PostgreSQL 14", "upgrade the server first")  # fmt: skip
    if row["is_standby"]:
        yield Finding("standby", "blocker", "server", "the server is a standby", "nothing can be written",
                      "name the primary in the inventory")  # fmt: skip
    if row["encoding"] == "SQL_ASCII":
        yield Finding("encoding", "blocker", "database", "its encoding is SQL_ASCII", "bytes of any kind stand for "
                      "text, and nobody can say which", "restore a dump of it in the encoding that it has")  # fmt: skip
    if not row["may_read_stats"]:
        yield Finding("right-read-stats", "blocker", "role", "the role may not read other sessions' state",
                      "blockers and old snapshots would not be seen", "grant pg_monitor to the role")  # fmt: skip
    if not row["may_create_database"]:
        yield Finding("right-createdb", "warning", "role", "the role may not create databases",
                      "the restore drill cannot run, and without it there is no GO", "alter role … createdb"
                      )  # fmt: skip
    for one in row["old_transactions"]:
        yield Finding("old-transaction", "warning", "server", one, "locks and the barrier would wait for it",
                      "end it, or rehearse when it has ended")  # fmt: skip
    for one in row["prepared"]:
        yield Finding("prepared-transaction", "warning", "server", f"prepared transaction {one}",
                      "locks and the barrier would wait for it", "commit or roll it back")  # fmt: skip


def check_drill(conn: Connection, scratch: Database) -> Iterator[Finding]:
    """Look whether the server lets the role into the scratch database of the restore drill; it is not made."""
    try:
        require_entry(conn, scratch)
    except CannotSee as exc:
        condition, _, remedy = str(exc).partition("; ")
        yield Finding("restore-drill", "warning", "server", condition, "the restore drill cannot run, and without it "
                      "there is no GO", remedy)  # fmt: skip


def check_room(need: int, free: int | None) -> Iterator[Finding]:
    """Look whether the disk has room for `need` bytes of tables, where it can be seen."""
    # Twin and its indexes, and as much WAL again (research: performance.md, 228 MB WAL for 190 MB of rows and indexes).
    if free is not None and free < 2 * need:
        yield Finding("room", "blocker", "disk", f"{free / 1e9:.1f} GB free, {2 * need / 1e9:.1f} GB needed",
                      "the copy would fill the disk", "free room or add a volume")  # fmt: skip


def check_wal_files(need: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    """Files that are used again cost nothing; a new one is filled with zeros and synced while all commits wait."""
    wanted, kept = min(need, server["max_wal_bytes"]), server["min_wal_bytes"]
    if kept < wanted:
        megabytes = math.ceil(wanted / (1 << 20))
        yield Finding("wal-files", "warning", "server", f"min_wal_size keeps {kept / 1e6:.0f} MB of WAL files, the "
                      f"change writes {need / 1e6:.0f} MB", "commits wait tens of milliseconds whenever a WAL file is "
                      "made", f"set min_wal_size = '{megabytes}MB' some checkpoints before")  # fmt: skip


def check_lock_slots(leaves: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    """Look whether a statement may lock all partitions with their indexes."""
    slots = server["max_locks"] * server["max_connections"]
    if leaves * 4 > slots:
        yield Finding("lock-slots", "warning", "server", f"{slots} lock slots in all", "statements that touch all "
                      "partitions may fail with 'out of shared memory'", "raise max_locks_per_transaction")  # fmt: skip
