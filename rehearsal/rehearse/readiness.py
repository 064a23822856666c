"""The one door to preflight: each verb and each phase that changes a table asks here before its first write.

Owns how findings are kept with the run and how a blocker refuses. What each act asks is in `preflight`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from rehearsal.catalog.findings import Finding
from rehearsal.checks.preflight import Intent, check_act
from rehearsal.errors import PreconditionError
from rehearsal.evidence.data import Findings, Found
from rehearsal.postgres.connection import Connection, told_clearly
from rehearsal.rehearse.context import Context

__all__ = ["Intent", "ask_first", "free_bytes", "require_ready"]


def require_ready(context: Context, conn: Connection, act: Intent) -> None:
    """Ask preflight for an act, in whatever state each table is; keep the findings, refuse on a blocker.

    Changes nothing; a second call asks again. Locks: ACCESS SHARE.

    Raises:
        PreconditionError: something stands against the act; names all of it, with remedies.
    """
    with told_clearly(f"preflight of {act}"):
        findings = check_act(conn, context.files, context.plan, act, free_bytes=free_bytes(context))
    blockers = [finding for finding in findings if finding.severity == "blocker"]
    seen = f"before {act}: blockers: {len(blockers)}, warnings: {len(findings) - len(blockers)}"
    context.run.record("preflight", str(act), not blockers, seen, Findings(tuple(_kept(found) for found in findings)))
    for finding in findings:
        if finding.severity == "warning":
            context.run.note(f"warning: {_line(finding)}")
    if blockers:
        raise PreconditionError(_refusal(act, blockers))


def ask_first(context: Context, act: Intent) -> None:
    """Ask for a phase, in a session of its own; raises and locks as `require_ready`."""
    with context.session("preflight") as conn:
        require_ready(context, conn, act)


def free_bytes(context: Context) -> int | None:
    """Return the room on the disk of the data, None where it cannot be seen from here."""
    folder = context.env.state_folder
    return shutil.disk_usage(folder).free if folder else None


def _kept(found: Finding) -> Found:
    return Found(found.id, found.severity, found.subject, found.condition, found.effect, found.remedy)


def _line(one: Finding) -> str:
    return f"{one.subject}: {one.condition}: {one.effect}; {one.remedy} [{one.id}]"


def _refusal(act: Intent, blockers: Sequence[Finding]) -> str:
    lines = "".join(f"\n  {_line(blocker)}" for blocker in blockers)
    return f"{act} is refused before anything is written:{lines}"
