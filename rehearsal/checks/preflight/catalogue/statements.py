"""Findings about what the application says: statements that a partitioned table refuses, or answers in another way."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, warns

SEEN = "seen: {statement}"
LOOK = "create extension pg_stat_statements schema public;\nselect public.pg_stat_statements_reset();"
FORGET = "select public.pg_stat_statements_reset();"
BY_KEY = "take rows by primary key, or by (tableoid, ctid)"


def _example(statement: str) -> Example:
    """Return an example of an application that says something once, and no longer."""
    return Example(f"{LOOK}\n{statement}", FORGET)


def _use(identifier: str, title: str, effect: str, remedy: str, statement: str) -> Entry:
    """Return the entry of a statement that goes on with another meaning: people decide, so a plan may accept it."""
    return Entry(identifier, title, warns(SEEN, effect, remedy), _example(statement), may_accept=True)


STATEMENT_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "statements-unseen",
        "Not every statement of the application can be looked at",
        warns(
            "{what}",
            "statements that a partitioned table refuses, or answers in another way, may be among them",
            "let it be read, or search the sources: ctid, xmax, ON CONFLICT, ONLY, COPY … TO",
        ),
        Example("drop extension if exists pg_stat_statements;", LOOK),
    ),
    Entry(
        "on-conflict-target",
        "The application inserts with ON CONFLICT over columns without the partition key",
        Says(
            SEEN,
            "a partitioned table has no such unique index, so the statement fails",
            "add the partition key to its ON CONFLICT target",
        ),
        _example("insert into public.message values (1, now(), 'again') on conflict (id) do nothing;"),
    ),
    _use(
        "on-conflict-any",
        "The application inserts with ON CONFLICT and names no columns",
        "it sees a conflict only where primary key and partition key are both the same: a row with the same id and "
        "another key is inserted beside the first",
        "look for the row first, or make sure that a repeated row has the same partition key",
        "insert into public.message values (1, now(), 'again') on conflict do nothing;",
    ),
    _use(
        "on-conflict-constraint",
        "The application inserts with ON CONFLICT and names a constraint",
        "the constraint of that name holds the partition key as well, or is no longer there: less is a conflict",
        "name the columns, the partition key among them",
        "insert into public.message values (1, now(), 'again') on conflict on constraint message_pkey do nothing;",
    ),
    _use(
        "ctid-write",
        "The application changes or deletes rows by ctid",
        "each partition has the same ctids: rows of other partitions are changed or deleted too",
        BY_KEY,
        "delete from public.message where ctid = '(0,1)';",
    ),
    _use(
        "ctid-read",
        "The application reads ctid",
        "each partition has the same ctids: a ctid alone no longer names one row",
        BY_KEY,
        "select ctid from public.message where id = 1;",
    ),
    _use(
        "system-column",
        "The application reads xmin, xmax, cmin or cmax",
        "a write that returns it through a partitioned table fails (0A000)",
        "tell inserts from updates by a column of your own",
        "insert into public.message values (0, now(), 'new') returning xmax = 0;",
    ),
    _use(
        "copy-to",
        "The application copies the table out",
        "COPY of a partitioned table itself fails",
        "copy (select … from the table) to …",
        "copy public.message to '/dev/null';",
    ),
    _use(
        "only",
        "The application names ONLY the table",
        "a partitioned table itself has no rows, so nothing is found",
        "drop ONLY",
        "select count(*) from only public.message;",
    ),
    _use(
        "tableoid",
        "The application reads tableoid",
        "it is that of the partition",
        "compare with pg_partition_root(tableoid)",
        "select tableoid from public.message where id = 1;",
    ),
)
