"""Tables as PostgreSQL's catalog describes them.

Owns the value types that everything else reasons about, and the queries that fill them. Reads only; takes no lock
but ACCESS SHARE, on catalogs and on a table whose rows are counted.

Bounds of leaves are taken apart from their text (BOUND, LISTED, HASHED): no catalog function of PostgreSQL 14 to 18
gives them in parts, and what pg_get_partition_constraintdef gives is an expression, with casts and OR, longer to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident

Name = tuple[str, str]
# Where everything of ours lies that is no table of the application.
STATE_SCHEMA = "rehearsal"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `generated` is '' or 's' (or 'v'), `identity` is '', 'a' (ALWAYS) or 'd' (BY DEFAULT).

    `quoted` is its name as PostgreSQL writes it in definitions, where keywords stand in quotes. `collation` is quoted,
    and None where it is the default one or there is none.
    """

    name: str
    quoted: str
    type: str
    not_null: bool
    default_sql: str | None
    generated: str
    identity: str
    type_name: str
    type_kind: str
    sequence: str | None
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index, and the constraint that it backs, if any; `tail` is its definition from USING up to the predicate."""

    name: str
    definition: str
    is_unique: bool
    is_primary: bool
    is_valid: bool
    method: str
    constraint_name: str | None
    constraint_sql: str | None
    key_columns: tuple[str, ...]
    has_expressions: bool
    is_attached: bool
    tail: str
    predicate: str | None
    included: tuple[str, ...]
    options: tuple[str, ...]
    tablespace: str | None
    deferrable: str
    is_clustered: bool = False


@dataclass(frozen=True, slots=True)
class Constraint:
    """A check ('c') or a foreign key ('f'); `other` is the table at the other end of a foreign key."""

    name: str
    kind: str
    definition: str
    is_validated: bool
    is_inherited: bool
    is_own: bool
    other: Name | None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """A leaf. `lower` is inclusive, `upper` exclusive, as text in UTC; None stands for MINVALUE or MAXVALUE.

    A leaf of a list has `values` (None for NULL), one of a hash `modulus` and `remainder`.
    """

    name: Name
    oid: int
    lower: str | None
    upper: str | None
    is_default: bool
    pages: int
    estimated_rows: int
    detach_pending: bool
    values: tuple[str | None, ...] = ()
    modulus: int = 0
    remainder: int = 0

    @property
    def limits(self) -> tuple[str | None, ...]:
        """Its bound in a form that can be compared: (lower, upper), sorted values, or (modulus, remainder)."""
        if self.modulus:
            return str(self.modulus), str(self.remainder)
        ordered = sorted(self.values, key=lambda value: (value is None, value or ""))
        return tuple(ordered) if ordered else (self.lower, self.upper)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger; `enabled` is 'O' (origin), 'A' (always), 'R' (replica) or 'D' (disabled)."""

    name: str
    enabled: str
    definition: str
    function_name: str
    is_inherited: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table with everything that a partitioned target has to carry."""

    oid: int
    name: Name
    kind: str
    owner: str
    acl: tuple[str, ...] | None
    options: tuple[str, ...]
    row_security: bool
    replica_identity: str
    persistence: str
    comment: str | None
    partition_key: str | None
    pages: int
    estimated_rows: int
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    constraints: tuple[Constraint, ...]
    partitions: tuple[Partition, ...]
    triggers: tuple[Trigger, ...]

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Columns of the primary key, in order; empty if there is none."""
        return next((index.key_columns for index in self.indexes if index.is_primary), ())

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """Names of the columns that an INSERT may write: generated ones are left out."""
        return tuple(column.name for column in self.columns if not column.generated)

    @property
    def foreign_keys(self) -> tuple[Constraint, ...]:
        """Foreign keys of this table on others; those on itself are among the references (`references`)."""
        return tuple(
            constraint
            for constraint in self.constraints
            if constraint.kind == "f" and constraint.is_own and constraint.other != self.name
        )

    @property
    def referencing(self) -> tuple[Constraint, ...]:
        """Foreign keys of other tables on this one."""
        return tuple(constraint for constraint in self.constraints if constraint.kind == "f" and not constraint.is_own)

    def column(self, name: str) -> Column:
        """Return a column by name.

        Raises:
            PreconditionError: there is none; names those that there are.
        """
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.columns)
        message = f"table {dotted(self.name)} has no column {name}; it has: {known}"
        raise PreconditionError(message)


QUOTED_SCHEMA = re.compile(r'"((?:[^"]|"")+)"\.(.+)', re.DOTALL)


def dotted(name: Name) -> str:
    """Show a name to people, and to `split_name` (not to PostgreSQL).

    >>> dotted(("my.schema", "revenues"))
    '"my.schema".revenues'
    """
    schema, *rest = name
    if "." in schema or schema.startswith('"'):
        schema = '"' + schema.replace('"', '""') + '"'
    return ".".join([schema, *rest])


def split_name(text: str) -> Name:
    """Split a plan's `schema.table`; a schema with a dot in its name stands in quotes.

    >>> split_name("public.revenues")
    ('public', 'revenues')
    >>> split_name('"my.schema".revenues')
    ('my.schema', 'revenues')
    """
    if quoted := QUOTED_SCHEMA.fullmatch(text):
        return quoted[1].replace('""', '"'), quoted[2]
    schema, _, name = text.partition(".")
    return schema, name


class Catalog:
    """Reads tables from the catalog."""

    def __init__(self, conn: Connection, files: SqlFiles) -> None:
        self.conn = conn
        self.files = files

    def find(self, name: Name) -> Table | None:
        """Return the table, or None if there is no relation of that name."""
        rows = self._rows("table", schema=name[0], name=name[1])
        if not rows:
            return None
        row = rows[0]
        oid = row["oid"]
        return Table(
            oid=oid,
            name=(row["schema"], row["name"]),
            acl=tuple(row["acl"]) if row["acl"] is not None else None,
            options=tuple(row["options"] or ()),
            columns=tuple(Column(**column) for column in self._rows("columns", oid=oid)),
            indexes=tuple(_index(index) for index in self._rows("indexes", oid=oid)),
            constraints=tuple(_constraint(constraint) for constraint in self._rows("constraints", oid=oid)),
            partitions=sort_partitions(_partition(partition) for partition in self._rows("partitions", oid=oid)),
            triggers=tuple(Trigger(**trigger) for trigger in self._rows("triggers", oid=oid)),
            **{key: row[key] for key in PLAIN},
        )

    def read(self, name: Name) -> Table:
        """Return the table.

        Raises:
            PreconditionError: there is no relation of that name.
        """
        table = self.find(name)
        if table is None:
            message = f"there is no table {dotted(name)} in database {self.conn.info.dbname}; is the plan for this one?"
            raise PreconditionError(message)
        return table

    def _rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self.files.query(f"catalog/{query}.sql"), values).fetchall()


PLAIN = (
    "kind",
    "owner",
    "row_security",
    "replica_identity",
    "persistence",
    "comment",
    "partition_key",
    "pages",
    "estimated_rows",
)


def is_partitioned(conn: Connection, name: Name) -> bool:
    """Return whether there is a table of this name, and it is partitioned."""
    query = "select relkind = 'p' from pg_catalog.pg_class where oid = pg_catalog.to_regclass(%s)"
    row = conn.execute(query, [quote_ident(name)]).fetchone()
    return bool(row and row[0])


def count_rows(conn: Connection, name: Name) -> int:
    """Count the rows of a table. Locks: ACCESS SHARE on it."""
    row = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(*name))).fetchone()
    return int(row[0]) if row else 0


def _index(row: dict[str, Any]) -> Index:
    for name in ("key_columns", "included", "options"):
        row[name] = tuple(row[name])
    return Index(**row)


def _constraint(row: dict[str, Any]) -> Constraint:
    schema, name = row.pop("other_schema"), row.pop("other_name")
    return Constraint(**row, other=(schema, name) if name else None)


BOUND = re.compile(r"FOR VALUES FROM \((?P<lower>.*)\) TO \((?P<upper>.*)\)", re.DOTALL)
LISTED = re.compile(r"FOR VALUES IN \((?P<values>.*)\)", re.DOTALL)
VALUE = re.compile(r"'(?:[^']|'')*'|[^\s,]+")
HASHED = re.compile(r"FOR VALUES WITH \(modulus (?P<modulus>\d+), remainder (?P<remainder>\d+)\)")


def _partition(row: dict[str, Any]) -> Partition:
    bound: str = row["bound"]
    match, listed, hashed = BOUND.fullmatch(bound), LISTED.fullmatch(bound), HASHED.fullmatch(bound)
    return Partition(
        name=(row["schema"], row["name"]),
        oid=row["oid"],
        lower=_limit(match["lower"]) if match else None,
        upper=_limit(match["upper"]) if match else None,
        is_default=bound == "DEFAULT",
        pages=row["pages"],
        estimated_rows=row["estimated_rows"],
        detach_pending=row["detach_pending"],
        values=tuple(_listed(value) for value in VALUE.findall(listed["values"])) if listed else (),
        modulus=int(hashed["modulus"]) if hashed else 0,
        remainder=int(hashed["remainder"]) if hashed else 0,
    )


def _listed(text: str) -> str | None:
    return None if text == "NULL" else _limit(text)


def _limit(text: str) -> str | None:
    if text in ("MINVALUE", "MAXVALUE"):
        return None
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def sort_partitions(partitions: Iterable[Partition]) -> tuple[Partition, ...]:
    """Order leaves by their bound, MINVALUE first, DEFAULT last; ISO instants of one zone sort as text."""
    return tuple(sorted(partitions, key=_order))


def _order(partition: Partition) -> tuple[object, ...]:
    number = int(partition.lower) if partition.lower is not None and re.fullmatch(r"-?\d+", partition.lower) else 0
    listed = tuple(value or "" for value in partition.values)
    return (
        partition.is_default,
        partition.modulus,
        partition.remainder,
        listed,
        partition.lower is not None,
        number,
        partition.lower or "",
    )
