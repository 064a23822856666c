"""Texts of definitions as PostgreSQL writes them: taken apart and written for another table. Pure."""

from __future__ import annotations

from rehearsal.catalog.tables import Index
from rehearsal.postgres.sqlfiles import quote_ident


def index_shape(index: Index, *, with_key: str | None = None) -> str:
    """Return an index's definition without names; `with_key`, written so, is added where a unique index needs it."""
    tail = index.tail.removeprefix("USING ")
    if with_key:
        end = closing(tail)
        tail = f"{tail[:end]}, {with_key}{tail[end:]}"
    return ("unique " if index.is_unique else "") + tail + (f" WHERE {index.predicate}" if index.predicate else "")


def closing(text: str) -> int:
    """Return where the first parenthesis of an index definition closes; quoted names may hold any sign."""
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


def plain(name: str) -> str:
    """Quote a name where PostgreSQL's rendering would, keywords left out."""
    return name if name.isidentifier() and name.islower() and name.isascii() else quote_ident(name)


def bare_check(definition: str) -> str:
    """Return a check's definition for a partitioned table, where it has to hold for the partitions too.

    >>> bare_check("CHECK ((a > 0)) NO INHERIT NOT VALID")
    'CHECK ((a > 0))'
    """
    return definition.removesuffix(" NOT VALID").removesuffix(" NO INHERIT")
