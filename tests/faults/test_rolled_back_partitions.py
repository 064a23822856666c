"""A partition that was the table's until the rollback: a job that goes on writing it by its name is told, not lost."""

from __future__ import annotations

import pytest
from psycopg import errors

from rehearsal.postgres.connection import scalar
from rehearsal.switchover.strategies.swap.partition_guard import PartitionGuard
from tests.faults.small import Small
from tests.faults.test_given_up import LEFT
from tests.faults.test_whole import whole

LEAF = "t_y2026m01"
WRITES = {
    "insert": f"insert into {LEAF} values (9001, '2026-01-10', 1)",
    "update": f"update {LEAF} set v = 1000",
    "update of nothing": f"update {LEAF} set v = 1000 where false",
    "delete": f"delete from {LEAF}",
    "truncate": f"truncate {LEAF}",
    "upsert": f"insert into {LEAF} values (1, '2026-01-01 02:00', 1) on conflict (id, at) do update set v = 1000",
    "copy": f"copy {LEAF} from program 'printf \"9001\\t2026-01-10\\t1\\n\"'",
    "merge": f"merge into {LEAF} as x using (select 1::bigint as id) as y on x.id = y.id when matched then delete",
    "as a replica": f"set local session_replication_role = replica; delete from {LEAF}",
}


def back(small: Small) -> None:
    """There, written by name, and back."""
    small.setup()
    small.switch()
    small.run_sql(f"update {LEAF} set v = v + 1 where id % 3 = 0")
    small.roll_back()


def refused(small: Small, name: str) -> None:
    """The write fails and says which table to write; nothing of it is there."""
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match=r"no partition of public\.t any more") as told:
        small.run_sql(WRITES[name])
    assert told.value.diag.message_hint == "write public.t"
    small.verify()


@pytest.mark.parametrize("name", WRITES)
def test_a_partition_is_not_written_by_its_name_after_the_rollback(small: Small, name: str) -> None:
    """However it is written; the target follows all the same, and may be removed or switched to again."""
    back(small)
    refused(small, name)
    small.run_sql("update t set v = v + 1 where id % 5 = 0; insert into t values (9002, '2026-01-20', 1)")
    small.work.follow()
    small.verify()


def test_after_the_next_swap_it_is_written_again_and_followed(small: Small) -> None:
    """There, back and there again, as often as one likes."""
    back(small)
    for _ in range(2):
        assert small.work.switch()
        small.run_sql(WRITES["insert"] + f"; update {LEAF} set v = 1000 where id % 7 = 0")
        small.verify()
        small.roll_back()
        assert scalar(small.conn, "select count(*) from public.t where id = 9001") == 1
        refused(small, "delete")
        small.run_sql("delete from t where id = 9001")


def test_nothing_of_the_guard_is_left(small: Small) -> None:
    """Neither with the target that goes, nor on the table that stays partitioned."""
    back(small)
    whole(small)
    assert small.conn.execute(LEFT).fetchall() == []
    small.run_sql("drop table t")
    back(small)
    assert small.work.switch()
    small.clean_up()
    left = "select tgname from pg_trigger where not tgisinternal union all select proname from pg_proc where proname ~ "
    assert small.conn.execute(left + "'^refuse_partition'").fetchall() == []
    small.run_sql(WRITES["insert"])


def test_mutant_partitions_that_anybody_writes(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: the job was told that its rows are written, and `db.migrate` after DDL dropped them."""
    monkeypatch.setattr(PartitionGuard, "on_sql", lambda *_: "select 1")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_partition_is_not_written_by_its_name_after_the_rollback(small, "insert")
