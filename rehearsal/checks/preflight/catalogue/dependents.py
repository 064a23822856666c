"""Findings about what points at the table from outside: moved with its name by a swap, left where it is, or refused."""

from __future__ import annotations

from collections.abc import Mapping

from rehearsal.catalog.dependents import PROBLEMS
from rehearsal.checks.preflight.catalogue.attach import STAYS, SWAP_IT
from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, Shown, warns
from rehearsal.plan.strategies import DUAL_WRITE, SWAP

ROW_SECURITY = Says("policy: {what}", STAYS, SWAP_IT)
# What a DBA hands over by a statement of its own, which changes nothing else of it.
OWNED_AS = {"view": "view", "function": "routine", "publication": "publication"}
HISTORY = Says("{what}", STAYS, "choose swap, or drop it before and make it again after")
VIEW = "create view public.latest as select id, at from public.message;"
FUNCTION = (
    "create function public.size_of(one public.message) returns int language sql immutable as "
    "'select length(one.body)';"
)
SIZES = "create view public.sizes as select public.size_of(one) as size from public.message as one;"
RULE = "create rule quiet as on insert to public.message where new.body is null do instead nothing;"
OTHER_RULE = (
    "create table public.inbox (id bigint, at timestamptz, body text);\n"
    "create rule pass_on as on insert to public.inbox do also insert into public.message values (new.*);"
)
POLICY = (
    "create table public.reply (id bigint primary key, message bigint);\n"
    "create policy known on public.reply using (exists (select from public.message as m where m.id = message));"
)
PUBLICATION = "create publication letters for table public.message with (publish_via_partition_root = true);"
COUNTED = "create materialized view public.counted as select count(*) as messages from public.message;"
HELD = "create table public.held (one public.message);"
SUBSCRIPTION = Shown("`create subscription …` to a publication that has the table", "it needs a second server")


def _not_carried(kind: str, title: str, example: Example | Shown, *problems: str, **more: Says) -> Entry:
    """Return the entry of what is refused: by attach whatever it is, by the others for its own reason."""
    told: Mapping[str, Says] = {problem: _problem(problem, kind) for problem in problems}
    return Entry(f"not-carried-{kind}", title, HISTORY, example, otherwise={"attach": HISTORY, **told, **more})


def _problem(name: str, kind: str) -> Says:
    condition, effect, remedy = PROBLEMS[name]
    if name == "not-owner" and kind in OWNED_AS:
        remedy = f"as superuser: alter {OWNED_AS[kind]} {{name}} owner to {{role}}"
    return Says(f"{{what}}: {condition}", effect, remedy)


def _stays(kind: str, title: str, example: Example | Shown) -> Entry:
    """Return the entry of what dual-write leaves on the source."""
    says = warns("{what}", "it stays on the source, which is kept equal", "move it when the source is given up")
    return Entry(f"stays-{kind}", title, says, example, strategies=DUAL_WRITE)


def _moves(kind: str, title: str, example: Example) -> Entry:
    """Return the entry of what a swap takes along."""
    review = "review it in the dry run"
    locked = warns("{what}", "it moves with the name, locked for as long as the swap takes", review)
    says = warns("{what}", "it moves with the name", review)
    return Entry(f"moves-{kind}", title, says, example, otherwise={"locked": locked}, strategies=SWAP)


def _dual(bad_sql: str, good_sql: str) -> Example:
    return Example(bad_sql, good_sql, strategy="dual-write")


DEPENDENT_ENTRIES: tuple[Entry, ...] = (
    _not_carried(
        "view",
        "A view of the table cannot move with its name",
        Example(
            "create view public.latest as select id, at from only public.message;",
            "create or replace view public.latest as select id, at from public.message;",
        ),
        "temporary",
        "not-owner",
        "needs-primary-key",
        "shows-row",
        "only",
    ),
    _not_carried(
        "function",
        "A function over the table's rows cannot move with its name",
        Example(
            f"{FUNCTION}\n{SIZES}",
            "create or replace view public.sizes as select length(one.body) as size from public.message as one;",
        ),
        "function-needed",
        "not-owner",
    ),
    _not_carried(
        "rule",
        "A rule of the table cannot move with its name, or stands in the mirror's way",
        _dual(RULE, "drop rule quiet on public.message;"),
        "temporary",
        "not-owner",
        "needs-primary-key",
        # A mirror writes by INSERT … ON CONFLICT, which PostgreSQL refuses on a table with rules.
        **{"dual-write": Says("{what}", "the mirror cannot write a table with rules", "turn the rule into a trigger")},
    ),
    _not_carried(
        "policy",
        "A policy of another table cannot move with the name; with attach: nor can row security of the table",
        Example(
            "alter table public.message enable row level security;",
            "alter table public.message disable row level security;",
            strategy="attach",
        ),
        "not-owner",
        own=ROW_SECURITY,
    ),
    _not_carried(
        "publication",
        "A publication cannot go on with the partitioned table",
        Example(
            "create publication letters for table public.message;",
            "alter publication letters set (publish_via_partition_root = true);",
        ),
        "not-owner",
        "publication-leaves",
        "publication-key",
        "publication-all",
    ),
    _not_carried("subscription", "A subscription writes into the table", SUBSCRIPTION, "subscription"),
    _not_carried(
        "materialized-view",
        "A materialized view reads the table itself",
        Example(COUNTED, "drop materialized view public.counted;"),
        "materialized",
    ),
    _not_carried(
        "object",
        "Something depends on the table that nobody knows how to move",
        Example(HELD, "drop table public.held;"),
        "unknown",
    ),
    _stays("view", "A view of the table goes on reading the source", _dual(VIEW, "drop view public.latest;")),
    _stays(
        "function",
        "A function goes on with the rows of the source",
        _dual(FUNCTION, "drop function public.size_of(public.message);"),
    ),
    _stays(
        "rule",
        "A rule of another table goes on with the source",
        _dual(OTHER_RULE, "drop rule pass_on on public.inbox;"),
    ),
    _stays(
        "policy",
        "A policy of another table goes on reading the source",
        _dual(POLICY, "drop policy known on public.reply;"),
    ),
    _stays("publication", "A publication goes on with the source", _dual(PUBLICATION, "drop publication letters;")),
    _stays("subscription", "A subscription goes on writing into the source", SUBSCRIPTION),
    _stays(
        "materialized-view",
        "A materialized view goes on reading the source",
        _dual(COUNTED, "drop materialized view public.counted;"),
    ),
    _stays("object", "Something goes on depending on the source", _dual(HELD, "drop table public.held;")),
    _moves("view", "A view of the table moves with its name", Example(VIEW, "drop view public.latest;")),
    _moves(
        "function",
        "A function over the table's rows moves with its name",
        Example(FUNCTION, "drop function public.size_of(public.message);"),
    ),
    _moves("rule", "A rule moves with the table's name", Example(RULE, "drop rule quiet on public.message;")),
    _moves(
        "policy",
        "A policy of another table moves with the table's name",
        Example(POLICY, "drop policy known on public.reply;"),
    ),
    _moves(
        "publication",
        "A publication goes on with the partitioned table",
        Example(PUBLICATION, "drop publication letters;"),
    ),
)
