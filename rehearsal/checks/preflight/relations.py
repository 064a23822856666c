"""Preflight of what points at the table: objects that move with its name, foreign keys. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.catalog.dependents import Dependent, read_dependents
from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.preflight.catalogue import concerns, finding
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.target.references import problem_of, read_references, unknown_references

# The finding about each kind of object that points at a table: where it moves, where it stays, where it is refused.
MOVES = {
    "view": "moves-view",
    "function": "moves-function",
    "rule": "moves-rule",
    "policy": "moves-policy",
    "publication": "moves-publication",
}
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
    for one in read_dependents(conn, files, facts.table.oid, facts.spec.key):
        yield _dependent(one, facts, conn.info.user)


def _dependent(one: Dependent, facts: Facts, role: str) -> Finding:
    name, strategy = facts.spec.name, facts.plan.strategy
    if one.kind in MOVES and not one.problem and concerns(MOVES[one.kind], strategy):
        return finding(MOVES[one.kind], name, "locked" if one.lock_sql else "", what=one)
    # The mirror of dual-write cannot write a table with rules; what publishes all tables publishes the target.
    is_in_the_way = one.problem == "publication-all" or (one.kind == "rule" and one.before_sql is not None)
    if not is_in_the_way and concerns(STAYS[one.kind], strategy):
        return finding(STAYS[one.kind], name, what=one)
    # The names of relations and functions come quoted from the catalog.
    words = {"name": quote_ident(one.name) if one.kind == "publication" else one.name, "role": quote_ident(role)}
    return finding(NOT_CARRIED[one.kind], name, strategy, one.problem or "", what=one, **words)


def check_references(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Foreign keys that point at the table: replaced at a swap as the plan says, untouched by dual-write."""
    name, strategy = facts.spec.name, facts.plan.strategy
    found = read_references(conn, files, facts.table.oid)
    for one in found:
        reason, remedy = problem_of(one, facts.plan, facts.spec, conn.info.server_version) or ("", "")
        if concerns("stays-reference", strategy):
            yield finding("own-reference" if one.is_own else "stays-reference", name, label=one.label)
        elif reason or not concerns("moves-reference", strategy):
            yield finding("referenced", name, strategy, label=one.label, reason=reason, remedy=remedy)
        else:
            yield finding("moves-reference", name, facts.spec.references[one.name], label=one.label)
    for unknown in unknown_references(found, facts.spec):
        yield finding("reference-unknown", name, name=unknown)
