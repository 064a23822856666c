"""What differs by strategy in the phases that all strategies share; a phase of one alone says so in its `PHASE`.

Owns one question: how content is proved to be what it was. Must not do what it answers: that is `copied` and
`untouched`.
"""

from __future__ import annotations

from typing import Protocol

from rehearsal.catalog.tables import Table
from rehearsal.evidence.data import Baseline
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.copied import CopiedRows
from rehearsal.rehearse.untouched import UntouchedRows


class Proof(Protocol):
    """How one rehearsal proves that content is what it was."""

    def describe(self, conn: Connection, spec: TableSpec, table: Table, measured: Baseline, /) -> Baseline:
        """Return what was measured of a table, with what later comparisons need beside it."""
        ...

    def compare(self, moment: str, /) -> bool:
        """Compare every table while writers may be at work, and record it; return whether all are the same."""
        ...

    def before_rollback(self) -> None:
        """Put in a mismatch that must be found, and what the rollback must bring back."""
        ...

    def after_rollback(self) -> None:
        """Record what came back of what was put in."""
        ...

    def go_forward(self) -> list[str]:
        """Switch every table again; return what is worth saying of it."""
        ...


def proof_of(context: Context) -> Proof:
    """Return the proof of the plan's strategy: by the pair where rows are copied, else by the baseline."""
    return CopiedRows(context) if context.plan.traits.copies else UntouchedRows(context)
