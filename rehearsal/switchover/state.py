"""Progress of migrations, kept in the database beside the work (schema `rehearsal`).

Owns reads and writes of the tables `migration`, `step` and `chunk`. A step's row commits in the same transaction as
the step wherever PostgreSQL allows it, so that a killed run continues where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from rehearsal.catalog.tables import Name, dotted, is_partitioned, split_name
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import quote_ident
from rehearsal.switchover.detail import NO_DETAIL, UNCHANGED, Detail, StepDetail
from rehearsal.switchover.names import Names, change_name

# States of a table, in the order of a first switchover.
PREPARED = "prepared"  # target and triggers exist; nothing is copied
COPYING = "copying"  # the change log is on; chunks are being copied
FOLLOWING = "following"  # the target follows the source by the change log
MIRRORED = "mirrored"  # dual-write: both tables are equal in every snapshot
SWAPPED = "swapped"  # swap: the target has the source's name; the retired table follows
READY = "ready"  # attach: the parent, its indexes and the validated bound of history exist
ATTACHED = "attached"  # attach: the old table is the history partition of the one that has its name
SPLIT = "regrained"  # attach: history is split into partitions, its table is kept, detached; the value is a contract
UNUSED = (PREPARED, COPYING, FOLLOWING)  # the application does not use the target


Row = tuple[int, str, str, str, str, object]


@dataclass(frozen=True, slots=True)
class Migration:
    """One table's row in `rehearsal.migration`."""

    id: int
    source: str
    plan: str
    strategy: str
    state: str
    detail: Detail


def find_migration(conn: Connection, source: Name) -> Migration | None:
    """Return the table's migration, or None if its target was never made.

    Raises:
        PreconditionError: another version wrote there what this one cannot read.
    """
    row = conn.execute(
        "select id, source, plan, strategy, state, detail from rehearsal.migration where source = %s", [dotted(source)]
    ).fetchone()
    return migration_of(row) if row else None


def migration_of(row: Row) -> Migration:
    """Return a row of `rehearsal.migration`, id, source, plan, strategy, state and detail.

    Raises:
        PreconditionError: another version wrote into `detail` what this one cannot read.
    """
    try:
        return Migration(*row[:5], Detail.model_validate(row[5]))
    except ValidationError as exc:
        where = ", ".join(".".join(str(part) for part in fault["loc"]) for fault in exc.errors())
        message = (
            f"the row of {row[1]} in rehearsal.migration holds in `detail` what this version cannot read: {where}; "
            "go on with the version that began this switchover"
        )
        raise PreconditionError(message) from exc


def read_migration(conn: Connection, source: Name) -> Migration:
    """Return the table's migration.

    Raises:
        PreconditionError: the target was never made, or another version wrote what this one cannot read.
    """
    migration = find_migration(conn, source)
    if migration is None and (ended := find_ended(conn, source)):
        message = (
            f"table {dotted(ended)} is partitioned, and no switchover of it is under way: `./inv db.cleanup` ended "
            "it, or somebody else partitioned it. There is nothing to do"
        )
        raise PreconditionError(message)
    if migration is None:
        message = f"table {dotted(source)} has no partitioned target yet; run `./inv db.migrate` first"
        raise PreconditionError(message)
    return migration


def is_ended(conn: Connection, source: Name) -> bool:
    """Return whether a table is partitioned and no switchover of it is under way."""
    return find_ended(conn, source) is not None


def find_ended(conn: Connection, source: Name) -> Name | None:
    """Return the partitioned table that an ended switchover left, by the name that it has; None if none has ended.

    It has the name of the source; where the clean-up of dual-write let it keep its own, there is no source any more.
    """
    if find_migration(conn, source) is not None:
        return None
    if is_partitioned(conn, source):
        return source
    target, gone = Names(source).target, "select pg_catalog.to_regclass(%s) is null"
    return target if scalar(conn, gone, [quote_ident(source)]) and is_partitioned(conn, target) else None


def set_state(conn: Connection, migration: int, state: str, detail: Detail = UNCHANGED) -> None:
    """Write a new state, in the caller's transaction; what `detail` was given replaces what is there."""
    conn.execute(
        "update rehearsal.migration set state = %s, changed_at = now(), detail = detail || %s where id = %s",
        [state, Jsonb(detail.to_json()), migration],
    )


def is_done(conn: Connection, migration: int, step: str) -> bool:
    """Return whether the step was done in this cycle."""
    query = "select true from rehearsal.step where migration = %s and name = %s"
    return conn.execute(query, [migration, step]).fetchone() is not None


def mark_done(
    conn: Connection, migration: int, step: str, duration_ms: float = 0.0, detail: StepDetail = NO_DETAIL
) -> None:
    """Write that a step is done, in the caller's transaction; a second time replaces the first."""
    conn.execute(
        "insert into rehearsal.step (migration, name, duration_ms, detail) values (%s, %s, %s, %s) "
        "on conflict (migration, name) do update set done_at = now(), duration_ms = excluded.duration_ms, "
        "detail = excluded.detail",
        [migration, step, duration_ms, Jsonb(detail.to_json())],
    )


def prepare_again(conn: Connection, found: Migration, step: str) -> None:
    """Forget one step of a table that is prepared, in the caller's transaction: the next preparation does it again."""
    conn.execute("delete from rehearsal.step where migration = %s and name = %s", [found.id, step])
    if found.state == FOLLOWING:
        set_state(conn, found.id, COPYING)


def forget_steps(conn: Connection, migration: int) -> None:
    """Forget all steps and chunks, in the caller's transaction: the copy starts anew."""
    conn.execute("delete from rehearsal.step where migration = %s", [migration])
    conn.execute("delete from rehearsal.chunk where migration = %s", [migration])


def forget_table(conn: Connection, found: Migration) -> None:
    """Forget a table that can no longer be rolled back, in the caller's transaction; its name may begin anew."""
    changes = f"{found.plan}/{change_name(split_name(found.source))}/"
    conn.execute("delete from rehearsal.change where pg_catalog.starts_with(name, %s)", [changes])
    conn.execute("delete from rehearsal.migration where id = %s", [found.id])
