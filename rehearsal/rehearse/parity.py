"""The comparison of pairs, as more than one phase makes it, and what each gate is told of it."""

from __future__ import annotations

from rehearsal.catalog.tables import split_name
from rehearsal.checks.duplicates import find_duplicates
from rehearsal.evidence.data import Grid, Orphans, Parity, Repeated
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.parity import compare
from rehearsal.switchover.parity.report import ParityReport
from rehearsal.switchover.target.references import count_orphans, standing


def compare_all(context: Context, gate: str, *, self_test: bool) -> list[ParityReport]:
    """Compare every pair exactly, whatever lags, and record the result for a gate."""
    reports: list[ParityReport] = []
    with context.session("parity") as conn:
        for spec in context.plan.tables:
            work = context.switchover(spec)
            # First of all: a value that repeats makes the replay of the retired table fail, without saying why.
            record_duplicates(context, conn, spec)
            record_orphans(context, conn, spec)
            keylog = work.log_now(conn)
            if keylog is not None:
                work.follow(rest=context.plan.copying.drain_until)
            source, target = context.pair(conn, spec)
            report = compare(
                context.env.database, context.files, source, target, spec.key, keylog=keylog, self_test=self_test
            )
            reports.append(report)
            record_parity(context, gate, spec, report, tested=self_test)
    return reports


def record_duplicates(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Look for values that were unique on the source, over all partitions."""
    source, target = context.pair(conn, spec)
    found = find_duplicates(conn, context.files, source, target, spec.key)
    for repeated in found:
        context.run.record(
            "duplicates", f"{spec.name} {repeated.name}", repeated.sets == 0, repeated.text(), Repeated(repeated.sets)
        )
    if not found:
        observed = "every unique index holds the key, so the partitioned table refuses duplicates itself"
        context.run.record("duplicates", spec.name, True, observed)


def record_orphans(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Look for rows that point at nothing where triggers stand in for a foreign key."""
    found = state.read_migration(conn, split_name(spec.name))
    kept = found.detail.references if found.state == state.SWAPPED else ()
    for reference in standing(conn, kept):
        orphans, examples = count_orphans(conn, context.files, reference, split_name(spec.name))
        observed = f"{orphans} rows point at nothing" + (f", such as {', '.join(examples)}" if orphans else "")
        context.run.record("orphans", f"{spec.name} {reference.label}", orphans == 0, observed, Orphans(orphans))


def record_parity(context: Context, gate: str, spec: TableSpec, report: ParityReport, *, tested: bool) -> None:
    """Record one comparison: content for its gate, counts and the default partition for theirs.

    A comparison that was to test itself and could not is no evidence; one test of it in a run is enough.
    """
    equal = report.unexplained == 0
    passed = None if equal and tested and report.self_test is None else equal and report.self_test is not False
    lag = f", {report.explained} still in the change log" if report.explained else ""
    leaves = Grid.of(
        ("partition", "source rows", "partitioned rows", "equal"),
        [(leaf.name, leaf.source_count, leaf.target_count, leaf.equal) for leaf in report.leaves],
    )
    context.run.record(
        gate,
        spec.name,
        passed,
        f"{report.unexplained} of {report.source_count:,} rows differ{lag}; self-test: {report.self_test_note}",
        Parity(report.unexplained, report.source_count, report.differences, round(report.seconds, 2), leaves),
    )
    same = report.source_count == report.target_count or (report.explained > 0 and equal)
    counts = f"{report.source_count:,} and {report.target_count:,} rows: {'MATCH' if same else 'MISMATCH'}{lag}"
    context.run.record("counts", spec.name, same, counts)
    if spec.default_partition:
        context.run.record(
            "default-empty", spec.name, report.in_default == 0, f"{report.in_default} rows in the default partition"
        )
