"""Months that pass for a real server, whose clock is another one at each start; the scripts of the timers by psql.

Elsewhere the one door of now is replaced; here it is what it is, and so are the clocks of server and runner.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from psycopg import sql

from fleet.clock import JOBS
from fleet.cluster import Cluster
from fleet.templates import render
from rehearsal.environment import Database
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.policy import Wish, write_policy
from rehearsal.postgres.connection import Connection, connect, connect_as_application, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.faketime import faked
from tests.fix_app import free_port
from tests.postgres.lifecycle.test_ten_years import back, month

PREMAKE, RETENTION = 3, 4
# When the host was up, as months since January 2024 and a share of the month: each month; away for months, as long as
# the leaves made ahead last, and back on a leap day; the last and the first minutes of months, over summer time.
HISTORIES = {
    "each-month": ("UTC", [(index, 0.5) for index in range(10)]),
    "away": ("America/New_York", [(0, 0.1), (1, 0.99), (4, 0.3), (7, 0.02), (8, 0.5), (11, 0.97), (12, 0.01)]),
    "edges": ("Europe/Berlin", [(n + 1, share) for n in (1, 2, 5, 8, 9) for share in (-0.0005, 0.0005)]),
}


@dataclass
class Server:
    """A cluster that is started at one moment after the other; `folder` can be read by its user."""

    cluster: Cluster
    folder: Path
    zone: str

    @contextmanager
    def at(self, moment: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
        """Let the server, and every child of this block, live at a moment."""
        with monkeypatch.context() as patch:
            for name, value in faked(moment, self.folder).items():
                patch.setenv(name, value)
            self.cluster.start(port=free_port(), settings={"fsync": "off"})
            try:
                with connect(self.database) as conn:
                    told = scalar(conn, "select now()")
                    assert abs(told - moment) < timedelta(minutes=2), "the server lives at another moment"
                    yield conn
            finally:
                self.cluster.stop()

    @property
    def database(self) -> Database:
        """The database, as its superuser."""
        return Database("127.0.0.1", self.cluster.facts()["port"], "postgres", "postgres", self.cluster.password())

    def run_timers(self) -> None:
        """Do both jobs as a host's timers do."""
        place = self.database
        for job in JOBS:
            path = self.folder / f"{job}.sql"
            path.write_text(render(f"lifecycle/{job}.sql.j2"))
            variables = {
                "PGHOST": place.host, "PGPORT": str(place.port), "PGDATABASE": place.name, "PGUSER": place.user,
                "PGPASSWORD": place.password, "PGAPPNAME": f"pg-rehearsal lifecycle.{job}",
            }  # fmt: skip
            command = ["psql", "--no-psqlrc", "--quiet", "--file", str(path)]
            env = {**os.environ, **variables}
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    def expected(self, moment: datetime, first: datetime) -> list[str]:
        """Return where leaves must begin, by Python's calendar: from the month of the cutoff to three ahead."""
        cutoff = back(moment, RETENTION, self.zone)
        all_months = range(month_of(first, self.zone), month_of(moment, self.zone) + PREMAKE + 1)
        return [_text(month(index, self.zone)) for index in all_months if month(index + 1, self.zone) > cutoff]


def month_of(moment: datetime, zone: str) -> int:
    """Return the number of the month of a moment, as `month` counts them."""
    return next(index for index in range(-1, 1_000) if month(index + 1, zone) > moment)


def _text(moment: datetime) -> str:
    return str(moment.astimezone(UTC)).replace("+00:00", "+00")


def moments(zone: str, history: list[tuple[int, float]]) -> list[datetime]:
    """Return the moments of a history."""
    starts = [(month(index, zone), month(index + 1, zone), share) for index, share in history]
    return [(first + (after - first) * share).astimezone(ZoneInfo(zone)) for first, after, share in starts]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user may read."""
    with tempfile.TemporaryDirectory(prefix="server-clock-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "history", [pytest.param(name, marks=[] if name == "each-month" else pytest.mark.hours) for name in HISTORIES]
)
def test_months_pass_for_the_server(
    folder: Path, sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch, history: str
) -> None:
    """No gap, no row refused, nothing dropped early or late; a second run of the same hour changes nothing."""
    zone, steps = HISTORIES[history]
    server, written = Server(Cluster(folder / "cluster"), folder, zone), list[datetime]()
    try:
        for moment in moments(zone, steps):
            with server.at(moment, monkeypatch) as conn:
                if not written:
                    begin(conn, sql_files, zone, moment)
                with connect_as_application(server.database) as app:
                    app.execute("insert into public.t values (now())")
                written.append(moment)
                server.run_timers()
                check(conn, server.expected(moment, written[0]), written)
                acts = scalar(conn, "select count(*) from rehearsal.lifecycle_history")
                server.run_timers()
                assert scalar(conn, "select count(*) from rehearsal.lifecycle_history") == acts
    finally:
        server.cluster.destroy()


def begin(conn: Connection, files: SqlFiles, zone: str, moment: datetime) -> None:
    """Make the table with the leaf of this month, and adopt it."""
    index = month_of(moment, zone)
    bounds = sql.Literal(_text(month(index, zone))), sql.Literal(_text(month(index + 1, zone)))
    conn.execute("create table public.t (at timestamptz not null) partition by range (at)")
    leaf = sql.SQL("create table public.t_first partition of public.t for values from ({}) to ({})")
    conn.execute(leaf.format(*bounds))
    with conn.transaction():
        conn.execute(files.query("registry.sql"))
        install_code(conn, files)
        wish = Wish(("public", "t"), "1 month", PREMAKE, f"{RETENTION} months", "7 days", most=24, zone=zone)
        write_policy(conn, "clock", wish)


def check(conn: Connection, expected: list[str], written: list[datetime]) -> None:
    """Exactly the leaves of the calendar, and each row that belongs into one of them."""
    query = "select lower from rehearsal.lifecycle_leaves('public.t') order by lower_at"
    assert [row[0] for row in conn.execute(query)] == expected
    kept = [moment for moment in written if _text(moment) >= expected[0]]
    assert scalar(conn, "select count(*) from public.t") == len(kept)
