"""The server's log while something goes on: a real server says it, and what is said of statements alone is left out."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.postgres.connection import connect
from rehearsal.rehearse.db_log import read_lines
from tests.waiting import eventually


def lines(cluster: Cluster, since: int | None) -> list[str]:
    """Return what is found in the log since."""
    return read_lines(cluster.log, since)[1]


def test_a_session_that_the_server_refuses_is_seen_and_an_error_of_a_statement_is_not(
    cluster: Cluster, database: Database
) -> None:
    """Only what came after the place where the look began."""
    since, _ = read_lines(cluster.log, None)
    with connect(database) as conn:
        conn.execute("create table public.once (id int primary key)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("insert into public.once values (1), (1)")
    assert not [line for line in lines(cluster, since) if database.name in line]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**{**database.conninfo(), "dbname": "no_such_database"})
    eventually(lambda: any("no_such_database" in line for line in lines(cluster, since)), 10)
    later, _ = read_lines(cluster.log, None)
    assert not [line for line in lines(cluster, later) if "no_such_database" in line]


def test_a_log_that_was_rotated_is_read_whole_and_one_that_is_not_there_is_not_seen(tmp_path: Path) -> None:
    """A size beyond its end says so."""
    log = tmp_path / "server.log"
    log.write_text("x PANIC:  could not write to file\n")
    assert read_lines(log, 10_000)[1] == ["x PANIC:  could not write to file"]
    assert read_lines(log, log.stat().st_size)[1] == []
    assert read_lines(tmp_path / "none.log", 0) == (None, [])
