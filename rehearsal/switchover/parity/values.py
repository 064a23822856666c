"""Other values, and made-up ones, of every type: SQL expressions that a self-test alters its scratch rows with.

Must be free of chance: an expression is evaluated by several queries, which must all see the same value. The row that
is altered is `x`; types are those below all domains, so that no check of a domain runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.postgres.sqlfiles import Quoted, quote_ident, quote_literal
from rehearsal.switchover.parity.pair import Encoded

NUMBER = ("coalesce({x}, 0) + 1", "coalesce({x}, 0) - 1", "0", "1")
TEXT = ("coalesce({x}, '') || '~'", "pg_catalog.md5(coalesce({x}, ''))", "left(pg_catalog.md5(coalesce({x}, '')), 4)")
MOMENT = ("coalesce({x}, 'epoch') + interval '1 second'", "'2026-01-01'")
TIME = ("coalesce({x}, '00:00') + interval '1 minute'",)
# The first that changes a value is taken: near ones, so that a comparison that looks at half a value is found out.
OTHERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8"), NUMBER),
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), TEXT),
    "date": ("coalesce({x}, 'epoch') + 1", "'2026-01-01'"),
    "timestamptz": MOMENT,
    "timestamp": MOMENT,
    "time": TIME,
    "timetz": TIME,
    "interval": ("coalesce({x}, '0') + interval '1 day'",),
    "bool": ("not coalesce({x}, false)",),
    "uuid": ("pg_catalog.md5(coalesce({x}::text, ''))",),
    "bytea": ("coalesce({x}, ''::bytea) || '\\x00'::bytea",),
}
# Types of others and rare ones: what PostgreSQL refuses for a type is passed over.
LABEL = (
    "(select e from pg_catalog.unnest(pg_catalog.enum_range(null::{type})) as e where e is distinct from {x} limit 1)"
)
RECORD = "pg_catalog.jsonb_populate_record(null::{type}, '{{}}')"
LITERALS = (
    "0", "1", "a", "b", "{}", "{0}", "{a}", '{"a": 1}', "(0,0)", "(1,1)", "((0,0),(1,1))", "<(0,0),1>", "{1,0,0}", "",
    "<a/>", "[0]", "[0,0]", "empty", "::1", "08:00:2b:01:02:03", "08:00:2b:01:02:03:04:05", "0/1", "$.a", "00:00",
    "2026-01-01", "POINT(0 0)",
)  # fmt: skip

MADE: dict[str, str] = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8"), "n"),
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), "'made up ' || n"),
    "date": "date '2026-01-01' + n",
    "timestamptz": "timestamptz '2026-01-01Z' + n * interval '1 second'",
    "timestamp": "timestamp '2026-01-01' + n * interval '1 second'",
    "time": "time '00:00' + n * interval '1 second'",
    "interval": "n * interval '1 hour'",
    "bool": "n % 2 = 0",
    "uuid": "pg_catalog.md5(n::text)::uuid",
    "bytea": "pg_catalog.decode(pg_catalog.md5(n::text), 'hex')",
}

# A value that no row has, by the type's name; {own} is the column, {top} its greatest value, {n} a row's number.
FRESH = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float8"), "{top} + {n}"),
    **dict.fromkeys(("text", "varchar"), "{own} || '~' || {n}"),
    "bpchar": "left(md5({own} || {n}), 6)",
    "bytea": "sha256({own} || {n}::text::bytea)",
    # The first 15 characters of a version 7 hold the time, so the partition stays.
    "uuid": "(left({own}::text, 15) || substr(gen_random_uuid()::text, 16))::uuid",
}


def other_values(column: Encoded, rows: str, *, nullable: bool) -> Iterator[Quoted]:
    """Yield expressions for another value of a column than `x` has; `rows` is where other rows' values are found."""
    x, own = f"x.{quote_ident(column.name)}", OTHERS.get(column.base)
    name, number = quote_ident(column.name), quote_ident("rehearsal number")
    others = (
        f"(select o.{name} from {quote_ident(rows)} as o where o.{name}::text <> {x}::text order by o.{number} limit 1)"  # noqa: S608 -- quoted
    )
    yield from (Quoted(template.format(x=x)) for template in own or ())
    yield Quoted(others)
    if not own:
        yield from (Quoted(template.format(x=x, type=column.base_type)) for template in (LABEL, RECORD))
        yield from (quote_literal(literal) for literal in LITERALS)
    if nullable:
        yield Quoted("null")


def made_up(column: Encoded, *, needed: bool) -> Iterator[Quoted]:
    """Yield expressions for the value of the n-th row that is made up; null where a type is not known and may be."""
    if column.base in MADE:
        yield Quoted(MADE[column.base])
    elif not needed:
        yield Quoted("null")
    else:
        yield Quoted(f"(pg_catalog.enum_range(null::{column.base_type}))[n]")
        yield from (quote_literal(literal) for literal in LITERALS)
