"""The phase `parity-after`: content, structure and figures of each pair while writers are at work."""

from __future__ import annotations

import difflib

from rehearsal.plan.strategies import COPYING
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.figures import compare_figures
from rehearsal.rehearse.parity import compare_all
from rehearsal.rehearse.phase import Phase, StopHere
from rehearsal.rehearse.structure import check_definition, check_shape
from rehearsal.switchover.parity import parity_text


def parity_after(context: Context) -> None:
    """Compare content, structure and figures while writers are at work."""
    context.writers.ensure("parity-after")
    reports = compare_all(context, "parity-after", self_test=True)
    text = context.run.attach("post_migration_parity.txt", parity_text(reports)).read_text()
    before = context.run.folder / "pre_migration_parity.txt"
    if before.exists():
        lines = difflib.unified_diff(before.read_text().splitlines(), text.splitlines(), "before", "after", lineterm="")
        context.run.attach("parity.diff", "\n".join(lines) + "\n")
    with context.session("structure") as conn:
        for spec in context.plan.tables:
            source, target = context.pair(conn, spec)
            check_shape(context, conn, spec, source, target)
            compare_figures(context, conn, spec, target)
    check_definition(context, "after the switchover")
    context.row_counts("parity after")
    context.writers.reconcile("parity-after")
    if any(report.unexplained for report in reports):
        raise StopHere


PHASE = Phase("parity-after", "Parity after", "parity-after", parity_after, COPYING)
