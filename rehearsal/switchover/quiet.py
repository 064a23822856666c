"""Writes of the engine that the application's own triggers must not see: they rest for one transaction.

Owns which triggers rest and how they come back. A role that owns the table has the right; `session_replication_role`
would need one more, and would not stop triggers that are ENABLE ALWAYS.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import LiteralString

from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import quote_ident

AT_WORK = """
select tgname, tgenabled::text from pg_catalog.pg_trigger
where tgrelid = %s::regclass and not tgisinternal and tgenabled <> 'D' and tgname <> all(%s::text[]) order by tgname
"""
MODES: dict[str, LiteralString] = {"O": "enable", "A": "enable always", "R": "enable replica"}


@contextmanager
def quiet(held: Connection, table: Name, ours: Collection[str]) -> Generator[None]:
    """Let all triggers of a table but `ours` rest for the block, and come back as they were, in one transaction.

    Foreign keys stay at work. The caller holds SHARE ROW EXCLUSIVE on the table, so that no writer's row passes its
    trigger by; a block that fails ends the transaction, and the triggers are as they were.
    """
    found = held.execute(AT_WORK, [quote_ident(table), list(ours)]).fetchall()
    for name, _ in found:
        _alter(held, table, "disable", name)
    yield
    if found:
        # What a deferred key has yet to check would bar ALTER TABLE (55006).
        held.execute("set constraints all immediate")
    for name, mode in found:
        _alter(held, table, MODES[mode], name)


def _alter(held: Connection, table: Name, verb: LiteralString, trigger: str) -> None:
    statement = sql.SQL("alter table {} {} trigger {}")
    held.execute(statement.format(sql.Identifier(*table), sql.SQL(verb), sql.Identifier(trigger)))
