"""The world of these tests. REHEARSAL_TEST_HOSTS=require makes a machine without the programs a failure, as in CI."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from rehearsal.environment import Database
from rehearsal.lifecycle.code import install_code
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.monitoring.watched import PROGRAMS, Watched, run_sql, watching

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def programs() -> None:
    """Skip where Prometheus and its company are not installed."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing and os.environ.get("REHEARSAL_TEST_HOSTS") == "require":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextmanager
def watched_database(server: Database, template: str) -> Iterator[Database]:
    """Make a database with the registry, for longer than one test."""
    name = f"watched_{next(_numbers)}"
    run_sql(server, f"create database {name} template {template}")
    yield replace(server, name=name)
    run_sql(server, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def watched(
    programs: None, server: Database, template: str, sql_files: SqlFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """A database with lifecycle's functions, and all that watches it, for the tests of a module."""
    with watched_database(server, template) as database:
        with connect(database) as conn, conn.transaction():
            install_code(conn, sql_files)
        folder: Path = tmp_path_factory.mktemp("watched")
        with watching(database, folder) as world:
            yield world


@pytest.fixture
def session(watched: Watched) -> Iterator[psycopg.Connection]:
    """A session of somebody."""
    with psycopg.connect(**watched.database.conninfo(), autocommit=True, application_name="somebody") as conn:
        yield conn
