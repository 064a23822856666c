"""Archive, prove, then drop: closed to writers, exact for every type, noted only once it is proven."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.lifecycle.archive import LeafArchiver
from rehearsal.lifecycle.reading import read_to_archive
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.postgres.lifecycle.archived import FIRST, LATER, Shelf
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_clock import RETAIN, Psql, psql  # noqa: F401
from tests.postgres.lifecycle.test_retain import JULY, YEAR


@pytest.fixture
def shelf(kept: Kept, tmp_path: Path) -> Shelf:
    """A folder, and a database without a table yet."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return Shelf(kept, folder)


def test_it_is_archived_then_dropped(shelf: Shelf) -> None:
    """Three leaves held, three archives proven, nothing dropped before; the second run has nothing to do."""
    shelf.hold()
    shelf.kept.pass_to(LATER)
    assert shelf.kept.to_retire() == []
    shelf.kept.pass_to(JULY)
    assert shelf.archive() == 3
    assert shelf.archive() == 0
    manifest = shelf.read()
    assert (manifest.rows, manifest.table, manifest.leaf) == (1, ("public", "t"), FIRST)
    assert {path.suffix for path in shelf.folder.iterdir()} == {".parquet", ".json"}
    assert {path.stat().st_mode & 0o777 for path in shelf.folder.iterdir()} == {0o600}
    assert len(shelf.drop()) == 3
    assert not shelf.kept.standing().wrong, shelf.kept.standing().text


def test_status_names_what_waits_and_the_command(shelf: Shelf) -> None:
    """Not before the hold is over, and not once it is archived."""
    shelf.hold()
    assert "archive-waits" not in shelf.kept.ids()
    assert "once it is archived" in shelf.kept.standing().text
    shelf.kept.pass_to(LATER)
    assert shelf.kept.ids() == ["archive-waits"] * 3
    assert "./inv lifecycle.archive --plan kept --to FOLDER" in shelf.kept.standing().text
    shelf.archive()
    assert shelf.kept.ids() == []
    assert f"archived in {shelf.manifest()}" in shelf.kept.standing().text


def test_the_clock_of_psql_waits_for_the_archive(shelf: Shelf, psql: Psql) -> None:  # noqa: F811
    """It has no Python: it relies on the note, and it is no failure to wait."""
    shelf.hold()
    shelf.kept.pass_to(LATER)
    assert (done := psql(RETAIN, "retain", LATER)).returncode == 0, done.stderr
    assert len(shelf.kept.standing().held) == 3
    shelf.archive()
    assert (done := psql(RETAIN, "retain", LATER)).returncode == 0, done.stderr
    assert shelf.kept.standing().held == []


def test_a_policy_without_archive_drops_as_before(shelf: Shelf) -> None:
    """And has nothing that waits."""
    shelf.hold(archive=False)
    assert shelf.waiting() == []
    assert len(shelf.drop()) == 3


def test_a_drop_is_refused_when_the_note_goes_after_the_decision(shelf: Shelf) -> None:
    """Under the lock it is asked once more, and for this very archive."""
    shelf.hold()
    shelf.archive()
    shelf.kept.pass_to(LATER)
    acts = shelf.kept.to_retire()
    shelf.kept.run_sql("update rehearsal.lifecycle_archived set sha256 = 'another'")
    assert not shelf.kept.worker.retire(acts)
    shelf.kept.run_sql("delete from rehearsal.lifecycle_archived")
    assert not shelf.kept.worker.retire(acts)
    failures = " ".join(done.failure or "" for done in shelf.kept.told)
    assert "is not the one that was noted" in failures
    assert "waits for its archive" in failures
    assert len(shelf.kept.standing().held) == 3


REFUSED = psycopg.errors.ObjectNotInPrerequisiteState
WRITES = [
    "insert into public.t_first (id, at, v) values (-1, '2026-01-02+00', 1)",
    "update public.t_first set v = v",
    "update public.t_first set v = v where false",
    "delete from public.t_first",
    "truncate public.t_first",
    "copy public.t_first (id, at, v) from program 'echo -1,2026-01-02+00,1' (format csv)",
    "set local session_replication_role = replica; delete from public.t_first",
    "create table public.o (like public.t_first); alter table public.t_first inherit public.o; delete from public.o",
    "merge into public.t_first as t using (values (1)) as s (x) on true when matched then delete",
]


@pytest.mark.parametrize("write", WRITES)
def test_writers_are_refused_and_readers_are_not(shelf: Shelf, database: Database, write: str) -> None:
    """From its closing on, whoever they are."""
    shelf.hold()
    shelf.archive()
    with connect(database, role="app") as other:
        with pytest.raises(REFUSED, match=r"public\.t_first is closed to writers"), other.transaction():
            other.execute(as_query(write))
        assert scalar(other, "select count(*) from public.t_first") == 1


OPENED = [
    "alter table public.t_first disable trigger all",
    """alter table public.t_first disable trigger all;
    alter table public.t_first enable always trigger rehearsal_closed;
    alter table public.t_first enable always trigger rehearsal_closed_row""",
    "drop trigger rehearsal_closed_row on public.t_first",
    """drop trigger rehearsal_closed on public.t_first;
    create trigger rehearsal_closed before insert or update or delete
    or truncate on public.t_first for each statement execute function rehearsal.lifecycle_refuse_write();
    alter table public.t_first enable always trigger rehearsal_closed""",
]


@pytest.mark.parametrize("opened", OPENED)
def test_a_leaf_that_was_open_since_counts_as_archived_no_more(shelf: Shelf, opened: str) -> None:
    """Even where it is closed again: somebody could have written. It is archived anew."""
    shelf.hold()
    shelf.archive()
    shelf.kept.run_sql(opened)
    shelf.kept.run_sql("set session_replication_role = replica; set session_replication_role = origin")
    assert shelf.waiting() == ["public.t_first"]
    assert shelf.archive() == 1
    assert len(shelf.drop()) == 3


def test_what_is_written_between_two_looks_is_found(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a superuser who takes the trigger off in the middle: no note, no file, and the next run begins anew."""
    shelf.hold()
    plain = LeafArchiver._prove

    def prove(self: LeafArchiver, *words: object) -> None:
        self.conn.execute("drop trigger rehearsal_closed on public.t_first")
        self.conn.execute("drop trigger rehearsal_closed_row on public.t_first")
        self.conn.execute("update public.t_first set v = v + 1")
        plain(self, *words)  # type: ignore[arg-type]

    act = read_to_archive(shelf.kept.conn, shelf.kept.policy.oid)[0]
    with monkeypatch.context() as patch:
        patch.setattr(LeafArchiver, "_prove", prove)
        with pytest.raises(StepFailed, match="is not proven"):
            shelf.archiver.archive(act)
    assert list(shelf.folder.iterdir()) == []
    assert shelf.archive() == 3


def test_a_foreign_key_that_would_write_to_the_leaf_is_taken_off(shelf: Shelf) -> None:
    """Deleting what it refers to goes on, as before; keys that write nothing stay."""
    devices = "create table public.device (id int primary key); insert into public.device select generate_series(0, 6);"
    keys = ("alter table public.t add constraint t_device foreign key (v) references public.device on delete cascade;"
            "alter table public.t add constraint t_kept foreign key (v) references public.device;")  # fmt: skip
    shelf.hold(devices + YEAR + keys)
    shelf.archive()
    found = shelf.kept.conn.execute(
        "select conname from pg_constraint where conrelid = 'public.t_first'::regclass and contype = 'f'"
    ).fetchall()
    assert found == [("t_kept",)]
    shelf.kept.run_sql("alter table public.t_first drop constraint t_kept; delete from public.device where id = 0")
    said = scalar(
        shelf.kept.conn, "select said from rehearsal.lifecycle_history where act = 'close' and leaf ~ 'first'"
    )
    assert said == "foreign keys taken off: t_device"


def test_a_leaf_that_is_attached_again_is_opened(shelf: Shelf) -> None:
    """By the next retention, which it does not bar."""
    shelf.hold()
    shelf.archive()
    shelf.kept.adopt(retention="10 years", archive=True)
    shelf.kept.run_sql("alter table public.t attach partition public.t_first "
                       "for values from ('2026-01-01+00') to ('2026-02-01+00')")  # fmt: skip
    assert "partner" not in shelf.kept.ids()
    assert [act.act for act in shelf.kept.retain()] == ["withdraw", "open"]
    shelf.kept.run_sql("insert into public.t (at, v) values ('2026-01-03+00', 1)")
    assert shelf.kept.to_retire() == []


def test_a_leaf_that_was_altered_is_not_archived(shelf: Shelf) -> None:
    """It will not be dropped either."""
    shelf.hold()
    shelf.kept.run_sql("alter table public.t_first add column more int")
    assert "public.t_first" not in shelf.waiting()
    shelf.archive()
    assert "public.t_first" not in shelf.drop()


def test_it_is_written_by_a_role_that_is_no_superuser(shelf: Shelf, database: Database) -> None:
    """The verbs' tests have one too; here another locale of messages and another zone."""
    shelf.hold()
    shelf.kept.run_sql(
        "alter role postgres set datestyle = 'German, DMY'; alter role postgres set timezone = 'Asia/Kathmandu'"
    )
    try:
        shelf.archive()
    finally:
        shelf.kept.run_sql("alter role postgres reset all")
    assert json.loads(shelf.manifest().read_text())["lower"] == "2026-01-01 00:00:00+00"


@pytest.mark.parametrize("name", ['t "odd".x', "T_März 2026", "../../etc"])
def test_a_strange_name_is_archived_and_restored(shelf: Shelf, name: str) -> None:
    """Nothing of it leads out of the folder."""
    quoted = '"' + name.replace('"', '""') + '"'
    shelf.hold(YEAR.replace("public.t_m2 ", f"public.{quoted} "))
    assert shelf.archive() == 3
    assert len(list(shelf.folder.iterdir())) == 6
    assert len(shelf.drop()) == 3
    path = Path(
        scalar(
            shelf.kept.conn, "select manifest from rehearsal.lifecycle_archived where leaf = %s", [f"public.{quoted}"]
        )
    )
    assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure
    assert scalar(shelf.kept.conn, "select count(*) from public.t where at < '2026-04-01+00'") == 1


def test_an_empty_leaf_is_archived(shelf: Shelf) -> None:
    """No rows are rows that can be lost all the same."""
    shelf.hold()
    shelf.kept.run_sql("delete from public.t_first")
    assert shelf.archive() == 3
    assert shelf.read().rows == 0
    assert len(shelf.drop()) == 3
    assert shelf.restorer(shelf.manifest()).restore(attach=True)
    assert scalar(shelf.kept.conn, "select count(*) from public.t_first") == 0
