"""The phase `forward-again`: the switchover once more, and the last word on every acknowledged write."""

from __future__ import annotations

from rehearsal.catalog.tables import Name, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.routing import judge_move, route_if_wanted
from rehearsal.rehearse.strategy import proof_of
from rehearsal.rehearse.structure import check_definition, check_triggers
from rehearsal.switchover import state
from rehearsal.switchover.names import Names


def forward_again(context: Context) -> None:
    """Switch again under load, and prove once more that nothing is lost."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("forward-again")
    proof = proof_of(context)
    said = proof.go_forward()
    route_if_wanted(context, on=True)
    judge_move(context, on=True)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    check_triggers(context)
    reconciled = context.writers.reconcile("forward-again")
    context.writers.stop()
    equal = proof.compare("forward again")
    good = equal and reconciled.is_clean and all(result.passed for result in results)
    said += [f"{reconciled.lost} acknowledged writes lost", f"content {'equal' if equal else 'DIFFERS'}"]
    context.run.record("forward-again", "service", good, ", ".join(said))
    final_reconciliation(context)


def final_reconciliation(context: Context) -> None:
    """Reconcile once more when no writer is left, in every table that must have each write, with the log replayed."""
    with context.session() as conn:
        relations = [(spec, brought_level(context, conn, spec)) for spec in context.plan.tables]
    context.writers.reconcile("at the end", relations)
    context.row_counts("at the end")


def brought_level(context: Context, conn: Connection, spec: TableSpec) -> list[Name]:
    """Replay what lags; return the table and, where there is one, the other that has the same rows."""
    names, work = Names(split_name(spec.name)), context.switchover(spec)
    if work.log_now(conn) is not None:
        work.follow()
    others = {state.MIRRORED: [names.target], state.SWAPPED: [names.retired]}
    return [names.source, *others.get(state.read_migration(conn, names.source).state, [])]


PHASE = Phase("forward-again", "Forward again", "forward-again", forward_again)
