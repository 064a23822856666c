"""Texts of definitions as PostgreSQL writes them: taken apart and written for another table. Pure.

Where a list of columns ends is found by its signs, since the catalog does not tell: pg_get_indexdef(oid, n, pretty)
gives a column without its operator class, collation and order, so that an index put together of these would be another
one (tests/postgres/catalog/test_index_texts.py).
"""

from __future__ import annotations

from rehearsal.catalog.tables import Index


def index_shape(index: Index, *, with_key: str | None = None) -> str:
    """Return an index's definition without names; `with_key`, quoted, is added where a unique index needs it."""
    tail = index.tail.removeprefix("USING ")
    if with_key:
        tail = add_column(tail, with_key)
    return ("unique " if index.is_unique else "") + tail + (f" WHERE {index.predicate}" if index.predicate else "")


def add_column(definition: str, quoted: str) -> str:
    """Add a column, quoted, behind the last one of an index or a constraint, whose list is the first parenthesis.

    >>> add_column('USING btree (lower("a)")) INCLUDE (b)', "at")
    'USING btree (lower("a)"), at) INCLUDE (b)'
    """
    end = _closing(definition)
    return f"{definition[:end]}, {quoted}{definition[end:]}"


def _closing(text: str) -> int:
    """Return where the first parenthesis of a text closes; quoted names and constants may hold any sign."""
    depth, quote = 0, ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if not depth:
                return place
    return len(text)


def bare_check(definition: str) -> str:
    """Return a check's definition for a partitioned table, where it has to hold for the partitions too.

    >>> bare_check("CHECK ((a > 0)) NO INHERIT NOT VALID")
    'CHECK ((a > 0))'
    """
    return definition.removesuffix(" NOT VALID").removesuffix(" NO INHERIT")
