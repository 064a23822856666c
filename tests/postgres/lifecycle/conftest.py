"""The world of these tests."""

from __future__ import annotations

import pytest

from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.postgres.lifecycle.kept import Kept


@pytest.fixture
def kept(conn: Connection, sql_files: SqlFiles) -> Kept:
    """A database without a table yet."""
    return Kept(conn, sql_files)
