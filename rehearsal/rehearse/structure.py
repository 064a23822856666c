"""Structure, definition and triggers of each table, as more than one phase looks at them."""

from __future__ import annotations

from rehearsal.catalog.tables import Table, dotted
from rehearsal.checks.inspection import inspect
from rehearsal.evidence.data import Grid, Listed, Problems, TriggerFound
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.switchover.definition import find_leftovers


def check_shape(context: Context, conn: Connection, spec: TableSpec, source: Table, target: Table) -> None:
    """Compare partitions, indexes, constraints, grants and the rest of source and target."""
    for finding in inspect(conn, context.files, spec, source, target, context.run.began):
        observed = finding.observed + (
            "" if finding.passed else f"; {len(finding.problems)} problems, the first: {finding.problems[0]}"
        )
        context.run.record(
            "target-structure", f"{spec.name} {finding.check}", finding.passed, observed, Problems(finding.problems)
        )


def check_definition(context: Context, stage: str, *, back: bool = False) -> None:
    """Compare what each table is with what it was before the switchover; after the rollback nothing may differ."""
    with context.session("definition") as conn:
        for spec in context.plan.tables:
            work = context.switchover(spec)
            found = find_leftovers(conn, context.files, spec) if back else work.differences(conn)
            unwanted = [finding.id for finding in found if finding.reason is None]
            told = "; ".join(unwanted) if unwanted else "no difference that nobody wants"
            context.run.record(
                "definition",
                f"{spec.name} {stage}",
                not unwanted,
                f"{told}; {len(found) - len(unwanted)} wanted",
                Listed(Grid.of(("difference", "wanted because"), [(finding.id, finding.reason) for finding in found])),
            )


def check_triggers(context: Context) -> None:
    """Read the state of every mirror trigger from the catalog."""
    with context.session("triggers") as conn:
        for spec in context.plan.tables:
            for trigger in context.switchover(spec).trigger_states(conn):
                observed = f"{STATES.get(trigger.found or '', 'missing')}, wanted {STATES[trigger.wanted]}"
                subject = f"{trigger.name} on {dotted(trigger.table)}"
                context.run.record(
                    "triggers-enabled", subject, trigger.found == trigger.wanted, observed, TriggerFound(trigger.found)
                )


STATES = {"A": "ENABLED (always)", "O": "ENABLED", "D": "DISABLED", "R": "ENABLED (replica only)"}
