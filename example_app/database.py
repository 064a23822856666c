"""The pool of sessions, and which table a name stands for under the routing of this process."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from example_app.settings import Settings

Row = dict[str, Any]
ATTEMPTS = 4
# The server undid the statement and says that it may be sent again: nothing is written twice.
AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)


class Database:
    """Runs single statements, each its own transaction."""

    def __init__(self, settings: Settings) -> None:
        """Make the pool; it opens with the service."""
        self._reads_partitioned = settings.reads_partitioned
        self._writes_partitioned = settings.writes_partitioned
        self.pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            settings.database_url,
            min_size=2,
            max_size=10,
            timeout=5,
            # Back at once after an outage: beyond this, the next request asks anew instead of a growing pause.
            reconnect_timeout=2,
            open=False,
            check=AsyncConnectionPool.check_connection,
            name=settings.server_name,
            kwargs={
                "autocommit": True,
                # A statement that the server has prepared would go on to name a table that was renamed meanwhile.
                "prepare_threshold": None,
                "row_factory": dict_row,
                "application_name": settings.server_name,
                "options": "-c timezone=UTC -c statement_timeout=30s",
            },
        )

    def read_table(self, name: str) -> sql.Identifier:
        """Return the table that `name` is read from."""
        return _routed(name, partitioned=self._reads_partitioned)

    def write_table(self, name: str) -> sql.Identifier:
        """Return the table that `name` is written to."""
        return _routed(name, partitioned=self._writes_partitioned)

    async def all(self, query: sql.SQL | sql.Composed, **values: Any) -> list[Row]:
        """Run a statement and return its rows; a deadlock or a lost race is tried again, a few times."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.pool.connection() as conn:
                    return await (await conn.execute(query, values)).fetchall()
            except AGAIN:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def answers(self, timeout_s: float = 1.5) -> bool:
        """Whether a session can be had and answers."""
        try:
            async with self.pool.connection(timeout=timeout_s) as conn:
                await conn.execute("select 1")
        except (psycopg.Error, PoolTimeout):
            return False
        return True

    async def one(self, query: sql.SQL | sql.Composed, **values: Any) -> Row | None:
        """Run a statement and return its first row, if any."""
        rows = await self.all(query, **values)
        return rows[0] if rows else None


def _routed(name: str, *, partitioned: bool) -> sql.Identifier:
    return sql.Identifier("public", f"{name}_partitioned" if partitioned else name)
