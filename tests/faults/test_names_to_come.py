"""Names that come late, with the swap or its rollback, are asked for before the copy."""

from __future__ import annotations

import pytest

from rehearsal.checks.preflight import check_act, standing
from rehearsal.rehearse.readiness import Intent
from tests.faults.small import TABLE, Small

MORE = TABLE + "create index by_v on t (v); "
TAKEN = ("t_partitioned", "t_old", "t_pkey_old", "by_v_old", "by_v_partitioned", "t_partitioned_pkey", "t_y2026m02")


def taken(small: Small, act: Intent) -> list[str]:
    """Return what preflight finds of names."""
    found = check_act(small.conn, small.files, small.plan, act)
    return [finding.condition for finding in found if finding.id == "name-taken"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_comes_later_is_asked_for_at_first(small: Small, name: str) -> None:
    """Whether it is a table's, an index's or a partition's."""
    with pytest.raises(AssertionError, match=rf"name-taken.*{name}"):
        small.setup(MORE + f"create table {name} (a int)")


@pytest.mark.parametrize("name", ["t_old", "t_pkey_old", "by_v_old"])
def test_a_name_that_was_taken_since_is_asked_for_before_the_swap(small: Small, name: str) -> None:
    """While the target follows; once it is free again the swap goes, and back, and there again."""
    small.setup(MORE)
    small.work.prepare()
    small.run_sql(f"create table {name} (a int)")
    assert [name in told for told in taken(small, Intent.SWITCHOVER)] == [True]
    small.run_sql(f"drop table {name}")
    for act in (Intent.SWITCHOVER, Intent.ROLLBACK, Intent.SWITCHOVER):
        assert taken(small, act) == []
        (small.work.roll_back if act is Intent.ROLLBACK else small.work.switch)()


def test_mutant_indexes_are_not_asked_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: 42P07 under the lock, after the whole copy."""
    monkeypatch.setattr(standing, "_index_names", lambda _: [])
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_name_that_comes_later_is_asked_for_at_first(small, "t_pkey_old")


CHILD = (
    "create table child (id bigint primary key, at timestamptz not null, t_id bigint constraint child_t "
    "references t (id)); insert into child select id, at, id from t order by id limit 20;"
)


@pytest.mark.parametrize("strategy", ["swap", "dual-write", "attach"])
@pytest.mark.parametrize("decision", ["loose", "composite"])
def test_a_key_that_another_switchover_replaced_is_not_left_behind(small: Small, decision: str, strategy: str) -> None:
    """The triggers that stand for it would stay on the table that is retired; after the rollback it is a key again."""
    small.setup(TABLE + CHILD, references={"child_t": decision})
    small.switch()
    other = Small(small.database, small.conn, small.files, small.run)
    with pytest.raises(AssertionError, match="foreign-key-replaced"):
        other.setup("select", strategy=strategy, name="public.child")
    small.roll_back()
    small.work.strategy.require_end(small.work, small.conn, "target")
    small.work.strategy.end(small.work, small.conn, "target")
    other.setup("select", strategy=strategy, name="public.child")
