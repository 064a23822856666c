"""Refusal of writes to the target's partitions by their names, once the application has its own table again.

While the partitioned table has the name, a job may write one of its partitions by name, and goes on doing so after the
rollback: nobody follows that write, and whatever removes the target loses it. A statement trigger of each partition
refuses it by name. A statement on the target itself, as the replay's, does not fire it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import Table, dotted
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.names import Names


@dataclass(frozen=True, slots=True)
class PartitionGuard:
    """The guard of one table's target."""

    files: SqlFiles
    names: Names

    def on_sql(self, parted: Table) -> str:
        """Return the statements that put a guard on each partition. Locks: SHARE ROW EXCLUSIVE on each."""
        return self.files.render("switchover/strategies/swap/guard_on.sql.j2", **self._values(parted))

    def off_sql(self, parted: Table) -> str:
        """Return the statements that take it off again, where it is. Locks: ACCESS EXCLUSIVE on each partition."""
        return self.files.render("switchover/strategies/swap/guard_off.sql.j2", **self._values(parted))

    def _values(self, parted: Table) -> dict[str, Any]:
        return {
            "function": self.names.function("refuse_partition"),
            "trigger": self.names.partition_trigger,
            "leaves": [leaf.name for leaf in parted.partitions],
            "source_text": dotted(self.names.source),
        }
