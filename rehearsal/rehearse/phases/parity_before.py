"""The phase `parity-before`: the pair is compared before any row is copied."""

from __future__ import annotations

from rehearsal.evidence.data import Differences
from rehearsal.plan.strategies import COPYING
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.switchover.parity import ParityReport, compare, parity_text


def parity_before(context: Context) -> None:
    """Compare before any row is copied: the target may lack rows here and only here, but must hold no wrong one."""
    reports: list[ParityReport] = []
    with context.session("parity") as conn:
        for spec in context.plan.tables:
            source, target = context.pair(conn, spec)
            keylog = context.switchover(spec).log_now(conn)
            report = compare(
                context.env.database, context.files, source, target, spec.key, keylog=keylog, self_test=False
            )
            reports.append(report)
            wrong = sum(count for kind, count in report.differences.items() if kind != "missing")
            context.run.record(
                "parity-before",
                spec.name,
                wrong == 0,
                f"{report.source_count:,} rows, {report.target_count:,} in the target, {wrong} of them wrong",
                Differences(report.differences),
            )
    context.run.attach("pre_migration_parity.txt", parity_text(reports))


PHASE = Phase("parity-before", "Parity before", "parity-before", parity_before, COPYING)
