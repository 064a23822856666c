"""The phase `smoke`: the application is used. Requests, its own tests, logs, page, source, rows in both tables."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from psycopg import sql

from rehearsal.application import monitoring
from rehearsal.application.browser import check_dashboard
from rehearsal.application.rules import SHIPPED
from rehearsal.application.smoke import SmokeResult
from rehearsal.application.sourcescan import scan_source, scan_statements
from rehearsal.catalog.tables import Table
from rehearsal.checks.figures import row_column
from rehearsal.evidence.data import Console, Grid, Listed
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.app_logs import log_sizes, record_log_errors
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.requests import smoke_all


def smoke(context: Context) -> None:
    """Use the application on every server, look into its logs, its page, its source."""
    context.writers.ensure("smoke")
    sizes = log_sizes(context)
    results = smoke_all(context, "smoke")
    record_log_errors(context, sizes, "app-logs")
    run_commands(context)
    look_at_dashboard(context)
    look_at_monitoring(context)
    list_source(context)
    if context.plan.traits.mirrors:
        check_sync(context, results)


def run_commands(context: Context) -> None:
    """Run the plan's own checks of the application against each server; what they print is kept."""
    for command in context.plan.commands:
        for server in context.env.app_servers:
            argv = [word.format(url=server.url, python=sys.executable) for word in command.argv]
            started = time.monotonic()
            try:
                done = subprocess.run(
                    argv,
                    cwd=context.root,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=command.max_seconds,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as exc:
                context.run.record("smoke", f"{server.name} {command.name}", False, f"{argv[0]}: {exc}")
                continue
            seconds, said = time.monotonic() - started, done.stdout + done.stderr
            context.run.append_text("commands.log", f"$ {' '.join(argv)}\n{said}\n")
            last = (said.strip().splitlines() or ["nothing printed"])[-1][:200]
            observed = f"exited with status {done.returncode} after {seconds:.1f} s: {last}"
            context.run.record("smoke", f"{server.name} {command.name}", done.returncode == 0, observed)


def look_at_dashboard(context: Context) -> None:
    """Render the plan's page in a real browser; leaves a screenshot."""
    page = context.plan.dashboard
    if page is None:
        return
    for server in context.env.app_servers[:1]:
        shot = context.run.folder / "dashboard.png"
        result = check_dashboard(server.url + page.path, page.selector, screenshot=shot, max_seconds=page.max_seconds)
        # Without a browser there is no evidence; where one is required, the gate says so itself.
        if result.passed is not None or not context.env.is_throwaway or context.env.kind != "local":
            context.run.record("dashboard", server.name, result.passed, result.observed, Console(result.console_errors))
        else:
            context.run.note(f"dashboard not looked at: {result.observed}")


def look_at_monitoring(context: Context) -> None:
    """Ask the Prometheus that the inventory names whether it sees everything and has the rules for partitions."""
    settings = context.env.settings
    if settings.get("monitor_url"):
        wanted = tuple(settings.get("monitor_rules") or SHIPPED)
        altered = tuple(settings.get("monitor_altered") or ())
        watch = monitoring.ask_prometheus(str(settings["monitor_url"]), wanted, altered)
        targets = Listed(Grid.of(("job", "target", "health"), watch.targets))
        context.run.record("monitoring", "Prometheus", watch.passed, watch.observed, targets)


def list_source(context: Context) -> None:
    """List the code and the statements that use the tables."""
    scan = context.plan.source_scan
    if not scan.paths:
        return
    uses = scan_source(context.root, scan.paths, scan.patterns)
    rows = [(use.file, use.line, use.text.strip()[:120]) for use in uses]
    places = Listed(Grid.of(("file", "line", "text"), rows))
    context.run.record("source-scan", "code", bool(uses), f"{len(uses)} places use the tables", places)
    with context.session("statements") as conn:
        statements = scan_statements(conn, [spec.name for spec in context.plan.tables])
    if statements is None:
        context.run.note("pg_stat_statements is not installed: statements of the application were not listed")
        return
    told = [
        (statement.table, statement.calls, round(statement.mean_ms, 2), statement.query[:160])
        for statement in statements
    ]
    listed = Listed(Grid.of(("table", "calls", "mean ms", "statement"), told))
    context.run.record("source-scan", "statements", True, f"{len(told)} statements seen on the server", listed)


def check_sync(context: Context, results: list[SmokeResult]) -> None:
    """Find each row that a request created in both tables, equal."""
    with context.session("sync") as conn:
        for spec in context.plan.tables:
            source, target = context.pair(conn, spec)
            for result in results:
                if result.table == spec.name and result.created_id is not None:
                    left, right = (read_row(conn, table, spec.key, result.created_id) for table in (source, target))
                    passed = left is not None and left == right
                    observed = "SYNCED: in both tables, equal" if passed else f"OUT OF SYNC: {left} and {right}"
                    context.run.record(
                        "sync", f"{result.server} {result.name} {spec.name} {result.created_id}", passed, observed
                    )


def read_row(conn: Connection, table: Table, key: str, row: object) -> dict[str, Any] | None:
    """Return a row by the column that tells rows apart, as text values; None if there is none."""
    columns = [column.name for column in table.columns]
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
    query = sql.SQL("select {} from {} where {}::text = %s").format(
        listed, sql.Identifier(*table.name), sql.Identifier(row_column(table, key))
    )
    found = conn.execute(query, [str(row)]).fetchone()
    return dict(zip(columns, found, strict=True)) if found else None


PHASE = Phase("smoke", "Smoke tests", "smoke", smoke)
