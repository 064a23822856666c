"""Findings about what a switchover stands on: the table itself, names that are free, logs that are written, a trial."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, Shown, warns

ONLY_THEN = "only a switchover that is under way has one"
TRIED = "tried on a scratch table and rolled back, {step} failed: {reason}"

PLACE_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "table-missing",
        "The planned table is not in the database",
        Says(
            "there is no such table",
            "nothing to partition",
            "correct the plan or connect to the right database",
        ),
        Example(
            "create table public.messages (id bigint primary key, at timestamptz not null);",
            "alter table public.messages rename to message;",
            table="",
        ),
    ),
    Entry(
        "name-taken",
        "A name that the switchover gives to a table of its own is taken",
        Says(
            "{name} already exists",
            "the switchover gives that name to a table of its own",
            "rename or drop {name}, if nobody needs it",
        ),
        Example(
            "create table public.message_partitioned (id bigint);",
            "alter table public.message_partitioned rename to message_in_parts;",
        ),
        otherwise={
            "shared": Says(
                "{name} would be the log of {other} too",
                "each table would take keys and triggers of the other",
                "rename a table or its schema, or end the switchover of the other one first",
            )
        },
    ),
    Entry(
        "foreign-key-replaced",
        "Triggers stand for a foreign key of the table, since another switchover replaced it",
        Says(
            "trigger {name} stands for a foreign key of it",
            "the partitioned table would not have it, so rows that point at nothing would be written",
            "take the other switchover back by `./inv db.rollback --whole` of its plan, and switch this table first",
        ),
        Example(
            "create schema if not exists rehearsal;\n"
            "create function rehearsal.loose_check_m() returns trigger language plpgsql as 'begin return null; end';\n"
            "create trigger loose_check_m after insert on public.message for each row "
            "execute function rehearsal.loose_check_m();",
            "drop trigger loose_check_m on public.message;",
        ),
    ),
    Entry(
        "log-missing",
        "The log of the table that follows is gone",
        Says(
            "{log} is missing",
            "keys that were written are not known, so the other table lacks those writes",
            "make it again from the registry, then `./inv doctor --fix`",
        ),
        Shown("A switchover under way, and `drop table` or `rename` of its change log", ONLY_THEN),
    ),
    Entry(
        "capture-off",
        "The trigger that fills the log is disabled or gone",
        Says(
            "trigger {name} is {found}, wanted A",
            "writes since then are in one table only, and would be lost",
            "`./inv doctor --fix` turns it on and brings what is missing",
        ),
        Shown("A switchover under way, and `alter table … disable trigger user`", ONLY_THEN),
    ),
    Entry(
        "retired-missing",
        "The table that a clean-up would drop is gone already",
        Says("{table} is missing", "there is nothing to compare with or to drop", "look who dropped or renamed it"),
        Shown("A swap, and `drop table` of the retired table before the clean-up", "only a swap makes one"),
    ),
    Entry(
        "retired-in-use",
        "Something was made since that points at the table that a clean-up would drop",
        Says("{what} points at it", "it cannot be dropped", "let it point at the partitioned table, or drop it"),
        Shown("A swap, and a view of the retired table before the clean-up", "only a swap makes one"),
    ),
    Entry(
        "trial",
        "What will run within the application's writes fails",
        Says(
            TRIED,
            "the application's writes or the copy would fail in the same way",
            "let functions that checks and generated columns call name their schemas (or: alter function … set "
            "search_path), or grant what is missing",
        ),
        Example(
            "create function public.is_short(text) returns boolean language sql immutable as 'select length($1) < 80';"
            "\ncreate function public.fits(text) returns boolean language plpgsql immutable as "
            "'begin return is_short($1); end';\n"
            "set search_path = public;\n"
            "alter table public.message add check (public.fits(body));\n"
            "set search_path = pg_catalog;",
            "alter function public.fits(text) set search_path = public;",
        ),
    ),
    Entry(
        "trial-unclear",
        "What will run within the application's writes could not be tried with some rows",
        warns(
            TRIED,
            "nothing is known of what triggers and copy would do with such rows",
            "look at it before the switchover",
        ),
        Example(
            "create function public.fits(text) returns boolean language sql immutable as 'select true';\n"
            "alter table public.message add check (public.fits(body));\n"
            "create or replace function public.fits(text) returns boolean language sql immutable as "
            "'select length($1) < 3';",
            "create or replace function public.fits(text) returns boolean language sql immutable as "
            "'select length($1) < 80';",
        ),
    ),
)
