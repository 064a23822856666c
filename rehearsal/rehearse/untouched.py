"""No row is copied: content is proved by comparing each table with what it was at the baseline."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rehearsal.catalog.tables import Catalog, Table, split_name
from rehearsal.checks.figures import row_column
from rehearsal.checks.untouched import Reader, Untouched, change_witnesses, drop_witnesses, make_witnesses
from rehearsal.errors import CannotSee
from rehearsal.evidence.data import Baseline, Outside, Taken
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.figures import baseline_of
from rehearsal.rehearse.phase import StopHere
from rehearsal.switchover.strategies.attach.prepare import Preparation

WITNESSES = 200


@dataclass(frozen=True, slots=True)
class UntouchedRows:
    """The proof where rows stay where they are; keeps what was there before the rollback."""

    context: Context
    outside: dict[str, int] = field(default_factory=dict[str, int])
    before: dict[str, Untouched] = field(default_factory=dict[str, Untouched])

    def describe(self, conn: Connection, spec: TableSpec, table: Table, measured: Baseline, /) -> Baseline:
        """Return it with the digest that every later comparison is made with."""
        primary = row_column(table, spec.key)
        found = Reader(self.context.files, spec, primary, measured.upto).read(conn, table.name)
        return replace(measured, primary=primary, untouched=(found.rows, str(found.digest)))

    def compare(self, moment: str, /) -> bool:
        """Compare the rows that the load leaves alone with the baseline."""
        return check_content(self.context, moment)

    def before_rollback(self) -> None:
        """Write rows outside history, see a mismatch found, and remember what there is."""
        for spec in self.context.plan.tables:
            self.outside[spec.name] = write_outside(self.context, spec)
        for spec in self.context.plan.tables:
            find_mismatch(self.context, spec)
        for spec in self.context.plan.tables:
            self.before[spec.name] = read_now(self.context, spec)

    def after_rollback(self) -> None:
        """Require every row in the old table, those too that were written outside history."""
        for spec in self.context.plan.tables:
            record_rollback(self.context, spec, self.outside[spec.name], self.before[spec.name])

    def go_forward(self) -> list[str]:
        """Prepare and cut over again: nothing followed, so the indexes and the bound of history are made anew."""
        for spec in self.context.plan.tables:
            self.context.switchover(spec).prepare()
            self.context.switchover(spec).switch()
        return []


def check_content(context: Context, moment: str) -> bool:
    """Compare the untouched rows of every table with the baseline; return whether all of them are the same."""
    same = True
    with context.session("content") as conn:
        for spec in context.plan.tables:
            reader, before = reader_of(context, spec)
            now = reader.read(conn, split_name(spec.name))
            same = same and now == before
            context.run.record("history-unchanged", f"{spec.name} {moment}", now == before, f"{before}; now {now}")
    return same


def reader_of(context: Context, spec: TableSpec) -> tuple[Reader, Untouched]:
    """Return the reader of the untouched rows, and what it read at the baseline.

    Raises:
        CannotSee: no baseline was recorded.
    """
    measured = baseline_of(context, spec)
    if measured and measured.primary and measured.untouched:
        rows, digest = measured.untouched
        return Reader(context.files, spec, measured.primary, measured.upto), Untouched(rows, int(digest))
    message = f"no content of {spec.name} was recorded before the switchover; run again from baseline"
    raise CannotSee(message)


def write_outside(context: Context, spec: TableSpec) -> int:
    """Write rows of the rehearsal's own outside history; return how many are there, whoever wrote them."""
    with context.session("witnesses") as conn:
        attach = Preparation(context.switchover(spec))
        parent = Catalog(conn, context.files).read(split_name(spec.name))
        drop_witnesses(conn, parent.name, spec)
        make_witnesses(conn, context.files, parent, spec, attach.statements(conn).split.until, WITNESSES)
        return attach.attached(conn).outside_rows(conn)


def read_now(context: Context, spec: TableSpec) -> Untouched:
    """Return the untouched rows as they are just now."""
    with context.session("content") as conn:
        return reader_of(context, spec)[0].read(conn, split_name(spec.name))


def record_rollback(context: Context, spec: TableSpec, outside: int, before: Untouched) -> None:
    """Compare the old table with what there was in all partitions; then take the rehearsal's own rows out of it."""
    after = read_now(context, spec)
    with context.session("witnesses") as conn:
        plain = Catalog(conn, context.files).read(split_name(spec.name)).kind == "r"
        drop_witnesses(conn, split_name(spec.name), spec)
    observed = f"{outside} rows were outside history; before {before}; after {after}"
    passed = (plain and after == before) if outside else None
    context.run.record("rollback", f"{spec.name} content", passed, observed, Outside(outside))


def find_mismatch(context: Context, spec: TableSpec) -> None:
    """Change rows of the rehearsal's own in a transaction that is rolled back; the comparison must see that.

    Raises:
        StopHere: it did not see it, so no comparison of this run is worth anything.
        CannotSee: the plan names no marker column, so the rehearsal's own rows cannot be told apart.
    """
    reader, _ = reader_of(context, spec)
    table = split_name(spec.name)
    with context.session("mismatch") as conn, taken_back(conn):
        before = reader.read(conn, table)
        changed = change_witnesses(conn, table, spec)
        after = reader.read(conn, table)
    seen = changed > 0 and after.rows == before.rows and after.digest != before.digest
    observed = f"{changed} rows of its own changed in a transaction that was rolled back: {before}; then {after}"
    context.run.record("mismatch-found", spec.name, seen if changed else None, observed, Taken(changed))
    if not seen:
        raise StopHere


@contextmanager
def taken_back(conn: Connection) -> Generator[None]:
    """Run the block in one snapshot that is rolled back."""
    with conn.transaction(force_rollback=True):
        conn.execute("set transaction isolation level repeatable read")
        yield
