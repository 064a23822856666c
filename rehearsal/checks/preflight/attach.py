"""What the strategy attach cannot carry, or would have to read every row for under the lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Table
from rehearsal.plan.model import TableSpec


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that stands against attach: what it is, what it would do, what to do about it."""

    id: str
    subject: str
    condition: str
    effect: str
    remedy: str


def refusals(spec: TableSpec, table: Table, readback: Readback) -> Iterator[Refusal]:
    """Return everything that stands against attaching this table."""
    yield from _otherwise(spec, table, readback)
    if spec.method != "range":
        yield Refusal("attach-method", spec.name, f"method {spec.method}", "rows of the past have no one partition "
                      "to stay in", "choose the strategy swap or dual-write")  # fmt: skip
    for one in table.constraints:
        if one.is_own and not one.is_validated:
            yield Refusal("attach-not-valid", f"{spec.name}.{one.name}", "a constraint that is not validated", "the "
                          "parent cannot adopt it", f"alter table … validate constraint {one.name}")  # fmt: skip
    for index in table.indexes:
        if index.constraint_sql and "DEFERRABLE" in index.constraint_sql:
            yield Refusal("attach-deferrable", f"{spec.name}.{index.name}", "a deferrable key", "it would come back "
                          "from the way back as one that is not", "make it not deferrable, or choose swap")  # fmt: skip
    for one in table.constraints:
        if one.kind == "c" and "NO INHERIT" in one.definition:
            yield Refusal("attach-no-inherit", f"{spec.name}.{one.name}", "a check with NO INHERIT", "a partitioned "
                          "table cannot have it", "make it an ordinary check")  # fmt: skip


def _otherwise(spec: TableSpec, table: Table, readback: Readback) -> Iterator[Refusal]:
    """The parent is made from printed texts; the server attaches only what is printed, and made, in the same way."""
    checks = [("check", one.name, one.definition) for one in table.constraints if one.kind == "c"]
    indexes = [("index", one.name, one.tail + (f" WHERE {one.predicate}" if one.predicate else ""))
               for one in table.indexes if one.has_expressions or one.predicate]  # fmt: skip
    remedies = {
        "check": "add it again under another name from pg_get_constraintdef, not valid; validate it; drop the first",
        "index": "create it again concurrently under another name from pg_get_indexdef; drop the first",
    }
    for kind, name, text in (*checks, *indexes):
        if readback.text(f'{kind} "like it"', "definition", text) != text:
            yield Refusal("attach-expression", f"{spec.name}.{name}", f"a {kind} that is printed otherwise once it was "
                          "read back", "history cannot be attached under it", remedies[kind])  # fmt: skip
