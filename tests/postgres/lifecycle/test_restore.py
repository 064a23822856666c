"""An archived leaf comes back: alone or attached, with equal digest, or not at all and says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed, UsageError
from rehearsal.lifecycle import archive, content
from rehearsal.lifecycle.content import read_content
from rehearsal.lifecycle.manifest import read_manifest
from rehearsal.lifecycle.restore import parent_proven
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.postgres.lifecycle.archived import FIRST, Shelf
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_retain import YEAR

DEVICES = """
create table public.device (id int primary key);
insert into public.device select generate_series(0, 6);
"""
KEY = "alter table public.t add constraint t_device foreign key (v) references public.device;"
READER = (
    "do $$ begin if not exists (select from pg_roles where rolname = 'reader') then create role reader; end if; end $$;"
)


@pytest.fixture
def shelf(kept: Kept, tmp_path: Path) -> Shelf:
    """A folder, and a database without a table yet."""
    return Shelf(kept, tmp_path)


def dropped(shelf: Shelf, text: str = YEAR) -> Path:
    """Archive and drop three leaves; return the manifest of the first one."""
    shelf.hold(text)
    shelf.archive()
    assert len(shelf.drop()) == 3
    return shelf.manifest()


def test_it_is_restored_as_a_table_of_its_own(shelf: Shelf) -> None:
    """Nothing drops it, nothing is attached; again: no change."""
    path = dropped(shelf)
    assert shelf.restorer(path).restore(attach=False)
    found = read_content(shelf.kept.conn, shelf.kept.files, FIRST)
    assert (found.rows, found.digest) == (shelf.read().rows, shelf.read().digest)
    assert "which no run drops" in shelf.told[-1]
    assert shelf.restorer(path).restore(attach=False)
    assert shelf.told[-1] == "public.t_first: no change"
    assert shelf.kept.to_retire() == []


@pytest.mark.parametrize("first", [True, False])
def test_it_is_attached_with_what_its_siblings_have(shelf: Shelf, *, first: bool) -> None:
    """Indexes, checks, foreign key, rights; at once, or a second run of it; then no change."""
    text = f"{READER}{DEVICES}{YEAR}{KEY}grant select on public.t_m10 to reader;"
    path = dropped(shelf, text)
    if not first:
        shelf.restorer(path).restore(attach=False)
    assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure
    assert scalar(shelf.kept.conn, "select count(*) from public.t where at < '2026-02-01+00'") == 1
    facts = """
        select (select array_agg(contype order by contype) from pg_constraint
                where conrelid = c.oid and contype <> 'n'),
               (select count(*) from pg_index where indrelid = c.oid), c.relacl::text
        from pg_class as c where relname in ('t_first', 't_m10')
    """
    found = shelf.kept.conn.execute(facts).fetchall()
    assert found[0] == found[1]
    unproven = "select count(*) from pg_constraint where not convalidated or conname = 'rehearsal_bounds'"
    assert scalar(shelf.kept.conn, unproven) == 0
    assert shelf.restorer(path).restore(attach=True)
    assert shelf.told[-1] == "public.t_first: no change"


def test_that_retention_detaches_it_anew_is_said(shelf: Shelf) -> None:
    """And how to keep it; where the policy keeps it, nothing is said."""
    path = dropped(shelf)
    shelf.restorer(path).restore(attach=True)
    assert "the next `./inv lifecycle.retain` detaches it anew" in shelf.told[-1]
    acts = shelf.kept.retain()
    assert {act.leaf for act in acts} == {"public.t_first"}
    shelf.kept.adopt(retention="10 years", archive=True)
    other = shelf.manifest(("public", "t_m2"))
    shelf.restorer(other).restore(attach=True)
    assert "detaches it anew" not in shelf.told[-1]
    assert "public.t_m2" not in {act.leaf for act in shelf.kept.to_retire()}


def test_it_is_attached_under_readers_and_writers_of_the_table(shelf: Shelf, database: Database) -> None:
    """ATTACH looks at no row: a transaction that has written to the table and is open bars nothing."""
    path = dropped(shelf)
    with connect(database, role="app") as other, other.transaction():
        other.execute("insert into public.t (at, v) values ('2026-07-16+00', 1)")
        other.execute("select count(*) from public.t")
        assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure


def test_a_lock_that_is_not_granted_leaves_it_restored_and_the_next_run_attaches_it(
    shelf: Shelf, database: Database
) -> None:
    """Half done is said; nothing is lost by it."""
    path = dropped(shelf)
    with connect(database, role="app") as other, other.transaction():
        other.execute("lock table public.t in share row exclusive mode")
        assert not shelf.restorer(path).restore(attach=True)
    assert "could not acquire lock" in (shelf.kept.told[-1].failure or "")
    assert shelf.restorer(path).restore(attach=True)
    assert scalar(shelf.kept.conn, "select count(*) from public.t where at < '2026-02-01+00'") == 1


def test_a_row_whose_reference_is_gone_keeps_it_apart(shelf: Shelf) -> None:
    """The key is named; the restored table stays, and can be read."""
    path = dropped(shelf, f"{DEVICES}{YEAR}{KEY}")
    shelf.kept.run_sql("delete from public.device where id = 0")
    assert not shelf.restorer(path).restore(attach=True)
    assert "t_device" in (shelf.kept.told[-1].failure or "")
    assert scalar(shelf.kept.conn, "select count(*) from public.t_first") == 1
    shelf.kept.run_sql("insert into public.device values (0)")
    assert shelf.restorer(path).restore(attach=True)


def test_an_overlap_is_refused_by_name(shelf: Shelf) -> None:
    """Before anything is loaded."""
    path = dropped(shelf)
    shelf.kept.run_sql(
        "create table public.t_anew partition of public.t for values from ('2026-01-15+00') to ('2026-04-01+00')"
    )
    with pytest.raises(PreconditionError, match=r"public\.t_anew has keys of that range"):
        shelf.restorer(path).restore(attach=True)
    assert scalar(shelf.kept.conn, "select to_regclass('public.t_first') is null")
    assert shelf.restorer(path).restore(attach=False)


COLUMNS = [
    ("alter table public.t add column more int", "more is new"),
    ("alter table public.t drop column v", "v is gone"),
    ("alter table public.t rename column v to w", "v is gone; w is new"),
    ("alter table public.t alter column v type bigint", "v was integer and is bigint"),
]


@pytest.mark.parametrize(("altered", "said"), COLUMNS)
def test_a_table_of_other_columns_is_refused(shelf: Shelf, altered: str, said: str) -> None:
    """By name and type; nothing is made."""
    path = dropped(shelf)
    shelf.kept.run_sql(altered)
    with pytest.raises(PreconditionError, match=said):
        shelf.restorer(path).restore(attach=True)
    assert scalar(shelf.kept.conn, "select to_regclass('public.t_first') is null")


def test_columns_in_another_order_are_the_same(shelf: Shelf) -> None:
    """They are told by name."""
    path = dropped(shelf)
    shelf.kept.run_sql(
        "alter table public.t add column w int; update public.t set w = v; alter table public.t drop column v; "
        "alter table public.t rename column w to v; alter table public.t add column x int; "
        "alter table public.t drop column x"
    )
    assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure


@pytest.mark.parametrize(
    "taken", ["table public.t_first (x int)", "view public.t_first as select 1 as x", "sequence public.t_first"]
)
def test_a_name_that_is_taken_is_refused(shelf: Shelf, taken: str) -> None:
    """By whatever it is; so is the leaf itself while it is held."""
    path = dropped(shelf)
    shelf.kept.run_sql(f"create {taken}")
    with pytest.raises(PreconditionError, match=r"was not restored from"):
        shelf.restorer(path).restore(attach=False)


def test_a_held_leaf_is_not_restored_beside_itself(shelf: Shelf) -> None:
    """It is there."""
    shelf.hold()
    shelf.archive()
    with pytest.raises(PreconditionError, match="it was not dropped yet"):
        shelf.restorer(shelf.manifest()).restore(attach=False)


def test_an_archive_of_another_database_is_refused(shelf: Shelf) -> None:
    """A clone has the same names."""
    path = dropped(shelf)
    for key, value in (("database", "another"), ("system_identifier", 1)):
        other = path.with_name("other.json")
        other.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        with pytest.raises(PreconditionError, match="restore it there"):
            shelf.restorer(other).restore(attach=False)


def test_a_damaged_file_is_refused(shelf: Shelf) -> None:
    """By its SHA-256; a manifest that was given another digest too."""
    path = dropped(shelf)
    file = path.with_suffix(".parquet")
    text = bytearray(file.read_bytes())
    text[len(text) // 2] ^= 1
    file.write_bytes(text)
    with pytest.raises(StepFailed, match="is not what was archived"):
        shelf.restorer(path).restore(attach=False)
    file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        shelf.restorer(path).restore(attach=False)


def test_a_digest_that_differs_leaves_nothing(shelf: Shelf) -> None:
    """The table is made and loaded in one transaction."""
    path = dropped(shelf)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "1"}))
    with pytest.raises(PreconditionError, match="is not the archive that was proven"):
        shelf.restorer(path).restore(attach=False)
    shelf.kept.run_sql("delete from rehearsal.lifecycle_archived")
    with pytest.raises(StepFailed, match="nothing was restored"):
        shelf.restorer(path).restore(attach=False)
    assert scalar(shelf.kept.conn, "select to_regclass('public.t_first') is null")


def test_rows_that_somebody_changed_since_are_not_attached(shelf: Shelf) -> None:
    """They are theirs now."""
    path = dropped(shelf)
    shelf.restorer(path).restore(attach=False)
    shelf.kept.run_sql("update public.t_first set v = v + 1")
    with pytest.raises(PreconditionError, match="has other rows now"):
        shelf.restorer(path).restore(attach=True)


def test_beside_a_default_partition_it_is_attached(shelf: Shelf) -> None:
    """Rows of its range there are named by the server, and nothing is attached."""
    path = dropped(shelf, f"{YEAR}create table public.t_rest partition of public.t default;")
    shelf.kept.run_sql("insert into public.t (at, v) values ('2026-01-20+00', 9)")
    assert not shelf.restorer(path).restore(attach=True)
    assert "default partition" in (shelf.kept.told[-1].failure or "")
    shelf.kept.run_sql("delete from public.t_rest")
    assert shelf.restorer(path).restore(attach=True)


def test_a_leaf_that_was_archived_once_more_after_its_restore(shelf: Shelf) -> None:
    """It has another OID, so the first archive stays."""
    first = dropped(shelf)
    shelf.restorer(first).restore(attach=True)
    shelf.kept.retain()
    shelf.archive()
    manifests = {str(path) for path in first.parent.glob("*t_first*.json")}
    assert len(manifests) == 2
    assert first.exists()


@pytest.mark.parametrize("attach", [True, False])
def test_no_change_is_said_of_the_rows_of_the_archive_only(shelf: Shelf, *, attach: bool) -> None:
    """Alone or attached: a table that was emptied since is named."""
    path = dropped(shelf)
    shelf.restorer(path).restore(attach=attach)
    shelf.kept.run_sql("truncate public.t_first")
    with pytest.raises(PreconditionError, match="has other rows now"):
        shelf.restorer(path).restore(attach=attach)


def test_a_table_that_is_attached_elsewhere_is_refused(shelf: Shelf) -> None:
    """By the name of where it is."""
    path = dropped(shelf)
    shelf.restorer(path).restore(attach=False)
    shelf.kept.run_sql(
        "create table public.elsewhere (like public.t) partition by range (at); alter table public.elsewhere "
        "attach partition public.t_first for values from ('2026-01-01+00') to ('2026-02-01+00')"
    )
    for attach in (True, False):
        with pytest.raises(PreconditionError, match=r"public\.t_first is attached to public\.elsewhere"):
            shelf.restorer(path).restore(attach=attach)


def test_a_leaf_that_is_held_anew_is_attached_and_opened(shelf: Shelf) -> None:
    """As a table of its own it would be dropped, which is refused; attached it takes rows and is held no more."""
    path = dropped(shelf)
    shelf.restorer(path).restore(attach=True)
    shelf.kept.retain()
    shelf.archive()
    with pytest.raises(PreconditionError, match="held to be dropped"):
        shelf.restorer(path).restore(attach=False)
    shelf.kept.adopt(retention="10 years", archive=True)
    assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure
    shelf.kept.run_sql("insert into public.t (at, v) values ('2026-01-05+00', 1)")
    assert shelf.kept.standing().held == []
    assert shelf.kept.to_retire() == []


def test_an_archive_that_was_replaced_with_its_manifest_is_refused(shelf: Shelf) -> None:
    """Files that agree with each other, and not with what the database noted."""
    path = dropped(shelf)
    other = shelf.read(("public", "t_m2"))
    file = shelf.manifest(("public", "t_m2")).with_suffix(".parquet")
    path.with_suffix(".parquet").write_bytes(file.read_bytes())
    found = {"sha256": other.sha256, "digest": other.digest, "rows": other.rows}
    path.write_text(json.dumps(json.loads(path.read_text()) | found, indent=2) + "\n")
    with pytest.raises(PreconditionError, match="is not the archive that was proven"):
        shelf.restorer(path).restore(attach=False)
    assert scalar(shelf.kept.conn, "select to_regclass('public.t_first') is null")


@pytest.mark.parametrize("attach", [True, False])
def test_a_check_that_is_not_valid_comes_as_it_is(shelf: Shelf, *, attach: bool) -> None:
    """Rows that break it are restored; it holds for new ones."""
    path = dropped(shelf, YEAR + "alter table public.t add column w int default -1;")
    shelf.kept.run_sql("alter table public.t add constraint positive check (w > 0) not valid")
    assert shelf.restorer(path).restore(attach=attach), shelf.kept.told[-1].failure
    validated = "select convalidated from pg_constraint where conrelid = 'public.t_first'::regclass and conname = %s"
    assert scalar(shelf.kept.conn, validated, ["positive"]) is False
    with pytest.raises(psycopg.errors.CheckViolation):
        shelf.kept.run_sql("insert into public.t_first (id, at, v) values (0, '2026-01-05+00', 1)")


def test_a_table_and_a_database_of_other_names_are_known_by_the_note(shelf: Shelf, database: Database) -> None:
    """Where the note is gone, names have to do, and they differ."""
    path = dropped(shelf)
    shelf.kept.run_sql("alter table public.t rename to renamed")
    shelf.kept.conn.close()
    other = replace(database, name=f"{database.name}_renamed")
    with connect(replace(database, name="postgres")) as admin:
        admin.execute(as_query(f"alter database {database.name} rename to {other.name}"))
        try:
            with connect(other) as shelf.kept.conn:
                assert parent_proven(shelf.kept.conn, path, read_manifest(path)) == shelf.kept.policy.oid
                assert shelf.restorer(path).restore(attach=True), shelf.kept.told[-1].failure
                shelf.kept.run_sql("delete from rehearsal.lifecycle_archived")
                with pytest.raises(PreconditionError, match="restore it there"):
                    shelf.restorer(path).restore(attach=True)
        finally:
            admin.execute(as_query(f"alter database {other.name} rename to {database.name}"))


def test_others_read_nothing_that_default_privileges_would_show(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the scratch table nor the restored one, which has the row security of its parent."""
    text = f"{READER}alter default privileges grant select on tables to public, reader;{YEAR}"
    seen: list[bool] = []
    query = (
        "select coalesce(bool_or(x.grantee <> c.relowner), false) from pg_class as c, aclexplode(c.relacl) as x "
        "where c.oid = %s::regclass"
    )
    plain = content.copy_in

    def copy_in(conn: Connection, name: Name, *more: Any) -> None:
        seen.append(scalar(conn, query, [".".join(name)]))
        plain(conn, name, *more)

    monkeypatch.setattr(archive, "copy_in", copy_in)
    path = dropped(shelf, text + "alter table public.t enable row level security;")
    shelf.restorer(path).restore(attach=False)
    assert seen == [False] * 3
    assert not scalar(shelf.kept.conn, query, ["public.t_first"])
    assert scalar(shelf.kept.conn, "select relrowsecurity from pg_class where oid = 'public.t_first'::regclass")
