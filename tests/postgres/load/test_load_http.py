"""Load by HTTP against real servers on a real table, mixed with load by SQL on the same rows."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.cluster import free_port
from rehearsal.environment import AppServer, Database
from rehearsal.evidence.run import Run
from rehearsal.load.driver import LoadProcess, ledger_folder
from rehearsal.load.ledger import Ledger
from rehearsal.load.reconciliation import reconcile
from rehearsal.postgres.connection import Connection
from tests.load_world import (
    BOTH,
    SCHEMA,
    SQL_OPERATIONS,
    TABLE,
    count_marked,
    ended_well,
    make_environment,
    make_plan,
)
from tests.waiting import eventually

pytestmark = pytest.mark.alone

APP = """
import itertools, json, os
import psycopg
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

CONNINFO = json.loads(os.environ["CONNINFO"])
FAULTY = os.environ.get("FAULTY")
numbers = itertools.count(1)


def execute(query, *values):
    with psycopg.connect(**CONNINFO) as conn:
        cursor = conn.execute(query, values)
        return cursor.fetchone() if cursor.description else cursor.rowcount


def answer(body, rows=1):
    if FAULTY and next(numbers) % 7 == 0:
        return JSONResponse({"error": "done, and yet an error"}, status_code=500)
    return JSONResponse(body if rows else {"error": "not found"}, status_code=200 if rows else 404)


async def create(request):
    body = await request.json()
    row = execute("insert into public.posts (at, body) values (%s, %s) returning id", body["at"], body["note"])
    return answer({"result": {"data": {"id": row[0]}}})


async def edit(request):
    body = await request.json()
    rows = execute("update public.posts set body = %s where id = %s", body["note"], request.path_params["id"])
    return answer({"ok": True}, rows)


async def redate(request):
    at, note = request.query_params["at"], request.query_params["note"]
    rows = execute("update public.posts set at = %s, body = %s where id = %s", at, note, request.path_params["id"])
    return answer({"ok": True}, rows)


async def drop(request):
    rows = execute("delete from public.posts where id = %s", request.path_params["id"])
    return answer({"ok": True}, rows)


async def look(request):
    return JSONResponse({"ok": True})


app = Starlette(routes=[
    Route("/posts", create, methods=["POST"]), Route("/posts/{id:int}", edit, methods=["PATCH"]),
    Route("/posts/{id:int}/date", redate, methods=["POST"]), Route("/posts/{id:int}", drop, methods=["DELETE"]),
    Route("/health", look),
])
"""

HTTP: list[dict[str, Any]] = [
    {
        "name": "post",
        "action": "insert",
        "method": "POST",
        "path": "/posts",
        "json": {"at": "{key}", "note": "{marker}"},
        "rate": 30.0,
    },
    {
        "name": "patch",
        "action": "update",
        "method": "PATCH",
        "path": "/posts/{id}",
        "json": {"note": "{marker}"},
        "rate": 15.0,
    },
    {
        "name": "date",
        "action": "move",
        "method": "POST",
        "path": "/posts/{id}/date?at={key}&note={marker}",
        "rate": 10.0,
    },
    {"name": "remove", "action": "delete", "method": "DELETE", "path": "/posts/{id}", "rate": 6.0},
    {"name": "health", "action": "read", "method": "GET", "path": "/health", "rate": 5.0},
]
PLAN = make_plan([*({**operation, "via": "http", "table": TABLE} for operation in HTTP), SQL_OPERATIONS[1]])


class Servers:
    """Two app servers, of which the second answers 500 now and then although it did what was asked."""

    def __init__(self, folder: Path, database: Database) -> None:
        (folder / "posts_app.py").write_text(APP)
        self.servers: list[AppServer] = []
        self.children: list[subprocess.Popen[bytes]] = []
        for number in (1, 2):
            port = free_port()
            environment = {**os.environ, "CONNINFO": json.dumps(database.conninfo()), "FAULTY": "x" * (number - 1)}
            command = [sys.executable, "-m", "uvicorn", "posts_app:app", "--app-dir", str(folder)]
            command += ["--port", str(port), "--log-level", "error"]
            self.children.append(subprocess.Popen(command, env=environment))
            self.servers.append(AppServer(f"app{number}", f"http://127.0.0.1:{port}"))
        for server in self.servers:
            eventually(functools.partial(_answers, server.url), 20.0)

    def stop(self) -> None:
        """Kill both."""
        for child in self.children:
            child.kill()
            child.wait()


@pytest.fixture
def servers(tmp_path: Path, database: Database, conn: Connection) -> Iterator[Servers]:
    conn.execute(SCHEMA)
    made = Servers(tmp_path, database)
    yield made
    made.stop()


def test_load_by_http_and_sql_is_reconciled_through_errors_and_the_death_of_a_server(
    database: Database, conn: Connection, servers: Servers, tmp_path: Path
) -> None:
    """5xx is unknown and is reconciled either way; a refused connection is failed; each server has its own figures."""
    run = Run.create(tmp_path, "local", "small")
    with LoadProcess(make_environment(database, *servers.servers), PLAN, run, "mixed") as load:
        eventually(lambda: count_marked(conn) > 40, 20.0)
        assert reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name).is_clean
        servers.children[1].kill()
        servers.children[1].wait()
        count = count_marked(conn)
        eventually(lambda: count_marked(conn) > count + 15, 20.0)
        summary = load.stop()
    got = reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name)

    assert got.is_clean, got.to_dict()
    for writes in Ledger(ledger_folder(run)).read().by_subject().values():
        assert all(write.outcome != "unknown" for write in writes[:-1]), "a row in doubt is left alone"
    assert got.unknown > 0, "there were 500s"
    assert got.failed > 0, "there were refused connections"
    assert set(got.by_source) == {"app1", "app2", "sql"}
    assert got.short_of(2, PLAN) == ()
    assert set(summary.servers) == {"app1", "app2"}
    assert summary.servers["app1"].failed == summary.servers["app1"].unknown == 0
    assert summary.servers["app2"].errors["500"] == summary.servers["app2"].unknown - _resets(summary)
    assert summary.servers["app2"].errors["ConnectError"] > 0
    assert summary.reads.ok > 0
    assert ended_well(summary), summary.reasons

    conn.execute("delete from public.posts where id = (select max(id) from public.posts where body like 'lg:%')")
    assert not reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name).is_clean


def test_failover_spares_the_writers_a_server_that_is_down(
    database: Database, conn: Connection, servers: Servers, tmp_path: Path
) -> None:
    """As behind a load balancer: what was refused was never sent, so the next server may have it."""
    servers.children[0].kill()
    servers.children[0].wait()
    run = Run.create(tmp_path, "local", "small")
    with LoadProcess(make_environment(database, *servers.servers), PLAN, run, "over", failover=True) as load:
        eventually(lambda: count_marked(conn) > 20, 20.0)
        summary = load.stop()

    assert "ConnectError" not in summary.writes.errors
    assert reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name).is_clean


def _resets(summary: Any) -> int:
    errors: dict[str, int] = summary.servers["app2"].errors
    return sum(count for code, count in errors.items() if code in {"ReadError", "RemoteProtocolError", "WriteError"})


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False
