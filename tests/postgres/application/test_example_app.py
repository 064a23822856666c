"""The app under rehearsal: a real process, a real database, HTTP from outside."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import time

import httpx
import pytest
from psycopg import sql

from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect, scalar
from tests.fix_app import AppServer, StartApp, app_environment, free_port
from tests.waiting import eventually

REVENUE = {
    "propertyId": 1,
    "amount": 100.00,
    "description": "Test Revenue - Staging",
    "paymentMode": "cash",
    "occurredAt": "2025-10-29T12:00:00Z",
}
TWINS = """
create table public.revenues_partitioned (like public.revenues including all excluding constraints excluding indexes,
    primary key (id, occurred_at)) partition by range (occurred_at);
create table public.expenses_partitioned (like public.expenses including all excluding constraints excluding indexes,
    primary key (id, occurred_at)) partition by range (occurred_at);
create table public.daily_cash_balances_partitioned (like public.daily_cash_balances including all excluding constraints
    excluding indexes, unique (property_id, balance_date)) partition by range (balance_date);
create table public.revenues_y2025m10 partition of public.revenues_partitioned
    for values from ('2025-10-01') to ('2025-11-01');
create table public.expenses_y2025m10 partition of public.expenses_partitioned
    for values from ('2025-10-01') to ('2025-11-01');
create table public.balances_y2025m10 partition of public.daily_cash_balances_partitioned
    for values from ('2025-10-01') to ('2025-11-01');
"""


def ask(server: AppServer, method: str, path: str, body: object = None) -> httpx.Response:
    with server.client() as client:
        return client.request(method, path, json=body)


def test_finance_flows_of_the_guide_answer_200(start_app: StartApp, conn: Connection) -> None:
    """Create, report, approve, change, move, refresh and delete, and the rows say so."""
    app = start_app()
    created = ask(app, "POST", "/finance/revenue", REVENUE).json()
    expense = ask(app, "POST", "/finance/expense", REVENUE | {"amount": 50, "paymentMode": "bank"}).json()

    assert created == {"id": 1, "occurredAt": "2025-10-29T12:00:00Z", "status": "pending"}
    report = ask(app, "GET", "/reports/daily?date=2025-10-29&propertyId=1").json()
    assert (report["revenueCents"], report["expenseCents"], report["netCents"]) == (10_000, 5_000, 5_000)
    approved = ask(app, "POST", "/finance/approve", {"transactionId": created["id"], "type": "revenue"})
    assert approved.json() == {"id": 1, "status": "approved", "type": "revenue"}
    for closing in (10_000, 10_000):
        day = {"propertyId": 1, "date": "2025-10-29"}
        assert ask(app, "POST", "/finance/daily-cash-balance/refresh", day).json()["closingCents"] == closing
    moved = ask(app, "PATCH", "/finance/revenue/1", {"occurredAt": "2025-09-01T00:00:00Z", "description": "moved"})
    assert moved.json()["occurredAt"] == "2025-09-01T00:00:00Z"
    assert ask(app, "DELETE", f"/finance/expense/{expense['id']}").json()["deleted"] is True
    assert conn.execute("select description, occurred_at::date::text from public.revenues").fetchall() == [
        ("moved", "2025-09-01")
    ]
    assert scalar(conn, "select count(*) from public.expenses") == 0
    assert scalar(conn, "select count(*) from public.daily_cash_balances") == 1


def test_flags_decide_which_tables_are_read_and_written(start_app: StartApp, conn: Connection) -> None:
    """Each flag by itself; health says which routing is on."""
    conn.execute(TWINS)
    writer = start_app("writer", ENABLE_PARTITION_ROUTING="true")
    reader = start_app("reader", USE_PARTITIONED_TABLES="true")

    created = ask(writer, "POST", "/finance/revenue", REVENUE)

    assert created.status_code == 200
    assert scalar(conn, "select count(*) from public.revenues_partitioned") == 1
    assert scalar(conn, "select count(*) from public.revenues") == 0
    path = "/reports/daily?date=2025-10-29&propertyId=1"
    assert ask(reader, "GET", path).json()["revenueCount"] == 1
    assert ask(writer, "GET", path).json()["revenueCount"] == 0
    assert ask(writer, "GET", "/health").json() == {
        "status": "ok",
        "server": "writer",
        "routing": {"reads": "legacy", "writes": "partitioned"},
    }
    assert ask(reader, "GET", "/health").json()["routing"] == {"reads": "partitioned", "writes": "legacy"}


def test_telemetry_procedures_answer_by_get_and_post(start_app: StartApp, conn: Connection) -> None:
    """The four procedures, and a reading's life: ingest, correct, move, remove."""
    app = start_app()
    recent = ask(app, "POST", "/trpc/readings.recent", {"unitId": 1, "limit": 5}).json()
    assert len(recent["readings"]) == 5
    assert ask(app, "GET", "/trpc/readings.recent?unitId=1&limit=5").json() == recent
    assert ask(app, "GET", '/trpc/readings.recent?input={"unitId":1,"limit":5}').json() == recent
    assert len(ask(app, "POST", "/trpc/readings.byUnit", {"unitId": 1}).json()["readings"]) == 300
    days = ask(app, "POST", "/trpc/readings.aggregate", {"unitId": 1, "bucket": "day"}).json()["buckets"]
    assert sum(day["readings"] for day in days) == 300
    assert [a["rule"] for a in ask(app, "POST", "/trpc/alerts.evaluate", {"unitId": 3}).json()["alerts"]] == ["silent"]

    reading = {"unitId": 2, "deviceId": 2, "temperature": 99, "recordedAt": "2025-10-29T12:00:00Z"}
    made = ask(app, "POST", "/trpc/readings.ingest", reading).json()
    assert made["recordedAt"] == "2025-10-29T12:00:00Z"
    patch = {"source": "corrected", "recordedAt": "2025-08-01T00:00:00Z"}
    assert ask(app, "PATCH", f"/trpc/readings/{made['id']}", patch).json()["source"] == "corrected"
    query = "select recorded_at::date::text from public.sensor_readings where id = %s"
    assert scalar(conn, query, [made["id"]]) == "2025-08-01"
    assert ask(app, "DELETE", f"/trpc/readings/{made['id']}").status_code == 200
    assert ask(app, "DELETE", f"/trpc/readings/{made['id']}").status_code == 404


BAD: list[tuple[str, str, object, int, str]] = [
    ("POST", "/finance/revenue", REVENUE | {"amount": -1}, 400, "amount"),
    ("POST", "/finance/revenue", REVENUE | {"ammount": 1}, 400, "ammount"),
    ("POST", "/finance/revenue", REVENUE | {"occurredAt": "2025-10-29 12:00"}, 400, "occurredAt"),
    ("POST", "/finance/revenue", REVENUE | {"propertyId": 99}, 404, "property 99"),
    ("POST", "/finance/approve", {"transactionId": 7, "type": "revenue"}, 404, "revenue 7"),
    ("POST", "/finance/nonsense", REVENUE, 404, "nonsense"),
    ("PATCH", "/finance/expense/7", {"description": "x"}, 404, "expense 7"),
    ("PATCH", "/finance/expense/7", {}, 400, "occurredAt"),
    ("POST", "/trpc/readings.recent", {"unitId": 99}, 404, "unit 99"),
    ("GET", "/trpc/readings.recent", None, 400, "unitId"),
    ("POST", "/trpc/readings.ingest", None, 400, "JSON"),
    ("GET", "/nowhere", None, 404, ""),
]


def test_bad_requests_are_refused_with_a_reason(start_app: StartApp) -> None:
    """A bad body is 400, an unknown id 404; the answer names what is wrong."""
    app = start_app()
    for method, path, body, status, reason in BAD:
        answer = ask(app, method, path, body)

        assert answer.status_code == status, path
        assert reason in answer.json()["error"]
    assert "ERROR" not in app.log.read_text()


def test_an_error_is_logged_with_its_traceback_and_one_line_a_request(start_app: StartApp, conn: Connection) -> None:
    """A table that is gone is 500 for the client and a traceback in the log."""
    app = start_app()
    conn.execute("drop table public.expenses")

    answer = ask(app, "POST", "/finance/expense", REVENUE)

    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    # The line of a request is written when its answer is gone.
    eventually(lambda: " 500 " in app.log.read_text())
    log = app.log.read_text()
    assert " ERROR app.error POST /finance/expense failed\nTraceback" in log
    assert 'relation "public.expenses" does not exist' in log
    assert log.count("POST /finance/expense 500 ") == 1


def test_concurrent_refreshes_of_one_balance_leave_one_row(start_app: StartApp, conn: Connection) -> None:
    """The upsert of two servers at once: every answer is 200, and there is one row."""
    servers = [start_app("app-1"), start_app("app-2")]
    day = {"propertyId": 1, "date": "2025-10-29"}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: ask(servers[n % 2], "POST", "/finance/daily-cash-balance/refresh", day), range(16))
        )

    assert {answer.status_code for answer in answers} == {200}
    assert scalar(conn, "select count(*) from public.daily_cash_balances") == 1


def test_sigterm_finishes_the_request_in_flight(start_app: StartApp, app_database: Database, conn: Connection) -> None:
    """A request that waits for a lock when the signal comes is answered, then the process ends with 0."""
    app = start_app()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, connect(app_database, autocommit=False) as holder:
        holder.execute("lock table public.revenues in exclusive mode")
        answer = pool.submit(ask, app, "POST", "/finance/revenue", REVENUE)
        waiting = "select count(*) from pg_locks where not granted"
        eventually(lambda: scalar(conn, waiting) > 0, 30, unless=answer.done)
        app.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired, match="example_app"):
            app.process.wait(timeout=0.5)
        holder.rollback()

        assert answer.result(timeout=5).status_code == 200
    assert app.process.wait(timeout=2) == 0


def test_idle_server_stops_within_two_seconds(start_app: StartApp) -> None:
    """A client that keeps its connection open does not hold the server up."""
    app = start_app()
    with app.client() as client:
        client.get("/health")
        started = time.monotonic()
        app.process.terminate()

        assert app.process.wait(timeout=5) == 0
        assert time.monotonic() - started < 2


def test_health_is_503_while_the_database_is_away(
    start_app: StartApp, app_database: Database, server: Database
) -> None:
    """Health does not say ok when no session can be had; it does again afterwards."""
    app = start_app()
    assert ask(app, "GET", "/health").status_code == 200
    name = sql.Identifier(app_database.name)
    with connect(server) as admin:
        admin.execute(sql.SQL("alter database {} with allow_connections false").format(name))
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'app-1'")

        answer = ask(app, "GET", "/health")

        assert answer.status_code == 503
        assert answer.json()["status"] == "database does not answer"
        admin.execute(sql.SQL("alter database {} with allow_connections true").format(name))
    with app.client() as client:
        eventually(lambda: client.get("/health"), 15, that=lambda health: health.status_code == 200)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"USE_PARTITIONED_TABLES": "yes"}, "USE_PARTITIONED_TABLES is 'yes'; set it to true or false"),
        ({"ENABLE_PARTITION_ROUTING": ""}, "ENABLE_PARTITION_ROUTING is ''"),
        ({"PORT": "http"}, "PORT is 'http'"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
    ],
)
def test_wrong_settings_end_with_code_2(variables: dict[str, str], reason: str) -> None:
    """The message names the variable and what is right; no traceback."""
    environment = app_environment(Database("127.0.0.1", 1, "x", "x"), free_port()) | variables
    ended = subprocess.run(
        [sys.executable, "-m", "example_app"], env=environment, capture_output=True, text=True, check=False, timeout=20
    )

    assert ended.returncode == 2
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
