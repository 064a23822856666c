"""What every phase has at hand, and the writers that go on through several phases."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from psycopg import errors as pg_errors

from rehearsal.approval.approvals import Approval
from rehearsal.approval.fingerprint import Fingerprint, take_fingerprint
from rehearsal.catalog.tables import Name, Table, count_rows
from rehearsal.environment import Database, Environment
from rehearsal.errors import PreconditionError
from rehearsal.evidence.events import OptionsChosen, RowsCounted
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, advisory_lock, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.writers import Writers
from rehearsal.switchover.table import Switchover


@dataclass(frozen=True)
class Context:
    """One rehearsal under way: values only, and the writers that belong to it.

    `scale` is by how much the plan's scaled tables are larger than planned; `approval` is what let a verb in.
    """

    root: Path
    plan: Plan
    env: Environment
    run: Run
    files: SqlFiles
    fingerprint: str
    scale: float = 1.0
    approval: Approval | None = None

    @cached_property
    def writers(self) -> Writers:
        """The writers of the run, which do not write before a phase lets them."""
        return Writers(self.env, self.plan, self.run)

    @contextmanager
    def session(self, role: str = "engine") -> Generator[Connection]:
        """Open a session on the plan's database as the migrating role."""
        with connect(self.env.database, role=role) as conn:
            yield conn

    def switchover(self, spec: TableSpec) -> Switchover:
        """Return the switchover of one table."""
        return Switchover(self.env.database, self.files, self.plan, spec, self.run)

    def pair(self, conn: Connection, spec: TableSpec) -> tuple[Table, Table]:
        """Return the unpartitioned and the partitioned table, whatever they are called just now."""
        return self.switchover(spec).pair(conn)

    def source_now(self, conn: Connection, spec: TableSpec) -> Table:
        """Return the table that the rows were in at first, also before there is a target."""
        return self.switchover(spec).source_now(conn)

    def row_counts(self, stage: str) -> dict[str, int]:
        """Count the rows of both tables of each pair, log them as `row_counts.log` does, and return them."""
        counts: dict[str, int] = {}
        with self.session("row counts") as conn, conn.transaction():
            conn.execute("set transaction isolation level repeatable read, read only")
            for spec in self.plan.tables:
                for name in self.names_now(conn, spec):
                    counts[".".join(name)] = count_rows(conn, name)
        text = "".join(f"{stage:<24} {table:<50} {rows:>12,}\n" for table, rows in counts.items())
        self.run.append_text("row_counts.log", text)
        self.run.tell(RowsCounted(stage, counts))
        return counts

    def names_now(self, conn: Connection, spec: TableSpec) -> list[Name]:
        """Return the names of the tables of a pair that exist just now, the live one first."""
        return self.switchover(spec).names_now(conn)


def fingerprint_of(plan: Plan, files: SqlFiles) -> Fingerprint:
    """Return the fingerprint of plan, SQL texts and the tool at work."""
    return take_fingerprint(plan, files.folder)


def scale_of(plan: Plan, rows: int | None) -> float:
    """Return by how much the plan's scaled tables are made smaller or larger, so that they have `rows` together."""
    planned = sum(table.rows for table in plan.data.tables if table.scaled)
    return 1.0 if rows is None or not planned else rows / planned


def scale_before(run: Run) -> float:
    """Return the scale that a run was begun with, so that `--resume` need not say it again."""
    told = (event.what for event in run.events())
    return next((what.scale for what in told if isinstance(what, OptionsChosen)), 1.0)


def require_mark(context: Context, conn: Connection) -> None:
    """Refuse a database whose mark is not the environment's kind, before the first write.

    Raises:
        PreconditionError: no mark, or that of another kind.
    """
    try:
        row = conn.execute("select kind from rehearsal.environment_mark").fetchone()
    except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName):
        row = None
    kind, have = context.env.kind, row[0] if row else None
    if have != kind:
        context.run.record(
            "environment-mark", context.env.database.name, False, f"marked {have}, the environment is {kind}"
        )
        message = (
            f"database {context.env.database.name} is {f'marked {have!r}' if have else 'not marked'}, and environment "
            f"{context.env.name} is of kind {kind!r}; mark it by `./inv db.provision --env "
            f"{context.env.name}` if it is the right one"
        )
        raise PreconditionError(message)
    context.run.record("environment-mark", context.env.database.name, True, f"database and inventory are both {kind!r}")


@contextmanager
def hold_lock(context: Context) -> Generator[None]:
    """Hold for the block what only one run may have at a time; another is refused by the name of this one.

    Raises:
        PreconditionError: another run has it.
    """
    with (
        connect(lock_database(context.env), role=f"run {context.run.name}") as conn,
        advisory_lock(conn, lock_key(context.env)),
    ):
        yield


def lock_database(env: Environment) -> Database:
    """Return where the advisory lock of a run is held: beside a database that the run makes anew, else in it."""
    return replace(env.database, name="postgres") if env.is_throwaway else env.database


def lock_key(env: Environment) -> str:
    """Return what a run holds alone: a database, or a throwaway environment with its app servers as a whole."""
    return f"environment {env.name}" if env.is_throwaway else f"database {env.database.name}"
