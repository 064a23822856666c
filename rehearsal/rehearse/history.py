"""Phases of strategy attach that differ: no row is copied, so the table is compared with itself, before and after."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rehearsal.catalog.tables import Catalog, count_rows, split_name
from rehearsal.checks.untouched import Reader, Untouched, change_witnesses, drop_witnesses, make_witnesses
from rehearsal.errors import CannotSee
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.perform import check_definition, check_shape, compare_figures, judge_locks, record_duplicates
from rehearsal.rehearse.prove import keep_load, record_restore_time
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.runner import StopHere
from rehearsal.rehearse.usage import smoke_all

WITNESSES = 200


def unchanged(context: Context) -> None:
    """Compare content, structure and figures with those of before, while writers are at work."""
    context.writers.ensure("history")
    same = check_content(context, "after the cut-over")
    with context.session("structure") as conn:
        for spec in context.plan.tables:
            history, parent = context.pair(conn, spec)
            check_shape(context, conn, spec, history, parent)
            record_duplicates(context, conn, spec)
            compare_figures(context, conn, spec, parent)
            if spec.default_partition:
                check_default(context, conn, spec)
    check_definition(context, "after the cut-over")
    context.row_counts("history unchanged")
    context.writers.settle("history")
    if not same:
        raise StopHere


def check_content(context: Context, moment: str) -> bool:
    """Compare the untouched rows of every table with the baseline; return whether all of them are the same."""
    same = True
    with context.session("content") as conn:
        for spec in context.plan.tables:
            reader, before = reader_of(context, spec)
            now = reader.read(conn, split_name(spec.name))
            same = same and now == before
            context.run.record("history-unchanged", f"{spec.name} {moment}", now == before, f"{before}; now {now}")
    return same


def reader_of(context: Context, spec: TableSpec) -> tuple[Reader, Untouched]:
    """Return the reader of the untouched rows, and what it read at the baseline.

    Raises:
        CannotSee: no baseline was recorded.
    """
    for one in reversed(context.run.evidence()):
        if one.gate == "baseline" and one.subject == spec.name and "untouched" in one.data:
            reader = Reader(context.files, spec, one.data["primary"], one.data["upto"])
            rows, digest = one.data["untouched"]
            return reader, Untouched(rows, int(digest))
    message = f"no content of {spec.name} was recorded before the switchover; run again from baseline"
    raise CannotSee(message)


def check_default(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Count what is in the DEFAULT partition: nothing may be."""
    name = context.switchover(spec).names.default_leaf
    rows = count_rows(conn, name)
    context.run.record("default-empty", spec.name, rows == 0, f"{rows} rows in the default partition")


def full_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then settle and compare the untouched rows."""
    keep_load(context)
    check_content(context, "after the load")


def roll_back(context: Context) -> None:
    """Write rows outside history, go back under load, and require every one of them in the old table."""
    ask_first(context, Intent.ROLLBACK)
    context.writers.ensure("rollback")
    outside = {spec.name: write_outside(context, spec) for spec in context.plan.tables}
    for spec in context.plan.tables:
        find_mismatch(context, spec)
    before = {spec.name: read_now(context, spec) for spec in context.plan.tables}
    decided = time.monotonic()
    for spec in context.plan.tables:
        context.switchover(spec).roll_back()
    results = smoke_all(context, "rollback")
    seconds, limit = time.monotonic() - decided, context.plan.gates.rollback_max_s
    observed = f"{seconds:.1f} s from the decision to every server answering (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by the way back", seconds <= limit, observed, seconds=seconds)
    record_restore_time(context, limit)
    judge_locks(context)
    for spec in context.plan.tables:
        record_way_back(context, spec, outside[spec.name], before[spec.name])
    check_definition(context, "after the way back", back=True)
    context.row_counts("rolled back")
    settled = context.writers.settle("rollback", [(spec, [split_name(spec.name)]) for spec in context.plan.tables])
    good = settled.is_clean and all(one.passed for one in results)
    answered = f"{sum(one.passed is True for one in results)} of {len(results)} requests answered well"
    context.run.record("rollback", "service", good, f"{settled.lost} acknowledged writes lost, {answered}")


def write_outside(context: Context, spec: TableSpec) -> int:
    """Write rows of the rehearsal's own outside history; return how many are there, whoever wrote them."""
    with context.session("witnesses") as conn:
        attach = context.switchover(spec).attach
        parent = Catalog(conn, context.files).read(split_name(spec.name))
        drop_witnesses(conn, parent.name, spec)
        make_witnesses(conn, context.files, parent, spec, attach.statements(conn).split.until, WITNESSES)
        return attach.attached(conn).outside_rows(conn)


def read_now(context: Context, spec: TableSpec) -> Untouched:
    """Return the untouched rows as they are just now."""
    with context.session("content") as conn:
        return reader_of(context, spec)[0].read(conn, split_name(spec.name))


def record_way_back(context: Context, spec: TableSpec, outside: int, before: Untouched) -> None:
    """Compare the old table with what there was in all partitions; then take the rehearsal's own rows out of it."""
    after = read_now(context, spec)
    with context.session("witnesses") as conn:
        plain = Catalog(conn, context.files).read(split_name(spec.name)).kind == "r"
        drop_witnesses(conn, split_name(spec.name), spec)
    observed = f"{outside} rows were outside history; before {before}; after {after}"
    passed = (plain and after == before) if outside else None
    context.run.record("rollback", f"{spec.name} content", passed, observed, outside=outside)


def find_mismatch(context: Context, spec: TableSpec) -> None:
    """Change rows of the rehearsal's own in a transaction that is rolled back; the comparison must see that.

    Raises:
        StopHere: it did not see it, so no comparison of this run is worth anything.
        CannotSee: the plan names no marker column, so the rehearsal's own rows cannot be told apart.
    """
    reader, _ = reader_of(context, spec)
    table = split_name(spec.name)
    with context.session("mismatch") as conn, taken_back(conn):
        before = reader.read(conn, table)
        changed = change_witnesses(conn, table, spec)
        after = reader.read(conn, table)
    seen = changed > 0 and after.rows == before.rows and after.digest != before.digest
    observed = f"{changed} rows of its own changed in a transaction that was rolled back: {before}; then {after}"
    context.run.record("mismatch-found", spec.name, seen if changed else None, observed, taken=changed)
    if not seen:
        raise StopHere


@contextmanager
def taken_back(conn: Connection) -> Generator[None]:
    """Run the block in one snapshot that is rolled back."""
    with conn.transaction(force_rollback=True):
        conn.execute("set transaction isolation level repeatable read")
        yield


def forward_again(context: Context) -> None:
    """Prepare and cut over again under load, and prove once more that nothing is lost."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("forward-again")
    for spec in context.plan.tables:
        context.switchover(spec).prepare()
        context.switchover(spec).switch()
    judge_locks(context)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    settled = context.writers.settle("forward-again")
    same = check_content(context, "forward again")
    good = same and settled.is_clean and all(one.passed for one in results)
    observed = f"{settled.lost} acknowledged writes lost, content {'the same' if same else 'CHANGED'}"
    context.run.record("forward-again", "service", good, observed)
    context.writers.stop()
    context.writers.settle("at the end")
    context.row_counts("at the end")
