"""The phase `twins`: partitioned tables and triggers by the registry; a second run of it changes nothing."""

from __future__ import annotations

from rehearsal.evidence.data import Changes
from rehearsal.hosts.manifest import Change
from rehearsal.rehearse.changes import apply_changes
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.structure import check_triggers
from rehearsal.switchover.changes import render_changes


def make_targets(context: Context) -> None:
    """Render targets and triggers, let the registry apply them, and prove that a second run changes nothing."""
    ask_first(context, Intent.MIGRATE)
    with context.session("render") as conn:
        rendered = render_changes(conn, context.files, context.plan, context.run.began)
    changes = [Change(change.name, change.body) for change in rendered]
    first = apply_changes(context, changes)
    second = apply_changes(context, changes)
    context.run.record(
        "target-structure",
        "registry",
        second == 0,
        f"{first} changes applied, {second} by the second run",
        Changes(len(changes)),
    )
    check_triggers(context)
    context.row_counts("targets made")


PHASE = Phase("twins", "Partitioned targets and triggers", "target-structure", make_targets)
