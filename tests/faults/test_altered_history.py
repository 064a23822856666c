"""What the application does to a table that is attached, or split, is in the table that the rollback gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.commands.doctor import examine
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import state
from rehearsal.switchover.detail import Split
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.layout import Statements
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.strategies.attach.unsplit import SplitBack
from tests.faults.small import TABLE, Small

INDEXED = TABLE + "create index t_v on t (v); create index t_at on t (at) include (v);"
BOTH = ("attached", "split")
# To be brought to history too, once it is split: the rollback says so and changes nothing.
ON_HISTORY = "t_history"


@dataclass(frozen=True)
class Change:
    """Statements on `t`; `on_history`: what a refusal asks for, where history was split; `why`: its words."""

    text: str
    on_history: str = ""
    why: str = ON_HISTORY


CHANGES = {
    "column added": Change(
        "alter table t add column x int default 3; update t set x = id::int % 9; ",
        "alter table t_history add column x int default 3",
    ),
    "column dropped": Change("alter table t drop column v", "alter table t_history drop column v"),
    "column renamed": Change("alter table t rename column v to w", "alter table t_history rename column v to w"),
    "type": Change("alter table t alter column v type bigint", "alter table t_history alter column v type bigint"),
    "index dropped": Change("drop index t_v"),
    "index renamed": Change("alter index t_v rename to t_vv"),
    "index made": Change("create index t_new on t (v, id)", "create index concurrently on t_history (v, id)", "t_new"),
    "check made": Change(
        "alter table t add constraint few check (v < 1000)",
        "alter table t_history add constraint few check (v < 1000)",
    ),
    "unique constraint made": Change(
        "alter table t add constraint t_once unique (v, id, at)",
        "alter table t_history add constraint t_history_once unique (v, id, at)",
        "t_once",
    ),
    "generated column": Change(
        "alter table t add column g int generated always as (id::int * 2) stored",
        "alter table t_history add column g int generated always as (id::int * 2) stored",
    ),
}


def rows(small: Small) -> list[str]:
    """Return all rows, by the names of their columns."""
    text = "select (to_jsonb(r))::text from public.t as r order by 1"
    return [row[0] for row in small.conn.execute(text)]


def indexes(small: Small) -> set[str]:
    """Return the names of the indexes of the table."""
    return {index.name for index in Catalog(small.conn, small.files).read(("public", "t")).indexes}


def altered(small: Small, change: Change, where: str) -> None:
    """Attach, perhaps split, alter, and write rows outside history; what has a value of its own keeps it."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    if where == "split":
        small.split()
    until = Split.of_detail(small.work.migration(small.conn).detail).until
    small.run_sql(f"insert into t (id, at, v) values (900001, '{until}', 7)")
    small.run_sql(change.text)
    if "x int" in change.text:
        small.run_sql(f"insert into t (id, at, v, x) values (900003, '{until}', 7, 42)")


@pytest.mark.parametrize("where", BOTH)
@pytest.mark.parametrize("what", CHANGES)
def test_nothing_is_lost_and_nobody_is_locked_in(small: Small, what: str, where: str) -> None:
    """Rows, columns and names of indexes are those that the application saw last."""
    change = CHANGES[what]
    altered(small, change, where)
    before, names = rows(small), indexes(small)
    if where == "split" and change.on_history:
        with pytest.raises(PreconditionError, match=change.why):
            small.work.roll_back()
        assert (rows(small), small.work.migration(small.conn).state) == (before, state.SPLIT)
        small.run_sql(change.on_history)

    small.roll_back()

    assert Catalog(small.conn, small.files).read(("public", "t")).kind == "r"
    assert rows(small) == before
    if where == "attached":
        assert indexes(small) == names
    assert not {name for name in indexes(small) if name.startswith("t_history")}


def test_mutant_a_rollback_that_brings_the_columns_of_before(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows outside history lose what was written into a column that came since."""
    altered(small, CHANGES["column added"], "attached")
    before = rows(small)
    render = Statements.render

    def as_decided(self: Statements, step: str, **more: Any) -> str:
        return render(self, step, **{**more, "columns": self.split.columns} if "columns" in more else more)

    monkeypatch.setattr(Statements, "render", as_decided)
    small.work.roll_back()
    assert rows(small) != before


def test_mutant_a_rollback_that_knows_the_indexes_of_before(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot rename what is gone, so that nobody gets back."""
    altered(small, CHANGES["index dropped"], "attached")
    decided = [{"source": ("public", "t_v"), "history": ("public", "t_history_t_v"), "comment": None}]
    monkeypatch.setattr(Attached, "_index_pairs", lambda *_: decided)
    with pytest.raises(StepFailed, match="t_history_t_v"):
        small.work.roll_back()


NEEDS = {
    "view": ("create view needs as select * from t_y2026m01", "drop view needs"),
    "foreign key": (
        "create table needs (id bigint, at timestamptz, foreign key (id, at) references t_y2026m01 (id, at))",
        "drop table needs",
    ),
    "function": (
        "create function needs(t_y2026m01) returns int language sql as 'select 1'",
        "drop function needs(t_y2026m01)",
    ),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_needs_a_partition_of_a_split_is_named_before_it_goes(small: Small, what: str) -> None:
    """Left alone it would look at a table that nobody writes any more."""
    make, drop = NEEDS[what]
    small.setup(INDEXED, strategy="attach")
    small.switch()
    small.split()
    small.run_sql(make)
    before = rows(small)
    with pytest.raises(PreconditionError, match=r"needs.*Nothing was changed"):
        small.work.roll_back()
    assert (rows(small), small.work.migration(small.conn).state) == (before, state.SPLIT)
    small.run_sql(drop)
    small.roll_back()
    assert rows(small) == before


@pytest.mark.parametrize(
    ("check", "change"), [("_require_unneeded", NEEDS["view"][0]), ("_require_indexes", CHANGES["index made"].text)]
)
def test_mutant_a_rollback_of_a_split_that_does_not_look_before(
    small: Small, monkeypatch: pytest.MonkeyPatch, check: str, change: str
) -> None:
    """A raw error of the server under the lock, or an index built there, in place of a refusal."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    small.split()
    small.run_sql(change)
    with pytest.raises(PreconditionError, match="Nothing was changed"):
        small.work.roll_back()
    monkeypatch.setattr(SplitBack, check, lambda *_: None)
    if check == "_require_indexes":
        assert small.work.roll_back()
    else:
        with pytest.raises(StepFailed, match="2BP01"):
            small.work.roll_back()


def test_an_invalid_index_of_history_is_none(small: Small) -> None:
    """What a broken-off build left behind is not taken over by the server."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    small.split()
    small.run_sql(CHANGES["index made"].text)
    small.run_sql("create index t_history_new on t_history (v, id)")
    small.conn.execute(
        "update pg_catalog.pg_index set indisvalid = false where indexrelid = 'public.t_history_new'::regclass"
    )
    with pytest.raises(PreconditionError, match="t_new"):
        small.work.roll_back()


def test_a_table_that_was_clustered_is_so_again(small: Small) -> None:
    """Its primary key is another index meanwhile."""
    small.setup(INDEXED + "alter table t cluster on t_pkey;", strategy="attach")
    small.switch()
    small.split()
    small.roll_back()
    found = Catalog(small.conn, small.files).read(("public", "t")).indexes
    assert [index.name for index in found if index.is_clustered] == ["t_pkey"]


@pytest.mark.parametrize("where", BOTH)
def test_a_primary_key_by_another_name_is_refused_until_it_has_its_own(small: Small, where: str) -> None:
    """The earlier key is made of the same columns; nothing is changed before they are there."""
    altered(small, Change("alter table t rename column id to number"), where)
    before = rows(small)
    with pytest.raises(PreconditionError, match=r"is \(number, at\) and was \(id, at\).*Nothing was changed"):
        small.work.roll_back()
    assert rows(small) == before
    small.run_sql("alter table t rename column number to id")
    small.roll_back()


def test_identity_that_the_parent_alone_has_is_not_lost(small: Small) -> None:
    """It is no part of a partition: the table would have no default for its key after the rollback."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    small.run_sql("alter table t alter id add generated by default as identity")
    with pytest.raises(PreconditionError, match="identity"):
        small.work.roll_back()
    small.run_sql("alter table t alter id drop identity")
    small.roll_back()


def test_comments_on_indexes_go_back(small: Small) -> None:
    """They are the table's, though the server keeps them with the parent."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    small.run_sql("comment on index t_v is 'said since'")
    small.roll_back()
    assert scalar(small.conn, "select obj_description('public.t_v'::regclass, 'pg_class')") == "said since"


COMMENTED = (
    INDEXED + "alter table t add constraint few check (v < 1000), add constraint t_once unique (v, id, at);"
    "create table kind (v int primary key); insert into kind select distinct v from t;"
    "alter table t add constraint of_kind foreign key (v) references kind;"
    "comment on constraint few on t is 'at first';"
)
CONSTRAINTS = ("few", "t_once", "of_kind", "t_pkey")


@pytest.mark.parametrize("where", BOTH)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_comments_on_constraints_go_back(small: Small, constraint: str, where: str) -> None:
    """What was said since the cutover of a check, a key or a foreign key is the table's; what was unsaid is gone."""
    small.setup(COMMENTED, strategy="attach")
    small.switch()
    if where == "split":
        small.split()
    small.run_sql("comment on constraint few on t is null")
    small.run_sql(f"comment on constraint {constraint} on t is 'said since'")
    small.roll_back()
    query = (
        "select conname, obj_description(oid, 'pg_constraint') from pg_constraint where conrelid = 'public.t'::regclass"
    )
    said = {name: comment for name, comment in small.conn.execute(query) if comment}
    assert said == {constraint: "said since"}


def test_a_foreign_key_that_was_dropped_stays_dropped(small: Small) -> None:
    """The rollback of a split takes those that are there now off and puts them on again, not those of the split."""
    small.setup(COMMENTED, strategy="attach")
    small.switch()
    small.split()
    small.run_sql("alter table t drop constraint of_kind; insert into t (id, at, v) select 900001, max(at), -7 from t")
    small.roll_back()
    assert not Catalog(small.conn, small.files).read(("public", "t")).foreign_keys


def test_a_split_that_broke_off_begins_anew_on_a_table_that_was_altered(small: Small) -> None:
    """Its partitions were made from what the table was."""
    small.setup(INDEXED, strategy="attach")
    small.switch()
    split = HistorySplit(small.work)
    split.make_target(small.conn, Split.of_detail(small.work.migration(small.conn).detail))
    told = [
        (found.trouble, "./inv db.split" in found.remedy) for found in examine(small.context, small.conn, fix=False)
    ]
    assert ("the split of its history is half way", True) in told
    small.run_sql("alter table t add column x int default 3")
    before = rows(small)
    small.split()
    assert not any("half way" in found.trouble for found in examine(small.context, small.conn, fix=False))
    assert rows(small) == before
    small.roll_back()
    assert rows(small) == before
