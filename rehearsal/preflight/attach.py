"""What the strategy attach cannot carry, or would have to read every row for under the lock. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rehearsal.catalog import Table
from rehearsal.plan import TableSpec


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that stands against attach: what it is, what it would do, what to do about it."""

    id: str
    subject: str
    condition: str
    effect: str
    remedy: str


def refusals(spec: TableSpec, table: Table) -> Iterator[Refusal]:
    """Return everything that stands against attaching this table."""
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
