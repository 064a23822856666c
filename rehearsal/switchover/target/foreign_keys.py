"""Foreign keys of a table on their way to its target: off, not validated on the leaves, validated, the parent's again.

Owns the statements and their order; none of them makes anybody wait for a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rehearsal.catalog.tables import Catalog, Constraint, Name, Table, dotted
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident, quote_literal
from rehearsal.switchover import state
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.kept import KeptKey
from rehearsal.switchover.names import Names


def foreign_key_sql(source: Table, target: Table) -> tuple[list[str], list[str], list[str]]:
    """Return three lists for the target's foreign keys: NOT VALID on leaves, VALIDATE on leaves, adopt at the parent.

    A foreign key that is validated on every leaf is adopted by the parent without a scan (measured: 1 ms).
    """
    there = {key.name for key in target.foreign_keys}
    weak: list[str] = []
    validate: list[str] = []
    adopt: list[str] = []
    for key in source.foreign_keys:
        if key.name in there:
            continue
        name, definition = quote_ident(key.name), key.definition.removesuffix(" NOT VALID")
        for leaf in target.partitions:
            weak.append(f"alter table {quote_ident(leaf.name)} add constraint {name} {definition} not valid")
            validate.append(f"alter table {quote_ident(leaf.name)} validate constraint {name}")
        adopt.append(f"alter table {quote_ident(target.name)} add constraint {name} {definition}")
    return weak, validate, adopt


def weak_keys(parent: Table, leaves: Sequence[Name]) -> list[str]:
    """Return the foreign keys of the parent for each leaf, not validated: enforced from this moment on."""
    return [
        f"alter table {quote_ident(leaf)} add constraint {quote_ident(key.name)} {strong_definition(key)} not valid"
        for key in parent.foreign_keys
        for leaf in leaves
    ]


def kept_key(key: Constraint) -> KeptKey:
    """Return what is kept of a foreign key while it is off: name, definition, comment."""
    return KeptKey(key.name, strong_definition(key), key.comment)


def commented(kept: Sequence[KeptKey], now: Sequence[Constraint]) -> list[KeptKey]:
    """Return foreign keys that were taken off with the comments that they have now, where they are on again."""
    comments = {key.name: key.comment for key in now}
    return [replace(key, comment=comments.get(key.name, key.comment)) for key in kept]


def strong_definition(key: Constraint) -> str:
    """Return the definition of a foreign key as one that is validated."""
    return key.definition.removesuffix(" NOT VALID")


def lock_referenced(conn: Connection, keys: tuple[Constraint, ...], mode: Mode = Mode.ACCESS_EXCLUSIVE) -> None:
    """Lock the tables that foreign keys point at, in one order: dropping a key takes ACCESS EXCLUSIVE on both ends."""
    tables = sorted({key.other for key in keys if key.other})
    if tables:
        conn.execute(lock_tables(mode, *tables))


def leaf_keys(conn: Connection, parted: Table) -> list[dict[str, Any]]:
    """Return foreign keys that stand on leaves alone: a swap that was killed before the parent adopted them."""
    rows = conn.execute(
        "select n.nspname, c.relname, con.conname from pg_catalog.pg_constraint as con "
        "join pg_catalog.pg_class as c on c.oid = con.conrelid "
        "join pg_catalog.pg_namespace as n on n.oid = c.relnamespace "
        "where con.contype = 'f' and con.conparentid = 0 and con.conrelid = any(%s::oid[]) order by 1, 2, 3",
        [[leaf.oid for leaf in parted.partitions]],
    )
    return [{"table": (schema, name), "name": key} for schema, name, key in rows]


def adopt_sql(table: Name, key: KeptKey) -> str:
    """Return the statements by which a parent adopts the foreign key of its leaves, comment included."""
    text = f"alter table {quote_ident(table)} add constraint {quote_ident(key.name)} {key.definition}"
    return f"{text}; {comment_sql(table, key)}" if key.comment else text


def comment_sql(table: Name, key: KeptKey | Constraint) -> str:
    """Return the statement that says the comment of a foreign key of a table."""
    return f"comment on constraint {quote_ident(key.name)} on {quote_ident(table)} is {quote_literal(key.comment)}"


UNVALIDATED = """
select n.nspname, c.relname, con.conname from pg_catalog.pg_constraint as con
join pg_catalog.pg_class as c on c.oid = con.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where con.contype = 'f' and not con.convalidated and con.conrelid = any(%s::oid[])
order by con.conname, n.nspname, c.relname  -- two sessions meet on different leaves
"""


def validations(conn: Connection, table: Table) -> list[str]:
    """Return what validates the foreign keys of a table, or of its leaves, that are not validated yet."""
    oids = [leaf.oid for leaf in table.partitions] or [table.oid]
    return [
        f"alter table {quote_ident((schema, name))} validate constraint {quote_ident(key)}"
        for schema, name, key in conn.execute(UNVALIDATED, [oids])
    ]


def finish_foreign_keys(
    conn: Connection,
    files: SqlFiles,
    table: Name,
    keys: Sequence[KeptKey],
    policy: LockPolicy,
    validate: Callable[[list[str]], None],
) -> int:
    """Validate the foreign keys of a table and of its leaves, and let the parent adopt those of the leaves.

    `validate` runs the validations, which may go on side by side. Locks: SHARE UPDATE EXCLUSIVE on each leaf while it
    is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    Returns how many statements were needed; a second run needs none.
    """
    found = Catalog(conn, files).read(table)
    done = len(statements := validations(conn, found))
    validate(statements)
    there = {key.name for key in found.foreign_keys}
    for key in keys:
        if found.partitions and key.name not in there:
            text = adopt_sql(table, key)

            def adopt(held: Connection, text: str = text) -> None:
                held.execute(as_query(text))

            with_lock(conn, f"adopt foreign key {key.name}", adopt, policy=policy)
            done += 1
    return done


def add_weak_keys(conn: Connection, files: SqlFiles, names: Names, policy: LockPolicy) -> LockReport:
    """Add the source's foreign keys to the leaves of its target, NOT VALID, all in one short transaction.

    Locks: SHARE ROW EXCLUSIVE on the referenced tables, milliseconds. A second run adds none.
    """
    catalog = Catalog(conn, files)
    source, target = catalog.read(names.source), catalog.read(names.target)
    there = {key.name for leaf in target.partitions for key in catalog.read(leaf.name).foreign_keys}
    weak, _, _ = foreign_key_sql(source, target)
    keys = tuple(kept_key(key) for key in source.foreign_keys)

    def work(held: Connection) -> None:
        if source.foreign_keys and not there:
            lock_referenced(held, source.foreign_keys, Mode.SHARE_ROW_EXCLUSIVE)
            held.execute(as_query(";\n".join(weak)))
        found = state.read_migration(held, names.source)
        state.set_state(held, found.id, found.state, Detail(foreign_keys=keys))

    _, report = with_lock(conn, f"foreign keys of {dotted(names.target)}", work, policy=policy)
    return report
