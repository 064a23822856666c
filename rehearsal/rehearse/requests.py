"""The plan's requests to every app server."""

from __future__ import annotations

import time

from rehearsal.application.smoke import SmokeResult, run_smoke
from rehearsal.rehearse.context import Context


def smoke_all(context: Context, gate: str) -> list[SmokeResult]:
    """Send the plan's requests to every server and record each answer for a gate."""
    results: list[SmokeResult] = []
    marker = f"{context.run.name} {context.run.phase} {time.time_ns()}"
    for server in context.env.app_servers:
        results += run_smoke(context.plan, server.url, server.name, run_marker=marker)
    for result in results:
        observed = f"{result.status or 'no answer'} in {result.seconds * 1e3:.0f} ms: {result.observed}"
        context.run.record(gate, f"{result.server} {result.name}", result.passed, observed)
    return results
