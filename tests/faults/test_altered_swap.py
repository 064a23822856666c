"""What is altered around a table that is swapped or mirrored goes back with it, or is refused by name before."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.preflight import run_preflight
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import state
from rehearsal.switchover.strategies.swap import exchange
from rehearsal.switchover.target import pairs, references
from tests.faults.small import TABLE, Small
from tests.faults.test_given_up import LEFT
from tests.faults.test_whole import whole

KIND = (
    "create table kind (v int primary key); insert into kind select distinct v from t;"
    "alter table t add constraint of_kind foreign key (v) references kind;"
)
CHILD = (
    "create table child (id bigint primary key, t_id bigint constraint child_t references t (id));"
    "insert into child select id, id from t order by id limit 20;"
)
NEW_COLUMN = """
alter table t add column z int default 5; update t set z = 6 where id % 5 = 0; delete from t where id = 3;
"""
SAID = """
select obj_description(oid, 'pg_constraint') from pg_constraint
where (conname, conrelid) = ('of_kind', 'public.t'::regclass)
"""


def comment_on_a_key(small: Small) -> None:
    """Say something of a foreign key of the table that is partitioned, and go back."""
    small.setup(TABLE + KIND)
    small.switch()
    small.run_sql("comment on constraint of_kind on t is 'said since'")
    small.roll_back()
    assert scalar(small.conn, SAID) == "said since"


def test_a_comment_on_a_foreign_key_goes_back(small: Small) -> None:
    """The key is taken off and put on again; what was said of it meanwhile is the table's."""
    comment_on_a_key(small)


def test_mutant_foreign_keys_as_they_were_at_the_swap(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way."""
    monkeypatch.setattr(exchange, "commented", lambda kept, _now: kept)
    with pytest.raises(AssertionError):
        comment_on_a_key(small)


def test_a_comment_on_the_primary_key_is_not_lost(small: Small) -> None:
    """It is another key afterwards, so what was said of it stands in the way by name."""
    small.setup()
    small.switch()
    small.run_sql("comment on constraint t_pkey on t is 'said since'")
    with pytest.raises(PreconditionError, match='primary key "t_pkey": comment'):
        small.work.roll_back()
    small.run_sql("comment on constraint t_pkey on t is null")
    small.roll_back()


DECISIONS = ("loose", "composite")


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_table_that_refers_may_be_dropped_meanwhile(small: Small, decision: str) -> None:
    """It refers to nothing any more: nobody is locked in, and nothing of what stood for its key is left."""
    small.setup(TABLE + CHILD, references={"child_t": decision})
    small.switch()
    small.run_sql("drop table child")
    small.roll_back()
    whole(small)
    assert scalar(small.conn, "select count(*) from pg_proc where proname like '%child_t%'") == 0


def test_a_key_that_was_dropped_since_does_not_come_back(small: Small) -> None:
    """Nor does what fills its partition key stay; it ended in a raw error under the lock, each time."""
    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    small.switch()
    small.run_sql("alter table child drop constraint child_t")
    small.roll_back()
    found = Catalog(small.conn, small.files).read(("public", "child"))
    assert (found.foreign_keys, [column.name for column in found.columns]) == ((), ["id", "t_id"])
    assert scalar(small.conn, "select count(*) from pg_proc where proname like '%child_t%'") == 0
    whole(small)


def test_mutant_every_key_is_taken_to_be_there(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way."""
    monkeypatch.setattr(references, "KEY_GONE", "select %s::text is null and %s::text is null")
    with pytest.raises(Exception, match=r"constraint .child_t. of relation .child. does not exist"):
        test_a_key_that_was_dropped_since_does_not_come_back(small)


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_table_that_refers_and_has_another_name_is_named(small: Small, decision: str) -> None:
    """With both names, and what to do; then it goes back with its key."""
    small.setup(TABLE + CHILD, references={"child_t": decision})
    small.switch()
    small.run_sql("alter table child rename to kid")
    with pytest.raises(PreconditionError, match=r"public\.child is public\.kid now.*Give it that name again"):
        small.work.roll_back()
    small.run_sql("alter table kid rename to child")
    small.roll_back()
    found = Catalog(small.conn, small.files).read(("public", "child")).foreign_keys
    assert [(key.name, key.other) for key in found] == [("child_t", ("public", "t"))]


def test_mutant_every_table_is_taken_to_be_there(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: a raw error of the server, for ever."""
    monkeypatch.setattr(references, "GONE", "select %s::text is null")
    with pytest.raises(Exception, match=r"relation .public\.child. does not exist"):
        test_a_table_that_refers_may_be_dropped_meanwhile(small, "loose")


@pytest.mark.parametrize("strategy", ["swap", "dual-write", "attach"])
def test_a_table_that_inherits_from_it_is_named(small: Small, strategy: str) -> None:
    """Its rows are rows of the table for whoever reads it, and would not be copied."""
    small.setup(strategy=strategy)
    small.work.prepare()
    small.run_sql("create table kid () inherits (t)")
    found = [finding.id for finding in run_preflight(small.conn, small.files, small.plan)]
    assert "table-kind" in found
    with pytest.raises(PreconditionError, match=r"table: inherited by \(.*kid"):
        small.work.switch()
    small.run_sql("drop table kid")
    small.work.switch()


def test_what_only_the_source_has_bars_no_way_out_of_the_mirrors(small: Small) -> None:
    """It stays in use: a column, an index, a comment of its own are not lost; those of the target would be."""
    small.setup(strategy="dual-write")
    small.switch()
    small.run_sql("alter table t add note text; create index later on t (v); comment on table t is 'mine'")
    small.work.require_fit(small.conn, leaving=True)
    small.run_sql("alter table t_partitioned add other text")
    with pytest.raises(PreconditionError, match='column "other"'):
        whole(small)
    small.run_sql("alter table t_partitioned drop column other")
    whole(small)
    assert state.find_migration(small.conn, ("public", "t")) is None
    assert scalar(small.conn, "select count(*) from pg_class where relname = 'later'") == 1


def test_mutant_a_facet_of_a_key_is_taken_for_a_key_of_a_partition(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old way: what was said of the primary key was passed over."""
    monkeypatch.setattr(pairs, "CONSTRAINTS", ())
    counts = pairs._counts

    def as_before(difference, before, after, spec) -> bool:  # type: ignore[no-untyped-def] # noqa: ANN001
        passed = difference.before is None and difference.subject.startswith(pairs.BUILT_LATE[1:])
        return not passed and counts(difference, before, after, spec)

    monkeypatch.setattr(pairs, "_counts", as_before)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_comment_on_the_primary_key_is_not_lost(small)


@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_a_target_that_cannot_follow_a_new_column_can_be_removed(small: Small, strategy: str) -> None:
    """After the rollback the application goes on with its table; what is kept for the way forward locks nobody in."""
    small.setup(strategy=strategy)
    small.switch()
    small.work.roll_back()
    small.run_sql(NEW_COLUMN)
    before = small.conn.execute("select to_jsonb(r)::text from public.t as r order by 1").fetchall()
    small.clean_up("source" if strategy == "dual-write" else None)
    assert small.conn.execute("select to_jsonb(r)::text from public.t as r order by 1").fetchall() == before
    assert small.conn.execute(LEFT).fetchall() == []


def test_a_retired_table_need_not_have_what_came_since(small: Small) -> None:
    """Weeks after a swap the application has other columns; what both have is compared, and a lost row still found."""
    small.setup()
    small.switch()
    small.run_sql(NEW_COLUMN)
    small.run_sql(
        "alter table t_old disable trigger all; insert into t_old (id, at, v) values (900001, '2026-01-05', 5)"
    )
    with pytest.raises(PreconditionError, match="1 rows differ"):
        small.clean_up()
    small.run_sql("delete from t_old where id = 900001")
    small.clean_up()
    assert scalar(small.conn, "select to_regclass('public.t_old') is null")
