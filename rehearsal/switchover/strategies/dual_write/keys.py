"""Foreign keys of other tables on their way from one table of a mirrored pair to the other, which has the same rows.

Owns what becomes of each when the source goes: carried ahead as it is, where the target has a unique key of the same
columns; replaced by triggers, where the plan says `loose`; else refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rehearsal.catalog.tables import Catalog, Name, Table, dotted
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query, quote_ident, quote_literal
from rehearsal.switchover import state
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.state import Migration
from rehearsal.switchover.target.references import (
    Reference,
    References,
    pointing_sql,
    read_references,
    validate_references,
)
from rehearsal.switchover.work import TableWork

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


def carry_keys(work: TableWork, conn: Connection, moving: References, parent: Name) -> None:
    """Let foreign keys point at the other table of the pair from now on, each in a short transaction, then validated.

    Which ones point at the target is kept with the migration, so that a removal of the target brings them back.
    Resumes after a kill at any point; a second run changes nothing. Locks: ACCESS EXCLUSIVE on the referencing table
    and on both tables, for milliseconds; SHARE UPDATE EXCLUSIVE while one is validated.

    Raises:
        LockNotAcquired: a lock was not granted within its budget; what was carried stays, and is enforced.
    """
    for reference in moving:
        _carry(work, conn, reference, parent)
    oid = Catalog(conn, work.files).read(parent).oid
    validate_references(conn, work.files, oid, work.migration(conn).detail.references or moving)


def _carry(work: TableWork, conn: Connection, reference: Reference, parent: Name) -> None:
    names, found = work.names, work.migration(conn)
    comment = scalar(conn, COMMENT, [quote_ident(reference.child), reference.name])
    text = ";\n".join(carrying(reference, parent, comment))

    def move(held: Connection) -> None:
        held.execute(as_query(text))
        state.keep_detail(held, found.id, Detail(references=_kept(found, reference)))

    # The application writes the referencing table or the target first, the mirror the source after it.
    lock = lock_tables(Mode.ACCESS_EXCLUSIVE, reference.child, names.target, names.source)
    work.locked(conn, f"{reference.label} on its way to {dotted(parent)}", move, lock=lock)


def carrying(reference: Reference, parent: Name, comment: str | None = None) -> Iterator[str]:
    """Yield the statements that let a foreign key point at this table, not validated yet."""
    child, name = quote_ident(reference.child), quote_ident(reference.name)
    yield f"alter table {child} drop constraint {name}"
    yield f"alter table {child} add constraint {name} {pointing_sql(reference, parent)} not valid"
    if comment:
        yield f"comment on constraint {name} on {child} is {quote_literal(comment)}"


def _kept(found: Migration, reference: Reference) -> References:
    """Return what is kept: each foreign key once, those that were carried before as they were then."""
    known = found.detail.references
    there = any((kept.child, kept.name) == (reference.child, reference.name) for kept in known)
    return known if there else (*known, reference)


def bring_back_keys(work: TableWork, conn: Connection) -> None:
    """Let what was carried to the target point at the source again, before the target is removed; see `carry_keys`."""
    kept = work.migration(conn).detail.references
    target = Catalog(conn, work.files).find(work.names.target)
    if not kept or target is None:
        return
    ours = {(reference.child, reference.name) for reference in kept}
    there = [
        reference
        for reference in read_references(conn, work.files, target.oid)
        if (reference.child, reference.name) in ours
    ]
    carry_keys(work, conn, tuple(there), work.names.source)
