"""Findings about foreign keys that point at the table."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, warns
from rehearsal.plan.strategies import ATTACH, DUAL_WRITE, SWAP

POINTS = "{label} points at it"
REPLY = "create table public.reply (id bigint primary key, message bigint references public.message (id));"
DROP = "alter table public.reply drop constraint reply_message_fkey;"
REVIEW = "review it in the dry run; every comparison looks for orphans"

REFERENCE_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "referenced",
        "A foreign key points at the table, and the plan does not say what becomes of it, or what cannot be done",
        Says(POINTS, "{reason}", "{remedy}"),
        Example(REPLY, DROP),
        otherwise={
            "attach": Says(POINTS, "it would point at the history partition alone", "choose swap, or drop it"),
        },
        strategies=SWAP | ATTACH,
    ),
    Entry(
        "moves-reference",
        "A foreign key points at the table, and the plan says what becomes of it",
        warns(
            POINTS, "its table gets the partition key as well, filled by a trigger; changes of the key cascade", REVIEW
        ),
        Example(REPLY, DROP, spec={"references": {"reply_message_fkey": "loose"}}, good_spec={}),
        otherwise={
            "loose": warns(
                POINTS,
                "triggers stand in for it; not against REPEATABLE READ deletes and replication roles",
                REVIEW,
            )
        },
        strategies=SWAP,
    ),
    Entry(
        "reference-unknown",
        "The plan decides for a foreign key that is not there",
        Says(
            "references names {name}", "there is no such foreign key that points at it", "correct the name in the plan"
        ),
        Example(
            "create table public.reply (id bigint primary key, message bigint);",
            "alter table public.reply\n"
            "add constraint reply_message_fkey foreign key (message) references public.message (id);",
            spec={"references": {"reply_message_fkey": "loose"}},
        ),
    ),
    Entry(
        "own-reference",
        "The table refers to itself",
        Says(POINTS, "the source keeps it, the target cannot have it", "drop it before"),
        Example(
            "alter table public.message add answers bigint references public.message (id);",
            "alter table public.message drop answers;",
            strategy="dual-write",
        ),
        strategies=DUAL_WRITE,
    ),
    Entry(
        "stays-reference",
        "A foreign key points at the table, and goes on pointing at the source",
        warns(
            POINTS,
            "the source keeps it, the target cannot have it; a row that is referred to cannot change its key there",
            "decide when the source is given up",
        ),
        Example(REPLY, DROP, strategy="dual-write"),
        otherwise={
            "acts": Says(
                "{label} points at it, ON DELETE {action}",
                "a row of the target that changes its key is deleted and inserted in the source, and what refers to it "
                "would go with it",
                "choose swap, which decides for it in references; or make it NO ACTION for the time of the migration",
            )
        },
        strategies=DUAL_WRITE,
    ),
)
