"""What the strategy attach cannot carry, or would have to read every row for under the lock."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.catalog.keytypes import TIMES
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Table
from rehearsal.checks.preflight.catalogue import concerns, finding
from rehearsal.checks.untouched import unmakeable
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles


def check_attach(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Return what stands against the strategy attach, if it is the plan's."""
    # Reading expressions back makes tables, though they are rolled back: only where the answer means something.
    if concerns("attach-expression", facts.plan.strategy):
        yield from _refusals(facts.spec, facts.table, Readback(conn, files, facts.table))
        yield from _stays_on_history(facts)
        if why := unmakeable(facts.table, facts.spec):
            yield finding("attach-own-rows", facts.spec.name, why=why)


def _refusals(spec: TableSpec, table: Table, readback: Readback) -> Iterator[Finding]:
    yield from _otherwise(spec, table, readback)
    kinds = {column.name: column.type_name for column in table.columns}
    if spec.method != "range":
        yield finding("attach-method", spec.name, method=spec.method)
    elif spec.key in kinds and kinds[spec.key] not in TIMES:
        yield finding("attach-key-type", f"{spec.name}.{spec.key}", type=kinds[spec.key])
    for constraint in table.constraints:
        if constraint.is_own and not constraint.is_validated:
            yield finding("attach-not-valid", f"{spec.name}.{constraint.name}", name=constraint.name)
    for index in table.indexes:
        if index.constraint_sql and "DEFERRABLE" in index.constraint_sql:
            yield finding("attach-deferrable", f"{spec.name}.{index.name}")
    for constraint in table.constraints:
        if constraint.kind == "c" and "NO INHERIT" in constraint.definition:
            yield finding("attach-no-inherit", f"{spec.name}.{constraint.name}")


def _otherwise(spec: TableSpec, table: Table, readback: Readback) -> Iterator[Finding]:
    """The parent is made from printed texts; the server attaches only what is printed, and made, in the same way."""
    checks = [
        ("check", constraint.name, constraint.definition) for constraint in table.constraints if constraint.kind == "c"
    ]
    indexes = [("index", index.name, index.tail + (f" WHERE {index.predicate}" if index.predicate else ""))
               for index in table.indexes if index.has_expressions or index.predicate]  # fmt: skip
    for kind, name, text in (*checks, *indexes):
        if readback.text(f'{kind} "like it"', "definition", text) != text:
            yield finding("attach-expression", f"{spec.name}.{name}", kind, kind=kind)


def _stays_on_history(facts: Facts) -> Iterator[Finding]:
    """What a swap moves to the table that takes the name, and attach does not yet."""
    table, name = facts.table, facts.spec.name
    for column in table.columns:
        if column.identity:
            yield finding("not-carried-identity", name, name=f"column {column.name}")
    for trigger in facts.row["own_triggers"]:
        yield finding("not-carried-trigger", name, name=trigger["name"])
    if table.row_security:
        yield finding("not-carried-policy", name, "own", what="row security")
    if table.replica_identity != "d":
        kind = {"f": "full", "n": "nothing"}.get(table.replica_identity, "an index")
        yield finding("not-carried-replica-identity", name, name=kind)
