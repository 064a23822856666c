"""What `doctor` finds that keeps waiting: sessions for a lock, and change logs that nobody follows.

Owns from when on a wait is a trouble. Nobody's session is ended here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from rehearsal.catalog.tables import Name, dotted, split_name
from rehearsal.commands.symptoms.trouble import Trouble
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import quote_ident
from rehearsal.rehearse.context import Context
from rehearsal.switchover.names import Names
from rehearsal.switchover.table import Switchover

WAITS_S = 5.0
# So many keys are minutes of replay, in which the table that lags is far behind.
MANY_KEYS = 1_000_000
WAITING = """
with recursive ours as (
    -- Functions that walk partitions lock them, and would wait too.
    select pg_catalog.to_regclass(n.name)::oid as relid from pg_catalog.unnest(%(tables)s::text[]) as n (name)
    union
    select i.inhrelid from ours as o join pg_catalog.pg_inherits as i on i.inhparent = o.relid
)
select l.relation::regclass::text,
       pg_catalog.format('pid %%s (%%s) has waited %%s s for %%s', a.pid, a.application_name,
                         pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - l.waitstart)), l.mode),
       coalesce((select pg_catalog.string_agg(
                     case when b.pid = 0 then 'a prepared transaction; see pg_prepared_xacts' else pg_catalog.format(
                         'pid %%s (%%s, %%s, transaction age %%s s): %%s', b.pid, o.application_name, o.state,
                         pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - o.xact_start)),
                         pg_catalog.left(o.query, 80)) end, '; ')
                 from (select distinct pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid))) as b (pid)
                 left join pg_catalog.pg_stat_activity as o on o.pid = b.pid), 'unknown')
from pg_catalog.pg_locks as l join pg_catalog.pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'relation' and not l.granted and l.relation in (select relid from ours where relid is not null)
      and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
      and extract(epoch from pg_catalog.clock_timestamp() - l.waitstart) >= %(seconds)s
order by l.waitstart, a.pid
"""


def examine_waits(context: Context, conn: Connection) -> list[Trouble]:
    """Return the sessions that wait for a table of the plan for seconds, with who keeps them waiting. Takes no lock."""
    around = [Names(split_name(spec.name)) for spec in context.plan.tables]
    tables = [quote_ident(name) for names in around for name in (names.source, names.target, names.retired)]
    rows = conn.execute(WAITING, {"tables": tables, "seconds": WAITS_S}).fetchall()
    remedy = "end the session that blocks (`select pg_terminate_backend(PID)`), or wait for it; then run this again"
    return [Trouble(table, f"{waits}; blocked by: {blocked}", remedy) for table, waits, blocked in rows]


def examine_log(conn: Connection, work: Switchover, *, fix: bool) -> Iterator[Trouble]:
    """Return a change log that has grown since nobody follows; with `fix`, replay it, for which nobody waits."""
    found, log = work.migration(conn), work.log_now(conn)
    if log is None or _keys(conn, log) <= MANY_KEYS:
        return
    size, since = _size(conn, log), _since(conn, found.id)
    replays = work.keeps_two(conn)
    if fix and replays:
        work.follow(min(work.plan.copying.drain_until, MANY_KEYS // 2))
    done = fix and replays and _keys(conn, log) <= MANY_KEYS
    remedy = "`./inv doctor --fix` replays it" if replays else "run `./inv db.switchover`, which goes on, or give it up"
    said = (
        f"the change log {dotted(log)} grows: over {MANY_KEYS:,} keys, {size / 2**20:,.1f} MiB, and nobody follows "
        f"since {since:%Y-%m-%d %H:%M} UTC"
    )
    yield Trouble(found.source, said, remedy, done)


def _keys(conn: Connection, log: Name) -> int:
    """Count keys, no more than are needed to know that they are many."""
    query = sql.SQL("select count(*) from (select from {} limit {}) as k")
    return int(scalar(conn, query.format(sql.Identifier(*log), sql.Literal(MANY_KEYS + 1))))


def _size(conn: Connection, log: Name) -> int:
    return int(scalar(conn, "select pg_catalog.pg_total_relation_size(%s::regclass)", [quote_ident(log)]))


def _since(conn: Connection, migration: int) -> datetime:
    since: datetime = scalar(
        conn, "select changed_at at time zone 'UTC' from rehearsal.migration where id = %s", [migration]
    )
    return since
