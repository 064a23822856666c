"""Foreign keys of other tables on their way from one table of a mirrored pair to the other, which has the same rows.

Owns what becomes of each when the source goes: carried as it is, where the target has a unique key of the same columns;
replaced by triggers, where the plan says `loose`; else refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rehearsal.catalog.tables import Catalog, Name, Table, dotted
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident, quote_literal
from rehearsal.switchover.target.references import (
    Reference,
    References,
    pointing_sql,
    read_references,
    validate_references,
)

AS_IS = "as it is"
COMMENT = """
select pg_catalog.obj_description(c.oid, 'pg_constraint') from pg_catalog.pg_constraint as c
where c.conrelid = pg_catalog.to_regclass(%s) and c.conname = %s
"""


def decide(found: Iterable[Reference], target: Table, spec: TableSpec) -> References:
    """Return foreign keys that point at the source with what becomes of each.

    Raises:
        PreconditionError: names each that neither the target nor the plan can carry, and what to do.
    """
    decided = [replace(reference, decision=_decision(reference, target, spec)) for reference in found]
    stuck = [
        f"{reference.label}: {reason}"
        for reference in decided
        if (reason := _objection(reference, target, spec)) is not None
    ]
    if stuck:
        message = f"{spec.name} cannot be dropped while it is referred to: {'. '.join(stuck)}. Nothing was dropped"
        raise PreconditionError(message)
    return tuple(decided)


def _decision(reference: Reference, target: Table, spec: TableSpec) -> str:
    columns = set(reference.referenced)
    # A foreign key needs a unique index of exactly these columns, whole and checked at once.
    unique = any(
        index.is_unique and index.is_valid and not index.predicate and not index.has_expressions
        and not index.deferrable and set(index.key_columns) == columns
        for index in target.indexes
    )  # fmt: skip
    return AS_IS if unique else spec.references.get(reference.name, "")


def _objection(reference: Reference, target: Table, spec: TableSpec) -> str | None:
    if reference.kind != "r":
        return "the referencing table is not an ordinary one; drop the foreign key, and add it again afterwards"
    if not reference.is_owner:
        return "the role does not own the referencing table; grant its owner to the role"
    if " SET NULL (" in reference.definition or " SET DEFAULT (" in reference.definition:
        return "ON DELETE sets only some of its columns; let it set all of them"
    if reference.decision not in (AS_IS, "loose"):
        return (
            f"{dotted(target.name)} has no unique key of {', '.join(reference.referenced)}, since one of a partitioned "
            f'table holds {spec.key}; decide in the plan: references = {{ "{reference.name}" = "loose" }} (triggers on '
            "both sides), or drop it"
        )
    return None


def going_along(conn: Connection, references: References, parent: Name) -> Iterator[str]:
    """Yield the statements that let foreign keys point at this table, in the transaction that drops the other one.

    Not a moment earlier: a mirror may delete a row and insert it again where the application updates it, which a key
    with ON DELETE CASCADE would take for the end of the row. One of the table on itself goes with the table.
    """
    for reference in references:
        if reference.decision == AS_IS and not reference.is_own:
            comment = scalar(conn, COMMENT, [quote_ident(reference.child), reference.name])
            yield from carrying(reference, parent, comment)


def carrying(reference: Reference, parent: Name, comment: str | None = None) -> Iterator[str]:
    """Yield the statements that let a foreign key point at this table, not validated yet."""
    child, name = quote_ident(reference.child), quote_ident(reference.name)
    yield f"alter table {child} drop constraint {name}"
    yield f"alter table {child} add constraint {name} {pointing_sql(reference, parent)} not valid"
    if comment:
        yield f"comment on constraint {name} on {child} is {quote_literal(comment)}"


def validate_carried(conn: Connection, files: SqlFiles, parent: Name) -> int:
    """Validate foreign keys that point at a table that has stayed; return how many needed it.

    A clean-up may have been killed after the drop; a second run changes nothing.

    Raises:
        ForeignKeyViolation: a row points at nothing; the foreign key holds for new rows all the same.
    """
    found = read_references(conn, files, Catalog(conn, files).read(parent).oid)
    ours = [replace(reference, validated=True) for reference in found if reference.is_owner]
    return validate_references(conn, files, Catalog(conn, files).read(parent).oid, ours)
