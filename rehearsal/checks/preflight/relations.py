"""Preflight of what points at the table: objects that move with its name, foreign keys. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.catalog.dependents import Dependent, read_dependents
from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.preflight.catalogue import concerns, finding
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.target.references import (
    ACTIONS,
    Reference,
    problem_of,
    read_references,
    unknown_references,
)

# The finding about each kind of object that points at a table: where it moves, where it stays, where it is refused.
MOVES = {
    "view": "moves-view",
    "function": "moves-function",
    "rule": "moves-rule",
    "policy": "moves-policy",
    "publication": "moves-publication",
}
# Actions on delete that change the rows that refer: cascade, set null, set default.
DELETES = frozenset("cnd")
STAYS = {
    "view": "stays-view",
    "function": "stays-function",
    "rule": "stays-rule",
    "policy": "stays-policy",
    "publication": "stays-publication",
    "subscription": "stays-subscription",
    "materialized view": "stays-materialized-view",
    "object": "stays-object",
}
NOT_CARRIED = {
    "view": "not-carried-view",
    "function": "not-carried-function",
    "rule": "not-carried-rule",
    "policy": "not-carried-policy",
    "publication": "not-carried-publication",
    "subscription": "not-carried-subscription",
    "materialized view": "not-carried-materialized-view",
    "object": "not-carried-object",
}


def check_dependents(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Name what points at the table: moved with its name by a swap, left on the equal source by dual-write."""
    for dependent in read_dependents(conn, files, facts.table.oid, facts.spec.key):
        yield _dependent(dependent, facts, conn.info.user)


def _dependent(dependent: Dependent, facts: Facts, role: str) -> Finding:
    name, strategy = facts.spec.name, facts.plan.strategy
    if dependent.kind in MOVES and not dependent.problem and concerns(MOVES[dependent.kind], strategy):
        return finding(MOVES[dependent.kind], name, "locked" if dependent.lock_sql else "", what=dependent)
    # The mirror of dual-write cannot write a table with rules; what publishes all tables publishes the target.
    is_in_the_way = dependent.problem == "publication-all" or (
        dependent.kind == "rule" and dependent.before_sql is not None
    )
    if not is_in_the_way and concerns(STAYS[dependent.kind], strategy):
        return finding(STAYS[dependent.kind], name, what=dependent)
    # The names of relations and functions come quoted from the catalog.
    words = {
        "name": quote_ident(dependent.name) if dependent.kind == "publication" else dependent.name,
        "role": quote_ident(role),
    }
    return finding(NOT_CARRIED[dependent.kind], name, strategy, dependent.problem or "", what=dependent, **words)


def check_references(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Foreign keys that point at the table: replaced at a swap as the plan says, untouched by dual-write."""
    name, strategy = facts.spec.name, facts.plan.strategy
    found = read_references(conn, files, facts.table.oid)
    for reference in found:
        reason, remedy = problem_of(reference, facts.plan, facts.spec, conn.info.server_version) or ("", "")
        if concerns("stays-reference", strategy):
            yield _staying(name, reference)
        elif reason or not concerns("moves-reference", strategy):
            yield finding("referenced", name, strategy, label=reference.label, reason=reason, remedy=remedy)
        else:
            yield finding("moves-reference", name, facts.spec.references[reference.name], label=reference.label)
    for unknown in unknown_references(found, facts.spec):
        yield finding("reference-unknown", name, name=unknown)


def _staying(name: str, reference: Reference) -> Finding:
    """A foreign key of dual-write: the source has it still, and its mirror writes there what moves as two rows."""
    if reference.is_own:
        return finding("own-reference", name, label=reference.label)
    action = ACTIONS[reference.on_delete]
    case = "acts" if reference.on_delete in DELETES else ""
    return finding("stays-reference", name, case, label=reference.label, action=action.upper())
