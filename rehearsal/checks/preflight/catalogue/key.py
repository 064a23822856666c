"""Findings about the partition key: does the method fit its type, and has every key that is there a place?"""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, warns
from rehearsal.plan.strategies import COPYING

REAL_KEY = "give them a real key"
MANY = "planning time and locks grow with the number of partitions"
BACK = "update public.message set at = '2026-02-01' where id = 1;"
KIND: dict[str, object] = {"key": "kind", "method": "list", "values": {"open": ["open"], "done": ["done"]}}

KEY_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "key-missing",
        "The table has no column of the key's name",
        Says("no such column", "nothing to partition by", "choose one of: {columns}"),
        Example(
            "alter table public.message rename at to sent_at;",
            "alter table public.message rename sent_at to at;",
        ),
    ),
    Entry(
        "key-operator",
        "Primary key or partition key compares by an operator that is not PostgreSQL's own",
        Says(
            "its type {type} compares by {operator}",
            "triggers and copy see pg_catalog's operators only: they would compare it in another way or fail, and "
            "the application's writes with them",
            'choose strategy = "attach" without a split, or a key of a built-in type',
        ),
        Example(
            "create extension citext schema public;\n"
            "create table public.message (id public.citext primary key, at timestamptz not null);",
            "alter table public.message alter id type text;",
            table="",
        ),
        strategies=COPYING,
    ),
    Entry(
        "key-generated",
        "The key is a generated column",
        Says("a generated column", "PostgreSQL refuses it as a key", "choose a stored column"),
        Example(
            "alter table public.message add part bigint not null generated always as (id) stored;",
            "alter table public.message alter part drop expression;",
            spec={"key": "part", "interval": "1000"},
        ),
    ),
    Entry(
        "key-type",
        "The method of partitioning does not fit the type of the key",
        Says("{objection}", "bounds cannot be made", "{remedy}"),
        Example(
            "alter table public.message alter at type text;",
            "alter table public.message alter at type timestamptz using at::timestamptz;",
        ),
    ),
    Entry(
        "key-null",
        "Rows have no key",
        Says("{rows} rows have no key", "they fit no partition", "give them a key, then set the column not null"),
        Example(
            "alter table public.message alter at drop not null;\nupdate public.message set at = null where id = 1;",
            f"{BACK}\nalter table public.message alter at set not null;",
        ),
    ),
    Entry(
        "key-nullable",
        "The key may be null, though no row has none",
        Says("the column may be null", "it cannot be in a primary key", "alter column … set not null"),
        Example(
            "alter table public.message alter at drop not null;",
            "alter table public.message alter at set not null;",
        ),
        # The bound that attach adds says not null as well.
        strategies=COPYING,
    ),
    Entry(
        "key-infinite",
        "Rows have an infinite key",
        Says("{rows} rows have an infinite key", "they would all be in the default partition", REAL_KEY),
        Example("update public.message set at = 'infinity' where id = 1;", BACK),
    ),
    Entry(
        "key-outlier",
        "Rows have a key that no clock shows",
        Says("{rows} rows have a key before the year 1 or after 9999", "no bound can be made for them", REAL_KEY),
        Example("update public.message set at = '20000-01-01' where id = 1;", BACK),
        otherwise={
            "identifier": Says(
                "{rows} rows have a uuid from before 1990 or more than ten years ahead",
                "somebody's clock was wrong, or they are no real version 7",
                REAL_KEY,
            )
        },
    ),
    Entry(
        "key-not-v7",
        "The key is a uuid, and rows have one that tells no time",
        Says(
            "{rows} rows have a uuid that is not of version 7",
            "it tells no time, so its partition would be a matter of chance",
            'partition by hash (method = "hash", modulus = 16), or by another column',
        ),
        Example(
            "create table public.message (id uuid primary key, n int);\n"
            "insert into public.message select gen_random_uuid(), n from generate_series(1, 100) as n;",
            "update public.message\n"
            "set id = ('019c0b3e-18' || lpad(to_hex(n), 2, '0') || '-7000-8000-000000000000')::uuid;",
            spec={"key": "id"},
            table="",
        ),
    ),
    Entry(
        "key-epoch",
        "The key is a number that does not count what the plan says",
        Says(
            "the newest key, {newest}, is {shown} when read as {unit}",
            "partitions would be of the wrong width",
            'correct the plan\'s epoch ("s", "ms" or "us"), or the row',
        ),
        Example(
            "create table public.message (id bigint primary key, sent bigint not null);\n"
            "insert into public.message values (1, 1770000000), (2, 1770000001), (3, 1770000002000);",
            "update public.message set sent = 1770000002 where id = 3;",
            spec={"key": "sent", "epoch": "s"},
            table="",
        ),
    ),
    Entry(
        "key-values",
        "The plan lists values that the key cannot have, or one of them twice",
        Says("{wrong}", "the list cannot be made", "correct the plan"),
        Example(
            "alter table public.message add kind int not null default 1;",
            "alter table public.message alter kind drop default;\n"
            "alter table public.message alter kind type text using 'open';",
            spec=KIND,
        ),
    ),
    Entry(
        "key-unlisted",
        "Rows have a value that the plan does not list",
        Says(
            "values without a partition: {values}",
            "their rows fit no partition",
            "add them to values, or set default_partition = true",
        ),
        Example(
            "alter table public.message add kind text not null default 'open';\n"
            "update public.message set kind = 'lost' where id = 1;",
            "update public.message set kind = 'done' where id = 1;",
            spec=KIND,
        ),
    ),
    Entry(
        "key-spread",
        "The keys reach so far that there would be too many partitions, or many empty ones",
        Says("{problem}", MANY, "widen the interval, or correct the outermost rows"),
        Example("update public.message set at = '1900-01-01' where id = 1;", BACK),
        otherwise={
            "many": warns(
                "{partitions} partitions{outside}",
                MANY,
                "widen the interval, or correct the outermost rows if they are garbage",
            )
        },
    ),
)
