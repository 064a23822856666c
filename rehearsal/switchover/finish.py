"""What comes after a cutover, with nobody waiting: foreign keys validated and adopted, the snapshot fence off."""

from __future__ import annotations

import time

from rehearsal.catalog.tables import Name
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.parallel import run_in_sessions
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.snapshot_fence import SnapshotFence
from rehearsal.switchover.target.foreign_keys import finish_foreign_keys
from rehearsal.switchover.work import TableWork

FINISH_KEYS = "foreign-keys"
LOWER_FENCE = "guard"


def lower_fence(work: TableWork, conn: Connection) -> bool:
    """Take the snapshot fence off unless an older snapshot needs it still; return whether it was taken off now."""
    work.begin(LOWER_FENCE)
    report, old = SnapshotFence(work.files, work.names, work.migration(conn).id).lower(conn, work.policy)
    if old:
        work.note(
            f"the snapshot fence of {work.spec.name} stays on for snapshots from before the cutover: "
            f"{'; '.join(old[:3])}"
        )
    if report:
        work.tell_lock(report)
    return report is not None


def finish_keys(work: TableWork, conn: Connection, table: Name) -> int:
    """Validate the foreign keys that were put on the leaves of `table`, and let it adopt them; return how many acts.

    Locks: SHARE UPDATE EXCLUSIVE on each leaf while it is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    """
    work.begin(FINISH_KEYS)
    started = time.monotonic()

    def validate(statements: list[str]) -> None:
        queries = [as_query(statement) for statement in statements]
        run_in_sessions(work.database, "validate", queries, work.plan.copying.workers)

    keys = work.migration(conn).detail.foreign_keys or ()
    done = finish_foreign_keys(conn, work.files, table, keys, work.policy, validate)
    if done:
        work.tell_step(FINISH_KEYS, started, done)
    return done
