"""The phase `soak`: after the last switch the application goes on for a while, and everything must stay as it is.

Owns for how long. What the load felt is judged by the gates of the load, as in any phase with writers.
"""

from __future__ import annotations

import time

from rehearsal.evidence.events import Progress
from rehearsal.rehearse.app_logs import log_sizes, record_log_errors
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.db_log import log_size, record_db_log
from rehearsal.rehearse.last_word import final_reconciliation
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.strategy import proof_of

# Seconds that a soak has on hosts of our own; elsewhere the plan says it.
LEAST: dict[str, float] = {"local": 15, "docker": 120}
STEP_S = 5.0


def asked_seconds(context: Context) -> float:
    """Return how long the soak must be: the least of the kind, and on others' hosts what the plan says."""
    return LEAST.get(context.env.kind, context.plan.soak_s)


def soak(context: Context) -> None:
    """Let the load go on, then look at logs, at every acknowledged write, and at the rows once more."""
    asked, sizes, since = asked_seconds(context), log_sizes(context), log_size(context)
    context.writers.ensure("soak")
    done = 0.0
    try:
        done = wait(context, asked)
    finally:
        # Kept also when somebody ends it: a soak that was cut short is no evidence of the whole.
        context.run.record("soak", "length", True if done >= asked else None, f"{done:.0f} s of {asked:.0f} s asked")
    record_log_errors(context, sizes, "soak", "log of ")
    record_db_log(context, "soak", since)
    reconciled = context.writers.reconcile("soak")
    summary = context.writers.stop()
    equal = proof_of(context).compare("after the soak")
    total = sum(sum(counts.values()) for counts in reconciled.acknowledged.values())
    good = equal and reconciled.is_clean and summary is not None
    wrong = {kind: count for found in reconciled.relations for kind, count in found.counts.items() if count}
    told = f"{total:,} acknowledged writes, {wrong or 'none of them wrong'}, content {'equal' if equal else 'DIFFERS'}"
    context.run.record("soak", "rows", good if total or not good else None, told)
    final_reconciliation(context)


def wait(context: Context, asked: float) -> float:
    """Wait for the length of the soak, and tell how far it is; return the seconds that it had."""
    began = time.monotonic()
    while (done := time.monotonic() - began) < asked and context.writers.at_work:
        context.run.progress(Progress("soak", round(done), asked, "s"))
        time.sleep(min(STEP_S, asked - done))  # a length is what is asked for
    return done


PHASE = Phase("soak", "Soak", "soak", soak)
