"""The phase `baseline`: what there is before anything is changed."""

from __future__ import annotations

from rehearsal.checks.figures import newest_id, read_figures, row_column
from rehearsal.checks.stats import read_stats
from rehearsal.evidence.data import Baseline
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.figures import distinct_columns
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.strategy import proof_of


def baseline(context: Context) -> None:
    """Write down what is there: rows, bytes, key range, distinct values."""
    total, proof = 0, proof_of(context)
    with context.session("baseline") as conn:
        for spec in context.plan.tables:
            table = context.source_now(conn, spec)
            distinct = distinct_columns(table)
            stats = read_stats(conn, context.files, table, spec.key, distinct)
            upto = newest_id(conn, table)
            figures = read_figures(conn, table, spec, distinct, upto, row_column(table, spec.key))
            total += stats.rows
            measured = Baseline(
                rows=stats.rows,
                oldest=stats.oldest,
                newest=stats.newest,
                null_keys=stats.null_keys,
                distinct=stats.distinct,
                bytes=stats.bytes,
                index_bytes=stats.index_bytes,
                figures=figures,
                upto=upto,
            )
            context.run.record(
                "baseline",
                spec.name,
                stats.rows > 0,
                f"{stats.rows:,} rows, {stats.bytes / 1e6:.0f} MB with {stats.index_bytes / 1e6:.0f} MB of indexes, "
                f"{stats.oldest} to {stats.newest}",
                proof.describe(conn, spec, table, measured),
            )
    least = context.plan.gates.min_rows
    # Asked for with --rows, a small rehearsal is no failure; but it is no evidence for the planned size either.
    passed = True if total >= least else None if context.scale < 1 else False
    context.run.record("baseline", "all tables", passed, f"{total:,} rows, the plan wants {least:,} at least")
    context.row_counts("baseline")


PHASE = Phase("baseline", "Baseline", "baseline", baseline)
