"""Smoke requests, the log scan, the audit of uses, and the browser: against the real app."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.application.browser import check_dashboard, find_browser
from rehearsal.application.smoke import run_smoke, scan_log
from rehearsal.application.sourcescan import scan_source, scan_statements
from rehearsal.errors import PlanError
from rehearsal.plan.file import load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from tests.fix_app import StartApp, free_port

ROOT = Path(__file__).resolve().parents[3]
SELECTOR = '#chart[data-ready="true"] path.line'
needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed here")


def plan_named(name: str) -> Plan:
    return load_plan(ROOT / "plans" / f"{name}.toml")


@pytest.mark.parametrize("name", ["hospitality", "sensor_readings"])
def test_every_smoke_request_of_the_plans_passes_and_its_rows_are_there(
    start_app: StartApp, conn: Connection, name: str
) -> None:
    """Each request within its limit; the ids that are reported are rows with the run's mark or day."""
    app, plan = start_app(), plan_named(name)
    offset = app.log.stat().st_size

    results = run_smoke(plan, app.url, app.name, run_marker="run-7")

    assert [(result.name, result.passed, result.observed) for result in results if not result.passed] == []
    assert [result.name for result in results] == [smoke.name for smoke in plan.smoke]
    assert {result.table for result in results if result.created_id} == {table.name for table in plan.tables}
    marked = {
        "hospitality": "public.revenues where description",
        "sensor_readings": "public.sensor_readings where source",
    }
    assert scalar(conn, f"select count(*) from {marked[name]} like 'run-7 %'") == 1
    assert scan_log(app.log, offset) == []


SLOW = """
create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep(2.2); return new; end';
create trigger slow before insert on public.revenues for each row execute function public.slow();
"""
DEFECTS: list[tuple[str, str, str]] = [
    ("wrong status", "alter table public.revenues alter status set default 'approved'", "answer.status is 'approved'"),
    ("lost table", "alter table public.expenses rename to lost", "status 500 instead of 200"),
    ("lost updates", "create rule lost as on update to public.revenues do instead nothing", "status 5"),
    ("slow write", SLOW, "at most 2 s allowed"),
]


@pytest.mark.parametrize(("defect", "statement", "observed"), DEFECTS, ids=[row[0] for row in DEFECTS])
def test_smoke_fails_on_a_defect(
    start_app: StartApp, conn: Connection, defect: str, statement: str, observed: str
) -> None:
    """The defect is put in; some request must fail and say how."""
    app = start_app()
    conn.execute(statement)

    results = run_smoke(plan_named("hospitality"), app.url, app.name, run_marker="run-7")

    failed = [result for result in results if result.passed is False]
    assert any(observed in result.observed for result in failed), (defect, results)


def test_later_requests_say_what_they_lack(start_app: StartApp, conn: Connection) -> None:
    """A request that needs the id of one that failed fails by name and is not sent."""
    app = start_app()
    conn.execute("alter table public.expenses rename to lost")
    offset = app.log.stat().st_size

    results = {
        result.name: result for result in run_smoke(plan_named("hospitality"), app.url, app.name, run_marker="r")
    }

    assert results["approve expense"].observed == "not sent: no earlier answer gave expense"
    assert any("ERROR app.error POST /finance/expense failed" in line for line in scan_log(app.log, offset))


def test_unreachable_server_is_not_seen_rather_than_failed() -> None:
    """Nobody listens: no verdict on the application."""
    results = run_smoke(plan_named("sensor_readings"), f"http://127.0.0.1:{free_port()}", "gone", run_marker="r")

    assert results[0].passed is None
    assert "server not reached" in results[0].observed
    assert not any(result.passed for result in results)


def test_log_scan_begins_at_its_offset_and_survives_rotation(tmp_path: Path) -> None:
    """Old errors are not counted again; a log that shrank is read from its start."""
    log = tmp_path / "app.log"
    log.write_text("2026-01-01 ERROR old\n")
    offset = log.stat().st_size
    with log.open("a") as file:
        file.write("INFO fine, no error here\n2026-01-01 ERROR new\nTraceback (most recent call last):\n")

    assert scan_log(log, offset) == ["2026-01-01 ERROR new", "Traceback (most recent call last):"]
    log.write_text("CRITICAL x\n")
    assert scan_log(log, offset) == ["CRITICAL x"]


def test_source_scan_finds_the_uses_in_the_app() -> None:
    """Every file that names a table is listed with its line; a path that is not there is an error, not silence."""
    plan = plan_named("sensor_readings")

    uses = scan_source(ROOT, plan.source_scan.paths, plan.source_scan.patterns)

    assert {use.file for use in uses} == {"example_app/readings.py", "example_app/telemetry.py"}
    line = (ROOT / uses[0].file).read_text().splitlines()[uses[0].line - 1]
    assert line.strip() == uses[0].text
    assert "sensor_readings" in line
    with pytest.raises(PlanError, match="does not exist"):
        scan_source(ROOT, ["nowhere"], plan.source_scan.patterns)
    with pytest.raises(PlanError, match="regular expression"):
        scan_source(ROOT, plan.source_scan.paths, ["("])


def test_statement_scan_says_that_it_cannot_see(conn: Connection) -> None:
    """Without pg_stat_statements there is no answer, which is not the same as no use."""
    assert scan_statements(conn, ["public.sensor_readings"]) is None


@needs_browser
def test_browser_sees_the_dashboard_drawn(start_app: StartApp, tmp_path: Path) -> None:
    """Chart drawn, console clean, a picture left behind."""
    app = start_app()
    picture = tmp_path / "dashboard.png"

    result = check_dashboard(f"{app.url}/dashboard?unit=1", SELECTOR, screenshot=picture, max_seconds=10)

    assert result.passed, result
    assert result.console_errors == ()
    assert picture.read_bytes().startswith(b"\x89PNG")


@needs_browser
@pytest.mark.parametrize(
    ("statement", "has_errors"),
    [("truncate public.sensor_readings", False), ("alter table public.sensor_readings rename to lost", True)],
)
def test_browser_fails_on_a_page_that_is_not_drawn(
    start_app: StartApp, conn: Connection, tmp_path: Path, *, statement: str, has_errors: bool
) -> None:
    """No readings: no chart. A procedure that fails: console errors too."""
    app = start_app()
    conn.execute(statement)

    result = check_dashboard(f"{app.url}/dashboard?unit=1", SELECTOR, screenshot=tmp_path / "x.png", max_seconds=2)

    assert result.passed is False
    assert bool(result.console_errors) is has_errors
    assert "did not appear within 2 s" in result.observed


@needs_browser
def test_browser_that_cannot_reach_the_page_has_not_seen_it(tmp_path: Path) -> None:
    """Nobody listens: no verdict."""
    url = f"http://127.0.0.1:{free_port()}/dashboard"

    result = check_dashboard(url, SELECTOR, screenshot=tmp_path / "x.png", max_seconds=5)

    assert result.passed is None
    assert "not reached" in result.observed


def test_without_a_browser_nothing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program on the path: no verdict, and the names to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    result = check_dashboard("http://127.0.0.1:1/", SELECTOR, screenshot=tmp_path / "x.png", max_seconds=1)

    assert result.passed is None
    assert "chromium" in result.observed
