"""A mismatch that does no harm, put in so that the comparison has something to find, and repaired again.

Owns which rows it may touch: those that this run's own load wrote, told by their marks, in the table that the
application does not read. Only the mark itself is changed, a column of no key, while the application's triggers rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.errors import CannotSee
from rehearsal.evidence.data import Taken
from rehearsal.evidence.events import MismatchMoved
from rehearsal.load.ledger import marker_prefix
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, lock_tables, with_lock
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import StopHere
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import EVERYTHING
from rehearsal.switchover.parity import compare
from rehearsal.switchover.parity.report import ParityReport
from rehearsal.switchover.quiet import quiet
from rehearsal.switchover.repair import our_triggers, resync, target_leads
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.target import log_columns

INJECTED = 50
# A light load may write all of its rows anew while the comparison begins; the next try finds others.
TRIES = 5
# So few rows are worth a wait for more.
FEW, PATIENCE_S, POLL_S = 10, 5.0, 0.05
DIGITS, OTHERS = "0123456789", "1234567890"
Identity = tuple[str, ...]
PUT_IN = "put in"


@dataclass(frozen=True, slots=True)
class UnreadTable:
    """The table that the application does not read; `target_leads` says that it reads the target of a mirrored pair."""

    table: Name
    target_leads: bool


def inject(context: Context, spec: TableSpec) -> None:
    """Change rows of the load where nobody reads them, require parity to name them, and repair them.

    Locks: SHARE ROW EXCLUSIVE on the table that is not read, for milliseconds; the repair's own.
    Second run: mends first what a killed one has left.

    Raises:
        StopHere: parity did not find them, or they are still there, so no parity of this run is worth anything.
        CannotSee: there is no row, no column or no table that may be changed.
    """
    work = context.switchover(spec)
    with context.session("mismatch") as conn:
        unread = find_unread(context, conn, work)
        if left_by_a_kill(context, spec):
            mend(context, conn, work, unread)
        work.follow(rest=context.plan.copying.drain_until)
        column = free_column(Catalog(conn, context.files).read(unread.table), spec)
        seen, gone = attempt(context, conn, work, unread, column)
        for _ in range(TRIES - 1):
            if seen.passed is None and gone:
                seen, gone = attempt(context, conn, work, unread, column)
    record_seen(context, spec, unread.table, seen, gone=gone)


def attempt(
    context: Context, conn: Connection, work: Switchover, unread: UnreadTable, column: str
) -> tuple[SeenRows, bool]:
    """Put a mismatch in, look, and repair; return what was seen, and whether nothing of it is left."""
    table = unread.table
    picked = await_rows(context, conn, work, table, column)
    context.run.tell(MismatchMoved(work.spec.name, PUT_IN, len(picked)))
    try:
        changed = change_rows(conn, work, table, column, picked)
        report = compare_pair(context, conn, work)
        left = still_there(conn, work, table, column, changed)
    finally:
        mend(context, conn, work, unread)
    gone = not still_there(conn, work, table, column, changed) and not compare_pair(context, conn, work).unexplained
    return SeenRows(set(changed), set(left), found_in(report), report.unexplained), gone


@dataclass(frozen=True, slots=True)
class SeenRows:
    """Rows that were changed, those of them that no writer wrote anew meanwhile, and those that parity named."""

    changed: set[Identity]
    left: set[Identity]
    found: set[Identity]
    unexplained: int

    @property
    def passed(self) -> bool | None:
        """Whether parity named each row that still differed, and no other; None if writers left nothing to find."""
        if not self.left and not self.unexplained:
            return None
        return self.left <= self.found <= self.changed and self.unexplained == len(self.found)


def record_seen(context: Context, spec: TableSpec, table: Name, seen: SeenRows, *, gone: bool) -> None:
    """Record what was seen; stop unless all of it was as it must be."""
    passed = seen.passed and gone
    observed = (
        f"{len(seen.changed)} of the load's own rows changed in {'.'.join(table)}, which the application does not "
        f"read: {seen.unexplained} unexplained differences found, {len(seen.changed - seen.found)} written anew by the "
        f"load meanwhile; {'none' if gone else 'SOME'} left after the repair"
    )
    context.run.record("mismatch-found", spec.name, passed, observed, Taken(len(seen.changed)))
    if not passed:
        raise StopHere


def find_unread(context: Context, conn: Connection, work: Switchover) -> UnreadTable:
    """Return the table of a pair that the application does not read.

    Raises:
        CannotSee: the app servers differ or do not say where they write.
    """
    names = work.names
    if state.read_migration(conn, names.source).state == state.SWAPPED:
        return UnreadTable(names.retired, target_leads=False)
    leads = target_leads(conn, work, context.env.app_servers)
    if leads is None:
        message = f"no mismatch was put into {work.spec.name}: app servers differ or do not say which table they use"
        raise CannotSee(message)
    return UnreadTable(names.source if leads else names.target, leads)


def free_column(table: Table, spec: TableSpec) -> str:
    """Return the column to change: the one that the load marks its rows by, if no key needs it.

    Raises:
        CannotSee: there is none.
    """
    name = spec.marker
    if name is None:
        message = f"table {spec.name} has no marker column in the plan, so rows of the load cannot be told apart"
        raise CannotSee(message)
    keys = {column for index in table.indexes if index.is_unique for column in index.key_columns} | {spec.key}
    # A key on other tables: its definition names the columns; a name that only looks alike is a false alarm, no harm.
    if name in keys or any(name in key.definition.partition("REFERENCES")[0] for key in table.foreign_keys):
        message = f"marker column {name} of {spec.name} is part of a key, so no row can be changed without harm"
        raise CannotSee(message)
    return name


def await_rows(context: Context, conn: Connection, work: Switchover, table: Name, column: str) -> list[str]:
    """Pick rows; a load that began just now is given time to write some.

    Raises:
        CannotSee: the load wrote none that is there.
    """
    end = time.monotonic() + PATIENCE_S
    picked = pick_rows(conn, work, table, column)
    while len(picked) < FEW and context.writers.at_work and time.monotonic() < end:
        time.sleep(POLL_S)
        picked = pick_rows(conn, work, table, column)
    if not picked:
        message = f"{'.'.join(table)} has no row that this run's load wrote, and rows of others are not touched"
        raise CannotSee(message)
    return picked


def pick_rows(conn: Connection, work: Switchover, table: Name, column: str) -> list[str]:
    """Return places (leaf and ctid) of rows that the run's load wrote, those first that the change log does not name.

    A few keys are always left in the log; a light load may have all of its rows there, and a mismatch in one of them
    is explained before it is put in. So the log is replayed first, however short it is.
    """
    if work.log_now(conn) is not None:
        work.current_replay(conn).once(conn, EVERYTHING)
    rested = read_places(conn, work, table, column, unlogged(conn, work))
    return rested or read_places(conn, work, table, column, sql.SQL(""))


def read_places(conn: Connection, work: Switchover, table: Name, column: str, condition: sql.Composable) -> list[str]:
    """Return places of rows of the load, as many as are changed."""
    query = sql.SQL(
        "select t.tableoid::text || ' ' || t.ctid::text from {} as t where starts_with(t.{}::text, {}){} limit {}"
    ).format(
        sql.Identifier(*table),
        sql.Identifier(column),
        sql.Literal(marker_prefix(work.run.name)),
        condition,
        sql.Literal(INJECTED),
    )
    return [row[0] for row in conn.execute(query).fetchall()]


def change_rows(conn: Connection, work: Switchover, table: Name, column: str, picked: list[str]) -> list[Identity]:
    """Change the marks of the picked rows by other digits; return their identities. A row that moved is passed over."""
    statement = sql.SQL(
        "update {t} set {m} = translate({m}::text, {digits}, {others}) where ctid = any({places}::tid[]) "
        "and tableoid::text || ' ' || ctid::text = any({picked}::text[]) and starts_with({m}::text, {prefix}) "
        "returning {identity}"
    ).format(
        t=sql.Identifier(*table),
        m=sql.Identifier(column),
        digits=sql.Literal(DIGITS),
        others=sql.Literal(OTHERS),
        places=sql.Literal([row.partition(" ")[2] for row in picked]),
        picked=sql.Literal(picked),
        prefix=sql.Literal(marker_prefix(work.run.name)),
        identity=identity_sql(work.shape(conn).identity),
    )
    ours = our_triggers(conn, work, table)

    def change(held: Connection) -> list[Identity]:
        held.execute("select pg_catalog.set_config('rehearsal.applying', 'on', true)")
        with quiet(held, table, ours):
            return [tuple(row) for row in held.execute(statement).fetchall()]

    lock = lock_tables(Mode.SHARE_ROW_EXCLUSIVE, table)
    changed, _ = with_lock(conn, f"mismatch in {'.'.join(table)}", change, lock=lock, policy=work.policy)
    return changed


def still_there(
    conn: Connection, work: Switchover, table: Name, column: str, changed: list[Identity]
) -> list[Identity]:
    """Return the changed rows that nobody wrote since, neither here nor, as the change log says, in the other table."""
    altered = marker_prefix(work.run.name).translate(str.maketrans(DIGITS, OTHERS))
    query = sql.SQL("select {} from {} as t where starts_with({}::text, {}){}").format(
        identity_sql(work.shape(conn).identity),
        sql.Identifier(*table),
        sql.Identifier(column),
        sql.Literal(altered),
        unlogged(conn, work),
    )
    return [tuple(row) for row in conn.execute(query).fetchall() if tuple(row) in set(changed)]


def unlogged(conn: Connection, work: Switchover) -> sql.Composable:
    """Return the condition that no entry of the change log announces the row of `t`; empty where there is no log."""
    shape, log = work.shape(conn), work.log_now(conn)
    if log is None:
        return sql.SQL("")
    keys = sql.SQL(", ").join(sql.SQL("l.") + sql.Identifier(column) for column in log_columns(shape))
    identity = sql.SQL(", ").join(sql.SQL("t.") + sql.Identifier(column) for column in shape.identity)
    return sql.SQL(" and not exists (select from {} as l where ({}) = ({}))").format(
        sql.Identifier(*log), keys, identity
    )


def identity_sql(columns: tuple[str, ...]) -> sql.Composed:
    """Return the identity of a row as texts, as a comparison names it."""
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)


def compare_pair(context: Context, conn: Connection, work: Switchover) -> ParityReport:
    """Compare the pair as every comparison of the run does."""
    source, target = context.pair(conn, work.spec)
    keylog = work.log_now(conn)
    return compare(
        context.env.database, context.files, source, target, work.spec.key, keylog=keylog, self_test=False,
        max_examples=20 * INJECTED,
    )  # fmt: skip


def found_in(report: ParityReport) -> set[Identity]:
    """Return the rows that parity named and nothing explains."""
    return {tuple(value or "" for value in row.identity) for row in report.examples if not row.explained}


def mend(context: Context, conn: Connection, work: Switchover, unread: UnreadTable) -> None:
    """Repair the pair as `./inv doctor --fix` does."""
    brought = resync(conn, work, target_leads=unread.target_leads)
    context.run.tell(MismatchMoved(work.spec.name, "repaired", brought))


def left_by_a_kill(context: Context, spec: TableSpec) -> bool:
    """Return whether an earlier attempt put a mismatch in and did not come to its repair."""
    told = [event.what for event in context.run.events()]
    moved = [what for what in told if isinstance(what, MismatchMoved) and what.table == spec.name]
    return bool(moved) and moved[-1].stage == PUT_IN
