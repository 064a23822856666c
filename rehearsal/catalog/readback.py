"""What the server makes of a text of its own when it reads it back.

An expression that is printed and read again may be printed otherwise: `status in ('a', 'b')` over a varchar says
`ANY ((ARRAY['a'::varchar, …])::text[])` at first and `ANY (ARRAY[('a'::varchar)::text, …])` from then on, and a time is
printed in the session's zone. A target is made from printed text, so two texts that differ are compared as the server
says them after one more round: the object is made on a scratch table in a transaction that is rolled back. Only this
module knows how; nobody else compares expressions as text in a way that a round trip could mend.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import psycopg

from rehearsal.catalog.tables import STATE_SCHEMA, Table
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident

# A subject is its kind and its name, quoted always: `index "a b"`; statistics have a schema in front.
SUBJECT = re.compile(r'(\D+?) ((?:"(?:[^"]|"")*"\.)?("(?:[^"]|"")*"))')
# A trigger's text up to the table's place, which is behind the first ON outside of quotes.
TRIGGER = re.compile(r'\A((?:[^"]|"[^"]*")*? ON )it\b', re.DOTALL)
SCRATCH = "readback"


@dataclass(frozen=True, slots=True)
class Readback:
    """Reads texts back that belong to one table, whichever of its names it has just now."""

    conn: Connection
    files: SqlFiles
    table: Table
    _known: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])

    def same(self, subject: str, facet: str, left: str | None, right: str | None) -> bool:
        """Whether two texts of one fact mean the same to the server; only texts that differ are read back."""
        if left == right:
            return True
        if left is None or right is None:
            return False
        return self.text(subject, facet, left) == self.text(subject, facet, right)

    def text(self, subject: str, facet: str, said: str) -> str:
        """Return what the server says of an object of this text; the text itself where it makes no such object.

        Locks: none but on a table of its own, in a transaction that is rolled back.
        """
        place = subject, facet, said
        if place not in self._known:
            self._known[place] = self._asked(*place)
        return self._known[place]

    def _asked(self, subject: str, facet: str, said: str) -> str:
        # The name counts where a subquery of a policy names the table in front of its columns.
        scratch = STATE_SCHEMA, self.table.name[1] if subject.startswith("policy ") else SCRATCH
        statement = statement_of(self.table, quote_ident(scratch), subject, facet, said)
        if statement is None:
            return said
        try:
            with self.conn.transaction(force_rollback=True):
                make = f"create table {quote_ident(scratch)} (like {quote_ident(self.table.name)})"
                self.conn.execute(as_query(make))
                self.conn.execute(as_query(statement))
                return self._read(subject, facet, said, quote_ident(scratch))
        except psycopg.OperationalError:
            raise
        except psycopg.DatabaseError:
            # Not of this table's columns, or no right to make it here: then two texts that differ are a difference.
            return said

    def _read(self, subject: str, facet: str, said: str, scratch: str) -> str:
        query = "select oid from pg_catalog.pg_class where oid = %s::regclass"
        (oid,) = self.conn.execute(query, [scratch]).fetchone() or (None,)
        # A row filter is read back as the condition of a policy, which is printed in the same way.
        kind, wanted = ("policy", "using") if facet == "rows" else (subject.split(" ", 1)[0], facet)
        for found, name, text in self.conn.execute(self.files.query("catalog/definition.sql"), {"oid": oid}):
            if found.startswith(kind) and found.endswith(_name(subject)) and name == wanted:
                # Which kinds of statistics there are is no matter of reading back.
                kinds = said.split(" on ", 1)[0]
                return f"{kinds} on {text.split(' on ', 1)[1]}" if kind == "statistics" else str(text)
        return said


def _name(subject: str) -> str:
    found = SUBJECT.fullmatch(subject)
    return found[3] if found else subject


def statement_of(table: Table, scratch: str, subject: str, facet: str, said: str) -> str | None:
    """Return the statement that makes an object of this text on the scratch table; None: no text to be read back."""
    found = SUBJECT.fullmatch(subject)
    kind, name = (found[1], found[3]) if found else ("", "")
    alter = f"alter table {scratch}"
    unique, index = said.startswith("unique "), said.removeprefix("unique ")
    texts = {
        ("index", "definition"): f"create {'unique ' * unique}index {name} on {scratch} {index}",
        ("check", "definition"): f"{alter} add constraint {name} {said}",
        ("exclusion constraint", "definition"): f"{alter} add constraint {name} {said}",
        ("column", "default"): f"{alter} alter column {name} set default {said}",
        ("column", "generated"): f"{alter} drop column {name}; {alter} add column {_generated(table, name, said)}",
        ("policy", "using"): f"create policy {name} on {scratch} using ({said})",
        ("policy", "with check"): f"create policy {name} on {scratch} for insert with check ({said})",
        ("publication", "rows"): f"create policy {name} on {scratch} using ({said})",
        ("statistics", "definition"): f"create statistics {quote_ident(STATE_SCHEMA)}.{name} on "
        f"{said.partition(') on ')[2]} from {scratch}",
        ("trigger", "definition"): TRIGGER.sub(lambda found: found[1] + scratch, said),
    }
    return texts.get((kind, facet))


def _generated(table: Table, name: str, said: str) -> str:
    """Return a generated column in full: LIKE leaves the expression out, and it can only be given to a new column."""
    how, _, expression = said.partition(" ")
    column = next((candidate for candidate in table.columns if quote_ident(candidate.name) == name), None)
    if column is None:
        return name
    collation = f" collate {column.collation}" if column.collation else ""
    return f"{name} {column.type}{collation} generated always as ({expression}) {how}"
