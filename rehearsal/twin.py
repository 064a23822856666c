"""The partitioned twin and its triggers, rendered as changes for the registry.

Owns what the SQL templates `steps/target.sql.j2` and `steps/mirror.sql.j2` are filled with. Reads the source (its
catalog rows, oldest and newest key: one scan at most, ACCESS SHARE); writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rehearsal.catalog import Catalog, Table, dotted, split_name
from rehearsal.errors import PreconditionError, SqlFileError
from rehearsal.keys import plan_bounds
from rehearsal.names import Names
from rehearsal.plan import Plan, TableSpec
from rehearsal.postgres import Connection, scalar
from rehearsal.sqlfiles import SqlFiles, checksum, quote_ident

PARTS_OF_TWIN = (("010", "target"), ("020", "mirror"))
PARTS = {"attach": (("010", "attach_register"),)}


@dataclass(frozen=True, slots=True)
class RenderedChange:
    """One change for the registry: its name and its SQL."""

    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What is needed to write rows of a source and its twin: names and columns.

    `uniques` is the plan's decision for each unique index without the key (`uniques`).
    """

    names: Names
    key: str
    primary: tuple[str, ...]
    identity: tuple[str, ...]
    identity_types: tuple[str, ...]
    columns: tuple[str, ...]
    uniques: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, table: Table, key: str, names: Names | None = None, uniques: Mapping[str, str] | None = None) -> Shape:
        """Derive the shape of a table; its identity is the primary key with the partition key added.

        Raises:
            PreconditionError: the table has no primary key, or no such column.
        """
        primary = table.primary_key
        if not primary:
            message = f"table {dotted(table.name)} has no primary key; add one, rows cannot be told apart without it"
            raise PreconditionError(message)
        table.column(key)
        identity = primary if key in primary else (*primary, key)
        types = tuple(table.column(name).type for name in identity)
        return cls(names or Names(table.name), key, primary, identity, types, table.stored_columns, uniques or {})


def shape_of(catalog: Catalog, spec: TableSpec) -> Shape:
    """Return the shape of a planned table, whichever of its two tables has the name just now."""
    name = split_name(spec.name)
    return Shape.of(catalog.read(name), spec.key, Names(name))


def render_changes(conn: Connection, files: SqlFiles, plan: Plan, now: datetime) -> list[RenderedChange]:
    """Render the changes of all tables of the plan: the twin, then its mirror.

    A change that was applied already is returned as it was applied, since bounds depend on the day it was made.

    Raises:
        SqlFileError: a template was edited after its change was applied.
    """
    applied = read_applied(conn)
    changes: list[RenderedChange] = []
    for spec in plan.tables:
        base = f"{plan.name}/{split_name(spec.name)[1]}"
        for number, part in PARTS.get(plan.strategy, PARTS_OF_TWIN):
            name = f"{base}/{number}_{part}"
            template = f"steps/{part}.sql.j2"
            stamp = f"-- rendered from {template}, sha256 {checksum(files.text(template))}, {spec_stamp(spec, plan)}\n"
            body = applied.get(name)
            if body is None:
                body = stamp + files.render(template, **_values(part, conn, files, plan, spec, now))
            elif not body.startswith(stamp):
                message = (
                    f"change {name} was applied from another {template} or another plan; restore the file or "
                    "the plan's table, or start from a fresh database"
                )
                raise SqlFileError(message)
            changes.append(RenderedChange(name, body))
    return changes


def _values(part: str, conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, now: datetime) -> dict[str, Any]:
    if part == "target":
        return target_values(conn, files, plan, spec, now)
    if part == "mirror":
        return mirror_values(conn, files, plan, spec)
    return {"source_text": spec.name, "plan": plan.name, "strategy": plan.strategy}


def spec_stamp(spec: TableSpec, plan: Plan) -> str:
    """Return a stamp of the parts of the plan that a rendered change depends on."""
    words = [f"{spec.name} by {spec.key}", spec.interval, plan.strategy]
    if spec.epoch:
        words.append(f"epoch {spec.epoch}")
    if spec.method != "range":
        words.append(f"{spec.method} {json.dumps(spec.values) if spec.method == 'list' else spec.modulus}")
    return ", ".join(words).replace("\n", " ")


def read_applied(conn: Connection) -> dict[str, str]:
    """Return the bodies of applied changes by name; empty when there is no registry yet."""
    if scalar(conn, "select to_regclass('rehearsal.change') is null"):
        return {}
    return dict(conn.execute("select name, body from rehearsal.change").fetchall())


def target_values(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, now: datetime) -> dict[str, Any]:
    """Return what `steps/target.sql.j2` is filled with."""
    table = Catalog(conn, files).read(split_name(spec.name))
    shape = Shape.of(table, spec.key)
    bounds = plan_bounds(conn, files, spec, table, now)
    names = shape.names
    return {
        "source": table.name,
        "source_text": dotted(table.name),
        "target": names.target,
        "method": spec.method,
        "key": spec.key,
        "leaves": [{"name": names.leaf(one.suffix), "bound": one.sql} for one in bounds],
        "default_leaf": names.default_leaf if spec.default_partition else None,
        "options": ", ".join(table.options),
        "primary_key": f"{names.target[1][:58]}_pkey",
        "identity": shape.identity,
        "grants": read_grants(conn, table.oid),
        "owner": table.owner if table.owner != scalar(conn, "select current_user") else None,
        "comment": table.comment,
        "plan": plan.name,
        "strategy": plan.strategy,
    }


def mirror_values(
    conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, names: Names | None = None
) -> dict[str, Any]:
    """Return what `steps/mirror.sql.j2` is filled with; `names` places it around another table of the same shape."""
    table = Catalog(conn, files).read(split_name(spec.name))
    return mirror_values_of(Shape.of(table, spec.key, names), plan.strategy)


def mirror_values_of(shape: Shape, strategy: str) -> dict[str, Any]:
    """Return what `steps/mirror.sql.j2` is filled with, from a shape alone."""
    names = shape.names
    return {
        "strategy": strategy,
        "source": names.source,
        "target": names.target,
        "columns": shape.columns,
        "identity": shape.identity,
        "identity_types": shape.identity_types,
        "primary": shape.primary,
        "log_columns": ", ".join(log_columns(shape)),
        "old_identity": records("old", shape.identity),
        "new_identity": records("new", shape.identity),
        "old_primary": records("old", shape.primary),
        "new_primary": records("new", shape.primary),
        "target_identity": records("t", shape.identity),
        "new_columns": records("new", shape.columns),
        "assignments": ", ".join(f"{quote_ident(one)} = excluded.{quote_ident(one)}" for one in shape.columns),
        "forward_log": names.forward_log,
        "reverse_log": names.reverse_log,
        "capture_forward": names.function("capture_forward"),
        "capture_reverse": names.function("capture_reverse"),
        "refuse_truncate": names.function("refuse_truncate"),
        "sync_forward": names.function("sync_to_partitioned"),
        "sync_reverse": names.function("sync_from_partitioned"),
        "capture_trigger": names.capture_trigger,
        "reverse_capture_trigger": names.reverse_capture_trigger,
        "sync_trigger": names.sync_trigger,
        "reverse_sync_trigger": names.reverse_sync_trigger,
        "truncate_trigger": names.truncate_trigger,
    }


def records(record: str, columns: tuple[str, ...]) -> str:
    """Write columns of a record: `old."id", old."key"`."""
    return ", ".join(f"{record}.{quote_ident(one)}" for one in columns)


def log_columns(shape: Shape) -> tuple[str, ...]:
    """Columns of a key log that hold the identity."""
    return tuple(f"k{number}" for number in range(1, len(shape.identity) + 1))


GRANTS = """
select string_agg(lower(a.privilege_type), ', ' order by a.privilege_type) as privileges,
       case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee,
       a.is_grantable as grantable
from pg_catalog.pg_class as c, pg_catalog.aclexplode(c.relacl) as a
where c.oid = %s::oid and a.grantee <> c.relowner
group by a.grantee, a.is_grantable
order by 2, 3
"""


def read_grants(conn: Connection, oid: int) -> list[dict[str, Any]]:
    """Return the grants on a table but those of its owner."""
    rows = conn.execute(GRANTS, [oid]).fetchall()
    return [
        {"privileges": privileges, "grantee": grantee, "grantable": grantable}
        for privileges, grantee, grantable in rows
    ]
