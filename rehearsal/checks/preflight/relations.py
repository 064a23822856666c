"""Preflight of what points at the table: objects that move with its name, foreign keys. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.catalog.dependents import PROBLEMS, Dependent, read_dependents
from rehearsal.catalog.findings import Facts, Finding
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.target.references import problem_of, read_references, unknown_references


def check_dependents(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Name what points at the table: moved with its name by a swap, left on the equal source by dual-write."""
    for one in read_dependents(conn, files, facts.table.oid, facts.spec.key):
        kind = one.kind.replace(" ", "-")
        if facts.plan.strategy == "attach":
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, str(one), "it would stay on the history "
                          "partition", "choose swap, or drop it before and make it again after")  # fmt: skip
        elif facts.plan.strategy == "dual-write" and one.problem != "publication-all":
            # A mirror writes by INSERT … ON CONFLICT, which PostgreSQL refuses on a table with rules.
            stuck = one.kind == "rule" and one.before_sql is not None
            effect = (
                "the mirror cannot write a table with rules" if stuck else "it stays on the source, which is kept equal"
            )
            remedy = "turn the rule into a trigger" if stuck else "move it when the source is given up"
            yield Finding(f"{'not-carried' if stuck else 'stays'}-{kind}", "blocker" if stuck else "warning",
                          facts.spec.name, str(one), effect, remedy)  # fmt: skip
        elif one.problem:
            condition, effect, remedy = PROBLEMS[one.problem]
            remedy = _new_owner(one, conn.info.user) if one.problem == "not-owner" else remedy
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, f"{one}: {condition}", effect, remedy)
        else:
            effect = (
                "it moves with the name, locked for as long as the swap takes"
                if one.lock_sql
                else "it moves with the name"
            )
            yield Finding(f"moves-{kind}", "warning", facts.spec.name, str(one), effect, "review it in the dry run")


def _new_owner(one: Dependent, role: str) -> str:
    """Return the statement by which a DBA hands an object over; it changes nothing else of it."""
    words = {"view": "view", "function": "routine", "publication": "publication"}
    if one.kind not in words:
        return "grant its owner to the role"
    # The names of relations and functions come quoted from the catalog.
    name = quote_ident(one.name) if one.kind == "publication" else one.name
    return f"as superuser: alter {words[one.kind]} {name} owner to {quote_ident(role)}"


def check_references(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Foreign keys that point at the table: replaced at a swap as the plan says, untouched by dual-write."""
    found = read_references(conn, files, facts.table.oid)
    for one in found:
        problem = problem_of(one, facts.plan, facts.spec, conn.info.server_version)
        if facts.plan.strategy == "attach":
            yield Finding("referenced", "blocker", facts.spec.name, f"{one.label} points at it", "it would point at "
                          "the history partition alone", "choose swap, or drop it")  # fmt: skip
        elif facts.plan.strategy == "dual-write":
            yield Finding("own-reference" if one.is_own else "stays-reference", "blocker" if one.is_own else "warning",
                          facts.spec.name, f"{one.label} points at it", "the source keeps it, the twin cannot have it",
                          "drop it before" if one.is_own else "decide when the source is given up")  # fmt: skip
        elif problem:
            yield Finding("referenced", "blocker", facts.spec.name, f"{one.label} points at it", *problem)
        else:
            effect = "its table gets the partition key as well, filled by a trigger; changes of the key cascade"
            if facts.spec.references[one.name] == "loose":
                effect = "triggers stand in for it; not against REPEATABLE READ deletes and replication roles"
            yield Finding("moves-reference", "warning", facts.spec.name, f"{one.label} points at it", effect,
                          "review it in the dry run; every comparison looks for orphans")  # fmt: skip
    for name in unknown_references(found, facts.spec):
        yield Finding("reference-unknown", "blocker", facts.spec.name, f"references names {name}", "there is no such "
                      "foreign key that points at it", "correct the name in the plan")  # fmt: skip
