"""The phase `forward-again`: the switchover once more, and the last word on every acknowledged write."""

from __future__ import annotations

from rehearsal.catalog.tables import Name, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.locks import judge_locks
from rehearsal.rehearse.parity import compare_all
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.routing import check_drift, route
from rehearsal.rehearse.structure import check_definition, check_triggers
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.repair import resync
from rehearsal.verdict.gates import COPYING


def forward_again(context: Context) -> None:
    """Bring the rows back that were taken out, switch again under load, and prove once more that nothing is lost."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("forward-again")
    brought = 0
    with context.session("re-sync") as conn:
        for spec in context.plan.tables:
            brought += resync(conn, context.switchover(spec))
    context.run.event("note", text=f"re-synced {brought} rows")
    for spec in context.plan.tables:
        context.switchover(spec).switch()
    if context.plan.strategy == "dual-write":
        route(context, on=True)
        check_drift(context, expected=True)
    else:
        judge_locks(context)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    check_triggers(context)
    settled = context.writers.settle("forward-again")
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


PHASE = Phase("forward-again", "Forward again", "forward-again", forward_again, COPYING)
