"""Rows are copied: content is proved by comparing the two tables of each pair."""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.catalog.tables import Table
from rehearsal.evidence.data import Baseline
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.mismatch import inject
from rehearsal.rehearse.parity import compare_all
from rehearsal.switchover.repair import resync


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """The proof where one table of a pair follows the other."""

    context: Context

    def describe(self, _conn: Connection, _spec: TableSpec, _table: Table, measured: Baseline, /) -> Baseline:
        """Return it as it is: the other table of the pair is what content is compared with."""
        return measured

    def compare(self, _moment: str, /) -> bool:
        """Compare every pair exactly, whatever lags."""
        return not any(report.unexplained for report in compare_all(self.context, "parity-after", self_test=False))

    def before_rollback(self) -> None:
        """Put a mismatch in, see it found and repaired; raises as `inject`."""
        for spec in self.context.plan.tables:
            inject(self.context, spec)

    def after_rollback(self) -> None:
        """Record nothing: what was put in is repaired already."""

    def go_forward(self) -> list[str]:
        """Bring every pair level and switch it; the retired table followed, so nothing is copied again."""
        context, brought = self.context, 0
        with context.session("re-sync") as conn:
            for spec in context.plan.tables:
                brought += resync(conn, context.switchover(spec))
        context.run.note(f"re-synced {brought} rows")
        for spec in context.plan.tables:
            context.switchover(spec).switch()
        return [f"{brought} rows re-synced"]
