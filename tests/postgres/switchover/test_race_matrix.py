"""The race matrix: a write of the application around the copy of its row, in every order and isolation level."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product

import psycopg
import pytest
from psycopg import IsolationLevel

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.copy.copier import chunk_sql
from rehearsal.switchover.detail import Split
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.names import Names
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.table import Switchover
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of
from tests.waiting import eventually

TABLE = 'public."We""ird Events"'
WRITES = {
    "update": f"update {TABLE} set note = 'raced' where id = %s",
    "delete": f"delete from {TABLE} where id = %s",
    "key move": f"""update {TABLE} set "Created At" = "Created At" + interval '1 month' where id = %s""",
}
ORDERS = ("app first", "copy first")
LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ)
Cell = tuple[str, str, IsolationLevel]
CELLS: dict[Cell, int] = {cell: 100 + 10 * number for number, cell in enumerate(product(WRITES, ORDERS, LEVELS))}


@dataclass
class Race:
    """One copy statement and twelve transactions of the application around it."""

    database: Database
    side: Connection
    pool: ThreadPoolExecutor
    stack: ExitStack
    failed: dict[Cell, str] = field(default_factory=dict)

    def session(self, level: IsolationLevel) -> Connection:
        """Open a transaction; that of REPEATABLE READ has its snapshot from now on."""
        session = self.stack.enter_context(connect(self.database, autocommit=False, role="app"))
        session.isolation_level = level
        session.execute("select 1")
        return session

    def started(self, session: Connection, text: str, row: int | None = None) -> Future[object]:
        """Start a statement; return when it is done or waits for another session."""
        done: Future[object] = self.pool.submit(session.execute, as_query(text), [row] if row else None)
        waits = "select pg_catalog.cardinality(pg_catalog.pg_blocking_pids(%s)) > 0"
        eventually(lambda: done.done() or scalar(self.side, waits, [session.info.backend_pid]), 60, pause=0.001)
        return done

    def finish(self, cell: Cell, session: Connection, work: Future[object]) -> None:
        """Wait for a write and commit it; what the server refused is told to the application, so it is no loss."""
        try:
            work.result()
            session.commit()
        except psycopg.errors.SerializationFailure as exc:
            session.rollback()
            self.failed[cell] = str(exc)

    def run(self, copy: str) -> None:
        """Let all twelve race with the copy."""
        sessions = {cell: self.session(cell[2]) for cell in CELLS}
        work = {
            cell: self.started(sessions[cell], WRITES[cell[0]], CELLS[cell]) for cell in CELLS if cell[1] == ORDERS[0]
        }
        copier = self.session(IsolationLevel.READ_COMMITTED)
        copied = self.started(copier, copy)
        first = list(work)
        if not copied.done():
            # It waits for the writers that came first: only when they have ended it can go on.
            for cell in first:
                self.finish(cell, sessions[cell], work[cell])
            first = []
        copied.result()
        work |= {
            cell: self.started(sessions[cell], WRITES[cell[0]], CELLS[cell]) for cell in CELLS if cell[1] == ORDERS[1]
        }
        late = [cell for cell in work if cell[1] == ORDERS[1] and not work[cell].done()]
        for cell in work:
            if cell[1] == ORDERS[1] and cell not in late:
                self.finish(cell, sessions[cell], work[cell])
        copier.commit()
        for cell in [*late, *first]:
            self.finish(cell, sessions[cell], work[cell])


@pytest.fixture
def race(database: Database, conn: Connection) -> Iterator[Race]:
    """A race on the test's database."""
    with ExitStack() as stack, ThreadPoolExecutor(len(CELLS) + 1) as pool:
        yield Race(database, conn, pool, stack)


@dataclass(frozen=True)
class Copied:
    """A table whose rows are to be copied: who copies, from where to where, and what is done then."""

    follow: Follow
    names: Names
    finish: Callable[[], object]


def whole_table(work: Switchover, conn: Connection) -> Copied:
    """Return the copy of swap and dual-write; afterwards the target follows."""
    del conn
    return Copied(Follow(work), work.names, work.prepare)


def split_history(work: Switchover, conn: Connection) -> Copied:
    """Return the copy of attach: of its history, when that is split; afterwards the partitions stand in the table."""
    work.prepare()
    work.switch()
    split = HistorySplit(work)
    split.make_target(conn, Split.of_detail(work.migration(conn).detail))
    return Copied(split.copying, split.history, split.split)


@pytest.mark.parametrize(
    ("strategy", "copied"), [("dual-write", whole_table), ("swap", whole_table), ("attach", split_history)]
)
def test_change_log_and_replay_are_exact_in_every_cell(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    run: Run,
    race: Race,
    strategy: str,
    copied: Callable[[Switchover, Connection], Copied],
) -> None:
    """12 cells, no write refused, 0 divergences; the witness: without the replay they do diverge."""
    plan = make_plan(strategy)
    deploy(conn, sql_files, plan)
    work = make_switchover(database, sql_files, plan, run)
    copy = copied(work, conn)
    follow, names = copy.follow, copy.names
    shape, migration = follow.shape(conn), state.read_migration(conn, names.source).id
    follow.capture(conn, shape, migration)
    follow.plan_copy(conn, migration)

    race.run(chunk_sql(sql_files, shape, names.source, names.target, 0, 100_000))

    assert race.failed == {}
    conn.execute("update rehearsal.chunk set done_at = now()")
    assert difference(conn, names.source, names.target) != (0, 0)
    assert copy.finish()
    work.follow()
    parted = events if strategy == "attach" else names.target
    assert difference(conn, names.source, parted) == (0, 0)
    assert scalar(conn, f"select count(*) from {TABLE} where note = 'raced'") == 4


def test_synchronous_triggers_instead_of_the_key_log_diverge(
    conn: Connection, sql_files: SqlFiles, events: Name, race: Race
) -> None:
    """The mutant: upserting triggers that are on while rows are copied lose deletes and key moves."""
    plan, names = make_plan("dual-write"), names_of(events)
    deploy(conn, sql_files, plan)
    columns = 'id, "Created At", "unit id", amount, note, extra'

    copy = (
        f"insert into {quote_ident(names.target)} ({columns}) select {columns} from only {TABLE} on conflict do nothing"
    )
    race.run(copy)

    assert difference(conn, names.source, names.target)[1] >= 2
