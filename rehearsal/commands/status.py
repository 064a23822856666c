"""The verb `db.status`: where each table of a plan is in its journey, since when, who holds what, what comes next.

Owns the sentences for each state. Reads only; locks: ACCESS SHARE on the catalog.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from rehearsal.approval.approvals import read_approval
from rehearsal.catalog.tables import Name, dotted, split_name
from rehearsal.commands.session import DONE, Target, opened
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, connect, lock_holder, scalar
from rehearsal.rehearse.context import Context, lock_database, lock_key, require_mark
from rehearsal.switchover import state
from rehearsal.switchover.copy.pause import read_pause
from rehearsal.switchover.state import Migration
from rehearsal.switchover.table import Switchover

BEGINS = "`./inv db.migrate` makes its target"
ADOPT = "`./inv lifecycle.adopt` lets its partitions be looked after"
WHOLE = "`./inv db.rollback --whole` gives it up"
# What a state is, and what comes next.
JOURNEY: Mapping[str, tuple[str, str]] = {
    state.PREPARED: (
        "its target and its triggers are made, no row is copied",
        f"`./inv db.switchover` copies and switches; {WHOLE}",
    ),
    state.COPYING: (
        "its rows are being copied, writes are captured",
        f"`./inv db.switchover` goes on where it stopped; {WHOLE}",
    ),
    state.FOLLOWING: (
        "its target follows by the change log, the application uses the source",
        f"`./inv db.switchover` switches without a new copy; {WHOLE}",
    ),
    state.MIRRORED: (
        "both tables are equal in every snapshot, the flags decide which one is used",
        "`./inv flags.set` moves the application; `./inv db.rollback` moves it back; `./inv db.cleanup` keeps one",
    ),
    state.SWAPPED: (
        "the partitioned table has the name, the retired one is kept and can have it again",
        "`./inv db.rollback` takes it back",
    ),
    state.READY: (
        "everything is ready to be attached, nothing is switched",
        f"`./inv db.switchover` switches; {WHOLE}",
    ),
    state.ATTACHED: (
        "its rows are the history partition of the table that has the name",
        "`./inv db.split` splits history; `./inv db.rollback` takes it back",
    ),
    state.SPLIT: (
        "history is split into partitions, its table is kept",
        "`./inv db.rollback` takes it back",
    ),
}
CHUNKS = """
select count(*) filter (where done_at is not null), count(*) from rehearsal.chunk where migration = %s
"""
SIZE = """
select pg_catalog.pg_total_relation_size(c.oid)::bigint
from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = %s
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one table is; `log` is the size of its change log in bytes, None where it has none."""

    table: str
    state: str
    since: datetime | None
    said: str
    next: str
    log: int | None = None
    more: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """Return it as people read it."""
        since = f" since {_minute(self.since)}" if self.since else ""
        lines = [f"{self.table}: {self.state}{since}", f"  {self.said}", *(f"  {line}" for line in self.more)]
        return "\n".join([*lines, f"  next: {self.next}"])


@dataclass(frozen=True, slots=True)
class Journey:
    """All tables of a plan, and what is said of them together."""

    plan: str
    environment: str
    approved: str
    held: str | None
    paused: str | None
    tables: list[Stage]

    @property
    def text(self) -> str:
        """Return it as people read it."""
        return "\n".join(
            [
                f"plan {self.plan} on {self.environment}; {self.approved}",
                f"at work: {self.held}" if self.held else "nobody is at work",
                *([f"{self.plan} is {self.paused}; `./inv db.resume` lets it go on"] if self.paused else []),
                *(table.text for table in self.tables),
            ]
        )


def show_status(target: Target, *, as_json: bool = False) -> int:
    """Say where each table of the plan is; with `as_json`, for programs."""
    shown = sys.stderr if as_json else None
    with opened(target, "status", shown=shown) as context, context.session("status") as conn:
        require_mark(context, conn)
        journey = read_journey(context, conn)
        print(json.dumps(asdict(journey), indent=2, default=str) if as_json else journey.text)
    return DONE


def read_journey(context: Context, conn: Connection) -> Journey:
    """Return where the tables of the plan are."""
    plan, approval = context.plan, read_approval(conn, context.plan.name)
    pause = read_pause(conn, plan.name)
    return Journey(
        plan=plan.name,
        environment=context.env.name,
        approved=f"opened by {approval.rehearsed_as}, signed by {approval.signed_by}"
        if approval
        else "no GO is stored",
        held=_holder(context),
        paused=str(pause) if pause else None,
        tables=[_stage(context, conn, spec) for spec in plan.tables],
    )


def _holder(context: Context) -> str | None:
    with connect(lock_database(context.env), role="status") as conn:
        return lock_holder(conn, lock_key(context.env))


def _stage(context: Context, conn: Connection, spec: TableSpec) -> Stage:
    name = split_name(spec.name)
    found = state.find_migration(conn, name)
    if found is None and (ended := state.find_ended(conn, name)):
        said = "it" if ended == name else dotted(ended)
        return Stage(spec.name, "ended", None, f"{said} is partitioned, and nothing is kept for a rollback", ADOPT)
    if found is None:
        return Stage(spec.name, "not begun", None, "it is as the application made it", BEGINS)
    work = context.switchover(spec)
    said, following = JOURNEY[found.state]
    since: datetime = scalar(conn, "select changed_at from rehearsal.migration where id = %s", [found.id])
    log = work.log_now(conn)
    size = _log_size(conn, log)
    more = [*_progress(conn, found), *_log_said(log, size), *_stuck(conn, work)]
    return Stage(spec.name, found.state, since, said, _next(context, found, since, following), size, more)


def _next(context: Context, found: Migration, since: datetime, following: str) -> str:
    if found.state not in (state.SWAPPED, state.SPLIT, state.ATTACHED):
        return following
    ready = since + timedelta(days=context.plan.stable_days)
    when = "now" if ready <= datetime.now(UTC) else f"from {_minute(ready)} on"
    return f"{following}; `./inv db.cleanup` ends that, {when}"


def _progress(conn: Connection, found: Migration) -> Iterator[str]:
    if found.state == state.COPYING:
        done, total = conn.execute(CHUNKS, [found.id]).fetchone() or (0, 0)
        yield f"{done:,} of {total:,} chunks are copied" if total else "the copy is not planned yet"


def _log_size(conn: Connection, log: Name | None) -> int | None:
    row = conn.execute(SIZE, log).fetchone() if log else None
    return int(row[0]) if row else None


def _log_said(log: Name | None, size: int | None) -> Iterator[str]:
    if log and size is not None:
        yield f"change log {dotted(log)}: {size / 2**20:,.1f} MiB; it grows until its keys are replayed"


def _stuck(conn: Connection, work: Switchover) -> Iterator[str]:
    if unfinished := work.unfinished(conn):
        yield f"{unfinished.trouble}: {unfinished.remedy}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
