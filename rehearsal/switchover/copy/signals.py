"""What the application and the server feel while rows are copied: one reading after the other. Reads only.

Owns the queries behind `[pace]`. What the role or this machine cannot see is None in a reading and named in `blind`.
Takes no lock but ACCESS SHARE on the source, for lookups by its primary key.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import errors, sql
from psycopg.rows import dict_row

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles

SAMPLES = 5
PROBED_KEYS = 100
# A lookup that takes longer is given up: it says enough.
PATIENCE_MS = 1_000
LOOPBACK = ("127.0.0.1", "::1", "localhost", "")
# /proc/cpuinfo has the host's cores, the control group what the server may use of them.
CORE = re.compile(r"^processor\s*:", re.MULTILINE)
QUOTA = re.compile(r"^(\d+) (\d+)")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at one moment; None where nothing can be seen or there is no such thing."""

    busy: float | None = None
    others: bool | None = None
    probe_ms: float | None = None
    replica_lag_s: float | None = None
    slot_bytes: float | None = None
    wal_mb_s: float | None = None
    archive_queue: int | None = None
    free_bytes: int | None = None
    xmin_age: int | None = None


class Signals:
    """A session that reads the signals of one server and probes one table."""

    def __init__(self, database: Database, files: SqlFiles, source: Name, key: tuple[str, ...]) -> None:
        self._conn = connect(database, role="throttle")
        self._queries = {
            name: files.query(f"switchover/copy/{name}.sql") for name in ("signals", "busy", "others", "rights")
        }
        self._rights = self._row("rights")
        self._last: tuple[float, float] | None = None
        self._probe = Probe(self._conn, source, key)
        self._disk = _data_folder(self._conn, database, self._rights)
        self.cores = (_cores(self._conn) if self._rights["files"] else None) or database.cores

    def close(self) -> None:
        """End the session."""
        self._conn.close()

    @property
    def blind(self) -> list[str]:
        """What cannot be seen, and what to do about it."""
        rights = self._rights
        said = {
            "sessions at work (some are taken for granted), lag of standbys, old snapshots: grant pg_monitor to the "
            "role": rights["activity"],
            "WAL files that wait to be archived: grant pg_monitor to the role": rights["archive_queue"]
            or not rights["archives"],
            "the server's cores: name pace.cores in the plan, or db_cores in the inventory": self.cores is not None,
            "room on the server's disk: it is seen on the server's own host only": self._disk is not None,
        }
        return [text for text, seen in said.items() if not seen]

    def read(self, stop: threading.Event, seconds: float) -> Reading:
        """Sample for so many seconds, or until `stop` is set, and return what was seen."""
        busy: list[int] = []
        probes: list[float] = []
        for _ in range(SAMPLES):
            if self._rights["activity"]:
                busy.append(int(scalar(self._conn, self._queries["busy"])))
            probes.append(self._probe.milliseconds())
            if stop.wait(seconds / SAMPLES):
                break
        row = self._row("signals")
        return Reading(
            busy=statistics.fmean(busy) if busy else None,
            others=bool(scalar(self._conn, self._queries["others"])) if self._rights["activity"] else None,
            # The slowest of a few lookups is what the application's slow requests feel.
            probe_ms=max(probes),
            replica_lag_s=row["replica_lag_s"],
            slot_bytes=row["slot_bytes"],
            wal_mb_s=self._wal_rate(row["at"], row["wal_position"]),
            archive_queue=self._archive_queue(),
            free_bytes=_free(self._disk) if self._disk else None,
            xmin_age=row["xmin_age"] if self._rights["activity"] else None,
        )

    def _wal_rate(self, at: float, position: float) -> float | None:
        before, self._last = self._last, (at, position)
        return (position - before[1]) / 1e6 / (at - before[0]) if before and at > before[0] else None

    def _archive_queue(self) -> int | None:
        if not (self._rights["archives"] and self._rights["archive_queue"]):
            return None
        query = "select count(*) from pg_catalog.pg_ls_archive_statusdir() where name like '%.ready'"
        return int(scalar(self._conn, query))

    def _row(self, name: str) -> dict[str, Any]:
        with self._conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._queries[name]).fetchone() or {}


TYPE = """
select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = %s and a.attname = %s
"""


class Probe:
    """Looks rows of a table up by its primary key, as the application would; keys are drawn once."""

    def __init__(self, conn: Connection, source: Name, key: tuple[str, ...]) -> None:
        self._conn = conn
        self._table = sql.Identifier(*source)
        # Constants, not parameters, so that % in a name is a sign like others; cast, since a composite is no record.
        self._types = {column: sql.SQL(scalar(conn, TYPE, [*source, column])) for column in key}
        self._lookups: list[sql.Composed] | None = None

    def milliseconds(self) -> float:
        """Return how long one lookup took; 0 where there is nothing to look up.

        What waits behind a lock is a slow lookup, and nobody waits for its end: drawing keys neither.
        """
        started = time.monotonic()
        with contextlib.suppress(errors.QueryCanceled), self._conn.transaction():
            self._conn.execute(sql.SQL("set local statement_timeout = {}").format(PATIENCE_MS))
            if self._lookups is None:
                self._lookups = self._draw()
            if not self._lookups:
                return 0.0
            started = time.monotonic()
            self._conn.execute(random.choice(self._lookups))  # noqa: S311 -- any row does
            return (time.monotonic() - started) * 1e3
        return (time.monotonic() - started) * 1e3

    def _draw(self) -> list[sql.Composed]:
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in self._types)
        drawn = sql.SQL("select /* rehearsal */ {} from only {} limit {}").format(columns, self._table, PROBED_KEYS)
        return [self._lookup(row) for row in self._conn.execute(drawn).fetchall()]

    def _lookup(self, row: tuple[Any, ...]) -> sql.Composed:
        terms = [
            sql.SQL("{} = {}::{}").format(sql.Identifier(name), sql.Literal(value), kind)
            for (name, kind), value in zip(self._types.items(), row, strict=True)
        ]
        return sql.SQL("select /* rehearsal */ from only {} where {}").format(self._table, sql.SQL(" and ").join(terms))


def _cores(conn: Connection) -> int | None:
    """Return how many cores the server may use, read from its own host."""
    read = "select coalesce(pg_catalog.pg_read_file(%s, 0, 10000000, true), '')"
    cores = len(CORE.findall(str(scalar(conn, read, ["/proc/cpuinfo"]))))
    if cores and (quota := QUOTA.match(str(scalar(conn, read, ["/sys/fs/cgroup/cpu.max"])))):
        cores = min(cores, math.ceil(int(quota[1]) / int(quota[2])))
    return cores or None


def _data_folder(conn: Connection, database: Database, rights: dict[str, Any]) -> Path | None:
    """Return the server's data folder if it is on this machine: its postmaster.pid says when and where it started."""
    if database.host not in LOOPBACK or not rights["settings"]:
        return None
    folder = Path(str(scalar(conn, "select current_setting('data_directory')")))
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        ours = abs(int(lines[2]) - rights["started"]) < 60 and int(lines[3]) == rights["port"]
    except (OSError, ValueError, IndexError):
        return None
    return folder if ours else None


def _free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize
