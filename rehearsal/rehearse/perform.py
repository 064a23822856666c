"""Phases of the switchover itself: switch under writers, compare, flip flags, use the application, compare queries."""

from __future__ import annotations

import difflib

from rehearsal.application.flags import show_flags
from rehearsal.application.rollout import FlipResult, set_flags
from rehearsal.catalog.tables import Table, split_name
from rehearsal.checks.duplicates import find_duplicates
from rehearsal.checks.figures import read_figures, row_column
from rehearsal.checks.inspection import inspect
from rehearsal.checks.queries.compare import QueryResult, compare_queries, performance_results_text, speed_text
from rehearsal.errors import CannotSee
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.prepare import check_triggers, distinct_columns
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.runner import StopHere
from rehearsal.switchover import state
from rehearsal.switchover.definition import find_differences, find_leftovers
from rehearsal.switchover.parity import compare, parity_text
from rehearsal.switchover.parity.report import ParityReport
from rehearsal.switchover.target.references import count_orphans, from_stored

SWITCHED = {"dual-write": state.MIRRORED, "swap": state.SWAPPED, "attach": state.ATTACHED}


def switch_over(context: Context) -> None:
    """Copy, follow and switch every table while writers are at work; settle their ledger."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("switchover")
    context.row_counts("before the copy")
    for spec in context.plan.tables:
        context.switchover(spec).prepare()
    context.row_counts("copied, following")
    for spec in context.plan.tables:
        context.switchover(spec).switch()
    context.row_counts("switched")
    with context.session() as conn:
        for spec in context.plan.tables:
            found = state.read_migration(conn, split_name(spec.name))
            wanted = SWITCHED[found.strategy]
            seconds = (
                sum(
                    ms
                    for (ms,) in conn.execute("select duration_ms from rehearsal.step where migration = %s", [found.id])
                )
                / 1e3
            )
            observed = f"{found.state}; its steps took {seconds:.1f} s"
            context.run.record(
                "switchover", spec.name, found.state == wanted, observed, state=found.state, seconds=seconds
            )
    judge_locks(context)
    check_triggers(context)
    context.writers.settle("switchover")


def judge_locks(context: Context) -> None:
    """Judge every lock of this phase that the application could feel, by what it held."""
    limit = context.plan.gates.max_lock_hold_ms
    locks = [
        event.fields for event in context.run.events() if event.kind == "lock" and event.phase == context.run.phase
    ]
    for lock in locks:
        observed = f"held {lock['held_ms']:.0f} ms, granted after {lock['waited_ms']:.0f} ms, {lock['attempts']} tries"
        context.run.record(
            "lock-budget", str(lock["what"]), lock["held_ms"] <= limit, observed, held_ms=lock["held_ms"]
        )
    if not locks:
        context.run.record("lock-budget", context.run.phase, True, "no lock was needed: the work was done before")


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
    check_definition(context, "after the switch")
    context.row_counts("parity after")
    context.writers.settle("parity-after")
    if any(report.unexplained for report in reports):
        raise StopHere


def compare_all(context: Context, gate: str, *, self_test: bool) -> list[ParityReport]:
    """Compare every pair exactly, whatever lags, and record the result for a gate."""
    reports: list[ParityReport] = []
    with context.session("parity") as conn:
        for spec in context.plan.tables:
            work = context.switchover(spec)
            # First of all: a value that repeats makes the drain of the retired table fail, without saying why.
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
    for one in found:
        context.run.record("duplicates", f"{spec.name} {one.name}", one.sets == 0, one.text(), sets=one.sets)
    if not found:
        observed = "every unique index holds the key, so the partitioned table refuses duplicates itself"
        context.run.record("duplicates", spec.name, True, observed)


def record_orphans(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Look for rows that point at nothing where triggers stand in for a foreign key."""
    found = state.read_migration(conn, split_name(spec.name))
    for one in from_stored(found.detail) if found.state == state.SWAPPED else ():
        orphans, examples = count_orphans(conn, context.files, one, split_name(spec.name))
        observed = f"{orphans} rows point at nothing" + (f", such as {', '.join(examples)}" if orphans else "")
        context.run.record("orphans", f"{spec.name} {one.label}", orphans == 0, observed, orphans=orphans)


def record_parity(context: Context, gate: str, spec: TableSpec, report: ParityReport, *, tested: bool) -> None:
    """Record one comparison: content for its gate, counts and the default partition for theirs.

    A comparison that was to test itself and could not is no evidence; one test of it in a run is enough.
    """
    equal = report.unexplained == 0
    passed = None if equal and tested and report.self_test is None else equal and report.self_test is not False
    lag = f", {report.explained} still in the key log" if report.explained else ""
    context.run.record(
        gate,
        spec.name,
        passed,
        f"{report.unexplained} of {report.source_count:,} rows differ{lag}; self-test: {report.self_test_note}",
        differing=report.unexplained,
        rows=report.source_count,
        differences=report.differences,
        seconds=round(report.seconds, 2),
        table={
            "columns": ["partition", "source rows", "partitioned rows", "equal"],
            "rows": [[one.name, one.source_count, one.target_count, one.equal] for one in report.leaves],
        },
    )
    same = report.source_count == report.target_count or (report.explained > 0 and equal)
    counts = f"{report.source_count:,} and {report.target_count:,} rows: {'MATCH' if same else 'MISMATCH'}{lag}"
    context.run.record("counts", spec.name, same, counts)
    if spec.default_partition:
        context.run.record(
            "default-empty", spec.name, report.in_default == 0, f"{report.in_default} rows in the default partition"
        )


def check_shape(context: Context, conn: Connection, spec: TableSpec, source: Table, target: Table) -> None:
    """Compare partitions, indexes, constraints, grants and the rest of source and twin."""
    for one in inspect(conn, context.files, spec, source, target, context.run.began):
        observed = one.observed + (
            "" if one.passed else f"; {len(one.problems)} problems, the first: {one.problems[0]}"
        )
        context.run.record("target-structure", f"{spec.name} {one.check}", one.passed, observed, problems=one.problems)


def check_definition(context: Context, stage: str, *, back: bool = False) -> None:
    """Compare what each table is with what it was before the switch; after the way back nothing may differ at all."""
    with context.session("definition") as conn:
        for spec in context.plan.tables:
            if back:
                found = find_leftovers(conn, context.files, spec)
            else:
                found = find_differences(conn, context.files, context.plan, spec)
            unwanted = [one.id for one in found if one.reason is None]
            told = "; ".join(unwanted) if unwanted else "no difference that nobody wants"
            context.run.record(
                "definition",
                f"{spec.name} {stage}",
                not unwanted,
                f"{told}; {len(found) - len(unwanted)} wanted",
                table={"columns": ["difference", "wanted because"], "rows": [[one.id, one.reason] for one in found]},
            )


def compare_figures(context: Context, conn: Connection, spec: TableSpec, target: Table) -> None:
    """Compare rows, key range and distinct values with the baseline, without the rows that the load made."""
    before = next(
        (one for one in reversed(context.run.evidence()) if one.gate == "baseline" and one.subject == spec.name), None
    )
    if before is None:
        message = f"no baseline of {spec.name} was recorded; run again from baseline"
        raise CannotSee(message)
    primary = row_column(target, spec.key)
    now = read_figures(conn, target, spec, distinct_columns(target), before.data["upto"], primary)
    then = before.data["figures"]
    changed = {name: (then.get(name), value) for name, value in now.items() if then.get(name) != value}
    observed = "as before: " + ", ".join(f"{name} {value}" for name, value in now.items())
    if changed:
        observed = "changed: " + ", ".join(f"{name} {was} -> {is_}" for name, (was, is_) in changed.items())
    context.run.record("stats-unchanged", spec.name, not changed, observed)


def flags_on(context: Context) -> None:
    """Route reads and writes to the partitioned tables, one app server at a time, under load."""
    context.writers.ensure("flags-on")
    route(context, on=True)
    check_drift(context, expected=True)
    context.writers.settle("flags-on")


def route(context: Context, *, on: bool) -> None:
    """Set or take both flags on every server, once table and target are seen to fit, as `db.flags` and `db.rollback`.

    Raises:
        PreconditionError: one was altered; names it. No flag was touched.
    """
    with context.session("flags") as conn:
        for spec in context.plan.tables:
            context.switchover(spec).require_fit(conn, leaving=not on)
    require_flip(context, set_flags(context.env, context.plan, reads=on, writes=on, run=context.run))


def require_flip(context: Context, flip: FlipResult) -> None:
    """Record what a rolling flip did on each server; one that failed was reverted and stops the run."""
    for one in flip.servers:
        before, after = one.before.process or "unseen", (one.after.process if one.after else None) or "unseen"
        how = "restarted" if one.restarted else "not restarted, nothing to change"
        how = how if one.reverted is None else "put back" if one.reverted else "NOT PUT BACK"
        observed = f"{before} -> {after}, {how}, {one.seconds:.1f} s" + (f"; {one.error}" if one.error else "")
        passed = one.error is None and one.reverted is None
        context.run.record("flags", one.server, passed, observed, seconds=one.seconds, wanted=str(flip.wanted))
    for server in flip.untouched:
        context.run.record("flags", server, False, "not touched: the flip stopped before it")
    if not flip.ok:
        context.run.record("flags", "the fleet", False, str(flip.error))
        raise StopHere


def check_drift(context: Context, *, expected: bool) -> None:
    """Compare flag file and process on every server: a fleet that disagrees is a NO-GO."""
    for one in show_flags(context.env, context.plan):
        agrees = one.process is not None and one.process.reads == one.process.writes == expected and one.drift is False
        passed = None if one.process is None else agrees
        context.run.record("flags", f"{one.server} file and process", passed, f"file {one.file}, process {one.process}")


def compare_speed(context: Context) -> None:
    """Compare the plan's queries on both sides, without other load."""
    context.writers.stop()
    if not context.plan.queries:
        return
    with context.session("queries") as conn:
        tables = {spec.name: context.pair(conn, spec) for spec in context.plan.tables}
    specs = context.plan.tables
    results = compare_queries(context.env.database, context.files, context.plan.queries, tables, specs=specs)
    context.run.attach("performance_results.txt", performance_results_text(results))
    for one in results:
        record_query(context, one)


def record_query(context: Context, one: QueryResult) -> None:
    """Record speed and pruning of one query."""
    low, high = one.speedup.low, one.speedup.high
    slack_ms = {query.name: query.slack_ms for query in context.plan.queries}[one.name]
    observed = f"{one.before_ms:.2f} -> {one.after_ms:.2f} ms, {speed_text(one.speedup, one.slower_ms, slack_ms)}"
    table = {
        "columns": [
            "query",
            "before ms",
            "after ms",
            "speed-up",
            "low",
            "high",
            "planned",
            "executed",
            "expected",
            "locked",
        ],
        "rows": [
            [
                one.name,
                round(one.before_ms, 2),
                round(one.after_ms, 2),
                f"{one.speedup.value:.0%}",
                f"{low:.0%}",
                f"{high:.0%}",
                len(one.after.planned),
                len(one.after.executed),
                len(one.expected),
                one.locked,
            ]
        ],
    }
    # None means that the plan does not ask for it: then there is nothing to judge, only something to show.
    speed = one.speed_ok if one.speed_asked else True
    if speed is None:
        observed = f"{observed}; {one.runs} runs do not tell whether the limit holds"
    speed = False if one.index_ok is False else speed
    if not speed and context.options.scale < 1:
        speed, observed = None, f"{observed}; with fewer rows than planned this is not judged"
    context.run.record("query-speed", one.name, speed, observed, table=table)
    pruning = (
        f"{len(one.after.executed)} of {one.leaves} partitions executed, {len(one.expected)} expected, "
        f"{one.locked} relations locked"
    )
    if one.pruning_ok is not None:
        context.run.record("query-pruning", one.name, one.pruning_ok, pruning)
