"""The table under test, the journeys of each strategy, and what a whole end looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import Name, split_name
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.table import Switchover
from tests.fix_tables import EVENTS, SETUP, difference, make_plan, names_of
from tests.kills.points import START

NAME: Name = split_name(EVENTS)
ROWS = 2_000
OUTSIDE = 30
WRITE_OUTSIDE = f"""
insert into public."We""ird Events" ("Created At", "unit id", amount, note)
select now() + interval '60 days', 1, n, 'outside history' from generate_series(1, {OUTSIDE}) as n
"""
ATTACHED_ROWS = """
select count(*) filter (where id <= {rows} and note = 'note ' || id and amount = id % 97 and "unit id" = 1 + id % 5
                        and "Created At" = '2026-01-01'::timestamptz + id * interval '20 minutes'),
       count(*) filter (where note = 'outside history' and id > {rows}), count(*)
from public."We""ird Events"
"""
COPYING = ("capture", "plan-copy", "copy", "settle", "indexes", "carry", "references", "drain", "statistics")


@dataclass(frozen=True)
class Leg:
    """A part of a journey: what is asked of the engine, and its steps in their order."""

    name: str
    work: Callable[[Switchover], object]
    order: tuple[str, ...]
    before: Callable[[Connection], None] = lambda _conn: None


def _forward(work: Switchover) -> None:
    work.prepare()
    work.switch()


_KEYS = ("foreign-keys",)
_AFTER = (*_KEYS, "guard")
_ATTACHED = (
    START, "parent", "unique-indexes", "bound", "validate", "not-null", "cutover", "parent-statistics"
)  # fmt: skip


def _split(work: Switchover) -> None:
    HistorySplit(work).split()


def _write_outside(conn: Connection) -> None:
    conn.execute(as_query(WRITE_OUTSIDE))


# A strategy more is a line more.
JOURNEYS: dict[str, tuple[Leg, ...]] = {
    "dual-write": (Leg("forward", _forward, (START, *COPYING, "cutover", "end of capture", "weak keys", *_KEYS)),),
    "swap": (
        Leg("forward", _forward, (START, *COPYING, "swap", *_AFTER)),
        Leg("back", lambda work: work.roll_back(), (START, "rollback of the swap", *_AFTER)),
        Leg("again", lambda work: work.switch(), (START, "swap", *_AFTER)),
    ),
    "attach": (
        Leg("forward", _forward, _ATTACHED),
        Leg("split", _split, (START, "split target", *COPYING, "exchange", "split done")),
        Leg("back", lambda work: work.roll_back(), (START, "rollback"), _write_outside),
        Leg("again", _forward, _ATTACHED),
    ),
}


def differences(conn: Connection, strategy: str, written: int) -> str:
    """Say what is wrong with the rows at the end of a journey, of which the writers have left `written`."""
    if strategy == "attach":
        # There is one copy, so it is compared with how it was made: the writers touch their own rows only.
        found = conn.execute(as_query(ATTACHED_ROWS.format(rows=ROWS))).fetchone()
        wanted = (ROWS, OUTSIDE, ROWS + OUTSIDE + written)
        return "" if found == wanted else f"rows as they were made, outside history, in all: {found} for {wanted}"
    names = names_of(NAME)
    plain, parted = (NAME, names.target) if strategy == "dual-write" else (names.retired, NAME)
    apart = difference(conn, plain, parted)
    return "" if apart == (0, 0) else f"{apart[0]} rows only in the plain, {apart[1]} in the partitioned table"


def plan_of(strategy: str) -> Plan:
    """Return the plan: chunks and batches so small that there are several of each."""
    return make_plan(strategy, copy={"chunk_rows": 400, "drain_batch": 50, "drain_until": 20})


def make_table(conn: Connection, rows: int = ROWS) -> None:
    """Make and fill the table."""
    conn.execute(as_query(SETUP.replace("generate_series(1, 4000)", f"generate_series(1, {rows})")))


LISTING = """
select 'relation', format('%s.%s %s', n.nspname, c.relname, c.relkind)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('public', 'rehearsal') and c.relkind <> 't'
union all
select 'constraint', format('%s %s %s valid %s adopted %s', conrelid::regclass, conname, contype, convalidated,
                            conparentid <> 0)
from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', format('%s valid %s ready %s', indexrelid::regclass, indisvalid, indisready)
from pg_index where indrelid::regclass::text !~ '^pg_'
union all
select 'trigger', format('%s on %s %s', tgname, tgrelid::regclass, tgenabled) from pg_trigger where not tgisinternal
union all
select 'function', proname from pg_proc where pronamespace in ('public'::regnamespace, 'rehearsal'::regnamespace)
union all
select 'sequence', format('%s of %s', objid::regclass, refobjid::regclass)
from pg_depend where classid = 'pg_class'::regclass and deptype = 'a' and objid::regclass::text ~ 'seq'
union all
select 'pending detach', inhrelid::regclass::text from pg_inherits where inhdetachpending
union all
select 'slot', slot_name from pg_replication_slots
union all
select 'prepared transaction', gid from pg_prepared_xacts
union all
select 'state', state || ' ' || (detail - 'guard')::text || (detail ? 'guard')::text from rehearsal.migration
union all
select 'step', name from rehearsal.step
union all
select 'chunk left', number::text from rehearsal.chunk where done_at is null
"""


def listing(conn: Connection) -> set[tuple[str, str]]:
    """Return everything that a journey leaves behind: what is there, valid, enabled and owned by whom."""
    with conn.transaction():
        conn.execute("set local search_path = pg_catalog")
        return set(conn.execute(LISTING).fetchall())


def leftovers(found: set[tuple[str, str]], wanted: set[tuple[str, str]]) -> list[str]:
    """Return what is there and should not be, and the other way about."""
    extra = [f"{kind} {what} is left over" for kind, what in sorted(found - wanted)]
    return extra + [f"{kind} {what} is missing" for kind, what in sorted(wanted - found)]


SESSIONS = """
select format('%s: %s', application_name, left(query, 60)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'pg-rehearsal %'
"""


def sessions(conn: Connection) -> list[Any]:
    """Return sessions of ours that are still there."""
    return [row[0] for row in conn.execute(SESSIONS)]
