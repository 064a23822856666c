"""The phase `preflight`: what cannot be carried is refused before anything is changed."""

from __future__ import annotations

from dataclasses import replace

from rehearsal.approval.review import find_review
from rehearsal.catalog.findings import Finding
from rehearsal.checks.preflight import OF_THE_DRILL, check_drill, run_preflight
from rehearsal.checks.scratch import scratch_name
from rehearsal.errors import PreconditionError
from rehearsal.evidence.data import Grid, Listed
from rehearsal.evidence.events import ServerSeen
from rehearsal.evidence.run import runs_folder
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.programs import find_client, require_version
from rehearsal.rehearse.context import Context, require_mark
from rehearsal.rehearse.phase import Phase, StopHere
from rehearsal.rehearse.readiness import free_bytes


def preflight(context: Context) -> None:
    """Refuse what cannot be carried, before anything is changed."""
    with context.session("preflight") as conn:
        require_mark(context, conn)
        check_tools(context, conn)
        free = free_bytes(context)
        findings = run_preflight(conn, context.files, context.plan, free_bytes=free, trial=True)
        findings += check_drill(conn, replace(context.env.database, name=scratch_name(context.plan.name)))
    check_review(context)
    for finding in findings:
        if finding.id in OF_THE_DRILL:
            context.run.note(f"warning: {finding.condition}; {finding.effect}; {finding.remedy}")
    blockers = [finding for finding in findings if finding.severity == "blocker"]
    context.run.record(
        "preflight",
        "plan",
        not blockers,
        f"blockers: {len(blockers)}, warnings: {len(findings) - len(blockers)}"
        + (f": {_first(blockers)}" if blockers else ""),
        Listed(findings_table(findings)),
    )
    if blockers:
        raise StopHere


def check_review(context: Context) -> None:
    """Look for a second person's review of this very fingerprint; throwaway environments need none."""
    if context.env.is_throwaway:
        return
    review = find_review(runs_folder(context.root), context.plan.name, context.fingerprint)
    short = context.fingerprint[:16]
    seen = f"reviewed by {review.by} at {review.at}, fingerprint {short}" if review else f"no review of {short}"
    context.run.record("script-reviewed", context.plan.name, True if review else None, seen)


def findings_table(findings: list[Finding]) -> Grid:
    """Return findings as a table of the report."""
    columns = ("finding", "severity", "subject", "condition", "effect", "remedy")
    rows = [
        (finding.id, finding.severity, finding.subject, finding.condition, finding.effect, finding.remedy)
        for finding in findings
    ]
    return Grid.of(columns, rows)


def _first(findings: list[Finding]) -> str:
    return f"{findings[0].subject}: {findings[0].condition}; {findings[0].remedy}"


def check_tools(context: Context, conn: Connection) -> None:
    """Record server and client versions; a client older than the server cannot dump it."""
    context.run.tell(ServerSeen(conn.info.server_version))
    for name in ("psql", "pg_dump", "pg_restore"):
        try:
            version = require_version(find_client(name, context.env.client_bin), conn.info.server_version)
        except PreconditionError as exc:
            context.run.record("tools", name, False, str(exc))
        else:
            context.run.record("tools", name, True, f"{version}, server {conn.info.server_version // 10_000}")


PHASE = Phase("preflight", "Preflight", "preflight", preflight)
