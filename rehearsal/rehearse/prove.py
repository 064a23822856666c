"""Phases that prove the rest: full load, a mismatch that is really there, the way back, and forward again."""

from __future__ import annotations

import time

from psycopg import sql

from rehearsal import state
from rehearsal.catalog import Name, Table, split_name
from rehearsal.errors import CannotSee, StepFailed
from rehearsal.flags import set_flags
from rehearsal.names import Names
from rehearsal.parity import compare
from rehearsal.plan import TableSpec
from rehearsal.postgres import Connection, with_lock
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.perform import (
    check_definition,
    check_drift,
    compare_all,
    judge_locks,
    require_flip,
    settled_relations,
)
from rehearsal.rehearse.prepare import check_triggers
from rehearsal.rehearse.runner import StopHere
from rehearsal.rehearse.usage import smoke_all
from rehearsal.repair import resync

INJECTED = 50  # the playbook's own example: old=1000000, new=999950


def full_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then settle and compare exactly."""
    context.writers.ensure("load")
    time.sleep(context.plan.load.duration_s)  # the load is open loop: its length is what is asked for
    settled = context.writers.settle("load", settled_relations(context))
    short = settled.short_of(context.plan.gates.min_writes, context.plan)
    context.run.record(
        "load",
        "witness",
        None if short else True,
        "too few: " + "; ".join(short) if short else "every kind of write was acknowledged often enough",
    )
    compare_all(context, "parity-after", self_test=False)


def roll_back(context: Context) -> None:
    """Put a mismatch in, see the gate find it, and go back under load; the clock runs until every server answers."""
    context.writers.ensure("rollback")
    began = time.monotonic()
    for spec in context.plan.tables:
        inject(context, spec)
    detected = time.monotonic()
    if context.plan.strategy == "dual-write":
        require_flip(context, set_flags(context.env, context.plan, reads=False, writes=False, run=context.run))
    for spec in context.plan.tables:
        context.switchover(spec).roll_back()
    results = smoke_all(context, "rollback")
    seconds = time.monotonic() - detected
    limit = context.plan.gates.rollback_max_s
    observed = f"{seconds:.1f} s from the mismatch to every server answering (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by the way back", seconds <= limit, observed, seconds=seconds)
    record_restore_time(context, limit)
    if context.plan.strategy == "dual-write":
        check_drift(context, expected=False)
    else:
        judge_locks(context)
    check_definition(context, "after the way back", back=True)
    context.row_counts("rolled back")
    settled = context.writers.settle("rollback", [(spec, [split_name(spec.name)]) for spec in context.plan.tables])
    good = settled.is_clean and all(one.passed for one in results)
    observed = (
        f"{settled.lost} acknowledged writes lost, {sum(one.passed is True for one in results)} of "
        f"{len(results)} requests answered well"
    )
    context.run.record("rollback", "service", good, observed, injected_s=detected - began)


def record_restore_time(context: Context, limit: float) -> None:
    """Hold the measured restore of the backup against the same limit: it is the last resort."""
    drills = [one for one in context.run.evidence() if one.gate == "restore-drill" and "seconds" in one.data]
    if not drills:
        context.run.record("rollback-time", "by restore", None, "no restore was measured in this run")
        return
    seconds = float(drills[-1].data["seconds"])
    observed = f"{seconds:.1f} s to restore the backup with its indexes and foreign keys (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by restore", seconds <= limit, observed, restore_s=seconds)


def inject(context: Context, spec: TableSpec) -> None:
    """Take rows out of the partitioned table behind the triggers' back, and require parity to name all of them.

    Raises:
        StopHere: parity did not find them, so no parity of this run is worth anything.
    """
    work = context.switchover(spec)
    with context.session("mismatch") as conn:
        keylog = work.log_now(conn)
        source, target = context.pair(conn, spec)
        taken = take_rows(context, conn, spec, target)
        report = compare(context.env.database, context.files, source, target, spec.key, keylog=keylog, self_test=False)
    found = report.differences.get("missing", 0)
    seen = taken > 0 and report.unexplained == taken
    observed = f"{taken} rows taken out, {report.unexplained} unexplained differences found ({found} missing in all)"
    context.run.record("mismatch-found", spec.name, seen if taken else None, observed, taken=taken)
    if not seen:
        raise StopHere


def take_rows(context: Context, conn: Connection, spec: TableSpec, target: Table) -> int:
    """Delete rows that no writer owns from one leaf, with that leaf's own triggers off for the transaction.

    Locks: SHARE ROW EXCLUSIVE on one leaf, for milliseconds.
    """
    if spec.marker is None:
        message = f"table {spec.name} has no marker column in the plan, so rows of the load cannot be told apart"
        raise CannotSee(message)
    leaf = fullest_leaf(conn, target)
    primary = sql.SQL(", ").join(sql.Identifier(one) for one in target.primary_key)
    values = {"leaf": sql.Identifier(*leaf), "pk": primary, "marker": sql.Identifier(spec.marker)}
    statement = sql.SQL(
        "delete from {leaf} where ({pk}) in (select {pk} from {leaf} where {marker} is null or "
        "{marker} not like 'lg:%%' "
        "order by {pk} limit {limit})"
    ).format(limit=sql.Literal(INJECTED), **values)
    triggers = [
        one.name
        for one in context.switchover(spec).trigger_states(conn)
        if one.table == target.name and one.found == "A"
    ]

    def work(held: Connection) -> int:
        for name in triggers:
            held.execute(sql.SQL("alter table {} disable trigger {}").format(values["leaf"], sql.Identifier(name)))
        rows = held.execute(statement, {}).rowcount
        for name in triggers:
            held.execute(
                sql.SQL("alter table {} enable always trigger {}").format(values["leaf"], sql.Identifier(name))
            )
        return rows

    taken, _ = with_lock(conn, f"mismatch in {spec.name}", work, policy=context.switchover(spec).policy)
    return taken


def fullest_leaf(conn: Connection, target: Table) -> Name:
    """Return the leaf with the most rows, by the statistics.

    Raises:
        StepFailed: the table has no leaf.
    """
    if not target.partitions:
        message = f"{'.'.join(target.name)} has no partition"
        raise StepFailed(message)
    del conn
    return max(target.partitions, key=lambda one: one.estimated_rows).name


def forward_again(context: Context) -> None:
    """Bring the rows back that were taken out, switch again under load, and prove once more that nothing is lost."""
    context.writers.ensure("forward-again")
    brought = 0
    with context.session("re-sync") as conn:
        for spec in context.plan.tables:
            brought += resync(conn, context.switchover(spec))
    context.run.event("note", text=f"re-synced {brought} rows")
    for spec in context.plan.tables:
        context.switchover(spec).switch()
    if context.plan.strategy == "dual-write":
        require_flip(context, set_flags(context.env, context.plan, reads=True, writes=True, run=context.run))
        check_drift(context, expected=True)
    else:
        judge_locks(context)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    check_triggers(context)
    settled = context.writers.settle("forward-again", settled_relations(context))
    context.writers.stop()
    reports = compare_all(context, "parity-after", self_test=False)
    equal = all(report.unexplained == 0 for report in reports)
    good = equal and settled.is_clean and all(one.passed for one in results)
    observed = (
        f"{brought} rows re-synced, {settled.lost} acknowledged writes lost, content {'equal' if equal else 'DIFFERS'}"
    )
    context.run.record("forward-again", "service", good, observed)
    final_settlement(context)


def final_settlement(context: Context) -> None:
    """Settle once more when no writer is left, in both tables of every pair, the lagging one drained."""
    relations: list[tuple[TableSpec, list[Name]]] = []
    with context.session() as conn:
        for spec in context.plan.tables:
            names = Names(split_name(spec.name))
            work = context.switchover(spec)
            if work.log_now(conn) is not None:
                work.follow()
            swapped = state.read_migration(conn, names.source).state == state.SWAPPED
            relations.append((spec, [names.source, names.retired if swapped else names.target]))
    context.writers.settle("at the end", relations)
    context.row_counts("at the end")
