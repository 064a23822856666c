"""A real PostgreSQL for every test: one cluster a session, a fresh database a test.

`REHEARSAL_TEST_MAJOR=18` chooses the server's major version (default: the newest that the system has).
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A throwaway cluster for the session; fsync off, since nothing in it outlives the tests."""
    base = Path(tempfile.mkdtemp(prefix="pgr-test-"))
    base.chmod(0o711)
    made = Cluster(base)
    major = os.environ.get("REHEARSAL_TEST_MAJOR")
    settings = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "10"}
    made.start(major=int(major) if major else None, settings=settings)
    yield made
    made.destroy()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def server(cluster: Cluster) -> Database:
    """The cluster's maintenance database, as superuser."""
    return Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())


@pytest.fixture(scope="session")
def sql_files() -> SqlFiles:
    """The project's SQL texts."""
    return SqlFiles(ROOT / "sql")


@pytest.fixture(scope="session")
def template(server: Database, sql_files: SqlFiles) -> str:
    """Name of a database with the registry in it, which each test's database is cloned from."""
    with connect(server) as conn:
        conn.execute("create database rehearsal_template")
    database = Database(server.host, server.port, "rehearsal_template", server.user, server.password)
    with connect(database) as conn:
        conn.execute(sql_files.query("registry.sql"))
    return "rehearsal_template"


@pytest.fixture
def database(server: Database, template: str) -> Iterator[Database]:
    """A fresh database with the registry in it; dropped after the test, sessions and all."""
    name = f"test_{next(_numbers)}"
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
    yield Database(server.host, server.port, name, server.user, server.password)
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    """An autocommit session on the test's database."""
    with connect(database) as session:
        yield session


@contextmanager
def burning(database: Database) -> Iterator[None]:
    """Keep one session of the application at work for the block."""
    with connect(database, role="x") as conn:
        conn.execute("set application_name = 'application'")
        cancelled: list[type[BaseException]] = []

        def burn() -> None:
            try:
                conn.execute("select count(*) from pg_catalog.generate_series(1, 1000000000000)")
            except psycopg.errors.QueryCanceled as exc:
                cancelled.append(type(exc))

        def ended() -> bool:
            # The query may not have begun when the first cancel comes.
            conn.cancel_safe()
            thread.join(0.1)
            return not thread.is_alive()

        thread = threading.Thread(target=burn)
        thread.start()
        try:
            yield
        finally:
            eventually(ended, 30)
        assert cancelled
