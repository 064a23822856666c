"""Dry run: every statement of a switchover in order, with its strongest lock and an estimate, changing nothing.

The statements are rendered by the same functions that the real run uses. The session is READ ONLY, so PostgreSQL
itself refuses a write, and a digest of catalogs, state and row counters before and after proves it once more.
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
from rehearsal.switchover import state
from rehearsal.switchover.copy.chunks import Limits
from rehearsal.switchover.copy.copier import chunk_sql
from rehearsal.switchover.copy.replay import settle_sql
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.layout import Split, Statements
from rehearsal.switchover.strategies.attach.prepare import decide, parent_sql
from rehearsal.switchover.strategies.dual_write import Barrier
from rehearsal.switchover.strategies.swap.exchange import Exchange
from rehearsal.switchover.target.composite import BLOCKS, Composite
from rehearsal.switchover.target.indexes import foreign_key_sql, index_statements
from rehearsal.switchover.target.target import (
    Shape,
    clear_target_sql,
    mirror_values_of,
    read_applied,
    render_changes,
    target_values,
)
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
PARENT_LOCK = "ACCESS SHARE on the source, SHARE ROW EXCLUSIVE on the referenced tables, for milliseconds"


@dataclass(frozen=True, slots=True)
class Planned:
    """One act of the switchover: its SQL, its strongest lock, who waits, and about how long it takes."""

    table: str
    step: str
    sql: str
    lock: str
    seconds: float

    def text(self) -> str:
        """Return the act as a section of `dry_run.log`."""
        head = f"-- {self.table} · {self.step} · about {_duration(self.seconds)}\n-- strongest lock: {self.lock}\n"
        body = "\n".join(line for line in self.sql.splitlines() if not line.startswith("-- lock:")).strip()
        return f"{head}{body}{'' if body.endswith(';') else ';'}\n"


def plan_statements(conn: Connection, files: SqlFiles, plan: Plan, now: datetime) -> list[Planned]:
    """Return all acts for all tables of the plan that are still to come."""
    acts: list[Planned] = []
    applied = read_applied(conn)
    acts += [
        Planned(plan.name, f"change {change.name}", change.body, lock_of(change.body), 0.1)
        for change in render_changes(conn, files, plan, now)
        if change.name not in applied
    ]
    for spec in plan.tables:
        acts += _plan_table(conn, files, plan, spec, now)
    return acts


def _plan_table(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, now: datetime) -> list[Planned]:
    name = split_name(spec.name)
    found = state.find_migration(conn, name)
    if found is not None and found.state in state.SWITCHED:
        return []
    if plan.strategy == "attach":
        return _plan_attach(conn, files, plan, spec, found)
    catalog = Catalog(conn, files)
    source = catalog.read(name)
    shape = Shape.of(source, spec.key, uniques=spec.uniques)
    target = catalog.find(shape.names.target) or _planned_target(source, target_values(conn, files, plan, spec, now))
    return _Acts(conn, files, plan, spec, shape, source, target).all(found.id if found else 0)


def _plan_attach(
    conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, found: state.Migration | None
) -> list[Planned]:
    """Return the acts of a table whose rows stay where they are; the end of history is the one of this moment."""
    source = Catalog(conn, files).read(split_name(spec.name))
    done = found is not None and state.is_done(conn, found.id, "parent")
    split = Split.of_detail(found.detail) if found and done else decide(conn, files, spec)
    work = Attached(files, spec, Statements(files, Shape.of(source, spec.key), split))
    statements, names, rows = work.statements, work.extra, source.estimated_rows
    acts = [
        Planned(spec.name, "parent", ";\n".join(parent_sql(conn, files, plan, spec, split)), PARENT_LOCK, 0.1),
        *(
            _attach_act(spec, "unique index", statements.unique_index(source.name, one), rows / UNIQUE_PER_SECOND)
            for one in (names.key_index, names.back_index)
            if split.primary["swapped"]
        ),
        _attach_act(spec, "end of history", statements.render("attach_bound"), 0.01),
        _attach_act(spec, "validate it", statements.render("attach_validate"), rows / ROWS_PER_SECOND["validate"]),
    ]
    if split.nullable:
        acts.append(_attach_act(spec, "key not null", statements.render("attach_not_null"), 0.01))
    acts.append(_attach_act(spec, "cut-over", work.cut_over_sql(source), 0.05))
    analyze = f"analyze {quote_ident(source.name)}"
    acts.append(Planned(spec.name, "statistics", analyze, "SHARE UPDATE EXCLUSIVE on the parent: nobody waits", 1.0))
    return acts


def _attach_act(spec: TableSpec, step: str, text: str, seconds: float) -> Planned:
    return Planned(spec.name, step, text, lock_of(text), max(0.01, seconds))


def _planned_target(source: Table, values: dict[str, Any]) -> Table:
    """Return the twin as it will be, before it is made."""
    leaves = [leaf["name"] for leaf in values["leaves"]] + ([values["default_leaf"]] if values["default_leaf"] else [])
    partitions = tuple(Partition(name, 0, None, None, False, 0, 0, False) for name in leaves)
    return dataclasses.replace(
        source, name=values["target"], kind="p", indexes=(), constraints=(), partitions=partitions
    )


@dataclass(frozen=True, slots=True)
class _Acts:
    """Renders the acts of one table."""

    conn: Connection
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    shape: Shape
    source: Table
    target: Table

    def all(self, migration: int) -> list[Planned]:
        acts = [*self._copying(), *self._indexes(), *self._composites(migration), *self._drain()]
        weak, validate, adopt = foreign_key_sql(self.source, self.target)
        if self.plan.strategy == "swap":
            acts.append(self._act("swap", self._swap_sql(migration), 0.05))
            guard = Exchange(self.files, self.plan, self.shape, migration).guard
            acts.append(self._act("guard, within the swap, with its transaction's number", guard.on_sql("0"), 0.01))
            acts.append(self._act("end of the guard", guard.off_sql(self.shape.names.source), 0.01))
        else:
            barrier = Barrier(self.files, self.plan, self.shape, migration)
            acts.append(self._act("barrier", barrier.sync_on_sql(), 0.05))
            acts.append(self._act("end of capture", barrier.capture_off_sql(), 0.01))
            if weak:
                lock = "SHARE ROW EXCLUSIVE on the referenced tables, for milliseconds"
                acts.append(self._act("foreign keys", ";\n".join(weak), 0.05, lock))
        if validate:
            lock = "SHARE UPDATE EXCLUSIVE on one leaf, ROW SHARE on the referenced table: nobody waits"
            acts.append(self._act("validate", ";\n".join(validate), self._time("validate"), lock))
            lock = "SHARE ROW EXCLUSIVE on the twin and the referenced table, for milliseconds"
            acts.append(self._act("adopt", ";\n".join(adopt), 0.01 * len(adopt), lock))
        return acts

    def _composites(self, migration: int) -> list[Planned]:
        if self.plan.strategy != "swap":
            return []
        acts: list[Planned] = []
        for one in Exchange(self.files, self.plan, self.shape, migration).moves(self.conn, self.source).references:
            if one.decision == "composite":
                work = Composite(self.files, one, self.source.name, self.spec.key)
                text = work.prepare_sql(self.source.column(self.spec.key).type)
                acts.append(self._act(f"partition key for {one.label}", text, 0.05))
                acts.append(self._act("fill it, the first blocks", work.fill_sql(0, BLOCKS), 0.5))
        return acts

    def _swap_sql(self, migration: int) -> str:
        exchange = Exchange(self.files, self.plan, self.shape, migration)
        moved = exchange.moves(self.conn, self.source)
        locks = "".join(f"{statement};\n" for statement in moved.locks)
        return locks + exchange.swap_sql(self.conn, self.source, self.target, moved)

    def _copying(self) -> list[Planned]:
        values = mirror_values_of(self.shape, self.plan.strategy)
        names, blocks = self.shape.names, max(1, self.source.pages)
        per_chunk = Limits.of(self.plan.copying).most_blocks(self.source.estimated_rows, blocks)
        chunks = -(-blocks // per_chunk)
        chunk = chunk_sql(self.files, self.shape, names.source, names.target, 0, min(per_chunk, blocks))
        return [
            self._act("capture on", self.files.render("steps/capture_on.sql.j2", **values), 0.01),
            self._act("clear the twin", clear_target_sql(self.files, self.target), 0.05),
            self._act(f"copy, the first of {chunks} chunks", chunk, self._time("copy")),
            self._act(
                "settle", settle_sql(self.files, self.shape, names.forward_log, names.target), self._time("settle")
            ),
        ]

    def _indexes(self) -> list[Planned]:
        bare = dataclasses.replace(self.target, indexes=())
        lock = "SHARE on one leaf of the twin, which the application does not use yet"
        work = index_statements(self.source, bare, self.shape)
        seconds = self._time("indexes")
        return [
            self._act("indexes", ";\n".join(filter(None, [*leaves, parent])), seconds / max(1, len(work)), lock)
            for leaves, parent in work
        ]

    def _drain(self) -> list[Planned]:
        drain = Exchange(self.files, self.plan, self.shape, 0).forward
        text = f"{drain.take_sql(self.plan.copying.drain_batch).strip()};\n{drain.put_sql().strip()}"
        vacuum = ";\n".join(vacuum_sql(leaf.name).as_string(None) for leaf in self.target.partitions)
        vacuum += f";\nanalyze {quote_ident(self.target.name)}"
        lock = "SHARE UPDATE EXCLUSIVE on one leaf: nobody waits"
        return [
            self._act("drain, repeated until the log is short", text, 0.5),
            self._act("statistics", vacuum, self._time("statistics"), lock),
        ]

    def _act(self, step: str, text: str, seconds: float, lock: str | None = None) -> Planned:
        return Planned(self.spec.name, step, text, lock or lock_of(text), seconds)

    def _time(self, what: str) -> float:
        return max(0.01, self.source.estimated_rows / ROWS_PER_SECOND[what])


def lock_of(text: str) -> str:
    """Return what a rendered text says of its locks in its header."""
    return (
        " and ".join(dict.fromkeys(re.findall(r"^-- lock: (.*)$", text, re.MULTILINE))) or "none that anybody waits for"
    )


def _duration(seconds: float) -> str:
    return (
        f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    )


def dry_run_text(plan: Plan, acts: list[Planned], counts: dict[str, int]) -> str:
    """Return `dry_run.log`: row counts, every act in order, the sum of the estimates."""
    head = [f"-- dry run of plan {plan.name}, strategy {plan.strategy}; nothing was changed", "--"]
    head += [f"-- {table}: {rows:,} rows" for table, rows in counts.items()]
    head += [f"-- {len(acts)} acts, about {_duration(sum(act.seconds for act in acts))} of work", ""]
    return "\n".join(head) + "\n" + "\n".join(act.text() for act in acts)


def catalog_digest(conn: Connection, files: SqlFiles) -> str:
    """Return a digest of catalogs, state and row counters; equal digests mean that nothing was changed."""
    conn.execute("select pg_catalog.pg_stat_clear_snapshot()")
    row = conn.execute(files.query("queries/catalog_snapshot.sql"), {}).fetchone()
    return str(row[0]) if row else ""
