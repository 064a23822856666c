"""Who stands in the way of a lock: seen from a second session while the first one waits.

Owns the words in which a blocker is described. Takes no lock that anybody waits for.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Any, Self

import psycopg

LOOK_EVERY_S = 0.03

BLOCKING = """
select case when b.pid = 0 then 'a prepared transaction; see pg_prepared_xacts' else
    format('pid %%s (%%s, %%s, transaction age %%s): %%s', a.pid, a.application_name, coalesce(a.state, a.backend_type),
           date_trunc('milliseconds', clock_timestamp() - a.xact_start), left(a.query, 80)) end,
    array(select l.relation::bigint from pg_catalog.pg_locks as l
          where l.pid = b.pid and l.locktype = 'relation' and l.granted and l.mode = 'ShareUpdateExclusiveLock'
                and l.database = (select oid from pg_catalog.pg_database where datname = current_database()))
from (select distinct unnest(pg_catalog.pg_blocking_pids(%s))) as b (pid)
left join pg_catalog.pg_stat_activity as a on a.pid = b.pid
where b.pid = 0 or a.pid is not null
order by a.xact_start
"""

OLDEST = """
select format('pid %s (%s, %s, transaction age %s): %s', a.pid, a.application_name, a.state,
              date_trunc('milliseconds', clock_timestamp() - a.xact_start), left(a.query, 80))
from pg_catalog.pg_stat_activity as a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start is not null
      and a.backend_type in ('client backend', 'autovacuum worker')
order by a.xact_start
limit 3
"""


def oldest_transactions(conn: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Name the oldest open transactions: what a lock waits for most often, where nobody could look closer."""
    return tuple(row[0] for row in conn.execute(OLDEST).fetchall())


class BlockerWatch:
    """Asks `pg_blocking_pids` of a session again and again, until the block ends; `take` returns who was seen.

    Without a second session (none is free) it sees nothing, and the lock goes on without it.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._pid = conn.info.backend_pid
        self._seen: dict[str, str] = {}
        self._maintained: set[int] = set()
        self._stop = threading.Event()
        self._side: psycopg.Connection[Any] | None = None
        with contextlib.suppress(psycopg.OperationalError):
            name = "pg-rehearsal blockers"
            self._side = psycopg.connect(
                conn.info.dsn, password=conn.info.password, autocommit=True, application_name=name
            )
        self._thread = threading.Thread(target=self._look, name="blockers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._side:
            self._side.close()

    def take(self) -> tuple[str, ...]:
        """Return who stood in the way since the last call, one line a session."""
        seen, self._seen = self._seen, {}
        return tuple(seen.values())

    def take_maintained(self) -> set[int]:
        """Return the tables that blockers vacuum, analyze or index just now (SHARE UPDATE EXCLUSIVE), by oid."""
        seen, self._maintained = self._maintained, set()
        return seen

    def _look(self) -> None:
        with contextlib.suppress(psycopg.Error):
            while self._side and not self._stop.wait(LOOK_EVERY_S):
                for line, maintained in self._side.execute(BLOCKING, [self._pid]).fetchall():
                    # A blocker is one session, whatever it runs and however old it is by now.
                    self._seen[line.partition("(")[0]] = line
                    self._maintained.update(maintained)
