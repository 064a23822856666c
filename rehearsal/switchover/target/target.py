"""The partitioned target and its triggers: what is needed to write rows of both tables, and to make the target.

Owns what `target.sql.j2` and `mirror.sql.j2` are filled with. Reads the source (its catalog rows, oldest and newest
key: one scan at most, ACCESS SHARE); writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rehearsal.catalog.keys import leaves_of, read_keys
from rehearsal.catalog.tables import Catalog, Name, Table, dotted, split_name
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.names import Names, fit, trigger_names
from rehearsal.switchover.target.carry import carry_values


@dataclass(frozen=True, slots=True)
class Shape:
    """What is needed to write rows of a source and its target: names and columns.

    `uniques` is the plan's decision for each unique index without the key (`uniques`).
    `log_types` are the types of the identity in a change log: with their collation: equal must mean the same there.
    `always` are identity columns GENERATED ALWAYS: such a column of the source can be inserted, but never updated.
    """

    names: Names
    key: str
    primary: tuple[str, ...]
    identity: tuple[str, ...]
    identity_types: tuple[str, ...]
    columns: tuple[str, ...]
    uniques: Mapping[str, str] = field(default_factory=dict[str, str])
    always: tuple[str, ...] = ()
    log_types: tuple[str, ...] = ()

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
        return cls(
            names=names or Names(table.name),
            key=key,
            primary=primary,
            identity=identity,
            identity_types=types,
            columns=table.stored_columns,
            uniques=uniques or {},
            always=tuple(column.name for column in table.columns if column.identity == "a"),
            log_types=_log_types(table, identity),
        )


def _log_types(table: Table, identity: tuple[str, ...]) -> tuple[str, ...]:
    columns = (table.column(name) for name in identity)
    return tuple(column.type + (f" collate {column.collation}" if column.collation else "") for column in columns)


def target_values(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, now: datetime) -> dict[str, Any]:
    """Return what `switchover/target/target.sql.j2` is filled with."""
    table = Catalog(conn, files).read(split_name(spec.name))
    shape = Shape.of(table, spec.key)
    keys = read_keys(conn, files, spec, table)
    bounds, decided = leaves_of(conn, keys, now), keys.decided(now)
    names = shape.names
    leaves = [{"name": names.leaf(bound.suffix), "bound": bound.sql} for bound in bounds]
    return {
        "source": table.name,
        "source_text": dotted(table.name),
        "target": names.target,
        "method": spec.method,
        "key": spec.key,
        **placed(leaves, names.default_leaf if spec.default_partition else None),
        "primary_key": fit(names.target[1], "_pkey"),
        "identity": shape.identity,
        "owner": table.owner if table.owner != scalar(conn, "select current_user") else None,
        "comment": table.comment,
        "plan": plan.name,
        "strategy": plan.strategy,
        "detail": json.dumps({"leaves": decided.to_detail()} if decided else {}),
        **carry_values(conn, files, table, names, shares=plan.traits.mirrors),
    }


def placed(leaves: list[dict[str, Any]], default_leaf: Name | None = None) -> dict[str, Any]:
    """Return the values of `switchover/target/target.sql.j2` that tell its leaves, each with its name and its bound."""
    relations = [*(leaf["name"] for leaf in leaves), *([default_leaf] if default_leaf else [])]
    return {"leaves": leaves, "default_leaf": default_leaf, "relations": relations}


def mirror_values(
    conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, names: Names | None = None
) -> dict[str, Any]:
    """Return what `mirror.sql.j2` is filled with; `names` places it around another table of the same shape."""
    table = Catalog(conn, files).read(split_name(spec.name))
    return mirror_values_of(Shape.of(table, spec.key, names), mirrors=plan.traits.mirrors)


def mirror_values_of(shape: Shape, *, mirrors: bool) -> dict[str, Any]:
    """Return what `mirror.sql.j2` is filled with, from a shape alone; `mirrors`: with synchronous triggers."""
    names = shape.names
    return {
        "mirrors": mirrors,
        "source": names.source,
        "target": names.target,
        "columns": shape.columns,
        "identity": shape.identity,
        "identity_types": shape.log_types,
        "primary": shape.primary,
        "log_columns": ", ".join(log_columns(shape)),
        "old_identity": records("old", shape.identity),
        "new_identity": records("new", shape.identity),
        "old_primary": records("old", shape.primary),
        "new_primary": records("new", shape.primary),
        "target_identity": records("t", shape.identity),
        "new_columns": records("new", shape.columns),
        "assignments": assignments(shape.columns),
        "source_assignments": assignments(column for column in shape.columns if column not in shape.always),
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
        "migration_source": dotted(names.source),
        "plain": quote_ident(names.source),
        "parted": quote_ident(names.target),
        "seen_triggers": trigger_names(names),
    }


def records(record: str, columns: tuple[str, ...]) -> str:
    """Write columns of a record: `old."id", old."key"`."""
    return ", ".join(f"{record}.{quote_ident(column)}" for column in columns)


def assignments(columns: Iterable[str]) -> str:
    """Write what ON CONFLICT sets."""
    return ", ".join(f"{quote_ident(column)} = excluded.{quote_ident(column)}" for column in columns)


def log_columns(shape: Shape) -> tuple[str, ...]:
    """Columns of a change log that hold the identity."""
    return tuple(f"k{number}" for number in range(1, len(shape.identity) + 1))


def is_filled(conn: Connection, target: Table) -> bool:
    """Return whether any leaf has rows, or had some."""
    oids = [leaf.oid for leaf in target.partitions]
    query = "select coalesce(sum(pg_catalog.pg_relation_size(oid)), 0) > 0 from unnest(%s::oid[]) as oid"
    return bool(scalar(conn, query, [oids]))


def clear_target_sql(files: SqlFiles, target: Table, *, filled: bool = True) -> str:
    """Return the statements that empty the target, if it is filled, and take its indexes off."""
    schema = target.name[0]
    return files.render(
        "switchover/target/clear_target.sql.j2",
        target=target.name,
        filled=filled,
        constraints=[index.constraint_name for index in target.indexes if index.constraint_name],
        indexes=[(schema, index.name) for index in target.indexes if not index.constraint_name],
        late_checks=[
            constraint.name
            for constraint in target.constraints
            if constraint.kind == "c" and not constraint.is_validated
        ],
    )
