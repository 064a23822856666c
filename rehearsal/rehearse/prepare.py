"""Phases before the switchover: hosts, data, preflight, baseline, twin and triggers, tests, dry run, backup."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

from psycopg import errors as pg_errors

from rehearsal.application.flags import wait_for_servers
from rehearsal.approval.review import find_review
from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Table, dotted, split_name
from rehearsal.checks import backup as backups
from rehearsal.checks.figures import newest_id, read_figures, row_column
from rehearsal.checks.preflight import OF_THE_DRILL, check_drill, run_preflight
from rehearsal.checks.scratch import scratch_name
from rehearsal.checks.stats import read_stats
from rehearsal.checks.triggers import TriggerTest, results_text, run_trigger_tests
from rehearsal.checks.untouched import Reader
from rehearsal.errors import CannotSee, PreconditionError
from rehearsal.evidence import runs_folder
from rehearsal.hosts.manifest import Change, write_manifest
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.programs import find_client, require_version
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.readiness import Intent, ask_first, free_bytes
from rehearsal.rehearse.runner import StopHere
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.dryrun import catalog_digest, dry_run_text, plan_acts
from rehearsal.switchover.parity import ParityReport, compare, parity_text
from rehearsal.synthetic.rows import check_distribution, make_data


def provision(context: Context) -> None:
    """Bring throwaway hosts to a fresh state; others are provisioned by their own command, and only checked here."""
    if not context.env.is_throwaway:
        context.run.event("note", text="not a throwaway environment: hosts stay as they are")
        return
    run_pyinfra(
        context.env.inventory, "roles", plan=context.plan, run=context.run, data={"reset": context.options.reset}
    )
    migrate_schema(context)
    run_pyinfra(context.env.inventory, "app", plan=context.plan, run=context.run, data={"reset": context.options.reset})
    wait_for_servers(context.env)


def migrate_schema(context: Context) -> int:
    """Apply the application's own schema, which only throwaway environments lack; return how much changed."""
    changes = [
        Change(name.removesuffix(".sql"), context.files.text(f"migrations/{name}"))
        for name in context.plan.app_schema.migrations
    ]
    return apply_changes(context, changes)


def apply_changes(context: Context, changes: list[Change]) -> int:
    """Hand changes to the hosts' registry and let pyinfra apply them; return how many operations changed something."""
    manifest = write_manifest(context.folder_of_changes, context.env.database.name, changes)
    data = {"manifest": str(manifest), "lock_timeout_ms": context.plan.locks.max_timeout_ms}
    result = run_pyinfra(context.env.inventory, "migrate", plan=context.plan, run=context.run, data=data)
    return result.changed


def make_rows(context: Context) -> None:
    """Make production-like rows on throwaway environments; count the months everywhere."""
    run, plan = context.run, context.plan

    def tell(table: str, done: int, total: int) -> None:
        run.progress(f"rows of {table}", done, total, "rows")

    with context.session("data") as conn:
        require_mark(context, conn)
        if context.env.is_throwaway:
            scale, anchor = context.options.scale, context.anchor
            for made in make_data(conn, plan, scale=scale, anchor=anchor, on_progress=tell):
                pace = f"{made.rows_per_second:,.0f} a second" if made.made else "there already"
                run.event("note", text=f"{made.table}: {made.rows:,} rows, {pace}")
        months = check_distribution(conn, plan, scale=context.options.scale)
    for table in sorted({month.table for month in months}):
        of_table = [month for month in months if month.table == table]
        bad = [month for month in of_table if not month.passed]
        run.record(
            "data-distribution",
            table,
            not bad,
            f"{len(of_table)} months, {len(bad)} outside their limits" + (f"; first {bad[0]}" if bad else ""),
            table={"columns": ["month", "rows"], "rows": [[str(one.month), one.rows] for one in of_table]},
        )


def preflight(context: Context) -> None:
    """Refuse what cannot be carried, before anything is changed."""
    with context.session("preflight") as conn:
        require_mark(context, conn)
        check_tools(context, conn)
        free = free_bytes(context)
        findings = run_preflight(conn, context.files, context.plan, free_bytes=free, trial=True)
        findings += check_drill(conn, replace(context.env.database, name=scratch_name(context.plan.name)))
    check_review(context)
    for one in findings:
        if one.id in OF_THE_DRILL:
            context.run.event("note", text=f"warning: {one.condition}; {one.effect}; {one.remedy}")
    blockers = [one for one in findings if one.severity == "blocker"]
    context.run.record(
        "preflight",
        "plan",
        not blockers,
        f"{len(blockers)} blockers, {len(findings) - len(blockers)} warnings"
        + (f": {_first(blockers)}" if blockers else ""),
        table=findings_table(findings),
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


def findings_table(findings: list[Finding]) -> dict[str, list[object]]:
    """Return findings as a table of the report."""
    columns = ["finding", "severity", "subject", "condition", "effect", "remedy"]
    rows = [[one.id, one.severity, one.subject, one.condition, one.effect, one.remedy] for one in findings]
    return {"columns": list(columns), "rows": list(rows)}


def _first(findings: list[Finding]) -> str:
    return f"{findings[0].subject}: {findings[0].condition}; {findings[0].remedy}"


def require_mark(context: Context, conn: Connection) -> None:
    """Refuse a database whose mark is not the environment's kind, before the first write (law 6).

    Raises:
        PreconditionError: no mark, or that of another kind.
    """
    try:
        row = conn.execute("select kind from rehearsal.environment_mark").fetchone()
    except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName):
        row = None
    kind, have = context.env.kind, row[0] if row else None
    if have != kind:
        context.run.record(
            "environment-mark", context.env.database.name, False, f"marked {have}, the environment is {kind}"
        )
        message = (
            f"database {context.env.database.name} is {f'marked {have!r}' if have else 'not marked'}, and environment "
            f"{context.env.name} is of kind {kind!r}; mark it by `invoke db.provision --env "
            f"{context.env.name}` if it is the right one"
        )
        raise PreconditionError(message)
    context.run.record("environment-mark", context.env.database.name, True, f"database and inventory are both {kind!r}")


def check_tools(context: Context, conn: Connection) -> None:
    """Record server and client versions; a client older than the server cannot dump it."""
    context.run.event("server", version=conn.info.server_version)
    for name in ("psql", "pg_dump", "pg_restore"):
        try:
            version = require_version(find_client(name, context.env.client_bin), conn.info.server_version)
        except PreconditionError as exc:
            context.run.record("tools", name, False, str(exc))
        else:
            context.run.record("tools", name, True, f"{version}, server {conn.info.server_version // 10_000}")


def baseline(context: Context) -> None:
    """Write down what is there: rows, bytes, key range, distinct values."""
    total = 0
    with context.session("baseline") as conn:
        for spec in context.plan.tables:
            table = context.source_now(conn, spec)
            distinct = distinct_columns(table)
            stats = read_stats(conn, context.files, table, spec.key, distinct)
            upto = newest_id(conn, table)
            figures = read_figures(conn, table, spec, distinct, upto, row_column(table, spec.key))
            total += stats.rows
            content = untouched_content(context, conn, spec, table, upto)
            context.run.record(
                "baseline",
                spec.name,
                stats.rows > 0,
                f"{stats.rows:,} rows, {stats.bytes / 1e6:.0f} MB with {stats.index_bytes / 1e6:.0f} MB of indexes, "
                f"{stats.oldest} to {stats.newest}",
                **{**stats.content, "bytes": stats.bytes, "index bytes": stats.index_bytes},
                figures=figures,
                upto=upto,
                **content,
            )
    least = context.plan.gates.min_rows
    # Asked for with --rows, a small rehearsal is no failure; but it is no evidence for the planned size either.
    passed = True if total >= least else None if context.options.scale < 1 else False
    context.run.record("baseline", "all tables", passed, f"{total:,} rows, the plan wants {least:,} at least")
    context.row_counts("baseline")


def untouched_content(
    context: Context, conn: Connection, spec: TableSpec, table: Table, upto: int | None
) -> dict[str, object]:
    """Digest a table that will be compared with itself, since its rows are not copied."""
    if context.plan.strategy != "attach":
        return {}
    primary = row_column(table, spec.key)
    found = Reader(context.files, spec, primary, upto).read(conn, table.name)
    return {"primary": primary, "untouched": [found.rows, str(found.digest)]}


def distinct_columns(table: Table) -> list[str]:
    """Return the columns whose distinct values are counted before and after: those of foreign keys."""
    named = (re.match(r"FOREIGN KEY \((.*?)\) REFERENCES", key.definition) for key in table.foreign_keys)
    have = {column.name for column in table.columns}
    found = (one.strip().strip('"') for match in named if match for one in match[1].split(","))
    return [one for one in dict.fromkeys(found) if one in have]


def make_twins(context: Context) -> None:
    """Render twins and triggers, let the registry apply them, and prove that a second run changes nothing."""
    ask_first(context, Intent.MIGRATE)
    with context.session("render") as conn:
        rendered = render_changes(conn, context.files, context.plan, context.run.began)
    changes = [Change(one.name, one.body) for one in rendered]
    first = apply_changes(context, changes)
    second = apply_changes(context, changes)
    context.run.record(
        "target-structure",
        "registry",
        second == 0,
        f"{first} changes applied, {second} by the second run",
        changes=len(changes),
    )
    check_triggers(context)
    context.row_counts("twins made")


def check_triggers(context: Context) -> None:
    """Read the state of every mirror trigger from the catalog."""
    with context.session("triggers") as conn:
        for spec in context.plan.tables:
            for one in context.switchover(spec).trigger_states(conn):
                observed = f"{STATES.get(one.found or '', 'missing')}, wanted {STATES[one.wanted]}"
                subject = f"{one.name} on {dotted(one.table)}"
                context.run.record("triggers-enabled", subject, one.found == one.wanted, observed, state=one.found)


STATES = {"A": "ENABLED (always)", "O": "ENABLED", "D": "DISABLED", "R": "ENABLED (replica only)"}


def test_triggers(context: Context) -> None:
    """Test the mirror class by class in a scratch pair; a FAIL stops the run here."""
    results: list[TriggerTest] = []
    with context.session("trigger tests") as conn:
        for spec in context.plan.tables:
            source, _ = context.pair(conn, spec)
            application = context.env.app_database.user
            found = run_trigger_tests(conn, context.files, context.plan, spec, source.name, application=application)
            results += found
            for one in found:
                context.run.record("trigger-tests", f"{spec.name} {one.name}", one.passed, one.observed)
    context.run.attach("trigger_test_results.txt", results_text(results))
    if any(one.passed is False for one in results):
        raise StopHere


def parity_before(context: Context) -> None:
    """Compare before any row is copied: the twin may lack rows here and only here, but must hold no wrong one."""
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
                f"{report.source_count:,} rows, {report.target_count:,} in the twin, {wrong} of them wrong",
                differences=report.differences,
            )
    context.run.attach("pre_migration_parity.txt", parity_text(reports))


def dry_run(context: Context) -> None:
    """Print every statement to come, in a read-only session, and prove that nothing changed."""
    counts = context.row_counts("dry run")
    with context.session("dry run") as conn:
        before = catalog_digest(conn, context.files)
        conn.read_only = True
        acts = plan_acts(conn, context.files, context.plan, context.run.began)
        conn.read_only = False
        after = catalog_digest(conn, context.files)
    context.run.attach("dry_run.log", dry_run_text(context.plan, acts, counts))
    rows = [[act.table, act.step, act.lock, f"{act.seconds:.2f}"] for act in acts]
    context.run.record(
        "dry-run",
        context.plan.name,
        before == after and bool(acts),
        f"{len(acts)} acts printed; catalogs, state and row counters are "
        f"{'unchanged' if before == after else 'CHANGED'}",
        digest=after,
        table={"columns": ["table", "act", "strongest lock", "seconds, estimated"], "rows": rows},
    )


def back_up(context: Context) -> None:
    """Dump the tables in one snapshot and restore them into a scratch database, which is compared and dropped."""
    tables = [split_name(spec.name) for spec in context.plan.tables]
    folder = context.env.backup_folder / context.run.name
    if folder.exists():
        shutil.rmtree(folder)
    made = backups.backup(context.env.database, context.files, tables, folder, context.env.client_bin)
    context.run.record(
        "backup",
        "dump",
        bool(made.content),
        f"{len(made.content)} tables, {made.bytes / 1e6:.0f} MB in {made.seconds:.1f} s, checksums "
        "written, made just now",
        folder=folder.name,
        table={"columns": ["table", "rows"], "rows": [[dotted(name), one.rows] for name, one in made.content.items()]},
    )
    name = scratch_name(context.plan.name)
    try:
        drill = backups.restore_drill(context.env.database, context.files, made, name, context.env.client_bin)
    except CannotSee as exc:
        # What follows does not stand on the drill; without it there is no GO.
        context.run.record("restore-drill", "restore", None, str(exc))
        return
    observed = "content equal" if drill.is_equal else "; ".join(drill.differences)
    context.run.record(
        "restore-drill",
        "restore",
        drill.is_equal,
        f"{len(drill.restored)} tables restored in {drill.restore_seconds:.1f} s with indexes and "
        f"foreign keys: {observed}",
        seconds=drill.restore_seconds,
    )
