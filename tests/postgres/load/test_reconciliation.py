"""Reconciliation finds each defect that is put in, names it, and is silent otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rehearsal.errors import PreconditionError
from rehearsal.load.ledger import LedgerWriter, canonical_key, marker
from rehearsal.load.reconciliation import Reconciliation, reconcile
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from tests.load_world import BOTH, SCHEMA, SOURCE, TABLE, TWIN, make_plan

RUN = "20260101T000000Z-local-sensor_readings"
NOW = datetime.now(UTC).replace(microsecond=0)
LAST_MONTH = NOW.replace(day=1, hour=0, minute=0, second=0) - timedelta(milliseconds=1)
PLAN = make_plan()


class Author:
    """Writes rows and ledger side by side, as the generator does, one step at a time."""

    def __init__(self, conn: Connection, folder: Path, segment: str = "s1") -> None:
        self.conn = conn
        self.ledger = LedgerWriter.claim(folder, RUN, segment)
        self.segment = segment
        self._at: dict[int, tuple[int, int, datetime]] = {}

    def insert(self, subject: int, key: datetime = NOW) -> None:
        """Insert a row, acknowledged."""
        seq = self._intend(subject, "insert", 1, key)
        query = "insert into public.posts (at, body) values (%s, %s) returning id"
        row = self.conn.execute(query, [key, self._mark(subject, 1)]).fetchone()
        assert row is not None
        self._at[subject] = (row[0], 1, key)
        self.ledger.outcome(seq, outcome="ok", id=row[0], rows=1)

    def update(self, subject: int) -> None:
        """Update its row, acknowledged; missing if it is not there."""
        row_id, version, key = self._at[subject]
        seq = self._intend(subject, "update", version + 1, key)
        query = "update public.posts set body = %s where id = %s"
        rows = self.conn.execute(query, [self._mark(subject, version + 1), row_id]).rowcount
        self._at[subject] = (row_id, version + 1, key)
        self.ledger.outcome(seq, outcome="ok", rows=rows, **({} if rows else {"missing": True}))

    def move(self, subject: int, key: datetime) -> None:
        """Move its row to another key, acknowledged."""
        row_id, version, _ = self._at[subject]
        seq = self._intend(subject, "move", version + 1, key)
        query = "update public.posts set at = %s, body = %s where id = %s"
        self.conn.execute(query, [key, self._mark(subject, version + 1), row_id])
        self._at[subject] = (row_id, version + 1, key)
        self.ledger.outcome(seq, outcome="ok", rows=1)

    def delete(self, subject: int) -> None:
        """Delete its row, acknowledged."""
        row_id, version, key = self._at[subject]
        seq = self._intend(subject, "delete", version + 1, key)
        self.conn.execute("delete from public.posts where id = %s", [row_id])
        self.ledger.outcome(seq, outcome="ok", rows=1)

    def promise(self, subject: int, outcome: str | None, via: str = "http", started: float | None = None) -> int:
        """Intend an insert and end it, without doing it."""
        seq = self._intend(subject, "insert", 1, NOW, via, started)
        if outcome:
            self.ledger.outcome(seq, outcome=outcome)
        return seq

    def _intend(
        self, subject: int, action: str, version: int, key: datetime, via: str = "http", started: float | None = None
    ) -> int:
        return self.ledger.intent(
            subject=subject,
            op=action,
            action=action,
            via=via,
            server="app1" if via == "http" else None,
            table=TABLE,
            version=version,
            key=canonical_key(key),
            scheduled=0.0,
            started=time.time() if started is None else started,
        )

    def _mark(self, subject: int, version: int) -> str:
        return marker(RUN, self.segment, subject, version)


@pytest.fixture
def author(conn: Connection, tmp_path: Path) -> Iterator[Author]:
    """A history with every action in it: subjects 1 to 5, of which 3 is deleted."""
    conn.execute(SCHEMA)
    author = Author(conn, tmp_path)
    for subject in range(1, 6):
        author.insert(subject)
    author.update(2)
    author.update(2)
    author.delete(3)
    author.move(4, LAST_MONTH)
    yield author
    author.ledger.close()


def reconciled(conn: Connection, folder: Path, plan: Plan = PLAN) -> Reconciliation:
    return reconcile(conn, plan, folder, BOTH, RUN)


def test_reconciliation_of_a_good_history_is_clean_and_says_what_it_saw(
    conn: Connection, author: Author, tmp_path: Path
) -> None:
    """Clean, with a witness for each action; coverage that is too thin is named."""
    got = reconciled(conn, tmp_path)

    assert got.is_clean, got.to_dict()
    assert got.lost == 0
    assert got.acknowledged == {TABLE: {"insert": 5, "update": 2, "delete": 1, "move": 1}}
    assert got.by_source == {"app1": 9}
    for relation in got.relations:
        assert relation.verified == {"insert": 2, "update": 1, "delete": 1, "move": 1}
        assert (relation.rows, relation.subjects) == (4, 5)
    assert got.short_of(1, PLAN) == ()
    assert got.short_of(2, PLAN) == (f"{TABLE} delete: 1 of 2", f"{TABLE} move: 1 of 2")
    assert author.ledger.path.exists()


MUTANTS = {
    "lost_inserts": "delete from {} where body like '%:1:1'",
    "lost_updates": "update {} set body = replace(body, ':2:3', ':2:2') where body like '%:2:3'",
    "lost_deletes": "insert into {} (id, at, body) overriding system value "
    "select 1000, at, replace(body, ':1:1', ':3:1') from {} where body like '%:1:1'",
    "lost_moves": "update {} set at = at - interval '1 day' where body like '%:4:2'",
    "duplicates": "insert into {} (id, at, body) overriding system value "
    "select 1000, at - interval '1 day', body from {} where body like '%:5:1'",
    "foreign": "insert into {} (id, at, body) overriding system value "
    "select 1000, at, replace(body, ':5:1', ':99:1') from {} where body like '%:5:1'",
}


@pytest.mark.parametrize("relation", [".".join(SOURCE), ".".join(TWIN)])
def test_each_defect_is_found_and_named(conn: Connection, author: Author, tmp_path: Path, relation: str) -> None:
    """One defect in one relation is one finding of its kind there, and none in the other."""
    conn.execute("set session_replication_role = 'replica'")
    conn.execute(f"create table public.good as table {relation}".encode())
    overriding = "overriding system value " if relation == ".".join(SOURCE) else ""
    for kind, text in MUTANTS.items():
        mutation = text.replace("{}", relation).replace("overriding system value ", overriding)
        assert conn.execute(mutation.encode()).rowcount == 1, author

        found = {relation.relation: relation for relation in reconciled(conn, tmp_path).relations}

        hit, spared = found.pop(relation), found.popitem()[1]
        assert {name: count for name, count in hit.counts.items() if count} == {kind: 1}
        assert len(hit.examples[kind]) == 1
        assert hit.lost == (1 if kind.startswith("lost") else 0)
        assert not hit.is_clean
        assert spared.is_clean
        conn.execute(f"delete from {relation}".encode())
        conn.execute(f"insert into {relation} {overriding}table public.good".encode())
        assert reconciled(conn, tmp_path).is_clean


def test_old_version_of_a_moved_row_is_a_lost_move(conn: Connection, author: Author, tmp_path: Path) -> None:
    """The row is still as it was before the move."""
    conn.execute("set session_replication_role = 'replica'")
    query = "update public.posts set at = %s, body = replace(body, ':4:2', ':4:1') where body like '%%:4:2'"
    assert conn.execute(query, [NOW]).rowcount == 1, author

    got = reconciled(conn, tmp_path).relations[0]

    assert got.counts["lost_moves"] == 1
    assert got.lost == 1


def test_write_that_found_no_row_is_a_witness_of_a_loss(conn: Connection, author: Author, tmp_path: Path) -> None:
    """An acknowledged row was gone when its writer came back, though the count of losses may be zero by then."""
    conn.execute("delete from public.posts where body like '%:5:1'")
    author.update(5)

    got = reconciled(conn, tmp_path)

    assert got.missing == 1
    assert not got.is_clean
    assert got.lost == 1 + 2  # the witness, and the row in each relation
    assert got.missing_examples[0]["subject"] == 5


def test_failed_write_that_is_there_is_unexplained(conn: Connection, author: Author, tmp_path: Path) -> None:
    """Refused but done: the client may do it again."""
    author.promise(7, "failed")
    assert reconciled(conn, tmp_path).is_clean
    conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, marker(RUN, "s1", 7, 1)])

    got = reconciled(conn, tmp_path)

    assert [relation.counts["foreign"] for relation in got.relations] == [1, 1]


@pytest.mark.parametrize("outcome", ["unknown", None])
def test_unknown_write_may_be_there_or_not(
    conn: Connection, author: Author, tmp_path: Path, outcome: str | None
) -> None:
    """By HTTP only the rows can tell, and both are right; it is counted as unknown."""
    author.promise(8, outcome)
    before = reconciled(conn, tmp_path)
    conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, marker(RUN, "s1", 8, 1)])
    after = reconciled(conn, tmp_path)

    assert before.is_clean
    assert after.is_clean
    assert before.unknown == after.unknown == 1


def test_write_by_sql_that_never_asked_to_commit_must_not_be_there(
    conn: Connection, author: Author, tmp_path: Path
) -> None:
    """Its transaction id would be in the ledger."""
    author.promise(9, None, via="sql")
    assert reconciled(conn, tmp_path).is_clean
    conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, marker(RUN, "s1", 9, 1)])

    assert reconciled(conn, tmp_path).relations[0].counts["foreign"] == 1


@pytest.mark.parametrize("committed", [True, False])
def test_transaction_id_decides_what_nobody_answered(
    conn: Connection, author: Author, tmp_path: Path, *, committed: bool
) -> None:
    """Committed: the row must be there. Rolled back: it must not."""
    seq = author.promise(10, None, via="sql")
    with conn.transaction(force_rollback=not committed):
        conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, marker(RUN, "s1", 10, 1)])
        row = conn.execute("select pg_current_xact_id()::text").fetchone()
        assert row is not None
        author.ledger.commit(seq, row[0])
    assert reconciled(conn, tmp_path).is_clean
    assert reconciled(conn, tmp_path).reconciled == 1
    if committed:
        conn.execute("delete from public.posts where body like '%:10:1'")
    else:
        conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, marker(RUN, "s1", 10, 1)])

    got = reconciled(conn, tmp_path).relations[0]

    assert got.counts["lost_inserts" if committed else "foreign"] == 1


def test_transaction_id_from_before_a_crash_may_be_another_ones(
    conn: Connection, author: Author, tmp_path: Path
) -> None:
    """Sent before the server came up, with the number of what is a committed transaction now: it decides nothing."""
    row = conn.execute("select pg_current_xact_id()::text").fetchone()
    assert row is not None
    earlier = author.promise(12, "unknown", via="sql", started=0.0)
    author.ledger.commit(earlier, row[0])
    got = reconciled(conn, tmp_path)
    assert (got.is_clean, got.reconciled, got.unknown) == (True, 0, 1)

    # The witness: sent since, the same number says that the write must be there, and it is not.
    later = author.promise(13, "unknown", via="sql")
    author.ledger.commit(later, row[0])
    got = reconciled(conn, tmp_path)
    assert (got.reconciled, got.relations[0].counts["lost_inserts"]) == (1, 1)


def test_transaction_id_of_another_history_decides_nothing(conn: Connection, author: Author, tmp_path: Path) -> None:
    """After a restore the server does not know it: unknown, and no error."""
    seq = author.promise(11, "unknown", via="sql")
    author.ledger.commit(seq, "4000000000")

    got = reconciled(conn, tmp_path)

    assert got.is_clean
    assert (got.reconciled, got.unknown) == (0, 1)


def test_torn_last_line_is_not_read_until_it_is_whole(conn: Connection, author: Author, tmp_path: Path) -> None:
    """A writer that was killed in the middle of a line did not send that write."""
    with author.ledger.path.open("a") as file:
        file.write('{"t": "intent", "seq": 99, "subj')

    assert reconciled(conn, tmp_path).is_clean


def test_rows_of_another_run_are_left_alone(conn: Connection, author: Author, tmp_path: Path) -> None:
    """An underscore in the name of the run matches nothing but itself."""
    other = marker(RUN.replace("_", "x"), "s1", 1, 1)
    conn.execute("insert into public.posts (at, body) values (%s, %s)", [NOW, other])

    assert reconciled(conn, tmp_path).is_clean, author


def test_table_without_a_marker_is_refused(conn: Connection, author: Author, tmp_path: Path) -> None:
    """Its writes could not be told, so there is nothing to reconcile by."""
    bare = PLAN.model_copy(update={"tables": [PLAN.tables[0].model_copy(update={"marker": None})]})

    with pytest.raises(PreconditionError, match="no marker"):
        reconciled(conn, tmp_path, bare)
    with pytest.raises(PreconditionError, match="cannot reconcile"):
        reconcile(conn, PLAN, tmp_path, {TABLE: [("public", "nowhere")]}, RUN)
    assert reconciled(conn, tmp_path).is_clean, author
