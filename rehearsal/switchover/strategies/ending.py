"""The end of what a rollback needs: when it may come. Owns the stable days, and the last comparison of all rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rehearsal.catalog.definition import columns_apart
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.switchover.parity import compare
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.strategies.base import NamedPair, Strategy
from rehearsal.switchover.work import TableWork


def require_stable(work: TableWork, conn: Connection, strategy: Strategy) -> None:
    """Refuse an end before the plan's stable days have passed.

    Raises:
        PreconditionError: it is too early, or the table is not switched.
    """
    found, days = work.migration(conn), work.plan.stable_days
    if found.state not in strategy.switched:
        message = f"{found.source} is {found.state}; only what a swap or a cutover left can be dropped here"
        raise PreconditionError(message)
    query = "select changed_at from rehearsal.migration where id = %s"
    for (switched,) in conn.execute(query, [found.id]):
        ready = switched + timedelta(days=days)
        if ready > datetime.now(UTC):
            message = f"{found.source} was switched at {_minute(switched)}; it may be dropped from {_minute(ready)} on"
            raise PreconditionError(message)


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def require_equal(work: TableWork, conn: Connection, strategy: Strategy, pair: NamedPair, *, stays: Stays) -> None:
    """Compare the pair exactly; what the log has still to bring is no difference.

    `stays`: the other one of source and target is about to go; columns that this one alone has are not lost with it. A
    target that goes need not follow to its end, and cannot follow a source that has columns of its own since.

    Raises:
        PreconditionError: rows differ.
    """
    if stays == "target":
        strategy.follow(work)
    plain, parted = work.table(conn, pair.plain), work.table(conn, pair.parted)
    log = strategy.change_log(work, conn)
    report = compare(
        work.database,
        work.files,
        plain,
        parted,
        work.spec.key,
        keylog=log,
        leaves=pair.leaves,
        stays=stays,
        apart=columns_apart(work.spec.accepted),
    )
    if report.unexplained:
        message = (
            f"{work.spec.name}: {report.unexplained} rows differ; nothing was dropped. `./inv db.verify` lists them, "
            "`./inv doctor --fix` brings what was missed"
        )
        raise PreconditionError(message)
