"""What the lifecycle functions say: acts to do, leaves, troubles, and what was done last. Reads only.

Owns the value types of the room. The decisions are in `sql/lifecycle/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from psycopg.rows import class_row

from rehearsal.postgres.connection import Connection, scalar

Mode = Literal["locked", "plain", "alone"]


@dataclass(frozen=True, slots=True)
class LeafAct:
    """One thing to do with one leaf, in one transaction.

    `mode` says how: `locked` within the lock budget, `plain` since nobody waits for it, `alone` since its one statement
    bears no transaction. `undo` is what takes it back if it, or what follows from it, fails.
    """

    act: str
    mode: Mode
    leaf: str
    leaf_oid: int | None
    lower: str | None
    upper: str | None
    statements: list[str]
    undo: list[str]

    @property
    def text(self) -> str:
        """Return it as people read it."""
        return f"{self.act} {self.leaf} (from {self.lower or 'minvalue'} to {self.upper or 'maxvalue'})"


@dataclass(frozen=True, slots=True)
class LeafTrouble:
    """Something that is wrong with a table, what it bars, and what to do."""

    id: str
    bars_premake: bool
    bars_retain: bool
    said: str
    remedy: str


@dataclass(frozen=True, slots=True)
class BoundedLeaf:
    """A leaf by its real bounds."""

    leaf_oid: int
    name: str
    lower: str | None
    upper: str | None
    is_default: bool
    is_pending: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class DetachedLeaf:
    """A detached leaf that is kept, until when, and why it will not be dropped then (None: it will).

    `archive` is the manifest of its proven archive; `waits` says that it is not dropped before there is one.
    """

    leaf: str
    since: datetime
    until: datetime
    objection: str | None
    archive: str | None = None
    waits: bool = False

    @property
    def fate(self) -> str:
        """Return what will become of it."""
        if self.objection:
            return f"will not be dropped: {self.objection}"
        kept = f", archived in {self.archive}" if self.archive else ""
        return f"dropped after {said_of(self.until)}{' once it is archived' if self.waits else kept}"


TO_MAKE = """
select act, mode, leaf, leaf_oid::bigint, lower, upper, statements, undo
from rehearsal.lifecycle_to_make(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now())) with ordinality
order by ordinality
"""
TO_RETIRE = """
select act, mode, leaf, leaf_oid::bigint, lower, upper, statements, '{}'::text[] as undo
from rehearsal.lifecycle_to_retire(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now()), %s) with ordinality
order by ordinality
"""
TO_ARCHIVE = """
select act, mode, leaf, leaf_oid::bigint, lower, upper, statements, '{}'::text[] as undo
from rehearsal.lifecycle_to_archive(%s::oid::regclass) with ordinality order by ordinality
"""
TO_REATTACH = """
select act, mode, leaf_name as leaf, leaf_oid::bigint, lower_bound as lower, upper_bound as upper, statements,
       '{}'::text[] as undo
from rehearsal.lifecycle_to_reattach(%s::oid::regclass, %s, %s, %s) with ordinality order by ordinality
"""
TROUBLES = """
select id, bars_premake, bars_retain, said, remedy
from rehearsal.lifecycle_troubles(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now()))
"""
LEAVES = """
select leaf_oid::bigint, pg_catalog.format('%%I.%%I', schema, name) as name, lower, upper, is_default, is_pending,
       pg_catalog.pg_total_relation_size(leaf_oid) as bytes
from rehearsal.lifecycle_leaves(%s::oid::regclass)
order by is_default, lower_at nulls first
"""
HELD = """
select d.leaf, d.since, d.since + greatest(d.hold, p.hold) as until,
       coalesce(rehearsal.lifecycle_objection(d.leaf_oid),
                case when not rehearsal.lifecycle_may_drop(d.leaf_oid, d.since + greatest(d.hold, p.hold))
                     then 'the policy keeps it' end) as objection,
       case when rehearsal.lifecycle_proven(d.leaf_oid) then a.manifest end as archive,
       rehearsal.lifecycle_archive_waits(d.leaf_oid) as waits
from rehearsal.lifecycle_detached as d join rehearsal.lifecycle_policy as p on p.parent = d.parent
left join rehearsal.lifecycle_archived as a on a.leaf_oid = d.leaf_oid
where d.parent::oid = %s::oid and d.state = 'held' order by d.since, d.leaf
"""
EXPIRED = """
select count(*) from rehearsal.lifecycle_expired(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now()))
"""
CLOCK = "select rehearsal.lifecycle_clock(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now()), %s)"
LAST = """
select max(at) from rehearsal.lifecycle_history where parent = %s::oid::regclass::text and act = %s
"""


def read_to_make(conn: Connection, table: int, moment: datetime | None = None) -> list[LeafAct]:
    """Return what premake would do for a table, in order; empty where nothing is to be done, or a trouble bars it."""
    return _acts(conn, TO_MAKE, [table, moment])


def read_to_retire(conn: Connection, table: int, runner: datetime, moment: datetime | None = None) -> list[LeafAct]:
    """Return what retention would do, in order; what was begun is finished even where a trouble bars the rest.

    `runner` is the time of whoever asks, which must agree with the server's.
    """
    return _acts(conn, TO_RETIRE, [table, moment, runner])


def read_to_archive(conn: Connection, table: int) -> list[LeafAct]:
    """Return the held leaves that wait for their archive, each with what closes it to writers, if it is not closed."""
    return _acts(conn, TO_ARCHIVE, [table])


def read_to_reattach(conn: Connection, table: int, leaf: str, lower: str | None, upper: str | None) -> list[LeafAct]:
    """Return what attaches a restored leaf, quoted, in order."""
    return _acts(conn, TO_REATTACH, [table, leaf, lower, upper])


def _acts(conn: Connection, query: LiteralString, params: list[Any]) -> list[LeafAct]:
    with conn.cursor(row_factory=class_row(LeafAct)) as cursor:
        return cursor.execute(query, params).fetchall()


def read_troubles(conn: Connection, table: int, moment: datetime | None = None) -> list[LeafTrouble]:
    """Return what is wrong with a table."""
    with conn.cursor(row_factory=class_row(LeafTrouble)) as cursor:
        return cursor.execute(TROUBLES, [table, moment]).fetchall()


def read_leaves(conn: Connection, table: int) -> list[BoundedLeaf]:
    """Return the leaves of a table in the order of their bounds, DEFAULT last."""
    with conn.cursor(row_factory=class_row(BoundedLeaf)) as cursor:
        return cursor.execute(LEAVES, [table]).fetchall()


def read_held(conn: Connection, table: int) -> list[DetachedLeaf]:
    """Return the leaves that are detached and kept."""
    with conn.cursor(row_factory=class_row(DetachedLeaf)) as cursor:
        return cursor.execute(HELD, [table]).fetchall()


def count_expired(conn: Connection, table: int, moment: datetime | None = None) -> int:
    """Return how many attached leaves are past their retention."""
    return int(scalar(conn, EXPIRED, [table, moment]))


def clock_objection(conn: Connection, table: int, runner: datetime, moment: datetime | None = None) -> str | None:
    """Return why retention must not trust the clock; None if all clocks agree."""
    said: str | None = scalar(conn, CLOCK, [table, moment, runner])
    return said


def said_of(moment: datetime | None) -> str:
    """Return a moment as people read it."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def last_act(conn: Connection, table: int, act: str) -> datetime | None:
    """Return when an act was last done for a table; None if never."""
    at: datetime | None = scalar(conn, LAST, [table, act])
    return at
