"""Findings about the migrating role: what it does not see, own, or is not allowed."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import OWNED, Entry, Example, Says, warns
from rehearsal.checks.preflight.catalogue.server import NO_DRILL

AS_MIGRATOR = "set role migrator;"
HIDDEN = "role {role} would see, copy, compare and keep only the rows that policies show it"
BYPASS = "as superuser: alter role {role_name} bypassrls"
STATS = (
    "the role lacks the privilege to read other sessions' state",
    "blockers and old snapshots would not be seen",
    "grant pg_monitor to the role",
)


def _as_migrator(bad_sql: str, good_sql: str, along: frozenset[str] = frozenset()) -> Example:
    """Return an example that the migrating role sees; a superuser makes and mends it."""
    return Example(f"{bad_sql}\n{AS_MIGRATOR}", f"reset role;\n{good_sql}\n{AS_MIGRATOR}", table=OWNED, along=along)


RIGHT_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "right-read-stats",
        "The role lacks the privilege to see what other sessions do",
        Says(*STATS),
        _as_migrator("revoke pg_monitor from migrator;", "grant pg_monitor to migrator;"),
        # A rehearsal must say who blocks; a single verb is only slower without.
        otherwise={"single verb": warns(*STATS)},
    ),
    Entry(
        "right-createdb",
        "The role lacks the privilege to create the scratch database of the restore drill",
        warns("the role lacks the privilege to create databases", NO_DRILL, "alter role … createdb"),
        _as_migrator("alter role migrator nocreatedb;", "alter role migrator createdb;"),
    ),
    Entry(
        "right-create",
        "The role lacks the privilege to create tables where the table lies",
        Says(
            "lacks privilege CREATE on {schema}",
            "tables can be neither made nor renamed there",
            "grant create on schema {schema}",
        ),
        _as_migrator(
            "revoke create on schema public from migrator;",
            "grant create on schema public to migrator;",
        ),
    ),
    Entry(
        "right-owner",
        "The role does not own the table",
        Says(
            "owned by {owner}",
            "triggers, renames and drops are refused",
            "grant {owner_name} to {role_name}",
        ),
        _as_migrator(
            "create role keeper;\nalter table public.message owner to keeper;\n"
            "grant select on public.message to migrator;",
            "grant keeper to migrator;",
        ),
    ),
    Entry(
        "row-security",
        "Policies hide rows from the role",
        Says("row security is active for role {role}", HIDDEN, BYPASS),
        _as_migrator(
            "create role keeper;\nalter table public.message owner to keeper;\n"
            "grant select on public.message to migrator;\nalter table public.message enable row level security;",
            "grant keeper to migrator;",
            frozenset({"right-owner"}),
        ),
    ),
    Entry(
        "policy-forced",
        "Policies hide rows from the owner too",
        Says(
            "row security is forced on the owner too",
            HIDDEN,
            BYPASS + ", or, as the owner: alter table {table} no force row level security",
        ),
        _as_migrator(
            "alter table public.message enable row level security;\n"
            "alter table public.message force row level security;",
            "alter role migrator bypassrls;",
        ),
    ),
    Entry(
        "right-trigger-function",
        "The role lacks the privilege to create one of the table's triggers anew",
        Says(
            "lacks privilege EXECUTE on {name}",
            "its trigger cannot be made on the partitioned table",
            "grant execute on function {name} to {role}",
        ),
        _as_migrator(
            "create function public.noted() returns trigger language plpgsql as 'begin return null; end';\n"
            "create trigger noted after insert on public.message for each statement execute function public.noted();\n"
            "revoke execute on function public.noted() from public;",
            "grant execute on function public.noted() to migrator;",
        ),
    ),
    Entry(
        "right-referenced",
        "The role lacks the privilege to create one of the table's foreign keys anew",
        Says(
            "no right to refer to {name}, or to lock it",
            "the foreign key to it cannot be made anew",
            "grant references, update on {name} to {role}",
        ),
        _as_migrator(
            "create table public.author (id bigint primary key);\n"
            "alter table public.message add author bigint references public.author (id);",
            "grant references, update on public.author to migrator;",
        ),
    ),
    Entry(
        "right-statistics",
        "Extended statistics of the table belong to somebody else",
        Says(
            "statistics {name} are owned by {owner}",
            "they can be neither made anew nor renamed",
            "grant {owner_name} to {role}",
        ),
        _as_migrator(
            "create statistics public.together on at, body from public.message;",
            "alter statistics public.together owner to migrator;",
        ),
    ),
)
