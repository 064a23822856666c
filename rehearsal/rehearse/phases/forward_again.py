"""The phase `forward-again`: the switchover once more, and the last word on every acknowledged write."""

from __future__ import annotations

from rehearsal.rehearse.context import Context
from rehearsal.rehearse.last_word import final_reconciliation
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.routing import judge_move, route_if_wanted
from rehearsal.rehearse.strategy import proof_of
from rehearsal.rehearse.structure import check_definition, check_triggers


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


PHASE = Phase("forward-again", "Forward again", "forward-again", forward_again)
