"""The specimen of a test, on a database of its own."""

from __future__ import annotations

import pytest
from psycopg import sql

from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.zoo.world import ROLES, Specimen, Zoo

BUILT_WITH = "select setting like %s from pg_catalog.pg_config where name = 'CONFIGURE'"


@pytest.fixture(scope="session")
def zoo_roles(server: Database) -> None:
    """Roles and a tablespace that specimens speak of; they belong to the cluster, not to a database."""
    with connect(server) as conn:
        for role in ROLES:
            conn.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        if conn.info.server_version >= 150000:
            conn.execute("set allow_in_place_tablespaces = on")
            conn.execute("create tablespace \"zoo space\" location ''")


@pytest.fixture
def zoo(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, zoo_roles: None, request: pytest.FixtureRequest
) -> Zoo:
    """The specimen of the test, made on a database of its own."""
    specimen: Specimen
    specimen, strategy = request.param
    if conn.info.server_version < specimen.since * 10_000:
        pytest.skip(f"needs PostgreSQL {specimen.since}")
    if specimen.built_with and not scalar(conn, BUILT_WITH, [f"%--with-{specimen.built_with}%"]):
        pytest.skip(f"needs a server that is built with {specimen.built_with}")
    return Zoo(database, conn, sql_files, specimen, strategy, run)
