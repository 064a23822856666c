"""The phase `flags-on`: reads and writes are routed to the partitioned tables."""

from __future__ import annotations

from rehearsal.plan.strategies import DUAL_WRITE
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.routing import check_drift, route


def flags_on(context: Context) -> None:
    """Route reads and writes to the partitioned tables, one app server at a time, under load."""
    context.writers.ensure("flags-on")
    route(context, on=True)
    check_drift(context, expected=True)
    context.writers.reconcile("flags-on")


PHASE = Phase("flags-on", "Routing flags on", "flags", flags_on, DUAL_WRITE)
