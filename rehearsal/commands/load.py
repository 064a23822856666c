"""The verb `load.run`: the plan's load on its own, reconciled and judged. Returns an exit code."""

from __future__ import annotations

import time

from rehearsal.commands.session import Target, code_of, opened


def run_load(target: Target, seconds: float | None, rate: float) -> int:
    """Run the plan's load for a while, reconcile its ledger, and judge it."""
    with opened(target, "load") as context:
        context.writers.ensure("load", rate=rate)
        # The load is open loop: its length is what was asked for.
        time.sleep(context.plan.load.duration_s if seconds is None else seconds)
        with context.session() as conn:
            live = [(spec, context.names_now(conn, spec)[:1]) for spec in context.plan.tables]
        context.writers.reconcile("load", live)
        summary = context.writers.stop()
        for name, track in sorted((summary.operations if summary else {}).items()):
            counts = f"{track.ok:>8} ok {track.failed:>6} failed {track.unknown:>5} unknown"
            print(f"{name:<40} {counts}  p99 {track.p99_ms:>8.1f} ms")
        return code_of(context)
