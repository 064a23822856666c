"""The phase `load`: the plan's load for its whole length, then everything is reconciled and compared."""

from __future__ import annotations

import time

from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.strategy import proof_of


def full_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then reconcile and compare exactly."""
    keep_load(context)
    proof_of(context).compare("after the load")


def keep_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then reconcile; require that every kind of write was seen."""
    context.writers.ensure("load")
    time.sleep(context.plan.load.duration_s)  # the load is open loop: its length is what is asked for
    reconciled = context.writers.reconcile("load")
    short = reconciled.short_of(context.plan.gates.min_writes, context.plan)
    context.run.record(
        "load",
        "witness",
        None if short else True,
        "too few: " + "; ".join(short) if short else "every kind of write was acknowledged often enough",
    )


PHASE = Phase("load", "Full load", "load", full_load)
