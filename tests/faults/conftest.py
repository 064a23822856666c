"""A small table on a database of its own."""

from __future__ import annotations

import pytest

from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.faults.small import Small


@pytest.fixture
def small(database: Database, conn: Connection, sql_files: SqlFiles, run: Run) -> Small:
    """A database of its own, empty yet."""
    return Small(database, conn, sql_files, run)
