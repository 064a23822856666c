"""Findings about what the strategy attach cannot carry, or would have to read every row for under the lock."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, Shown, warns
from rehearsal.plan.strategies import ATTACH

STAYS = "it would stay on the history partition"
SWAP_IT = 'choose strategy = "swap"'
OTHERWISE = "a {kind} that is printed otherwise once it was read back"
NO_ATTACH = "history cannot be attached under it"

ATTACH_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "attach-method",
        "The plan attaches history, and partitions by something else than ranges",
        Says(
            "method {method}",
            "rows of the past have no one partition to stay in",
            "choose the strategy swap or dual-write",
        ),
        Shown(
            'A plan with strategy = "attach" and method = "hash"',
            "it is the plan that is wrong, and a plan file that says so is refused when it is read",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "attach-key-type",
        "The plan attaches history, and its key is no instant and no day",
        Says(
            "a key of type {type}",
            "the end of history cannot be bounded",
            "choose the strategy swap or dual-write, or a key of type timestamptz, timestamp or date",
        ),
        Example(
            "alter table public.message alter at type bigint using extract(epoch from at);",
            "alter table public.message alter at type timestamptz using to_timestamp(at);",
            spec={"epoch": "s"},
            good_spec={},
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "attach-not-valid",
        "A constraint of the table is not validated",
        Says(
            "a constraint that is not validated",
            "the parent cannot adopt it",
            "alter table … validate constraint {name}",
        ),
        Example(
            "alter table public.message add constraint said check (body <> '') not valid;",
            "alter table public.message validate constraint said;",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "attach-deferrable",
        "A key of the table is deferrable",
        Says(
            "a deferrable key",
            "it would come back from the rollback as one that is not",
            "make it not deferrable, or choose swap",
        ),
        Example(
            "alter table public.message drop constraint message_pkey;\n"
            "alter table public.message add primary key (id) deferrable;",
            "alter table public.message drop constraint message_pkey;\n"
            "alter table public.message add primary key (id);",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "attach-no-inherit",
        "A check of the table is not inherited",
        Says("a check with NO INHERIT", "a partitioned table cannot have it", "make it an ordinary check"),
        Example(
            "alter table public.message add constraint said check (body <> '') no inherit;",
            "alter table public.message drop constraint said;\n"
            "alter table public.message add constraint said check (body <> '');",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "attach-expression",
        "A check or an index of the table cannot be made again on the parent as it is",
        Says(
            OTHERWISE,
            NO_ATTACH,
            "create it again concurrently under another name from pg_get_indexdef; drop the first",
        ),
        Example(
            "alter table public.message add state varchar(10);\n"
            "create index message_state on public.message (id) where state in ('new', 'old');",
            "create index message_state_again on public.message (id) "
            "where state::text = any ((array['new'::varchar, 'old'::varchar])::text[]);\n"
            "drop index public.message_state;",
            strategy="attach",
        ),
        otherwise={
            "check": Says(
                OTHERWISE,
                NO_ATTACH,
                "add it again under another name from pg_get_constraintdef, not valid; validate it; drop the first",
            )
        },
        strategies=ATTACH,
    ),
    Entry(
        "attach-own-rows",
        "A rehearsal cannot write rows of its own into the table",
        warns(
            "rows of the rehearsal's own cannot be made: {why}",
            "rows outside history at the rollback stay unproved, and a rehearsal ends INCONCLUSIVE",
            "name a text column as marker in the plan; give a column of the primary key a default",
        ),
        Example(
            "alter table public.message alter id type inet using '0.0.0.0'::inet + id;",
            "alter table public.message alter id set default '::1';",
            spec={"marker": "body"},
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "not-carried-identity",
        "The table has an identity column",
        Says("identity: {name}", STAYS, SWAP_IT),
        Example(
            "alter table public.message alter id add generated by default as identity;",
            "alter table public.message alter id drop identity;",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "not-carried-trigger",
        "The table has triggers of the application",
        Says("trigger: {name}", STAYS, SWAP_IT),
        Example(
            "create function public.noted() returns trigger language plpgsql as 'begin return null; end';\n"
            "create trigger noted after insert on public.message for each statement execute function public.noted();",
            "drop trigger noted on public.message;",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
    Entry(
        "not-carried-replica-identity",
        "The table names its rows to subscribers by something else than its primary key",
        Says("replica identity: {name}", STAYS, SWAP_IT),
        Example(
            "alter table public.message replica identity full;",
            "alter table public.message replica identity default;",
            strategy="attach",
        ),
        strategies=ATTACH,
    ),
)
