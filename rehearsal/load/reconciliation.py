"""Reconciliation: every acknowledged write is looked for in the rows, exactly, while the load goes on.

The ledger is read, then one snapshot of the rows, then the ledger again: what was acknowledged before the snapshot
must be in it, what was sent before the second reading may be. Must not know how writes are made.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import utc_now
from rehearsal.load.ledger import (
    Action,
    Allowed,
    Ledger,
    RowState,
    Uid,
    Write,
    allowed_states,
    canonical_key,
    marker_prefix,
    parse_marker,
)
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection

ACTIONS: tuple[Action, ...] = ("insert", "update", "delete", "move")
EXAMPLES = 20
LOSSES = ("lost_inserts", "lost_updates", "lost_deletes", "lost_moves")
Found = Mapping[int, Sequence[RowState]]


@dataclass(frozen=True, slots=True)
class RelationReconciliation:
    """What one relation shows: `counts` and first `examples` by kind of finding.

    `verified` counts the subjects that agree, by the action of the write that they prove.
    """

    table: str
    relation: str
    rows: int
    subjects: int
    counts: dict[str, int]
    verified: dict[str, int]
    examples: dict[str, list[dict[str, Any]]]

    @property
    def lost(self) -> int:
        """Acknowledged writes that the relation does not show."""
        return sum(self.counts.get(kind, 0) for kind in LOSSES)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, double or unexplained."""
        return not any(self.counts.values())


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What became of the writes of a run.

    `acknowledged` counts by planned table and action, `by_source` by way (`sql`, or the app server), `by_segment` by
    generator and action. `missing` are acknowledged writes, or refused ones, whose row was not there although it
    had been acknowledged: a loss that the writer itself saw.
    """

    run: str
    at: str
    acknowledged: dict[str, dict[str, int]]
    by_source: dict[str, int]
    by_segment: dict[str, dict[str, int]]
    failed: int
    unknown: int
    reconciled: int
    missing: int
    missing_examples: list[dict[str, Any]]
    relations: tuple[RelationReconciliation, ...]

    @property
    def lost(self) -> int:
        """Acknowledged writes that are not there, over all relations."""
        return self.missing + sum(relation.lost for relation in self.relations)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, double or unexplained in any relation."""
        return not self.missing and all(relation.is_clean for relation in self.relations)

    def short_of(self, minimum: int, plan: Plan) -> tuple[str, ...]:
        """Name the actions of the plan's load with fewer acknowledged writes than `minimum`: no witness, no GO."""
        wanted = sorted(
            {(operation.table, operation.action) for operation in plan.load.operations if operation.action != "read"}
        )
        counts = {(table, action): self.acknowledged.get(table, {}).get(action, 0) for table, action in wanted}
        return tuple(
            f"{table} {action}: {count} of {minimum}" for (table, action), count in counts.items() if count < minimum
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for evidence and report."""
        return {**asdict(self), "lost": self.lost, "is_clean": self.is_clean}


def reconcile(
    conn: Connection,
    plan: Plan,
    ledger_folder: Path,
    tables: Mapping[str, Sequence[tuple[str, str]]],
    run_name: str,
) -> Reconciliation:
    """Reconcile the writes of a run in the relations of each planned table, in one snapshot; takes no blocking lock.

    The connection must be idle and in autocommit mode. Relations that may lag are not to be passed. Writes whose end
    is unknown are reconciled by their transaction id where that is known.

    Raises:
        PreconditionError: a table has no marker, or a relation cannot be read.
    """
    specs = {spec.name: spec for spec in plan.tables if spec.name in tables}
    _require_markers(plan, tables, specs)
    ledger = Ledger(ledger_folder).read()
    committed, refuted = _reconcile_unknown(conn, list(ledger.writes.values()))
    certain = ledger.certain() | committed
    acknowledged = [write for write in ledger.writes.values() if write.uid in certain and write.table in specs]
    found = _read_rows(conn, specs, tables, run_name)
    ledger.read()
    subjects = {
        number: (writes, allowed_states(writes, certain, refuted)) for number, writes in ledger.by_subject().items()
    }
    relations = [
        _compare(table, relation, _of_table(subjects, table), rows, strange)
        for (table, relation), (rows, strange) in found.items()
    ]
    missing = [write for write in ledger.writes.values() if write.missing and write.table in specs]
    return Reconciliation(
        run=run_name,
        at=utc_now(),
        acknowledged=_counted(acknowledged, "table"),
        by_source=dict(Counter(write.server or write.via for write in acknowledged)),
        by_segment=_counted(acknowledged, "segment"),
        failed=sum(write.outcome == "failed" for write in ledger.writes.values()),
        unknown=sum(
            not write.is_void and write.outcome != "ok" and write.uid not in certain and write.uid not in refuted
            for write in ledger.writes.values()
        ),
        reconciled=len(committed) + len(refuted),
        missing=len(missing),
        missing_examples=[_example(write, None) for write in missing[:EXAMPLES]],
        relations=tuple(relations),
    )


def _require_markers(plan: Plan, tables: Mapping[str, Any], specs: Mapping[str, TableSpec]) -> None:
    for table in tables:
        if table not in specs or specs[table].marker is None:
            message = (
                f"table {table} has no marker in plan {plan.name}, so its writes cannot be told; add marker = <column>"
            )
            raise PreconditionError(message)


def _reconcile_unknown(conn: Connection, writes: Sequence[Write]) -> tuple[set[Uid], set[Uid]]:
    """Return the writes of unknown end that were committed, and those that were not, before any snapshot is taken."""
    committed: set[Uid] = set()
    refuted: set[Uid] = set()
    if not (open_ := [write for write in writes if write.xid is not None and write.outcome in (None, "unknown")]):
        return committed, refuted
    since = _serving_since(conn)
    for write in open_:
        status = _transaction_status(conn, write.xid or "")
        # Numbers that were never logged are given again after a crash: this one may be another transaction's by now.
        # A rollback is believed all the same: had the write been committed, its number would have been logged.
        if status == "committed" and write.started > since:
            committed.add(write.uid)
        elif status == "aborted":
            refuted.add(write.uid)
    return committed, refuted


# The checkpointer is started anew after a crash, even where the postmaster lives on. Not every role may see it.
SERVING_SINCE = """
select extract(epoch from pg_catalog.clock_timestamp() - coalesce(
    (select backend_start from pg_catalog.pg_stat_activity where backend_type = 'checkpointer'),
    pg_catalog.pg_postmaster_start_time()))::float8
"""


def _serving_since(conn: Connection) -> float:
    """Return since when the server has not crashed, in seconds of this machine's clock, as the ledger's are."""
    row = conn.execute(SERVING_SINCE).fetchone()
    return time.time() - float(row[0] if row else 0)


def _transaction_status(conn: Connection, xid: str) -> str | None:
    try:
        row = conn.execute("select pg_catalog.pg_xact_status(%s::text::xid8)", [xid]).fetchone()
    except psycopg.errors.InvalidParameterValue:
        return None  # of another history, as after a restore: the server cannot know it
    return row[0] if row else None


def _read_rows(
    conn: Connection,
    specs: Mapping[str, TableSpec],
    tables: Mapping[str, Sequence[tuple[str, str]]],
    run_name: str,
) -> dict[tuple[str, str], tuple[dict[int, list[RowState]], list[str]]]:
    found: dict[tuple[str, str], tuple[dict[int, list[RowState]], list[str]]] = {}
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read, read only")
        for table, relations in tables.items():
            for relation in relations:
                found[table, ".".join(relation)] = _read_relation(conn, specs[table], relation, run_name)
    return found


def _read_relation(
    conn: Connection, spec: TableSpec, relation: tuple[str, str], run_name: str
) -> tuple[dict[int, list[RowState]], list[str]]:
    """Return the marked rows by subject, and the marks that are none of the generator's."""
    query = sql.SQL(
        "select {marker}::text, {key} from {relation} where pg_catalog.starts_with({marker}::text, %s)"
    ).format(marker=sql.Identifier(spec.marker or ""), key=sql.Identifier(spec.key), relation=sql.Identifier(*relation))
    rows: dict[int, list[RowState]] = {}
    strange: list[str] = []
    try:
        cursor = conn.execute(query, [marker_prefix(run_name)])
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege) as exc:
        message = f"cannot reconcile {spec.name} in {'.'.join(relation)}: {exc.diag.message_primary}"
        raise PreconditionError(message) from exc
    for text, key in cursor:
        mark = parse_marker(run_name, text)
        if mark is None or key is None:
            strange.append(text)
        else:
            rows.setdefault(mark[0], []).append(RowState(mark[1], canonical_key(key)))
    return rows, strange


def _of_table(
    subjects: Mapping[int, tuple[list[Write], Allowed]], table: str
) -> dict[int, tuple[list[Write], Allowed]]:
    return {number: subject for number, subject in subjects.items() if subject[0][0].table == table}


@dataclass(slots=True)
class _Findings:
    """Counts and first examples, by kind."""

    counts: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def add(self, kind: str, example: dict[str, Any]) -> None:
        self.counts[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(example)


def _compare(
    table: str,
    relation: str,
    subjects: Mapping[int, tuple[list[Write], Allowed]],
    rows: Found,
    strange: Collection[str],
) -> RelationReconciliation:
    findings = _Findings()
    verified: Counter[str] = Counter()
    for text in strange:
        findings.add("foreign", {"marker": text})
    for number in rows.keys() - subjects.keys():
        findings.add("foreign", {"subject": number, "rows": [asdict(state) for state in rows[number]]})
    for number, (writes, allowed) in subjects.items():
        there = rows.get(number, ())
        kind = _judge(writes, allowed, there)
        if kind:
            findings.add(
                kind, {**_example(allowed.base or writes[-1], allowed), "rows": [asdict(state) for state in there]}
            )
        elif allowed.base is not None:
            verified[allowed.base.action] += 1
    counted = {kind: findings.counts[kind] for kind in (*LOSSES, "duplicates", "foreign")}
    total = sum(len(states) for states in rows.values()) + len(strange)
    return RelationReconciliation(table, relation, total, len(subjects), counted, dict(verified), findings.examples)


def _judge(writes: Sequence[Write], allowed: Allowed, rows: Sequence[RowState]) -> str | None:
    """Return what is wrong with the rows of one subject, if anything."""
    if len(rows) > 1:
        return "duplicates"
    there = rows[0] if rows else None
    if there in allowed.states:
        return None
    if there is None:
        return "lost_inserts"
    return _judge_row(writes, allowed, there)


def _judge_row(writes: Sequence[Write], allowed: Allowed, there: RowState) -> str:
    """Return what is wrong with a row that is there and must not be, or not like this."""
    base = allowed.base
    sent = {write.version for write in writes if not write.is_void}
    if base is None or there.version not in sent:
        return "foreign"
    if there.version in {state.version for state in allowed.states if state}:
        return "lost_moves"  # the right write, under the wrong key
    if base.action == "delete":
        return "lost_deletes"
    return "lost_moves" if base.action == "move" else "lost_updates"


def _example(write: Write, allowed: Allowed | None) -> dict[str, Any]:
    states = [] if allowed is None else [asdict(state) if state else None for state in allowed.states]
    return {
        "subject": write.subject,
        "id": write.id,
        "table": write.table,
        "write": write.op,
        "action": write.action,
        "version": write.version,
        "key": write.key,
        "segment": write.segment,
        "via": write.server or write.via,
        "finished": write.finished,
        "allowed": states,
    }


def _counted(writes: Sequence[Write], name: str) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for write in writes:
        found.setdefault(getattr(write, name), Counter())[write.action] += 1
    return {value: {action: counts[action] for action in ACTIONS} for value, counts in sorted(found.items())}
