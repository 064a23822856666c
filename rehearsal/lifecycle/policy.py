"""Which tables are looked after, and how: policies, read, written and forgotten.

Owns the rows of `rehearsal.lifecycle_policy`. A policy is refused if its table cannot be looked after that way.
"""

from __future__ import annotations

import re
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


def forget_policy(conn: Connection, name: Name) -> None:
    """Forget the policy of a table, and what is known of its detached leaves; they stay where they are."""
    query = """
        with gone as (delete from rehearsal.lifecycle_policy where parent = pg_catalog.to_regclass(%(table)s)::oid)
        delete from rehearsal.lifecycle_detached where parent = pg_catalog.to_regclass(%(table)s)::oid
    """
    conn.execute(query, {"table": quote_ident(name)})


def write_policy(conn: Connection, plan: str, wish: Wish, moment: datetime | None = None) -> bool:
    """Write a policy in the caller's transaction; return whether anything changed. Locks: none on the table.

    Raises:
        PreconditionError: the table cannot be looked after that way; says why and what to do.
    """
    _require_zone(conn, wish)
    # Of tables that are gone: one that has the name now is another.
    conn.execute(
        "delete from rehearsal.lifecycle_policy where parent::oid not in (select oid from pg_catalog.pg_class)"
    )
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


def forget_policies(conn: Connection, plan: str, name: Name | None) -> list[str]:
    """Forget policies in the caller's transaction, all of the plan if no table is named; return whose.

    What they made stays, and so does what is held: nothing drops it any more. Without a name, policies whose table is
    gone go too.
    """
    oid = scalar(conn, "select pg_catalog.to_regclass(%s)::oid::bigint", [quote_ident(name)]) if name else None
    gone = [policy for policy in read_policies(conn, plan) if name is None or policy.oid == oid]
    for policy in gone:
        conn.execute("delete from rehearsal.lifecycle_detached where parent::oid = %s::oid", [policy.oid])
        conn.execute("delete from rehearsal.lifecycle_policy where parent::oid = %s::oid", [policy.oid])
        conn.execute(
            "insert into rehearsal.lifecycle_history (parent, act, at) values (%s, 'forget', "
            "rehearsal.lifecycle_now())",
            [policy.table],
        )
    return [policy.table for policy in gone]


def _require_zone(conn: Connection, wish: Wish) -> None:
    if not HOLD.fullmatch(wish.hold):
        message = f"a hold of {wish.hold!r} is none; write it as '7 days'"
        raise PreconditionError(message)
    query = "select exists (select from pg_catalog.pg_timezone_names where name = %s)"
    if not scalar(conn, query, [wish.zone]):
        message = f"the server knows no time zone {wish.zone!r}; write it as UTC or Europe/Berlin"
        raise PreconditionError(message)
