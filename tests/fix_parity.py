"""A comparison of two tables by their names, and statements that make them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.environment import Database
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity import ParityReport, compare

Compare = Callable[..., ParityReport]
SOURCE, TARGET, KEY = ('We"ird', "Table %s"), ('We"ird', "Table %s twin"), "Created At"


def run(database: Database, *statements: str) -> None:
    """Run statements, each committed."""
    with connect(database) as conn:
        for statement in statements:
            conn.execute(statement)


@pytest.fixture
def compare_pair(sql_files: SqlFiles) -> Compare:
    """Compare two tables by name."""

    def compare_now(
        database: Database,
        source: tuple[str, str] = SOURCE,
        target: tuple[str, str] = TARGET,
        key: str = KEY,
        **more: object,
    ) -> ParityReport:
        with connect(database) as conn:
            catalog = Catalog(conn, sql_files)
            tables = catalog.read(source), catalog.read(target)
        return compare(database, sql_files, *tables, key, **{"self_test": False, **more})  # type: ignore[arg-type]

    return compare_now
