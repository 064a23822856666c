"""Foreign keys that point at a table: what the plan decided for each, at the swap and on the rollback.

A foreign key needs a unique index on what it refers to, and a partitioned table has none without its key.
`loose` puts triggers on both sides in the place of the foreign key, with its ON DELETE and ON UPDATE, its name in the
errors and its deferral; rows that point at nothing are looked for in every comparison, since two cases get past
triggers: a REPEATABLE READ transaction that deletes a row which was referred to after its snapshot, and sessions with
session_replication_role = replica. `composite` (`composite`) gives the referencing table the partition key too, so
that a real foreign key stays. The rollback restores the foreign key, validated after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.rows import class_row

from rehearsal.catalog.tables import STATE_SCHEMA, Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident, quote_idents
from rehearsal.switchover.names import fit
from rehearsal.switchover.target.target import records

REMEDY = (
    'decide in the plan: references = { "%s" = "composite" } (the referencing table gets the partition key as well) '
    'or "loose" (triggers on both sides); or drop the foreign key'
)
LOOSE = "make it loose"
COMPOSITE_SINCE = 150000
GONE = "select pg_catalog.to_regclass(%s) is null"
KEY_GONE = """
select not exists (
    select from pg_catalog.pg_constraint where conname = %s and conrelid = pg_catalog.to_regclass(%s) and contype = 'f')
"""
PLACE = """
select pg_catalog.format('%%I.%%I', n.nspname, c.relname)
from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid in (
    select t.tgrelid from pg_catalog.pg_trigger as t where t.tgname = %(trigger)s and not t.tgisinternal
    union
    select k.conrelid from pg_catalog.pg_constraint as k
    join pg_catalog.pg_class as p on p.oid = k.confrelid
    where k.conname = %(name)s and k.contype = 'f' and k.conparentid = 0 and p.relkind = 'p'
)
order by 1
"""
ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that points at the table; actions are as in pg_constraint: a, r, c, n, d."""

    name: str
    schema: str
    table: str
    kind: str
    is_own: bool
    columns: list[str]
    referenced: list[str]
    on_delete: str
    on_update: str
    match: str
    is_primary: bool
    deferrable: bool
    deferred: bool
    validated: bool
    definition: str
    is_owner: bool
    has: list[str]
    decision: str = ""

    @property
    def child(self) -> Name:
        """The table that refers."""
        return self.schema, self.table

    @property
    def label(self) -> str:
        """Name of the foreign key and of its table, for people."""
        return f"foreign key {self.name} of {dotted(self.child)}"


References = tuple[Reference, ...]


def read_references(conn: Connection, files: SqlFiles, oid: int) -> References:
    """Return the foreign keys that point at a table, the table's own on itself among them."""
    with conn.cursor(row_factory=class_row(Reference)) as cursor:
        return tuple(cursor.execute(files.query("switchover/target/references.sql"), {"oid": oid}).fetchall())


def standing(conn: Connection, kept: References) -> References:
    """Return those foreign keys that a swap replaced and that are there still: whoever dropped one wants it no more.

    Raises:
        PreconditionError: a table has another name now, by which what stands for its foreign key does not know it.
    """
    gone = [reference for reference in kept if scalar(conn, GONE, [quote_ident(reference.child)])]
    for reference in gone:
        if now := _place_of(conn, reference):
            message = (
                f"{dotted(reference.child)} is {now} now, and triggers stand for its {reference.label}: they know the "
                "table by its name. Give it that name again, then run again; nothing was changed"
            )
            raise PreconditionError(message)
    gone += [reference for reference in kept if reference.decision == "composite" and _is_key_gone(conn, reference)]
    return tuple(reference for reference in kept if reference not in gone)


def _is_key_gone(conn: Connection, reference: Reference) -> bool:
    return bool(scalar(conn, KEY_GONE, [reference.name, quote_ident(reference.child)]))


def _place_of(conn: Connection, reference: Reference) -> str | None:
    """Return the table on which what replaced a foreign key stands: its trigger, or the key with another column."""
    trigger = key_values(reference, reference.child)["check_trigger"]
    row = conn.execute(PLACE, {"trigger": trigger, "name": reference.name}).fetchone()
    return str(row[0]) if row else None


def problem_of(reference: Reference, plan: Plan, spec: TableSpec, version: int) -> tuple[str, str] | None:
    """Return why a foreign key cannot be handled as the plan says, and the remedy; None if it can."""
    decision = spec.references.get(reference.name)
    if decision is None:
        return (
            "it would go on pointing at the retired table, and the plan does not decide for it",
            REMEDY % reference.name,
        )
    planned = not reference.is_own and dotted(reference.child) in {table.name for table in plan.tables}
    some = " SET NULL (" in reference.definition or " SET DEFAULT (" in reference.definition
    full = reference.match == "f" and len(reference.columns) > 1
    old = version < COMPOSITE_SINCE
    composite, alone = decision == "composite", "per-partition" in spec.uniques.values() and not reference.is_primary
    problems = {
        "the referencing table is not an ordinary one": (reference.kind != "r", "drop it, partition that table later"),
        "both tables change their shape in one plan": (planned, "split the plan, switch one after the other"),
        "MATCH FULL over several columns is not carried": (full, "make it MATCH SIMPLE with a check constraint"),
        "ON DELETE sets only some of its columns": (some, "let it set all of them"),
        "the role does not own the referencing table": (not reference.is_owner, "grant its owner to the role"),
        "the table's own foreign key cannot be composite": (composite and reference.is_own, LOOSE),
        "a deferrable foreign key cannot be composite": (composite and reference.deferrable, LOOSE),
        "composite needs PostgreSQL 15, before it a row that moves counts as deleted": (composite and old, LOOSE),
        "it refers to a unique index that the plan keeps per partition": (composite and alone, LOOSE),
    }
    return next(((reason, remedy) for reason, (stands, remedy) in problems.items() if stands), None)


def require_decided(found: References, plan: Plan, spec: TableSpec, version: int) -> References:
    """Return the same with their decisions; somebody may have made a foreign key since preflight.

    Raises:
        PreconditionError: names each one that the plan does not carry, and what to do.
    """
    stuck = [(reference, problem) for reference in found if (problem := problem_of(reference, plan, spec, version))]
    if stuck:
        told = ". ".join(f"{reference.label}: {reason}; {remedy}" for reference, (reason, remedy) in stuck)
        message = f"{spec.name} cannot change its name while it is referred to: {told}"
        raise PreconditionError(message)
    return tuple(replace(reference, decision=spec.references[reference.name]) for reference in found)


def unknown_references(found: References, spec: TableSpec) -> list[str]:
    """Return names that the plan decides for and that no foreign key has."""
    return [name for name in spec.references if name not in {reference.name for reference in found}]


def key_values(reference: Reference, parent: Name) -> dict[str, Any]:
    """Return what the templates of a loosened foreign key are filled with."""
    base = f"{reference.table}_{reference.name}"
    return {
        "constraint": reference.name,
        "child": reference.child,
        "child_text": dotted(reference.child),
        "parent": parent,
        "parent_text": dotted(parent),
        "columns": reference.columns,
        "child_columns": records("c", tuple(reference.columns)),
        "new_columns": records("new", tuple(reference.columns)),
        "parent_columns": records("p", tuple(reference.referenced)),
        "old_columns": records("old", tuple(reference.referenced)),
        "moved_columns": records("new", tuple(reference.referenced)),
        "became_columns": records("became", tuple(reference.referenced)),
        "new_is_null": _any_null("new", reference.columns),
        "old_is_null": _any_null("old", reference.referenced),
        "child_is_null": _any_null("c", reference.columns),
        "on_delete": reference.on_delete,
        "on_update": reference.on_update,
        "deferrable": reference.deferrable,
        "deferred": reference.deferred,
        "check": (STATE_SCHEMA, fit(f"{reference.schema}_{base}", prefix="loose_check_")),
        "act": (STATE_SCHEMA, fit(f"{reference.schema}_{base}", prefix="loose_act_")),
        "move": (STATE_SCHEMA, fit(f"{reference.schema}_{base}", prefix="loose_move_")),
        # BEFORE triggers fire in the order of their names: after those of the application, which may change the key.
        "move_trigger": fit(base, prefix="zz_loose_move_"),
        "moved_setting": "rehearsal.moved",
        "check_trigger": fit(base, prefix="loose_check_"),
        "delete_trigger": fit(base, prefix="loose_delete_"),
        "update_trigger": fit(base, prefix="loose_update_"),
        "comment": f"Stands for {reference.label}: {reference.definition}",
    }


def _any_null(record: str, columns: Iterable[str]) -> str:
    return " or ".join(f"{record}.{quote_ident(column)} is null" for column in columns)


def composite_column(reference: Reference, key: str) -> str:
    """Return the name of the column that holds the partition key beside a foreign key's own columns."""
    return fit("_".join([*reference.columns, key]))


def replace_keys(files: SqlFiles, found: References, parent: Name, key: str) -> tuple[list[str], list[str]]:
    """Return the statements of the swap for each foreign key: before the renames, and after them."""
    before = [
        f"alter table {quote_ident(reference.child)} drop constraint {quote_ident(reference.name)}"
        for reference in found
    ]
    return before, [_replacement(files, reference, parent, key) for reference in found]


def require_prepared(found: References, key: str) -> None:
    """Refuse a swap whose composite foreign keys were not prepared.

    Raises:
        PreconditionError: the foreign key was made, or decided on, since the copy.
    """
    late = [
        reference
        for reference in found
        if reference.decision == "composite" and composite_column(reference, key) not in reference.has
    ]
    if late:
        names = ", ".join(reference.label for reference in late)
        message = f"no column for the partition key beside {names}: made since the copy; drop it until after the swap"
        raise PreconditionError(message)


def _replacement(files: SqlFiles, reference: Reference, parent: Name, key: str) -> str:
    if reference.decision == "loose":
        return loosened_sql(files, reference, parent)
    columns = quote_idents([*reference.columns, composite_column(reference, key)])
    referenced = f"{quote_ident(parent)} ({quote_idents([*reference.referenced, key])})"
    # The key of a referenced row may change, whatever may become of the rest: so always ON UPDATE CASCADE.
    actions = f"on delete {ACTIONS[reference.on_delete]} on update cascade"
    name = quote_ident(reference.name)
    return (
        f"alter table {quote_ident(reference.child)} add constraint {name} foreign key ({columns}) "
        f"references {referenced} {actions} not valid"
    )


def pointing_sql(reference: Reference, parent: Name) -> str:
    """Return the definition of a foreign key as one that points at this table."""
    full = " match full" if reference.match == "f" else ""
    deferred = " deferrable initially deferred" if reference.deferred else " deferrable" * reference.deferrable
    return (
        f"foreign key ({quote_idents(reference.columns)}) references {quote_ident(parent)} "
        f"({quote_idents(reference.referenced)}){full} on delete {ACTIONS[reference.on_delete]} "
        f"on update {ACTIONS[reference.on_update]}{deferred}"
    )


def loosened_sql(files: SqlFiles, reference: Reference, parent: Name) -> str:
    """Return the statements that put triggers on both sides in the place of a foreign key."""
    return files.render("switchover/target/loosen.sql.j2", **key_values(reference, parent))


def restore_keys(files: SqlFiles, kept: References, there: References, parent: Name) -> tuple[list[str], list[str]]:
    """Return the statements of the rollback: what replaced a key goes before the renames, the key comes after them.

    `there`: those of the kept whose table is there still.
    """
    # A trigger of a table that is gone is none; the functions, and the triggers on the other side, are there.
    loose = [reference for reference in kept if reference.decision == "loose"]
    before = [
        files.render("switchover/target/loose_off.sql.j2", **key_values(reference, parent)) for reference in loose
    ]
    before += [
        f"alter table {quote_ident(reference.child)} drop constraint {quote_ident(reference.name)}"
        for reference in there
        if reference.decision != "loose"
    ]
    return before, [f"{_add(reference)} not valid" for reference in there]


def _add(reference: Reference) -> str:
    child, name = quote_ident(reference.child), quote_ident(reference.name)
    return f"alter table {child} add constraint {name} {reference.definition}"


def lock_children(found: References) -> list[str]:
    """Return statements that lock the referencing tables, to run before the table itself is locked."""
    children = sorted({reference.child for reference in found if not reference.is_own})
    return [lock_tables(Mode.ACCESS_EXCLUSIVE, child).as_string(None) for child in children]


def validate_references(conn: Connection, files: SqlFiles, oid: int, wanted: Sequence[Reference]) -> int:
    """Validate the foreign keys that a swap or a rollback made and that were valid before; return how many needed it.

    Locks: SHARE UPDATE EXCLUSIVE on the referencing, ROW SHARE on the referenced table: nobody waits.

    Raises:
        ForeignKeyViolation: a row points at nothing; the foreign key holds for new rows all the same.
    """
    valid = {(reference.child, reference.name) for reference in wanted if reference.validated}
    missing = [
        reference
        for reference in read_references(conn, files, oid)
        if (reference.child, reference.name) in valid and not reference.validated
    ]
    for reference in missing:
        statement = f"alter table {quote_ident(reference.child)} validate constraint {quote_ident(reference.name)}"
        conn.execute(as_query(statement))
    return len(missing)


def count_orphans(conn: Connection, files: SqlFiles, reference: Reference, parent: Name) -> tuple[int, list[str]]:
    """Return how many rows of the referencing table point at nothing, and some of what they point at."""
    row = conn.execute(files.query("switchover/target/orphans.sql.j2", **key_values(reference, parent))).fetchone()
    orphans, examples = row or (0, None)
    return int(orphans), list(examples or ())
