"""Which tables are looked after, and how: policies, read, written and forgotten.

Owns the rows of `rehearsal.lifecycle_policy`. A policy is refused if its table cannot be looked after that way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from rehearsal.catalog.keytypes import Epoch
from rehearsal.catalog.tables import Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.reading import read_troubles
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import quote_ident

READ = """
select parent::oid::bigint as oid, parent::text as table, plan, every, retention, premake, hold, most, zone, epoch,
       archive
from rehearsal.lifecycle_policy where (%(plan)s::text is null or plan = %(plan)s) order by parent::text
"""
WRITE = """
insert into rehearsal.lifecycle_policy (parent, plan, every, retention, premake, hold, most, zone, epoch, archive)
values (%s::regclass, %s, %s, %s, %s, %s::interval, %s, %s, %s, %s)
on conflict (parent) do update set plan = excluded.plan, every = excluded.every, retention = excluded.retention,
    premake = excluded.premake, hold = excluded.hold, most = excluded.most, zone = excluded.zone,
    epoch = excluded.epoch, archive = excluded.archive,
    adopted_at = now(), adopted_by = session_user
where (lifecycle_policy.plan, lifecycle_policy.every, lifecycle_policy.retention, lifecycle_policy.premake,
       lifecycle_policy.hold, lifecycle_policy.most, lifecycle_policy.zone, lifecycle_policy.epoch,
       lifecycle_policy.archive)
      is distinct from (excluded.plan, excluded.every, excluded.retention, excluded.premake, excluded.hold,
                        excluded.most, excluded.zone, excluded.epoch, excluded.archive)
"""
ADOPTED = """
insert into rehearsal.lifecycle_history (parent, act, said, at)
values (%s::regclass::text, %s, %s, rehearsal.lifecycle_now())
"""
# As regclass writes names where search_path is pinned.
RENAME = """
update rehearsal.lifecycle_history set parent = pg_catalog.format('%%I.%%I', %(schema)s::text, %(after)s::text)
where parent = pg_catalog.format('%%I.%%I', %(schema)s::text, %(before)s::text)
"""
FORGOTTEN = """
insert into rehearsal.lifecycle_history (parent, act, at) values (%s, 'forget', rehearsal.lifecycle_now())
"""
THERE = """
select p.parent::oid::bigint from rehearsal.lifecycle_policy as p join pg_catalog.pg_class as c on c.oid = p.parent
"""
HELD_OF = """
select d.leaf from rehearsal.lifecycle_detached as d join pg_catalog.pg_class as c on c.oid = d.leaf_oid
where d.parent::oid = %s::oid and d.state in ('detaching', 'held')
      and not exists (select from pg_catalog.pg_inherits as i where i.inhrelid = d.leaf_oid and not i.inhdetachpending)
order by d.leaf
"""
# What makes a policy useless from its first day, rather than bars one of its runs.
UNFIT = (
    "not-partitioned", "key", "zone", "interval", "retention", "second-level", "other-manager", "no-leaf", "uneven",
)  # fmt: skip
HOLD = re.compile(r"\d{1,4} (day|week|month|year)s?")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a table is to be looked after, before it is said to the database; see `Policy`."""

    name: Name
    every: str
    premake: int
    retention: str | None = None
    hold: str = "7 days"
    most: int = 3
    zone: str = "UTC"
    epoch: Epoch | None = None
    archive: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """How one table is looked after.

    `every` is the width of a leaf and `retention` the age at which one goes, intervals or numbers of the key; `hold` is
    how long a detached leaf is kept, `most` how many go in one run, `zone` in which months and days
    begin; with `archive` no detached leaf is dropped before its archive is proven.
    """

    oid: int
    table: str
    plan: str
    every: str
    retention: str | None
    premake: int
    hold: timedelta
    most: int
    zone: str
    epoch: Epoch | None
    archive: bool

    @property
    def text(self) -> str:
        """Return it as people read it."""
        gone = "archived and dropped" if self.archive else "dropped"
        keeps = (
            f"{gone} after {self.retention} and {self.hold.days} days of hold" if self.retention else "kept for ever"
        )
        return f"every {self.every} in {self.zone}, {self.premake} ready ahead, {keeps}, at most {self.most} a run"


def read_policies(conn: Connection, plan: str | None) -> list[Policy]:
    """Return the policies of a plan, or all of them, by the table's name."""
    with conn.cursor(row_factory=class_row(Policy)) as cursor:
        return cursor.execute(READ, {"plan": plan}).fetchall()


def find_policy(conn: Connection, name: Name) -> Policy | None:
    """Return the policy of a table, whoever wrote it; None if it is not looked after."""
    oid = scalar(conn, "select pg_catalog.to_regclass(%s)::oid::bigint", [quote_ident(name)])
    return next((policy for policy in read_policies(conn, None) if policy.oid == oid), None)


def write_policy(conn: Connection, plan: str, wish: Wish, moment: datetime | None = None) -> bool:
    """Write a policy in the caller's transaction; return whether anything changed. Locks: none on the table.

    Raises:
        PreconditionError: the table cannot be looked after that way; says why and what to do.
    """
    _require_zone(conn, wish)
    forget_gone(conn)  # one that has the name now is another
    values = (plan, wish.every, wish.retention, wish.premake, wish.hold, wish.most, wish.zone, wish.epoch, wish.archive)
    table = quote_ident(wish.name)
    changed = conn.execute(WRITE, [table, *values]).rowcount > 0
    oid = int(scalar(conn, "select %s::regclass::oid::bigint", [table]))
    unfit = [trouble for trouble in read_troubles(conn, oid, moment) if trouble.id in UNFIT]
    if unfit:
        message = f"table {dotted(wish.name)} cannot be looked after: {unfit[0].said}; {unfit[0].remedy}"
        raise PreconditionError(message)
    if changed:
        said = next(policy.text for policy in read_policies(conn, plan) if policy.oid == oid)
        conn.execute(ADOPTED, [table, "adopt", said])
    return changed


def forget_policies(conn: Connection, plan: str | None, name: Name | None = None) -> list[str]:
    """Forget policies in the caller's transaction, all of the plan if no table is named; return whose.

    What they made stays, and so does what is held: nothing drops it any more. Without a name, policies whose table is
    gone go too; without a plan it is the table's, whoever wrote it.
    """
    oid = scalar(conn, "select pg_catalog.to_regclass(%s)::oid::bigint", [quote_ident(name)]) if name else None
    return _forget(conn, [policy for policy in read_policies(conn, plan) if name is None or policy.oid == oid])


def forget_gone(conn: Connection) -> list[str]:
    """Forget, in the caller's transaction, the policies of tables that are no more; return whose.

    Where nothing was ever adopted there is nothing to forget.
    """
    if not _is_known(conn):
        return []
    there = {row[0] for row in conn.execute(THERE).fetchall()}
    return _forget(conn, [policy for policy in read_policies(conn, None) if policy.oid not in there])


def _forget(conn: Connection, policies: Sequence[Policy]) -> list[str]:
    for policy in policies:
        conn.execute("delete from rehearsal.lifecycle_detached where parent::oid = %s::oid", [policy.oid])
        conn.execute("delete from rehearsal.lifecycle_policy where parent::oid = %s::oid", [policy.oid])
        conn.execute(FORGOTTEN, [policy.table])
    return [policy.table for policy in policies]


def require_nothing_held(conn: Connection, name: Name) -> None:
    """Refuse to drop a table of which partitions are detached and kept: their rows are nowhere else.

    Raises:
        PreconditionError: names each, and what to do.
    """
    table = scalar(conn, "select pg_catalog.to_regclass(%s)::oid::bigint", [quote_ident(name)])
    if table is None or not _is_known(conn):
        return
    if held := [row[0] for row in conn.execute(HELD_OF, [table]).fetchall()]:
        message = (
            f"{dotted(name)} is about to be dropped, and partitions that retention took off it are kept: "
            f"{', '.join(held)}. Attach them again, or drop them and run `./inv lifecycle.adopt --forget`, then run "
            "again. Nothing was dropped"
        )
        raise PreconditionError(message)


def rename_history(conn: Connection, before: Name, after: Name) -> None:
    """Let what was done for a table be found under its new name, in the caller's transaction; policies go by OID."""
    if before != after and _is_known(conn):
        conn.execute(RENAME, {"schema": before[0], "before": before[1], "after": after[1]})


def _is_known(conn: Connection) -> bool:
    return bool(scalar(conn, "select pg_catalog.to_regclass('rehearsal.lifecycle_policy') is not null"))


def _require_zone(conn: Connection, wish: Wish) -> None:
    if not HOLD.fullmatch(wish.hold):
        message = f"a hold of {wish.hold!r} is none; write it as '7 days'"
        raise PreconditionError(message)
    query = "select exists (select from pg_catalog.pg_timezone_names where name = %s)"
    if not scalar(conn, query, [wish.zone]):
        message = f"the server knows no time zone {wish.zone!r}; write it as UTC or Europe/Berlin"
        raise PreconditionError(message)
