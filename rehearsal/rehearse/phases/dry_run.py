"""The phase `dry-run`: every statement to come is printed, and nothing has changed."""

from __future__ import annotations

from rehearsal.evidence.data import Grid, Printed
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.switchover.dryrun import catalog_digest, dry_run_text, plan_read_only


def dry_run(context: Context) -> None:
    """Print every statement to come, in a read-only session, and prove that nothing changed."""
    counts = context.row_counts("dry run")
    with context.session("dry run") as conn:
        before = catalog_digest(conn, context.files)
        acts = plan_read_only(conn, context.files, context.plan, context.run.began)
        after = catalog_digest(conn, context.files)
    context.run.attach("dry_run.log", dry_run_text(context.plan, acts, counts))
    rows = [(act.table, act.step, act.lock, f"{act.seconds:.2f}") for act in acts]
    context.run.record(
        "dry-run",
        context.plan.name,
        before == after and bool(acts),
        f"{len(acts)} acts printed; catalogs, state and row counters are "
        f"{'unchanged' if before == after else 'CHANGED'}",
        Printed(after, Grid.of(("table", "act", "strongest lock", "seconds, estimated"), rows)),
    )


PHASE = Phase("dry-run", "Dry run", "dry-run", dry_run)
