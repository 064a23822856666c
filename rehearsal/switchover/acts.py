"""What a switchover is going to do, act by act: the SQL, its strongest lock, about how long it takes. Changes nothing.

Owns the acts that all strategies share which copy rows; the statements are rendered by what the real run renders them
with. What a strategy adds is its own.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rehearsal.catalog.tables import Catalog, Partition, Table, split_name
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.copy.chunks import Limits
from rehearsal.switchover.copy.copier import chunk_sql
from rehearsal.switchover.copy.replay import forward_of, purge_sql
from rehearsal.switchover.state import Migration
from rehearsal.switchover.target.foreign_keys import foreign_key_sql
from rehearsal.switchover.target.indexes import index_statements
from rehearsal.switchover.target.target import Shape, clear_target_sql, mirror_values_of, target_values
from rehearsal.switchover.target.vacuum import vacuum_sql

# Measured on 2 cores under writers, a million rows of 100 bytes, 4 indexes (docs/benchmarks.md).
ROWS_PER_SECOND = {
    "copy": 1_000_000,
    "indexes": 600_000,
    "settle": 5_000_000,
    "statistics": 550_000,
    "validate": 2_500_000,
}
UNIQUE_PER_SECOND = 1_200_000
REFERENCED = "SHARE ROW EXCLUSIVE on the referenced tables, for milliseconds"


@dataclass(frozen=True, slots=True)
class Act:
    """One act of the switchover: its SQL, its strongest lock, who waits, and about how long it takes."""

    table: str
    step: str
    sql: str
    lock: str
    seconds: float

    def text(self) -> str:
        """Return the act as a section of `dry_run.log`."""
        head = f"-- {self.table} · {self.step} · about {say_duration(self.seconds)}\n-- strongest lock: {self.lock}\n"
        body = "\n".join(line for line in self.sql.splitlines() if not line.startswith("-- lock:")).strip()
        return f"{head}{body}{'' if body.endswith(';') else ';'}\n"


@dataclass(frozen=True, slots=True)
class Prospect:
    """A table whose switchover is still to come, and the session that looks at it."""

    conn: Connection
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    now: datetime
    found: Migration | None

    @property
    def source(self) -> Table:
        """The table as it is."""
        return Catalog(self.conn, self.files).read(split_name(self.spec.name))

    @property
    def migration(self) -> int:
        """Number of the migration; 0 before the table is registered."""
        return self.found.id if self.found else 0

    def act(self, step: str, text: str, seconds: float, lock: str | None = None) -> Act:
        """Return an act of this table; its lock is what the SQL's header says, unless said here."""
        return Act(self.spec.name, step, text, lock or lock_of(text), max(0.01, seconds))

    def copied(self) -> CopyProspect:
        """Return the acts of a copy."""
        source = self.source
        shape = Shape.of(source, self.spec.key, uniques=self.spec.uniques)
        target = Catalog(self.conn, self.files).find(shape.names.target)
        if target is None:
            target = _planned_target(source, target_values(self.conn, self.files, self.plan, self.spec, self.now))
        return CopyProspect(self, shape, source, target)


def _planned_target(source: Table, values: dict[str, Any]) -> Table:
    """Return the target as it will be, before it is made."""
    leaves = [leaf["name"] for leaf in values["leaves"]] + ([values["default_leaf"]] if values["default_leaf"] else [])
    partitions = tuple(Partition(name, 0, None, None, False, 0, 0, False) for name in leaves)
    return dataclasses.replace(
        source, name=values["target"], kind="p", indexes=(), constraints=(), partitions=partitions
    )


@dataclass(frozen=True, slots=True)
class CopyProspect:
    """Renders the acts of a copy that is still to come."""

    at: Prospect
    shape: Shape
    source: Table
    target: Table

    def following(self, *more: Act) -> list[Act]:
        """Return the acts until the target follows; `more` come before the change log is replayed."""
        return [*self._copying(), *self._indexes(), *more, *self._replay()]

    def _copying(self) -> list[Act]:
        files, copying = self.at.files, self.at.plan.copying
        values = mirror_values_of(self.shape, mirrors=self.at.plan.traits.mirrors)
        names, blocks = self.shape.names, max(1, self.source.pages)
        per_chunk = Limits.of(copying).most_blocks(self.source.estimated_rows, blocks)
        chunks = -(-blocks // per_chunk)
        chunk = chunk_sql(files, self.shape, names.source, names.target, 0, min(per_chunk, blocks))
        purge = purge_sql(files, self.shape, names.forward_log, names.target)
        return [
            self.at.act("capture on", files.render("switchover/capture_on.sql.j2", **values), 0.01),
            self.at.act("clear the target", clear_target_sql(files, self.target), 0.05),
            self.at.act(f"copy, the first of {chunks} chunks", chunk, self._time("copy")),
            self.at.act("purge logged rows", purge, self._time("settle")),
        ]

    def _indexes(self) -> list[Act]:
        bare = dataclasses.replace(self.target, indexes=())
        lock = "SHARE on one leaf of the target, which the application does not use yet"
        work = index_statements(self.source, bare, self.shape)
        seconds = self._time("indexes") / max(1, len(work))
        texts = [";\n".join(filter(None, [*leaves, parent])) for leaves, parent in work]
        return [self.at.act("indexes", text, seconds, lock) for text in texts]

    def _replay(self) -> list[Act]:
        replay = forward_of(self.at.files, self.shape)
        text = f"{replay.take_sql(self.at.plan.copying.drain_batch).strip()};\n{replay.put_sql().strip()}"
        vacuum = ";\n".join(vacuum_sql(leaf.name).as_string(None) for leaf in self.target.partitions)
        vacuum += f";\nanalyze {quote_ident(self.target.name)}"
        lock = "SHARE UPDATE EXCLUSIVE on one leaf: nobody waits"
        return [
            self.at.act("replay, repeated until the change log is short", text, 0.5),
            self.at.act("statistics", vacuum, self._time("statistics"), lock),
        ]

    def weak_keys(self) -> list[Act]:
        """Return the act that puts the foreign keys on the leaves, not validated."""
        weak, _, _ = foreign_key_sql(self.source, self.target)
        return [self.at.act("foreign keys", ";\n".join(weak), 0.05, REFERENCED)] if weak else []

    def finishing(self) -> list[Act]:
        """Return the acts that validate the foreign keys and give them to the parent."""
        _, validate, adopt = foreign_key_sql(self.source, self.target)
        if not validate:
            return []
        nobody = "SHARE UPDATE EXCLUSIVE on one leaf, ROW SHARE on the referenced table: nobody waits"
        briefly = "SHARE ROW EXCLUSIVE on the target and the referenced table, for milliseconds"
        return [
            self.at.act("validate", ";\n".join(validate), self._time("validate"), nobody),
            self.at.act("adopt", ";\n".join(adopt), 0.01 * len(adopt), briefly),
        ]

    def _time(self, what: str) -> float:
        return self.source.estimated_rows / ROWS_PER_SECOND[what]


def lock_of(text: str) -> str:
    """Return what a rendered text says of its locks in its header."""
    return (
        " and ".join(dict.fromkeys(re.findall(r"^-- lock: (.*)$", text, re.MULTILINE))) or "none that anybody waits for"
    )


def say_duration(seconds: float) -> str:
    """Write a duration for people.

    >>> say_duration(0.05), say_duration(2), say_duration(600)
    ('50 ms', '2.0 s', '10 min')
    """
    return (
        f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    )
