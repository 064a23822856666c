"""Structure, definition and triggers of each table, as more than one phase looks at them."""

from __future__ import annotations

from rehearsal.catalog.tables import Table, dotted
from rehearsal.checks.inspection import inspect
from rehearsal.evidence.data import Grid, Listed, Problems, TriggerState
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.switchover.definition import find_leftovers


def check_shape(context: Context, conn: Connection, spec: TableSpec, source: Table, target: Table) -> None:
    """Compare partitions, indexes, constraints, grants and the rest of source and target."""
    for one in inspect(conn, context.files, spec, source, target, context.run.began):
        observed = one.observed + (
            "" if one.passed else f"; {len(one.problems)} problems, the first: {one.problems[0]}"
        )
        context.run.record("target-structure", f"{spec.name} {one.check}", one.passed, observed, Problems(one.problems))


def check_definition(context: Context, stage: str, *, back: bool = False) -> None:
    """Compare what each table is with what it was before the switchover; after the rollback nothing may differ."""
    with context.session("definition") as conn:
        for spec in context.plan.tables:
            work = context.switchover(spec)
            found = find_leftovers(conn, context.files, spec) if back else work.differences(conn)
            unwanted = [one.id for one in found if one.reason is None]
            told = "; ".join(unwanted) if unwanted else "no difference that nobody wants"
            context.run.record(
                "definition",
                f"{spec.name} {stage}",
                not unwanted,
                f"{told}; {len(found) - len(unwanted)} wanted",
                Listed(Grid.of(("difference", "wanted because"), [(one.id, one.reason) for one in found])),
            )


def check_triggers(context: Context) -> None:
    """Read the state of every mirror trigger from the catalog."""
    with context.session("triggers") as conn:
        for spec in context.plan.tables:
            for one in context.switchover(spec).trigger_states(conn):
                observed = f"{STATES.get(one.found or '', 'missing')}, wanted {STATES[one.wanted]}"
                subject = f"{one.name} on {dotted(one.table)}"
                context.run.record(
                    "triggers-enabled", subject, one.found == one.wanted, observed, TriggerState(one.found)
                )


STATES = {"A": "ENABLED (always)", "O": "ENABLED", "D": "DISABLED", "R": "ENABLED (replica only)"}
