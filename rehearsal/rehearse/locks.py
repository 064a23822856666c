"""The locks of a phase, judged by how long the application could feel them."""

from __future__ import annotations

from rehearsal.evidence.data import Held
from rehearsal.evidence.events import LockTaken
from rehearsal.rehearse.context import Context


def judge_locks(context: Context) -> None:
    """Judge every lock of this phase that the application could feel, by what it held."""
    limit = context.plan.gates.max_lock_hold_ms
    here = [event.what for event in context.run.events() if event.phase == context.run.phase]
    locks = [what for what in here if isinstance(what, LockTaken)]
    for lock in locks:
        observed = f"held {lock.held_ms:.0f} ms, granted after {lock.waited_ms:.0f} ms, {lock.attempts} attempts"
        context.run.record("lock-budget", lock.what, lock.held_ms <= limit, observed, Held(lock.held_ms))
    if not locks:
        context.run.record("lock-budget", context.run.phase, True, "no lock was needed: the work was done before")
