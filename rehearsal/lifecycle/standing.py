"""How an adopted table stands: how far ahead, what is due, what is held, what is wrong. Reads only.

Owns the comparison of the newest leaves with their sibling, by the machine diff.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rehearsal.catalog.definition import Facts, differences, read_facts
from rehearsal.catalog.tables import Catalog
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import (
    BoundedLeaf,
    DetachedLeaf,
    LeafTrouble,
    clock_objection,
    count_expired,
    last_act,
    read_held,
    read_leaves,
    read_troubles,
    said_of,
)
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles

# Indexes of a leaf by the name of the table's index that adopted them, so that leaves can be compared.
ADOPTED = """
select i.relname, p.relname
from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
join pg_catalog.pg_inherits as h on h.inhrelid = i.oid
join pg_catalog.pg_class as p on p.oid = h.inhparent
where x.indrelid = %s
"""
# Checks that a leaf has for itself on the key alone: its bounds, as people say them before ATTACH.
BOUND_CHECKS = """
select pg_catalog.format('check "%%s"', pg_catalog.replace(c.conname, '"', '""'))
from pg_catalog.pg_constraint as c
join pg_catalog.pg_inherits as h on h.inhrelid = c.conrelid
join pg_catalog.pg_partitioned_table as p on p.partrelid = h.inhparent
join pg_catalog.pg_attribute as k on k.attrelid = p.partrelid and k.attnum = p.partattrs[0]
join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attname = k.attname
where c.conrelid = %s and c.contype = 'c' and c.coninhcount = 0 and c.conkey = array[a.attnum]
"""
# What each leaf has for itself.
OWN_CONSTRAINT = re.compile(r"(primary key|unique constraint|exclusion constraint) ")
OWN = re.compile(r"table: comment|statistics |index .*: comment|column .*: comment")


@dataclass(frozen=True, slots=True)
class Standing:
    """One table: its policy and everything that can be said of it just now.

    `ready` counts leaves ahead of now; `differences` is what the newest leaf has otherwise than the one before it.
    """

    table: str
    policy: str
    leaves: int
    first: str | None
    last: str | None
    ready: int
    wanted: int
    bytes: int
    expired: int
    held: list[DetachedLeaf] = field(default_factory=list[DetachedLeaf])
    troubles: list[LeafTrouble] = field(default_factory=list[LeafTrouble])
    differences: list[str] = field(default_factory=list[str])
    clock: str | None = None
    premade_at: datetime | None = None
    detached_at: datetime | None = None
    dropped_at: datetime | None = None

    @property
    def wrong(self) -> bool:
        """Whether somebody has to look."""
        return bool(self.troubles or self.differences)

    @property
    def text(self) -> str:
        """Return it as people read it."""
        span = f"from {self.first or 'minvalue'} to {self.last or 'maxvalue'}, {self.bytes / 2**20:,.0f} MiB"
        done = (
            f"made {said_of(self.premade_at)}, detached {said_of(self.detached_at)}, dropped {said_of(self.dropped_at)}"
        )
        ahead = f"{self.ready} of {self.wanted} ready ahead; {self.expired} past retention"
        lines = [f"{self.table}: {self.policy}", f"  {self.leaves} partitions {span}; {ahead}", f"  last {done}"]
        lines += [f"  held: {held.leaf}, detached {said_of(held.since)}, {held.fate}" for held in self.held]
        lines += [f"  WRONG: {trouble.said}; {trouble.remedy} ({trouble.id})" for trouble in self.troubles]
        lines += [f"  WRONG: {said}" for said in self.differences]
        if self.clock and self.expired:
            lines.append(f"  no retention: {self.clock}")
        return "\n".join(lines)


def read_standing(
    conn: Connection, files: SqlFiles, policy: Policy, runner: datetime, moment: datetime | None = None
) -> Standing:
    """Return how a table stands. Locks: ACCESS SHARE on it and its leaves."""
    troubles = read_troubles(conn, policy.oid, moment)
    readable = not any(
        trouble.id in ("not-partitioned", "key", "zone", "interval", "second-level") for trouble in troubles
    )
    leaves = read_leaves(conn, policy.oid) if readable else []
    bounded = [leaf for leaf in leaves if not leaf.is_default and not leaf.is_pending]
    return Standing(
        table=policy.table,
        policy=policy.text,
        leaves=len(bounded),
        first=bounded[0].lower if bounded else None,
        last=bounded[-1].upper if bounded else None,
        ready=_ready(conn, policy, moment) if bounded else 0,
        wanted=policy.premake,
        bytes=sum(leaf.bytes for leaf in leaves),
        expired=count_expired(conn, policy.oid, moment) if bounded else 0,
        held=read_held(conn, policy.oid),
        troubles=troubles,
        differences=sibling_differences(conn, files, policy, bounded),
        clock=clock_objection(conn, policy.oid, runner, moment) if bounded and policy.retention else None,
        premade_at=last_act(conn, policy.oid, "premake"),
        detached_at=last_act(conn, policy.oid, "detach"),
        dropped_at=last_act(conn, policy.oid, "drop"),
    )


READY = "select rehearsal.lifecycle_ready(%s::oid::regclass, coalesce(%s, rehearsal.lifecycle_now()))"


def _ready(conn: Connection, policy: Policy, moment: datetime | None) -> int:
    return int(scalar(conn, READY, [policy.oid, moment]))


def sibling_differences(conn: Connection, files: SqlFiles, policy: Policy, leaves: list[BoundedLeaf]) -> list[str]:
    """Return what the leaves that lifecycle made have otherwise than the newest that it did not make.

    The two newest leaves are compared if it made all of them.
    """
    made = "select leaf_oid::bigint from rehearsal.lifecycle_history where act = 'premake' and parent = %s"
    ours = {row[0] for row in conn.execute(made, [policy.table]).fetchall()}
    others = [
        leaf for leaf in leaves if leaf.leaf_oid not in ours and leaf.upper is not None and leaf.lower is not None
    ]
    model = others[-1] if others else (leaves[-2] if len(leaves) > 1 else None)
    fresh = [leaf for leaf in leaves if leaf.leaf_oid in ours and leaf is not model][-1:]
    if model is None or not fresh:
        return []
    bounds = {row[0] for row in conn.execute(BOUND_CHECKS, [model.leaf_oid]).fetchall()}
    found = differences(_facts(conn, files, model), _facts(conn, files, fresh[0]))
    wanted = [facet for facet in found if facet.subject not in bounds and not OWN.match(facet.id)]
    return [f"{fresh[0].name} is not like {model.name}: {facet.id}" for facet in wanted]


def _facts(conn: Connection, files: SqlFiles, leaf: BoundedLeaf) -> Mapping[str, Facts]:
    adopted: dict[str, str] = dict(conn.execute(ADOPTED, [leaf.leaf_oid]).fetchall())
    schema, name = conn.execute(
        "select n.nspname, c.relname from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n "
        "on n.oid = c.relnamespace where c.oid = %s",
        [leaf.leaf_oid],
    ).fetchone() or ("", "")
    facts = read_facts(conn, files, Catalog(conn, files).read((schema, name)))
    return {_subject(subject, said, adopted): said for subject, said in facts.items()}


def _subject(subject: str, facts: Facts, adopted: Mapping[str, str]) -> str:
    """Call an index as the table's that adopted it, one of the leaf alone by what it is: its name is the leaf's own."""
    own = OWN_CONSTRAINT.match(subject)
    if own:
        return f"{own[1]} {facts.get('definition')}"
    kind, _, name = subject.partition(" ")
    if kind != "index":
        return subject
    plain = name.strip('"').replace('""', '"')
    return f'index of the table "{adopted[plain]}"' if plain in adopted else f"index {facts.get('definition')}"
