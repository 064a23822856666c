"""The example app as a real process on a real database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.waiting import eventually

PATIENCE_S = 60.0

SEED = """
insert into public.properties (org_id, name) select 1 + n % 2, 'Property ' || n from generate_series(1, 3) as n;
insert into public.users (org_id, email, full_name) values (1, 'ana@example.com', 'Ana');
insert into public.units (name) select 'Unit ' || n from generate_series(1, 3) as n;
insert into public.devices (unit_id, serial) select n, 'S' || n from generate_series(1, 3) as n;
insert into public.sensor_readings (unit_id, device_id, temperature, humidity, battery, signal_strength, recorded_at)
select u, u, 4 + 3 * sin(n / 12.0), 60, 90 - n % 80, -60 - n % 55, now() - n * interval '30 minutes'
from generate_series(1, 300) as n, generate_series(1, 2) as u;
"""


@dataclass(frozen=True)
class AppServer:
    """A running app server."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def client(self) -> httpx.Client:
        """Return an HTTP client of this server."""
        return httpx.Client(base_url=self.url, timeout=10)


StartApp = Callable[..., AppServer]


def app_environment(database: Database, port: int, **variables: str) -> dict[str, str]:
    """Return the environment that the app is started with."""
    url = f"postgresql://{database.user}:{quote(database.password)}@{database.host}:{database.port}/{database.name}"
    return {"PATH": os.environ["PATH"], "DATABASE_URL": url, "PORT": str(port), **variables}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_app(database: Database, folder: Path, name: str, variables: dict[str, str]) -> Iterator[AppServer]:
    """Run one app server; it answers /health when the block begins."""
    port = free_port()
    log = folder / f"{name}.log"
    environment = app_environment(database, port, SERVER_NAME=name, **variables)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "example_app"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    server = AppServer(name, f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until_answers(server)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=15)


def wait_until_answers(server: AppServer) -> None:
    """Wait until the server answers, as long as its process lives."""
    with server.client() as client:
        eventually(
            lambda: client.get("/health"),
            PATIENCE_S,
            that=lambda _: True,
            unless=lambda: server.process.poll() is not None and server.log.read_text(),
            not_yet=(httpx.ConnectError,),
        )


@pytest.fixture
def app_database(database: Database, conn: Connection, sql_files: SqlFiles) -> Database:
    """A database with both schemas and a few rows."""
    for plan in ("hospitality", "sensor_readings"):
        conn.execute(sql_files.query(f"migrations/{plan}/001_schema.sql"))
    conn.execute(SEED)
    return database


@pytest.fixture
def start_app(app_database: Database, tmp_path: Path) -> Iterator[StartApp]:
    """Start an app server on the test's database: `start_app(USE_PARTITIONED_TABLES="true")`."""
    with ExitStack() as stack:

        def start(name: str = "app-1", **variables: str) -> AppServer:
            return stack.enter_context(running_app(app_database, tmp_path, name, variables))

        yield start
