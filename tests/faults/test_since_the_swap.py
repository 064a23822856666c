"""What others do to a swapped table in its first days: new partitions, and columns that the plan accepts to lose."""

from __future__ import annotations

import pytest

from rehearsal.commands.doctor import examine
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import watches
from rehearsal.switchover.drift import Watch
from tests.faults.small import Small
from tests.faults.test_whole import whole

NEXT = "('2027-01-01+00') to ('2027-02-01+00')"
PARTITION = f"create table t_next partition of t for values from {NEXT}"
FILLED = f"""
create table t_next (like t including all); insert into t_next values (9100, '2027-01-05', 1);
alter table t attach partition t_next for values from {NEXT}
"""
WRITES = "insert into t values (9001, '2027-01-10', 1); insert into t_next values (9002, '2027-01-11', 2)"
REPLICA = "set session_replication_role = replica; insert into t values (9003, '2027-01-12', 3); reset all"
NEW = "select count(*) from public.t where id between 9001 and 9100"


def test_a_partition_that_was_made_since_goes_along(small: Small) -> None:
    """As pg_partman makes them each night: their rows are followed, so the way is open, back and forward again."""
    small.setup()
    small.switch()
    small.run_sql(f"{PARTITION}; {WRITES}")
    small.run_sql(REPLICA)
    small.roll_back()
    assert scalar(small.conn, NEW) == 3
    small.verify()
    small.work.prepare()
    assert small.work.switch()
    assert scalar(small.conn, NEW) == 3
    small.roll_back()
    whole(small)
    assert scalar(small.conn, NEW) == 3


def test_one_that_was_filled_before_is_named_until_its_rows_are_there(small: Small) -> None:
    """No trigger has seen them: they are compared before the rollback, and `doctor --fix` brings them."""
    small.setup()
    small.switch()
    small.run_sql(FILLED)
    with pytest.raises(PreconditionError, match=r"partition public\.t_next came.*1 rows differ"):
        small.work.roll_back()
    assert "1 rows differ" in " ".join(found.trouble for found in examine(small.context, small.conn, fix=True))
    small.roll_back()
    assert scalar(small.conn, NEW) == 1


def test_mutant_a_partition_that_came_is_taken_on_trust(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that no trigger has seen would be lost in silence."""
    monkeypatch.setattr(watches, "Watch", lambda *args, **more: Watch(*args, **{**more, "follows": False}))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_one_that_was_filled_before_is_named_until_its_rows_are_there(small)


ACCEPTED = 'column "z": only there after'


def go_back_without(small: Small) -> None:
    """Give up a new column, as the refusal offers."""
    small.setup()
    small.switch()
    small.run_sql("alter table t add column z int default 5; update t set z = 6, v = v + 1 where id % 5 = 0")
    with pytest.raises(PreconditionError, match=r"accepted = \['column \"z\": only there after'\]"):
        small.work.roll_back()
    table = small.plan.tables[0].model_copy(update={"accepted": (ACCEPTED,)})
    small.plan = small.plan.model_copy(update={"tables": (table,)})
    assert small.work.compare(small.conn).unexplained == 0
    small.roll_back()


def test_a_column_that_the_plan_accepts_to_lose_bars_nobody(small: Small) -> None:
    """The refusal says which words accept it; with them, the rest of the rows is compared and goes back."""
    go_back_without(small)


def test_mutant_all_columns_have_to_be_there(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: accepted, and refused for ever by the comparison."""
    monkeypatch.setattr(watches, "columns_apart", lambda _: frozenset())
    with pytest.raises(PreconditionError, match="different columns"):
        go_back_without(small)


def test_a_partition_that_was_made_while_mirrored_bars_no_way(small: Small) -> None:
    """As `lifecycle.premake` makes them: mirrored by the triggers that came with it, so both ways stay open."""
    small.setup(strategy="dual-write")
    small.switch()
    small.run_sql(PARTITION.replace(" of t ", " of t_partitioned ").replace("t_next", "t_partitioned_next"))
    small.run_sql("insert into t_partitioned values (9001, '2027-01-10', 1)")
    assert scalar(small.conn, NEW) == 1
    small.work.require_fit(small.conn, leaving=True)
    small.work.require_fit(small.conn)
    small.verify()
    whole(small)
    assert scalar(small.conn, NEW) == 1


def test_one_that_was_filled_before_is_found_while_mirrored(small: Small) -> None:
    """No trigger has seen its rows."""
    small.setup(strategy="dual-write")
    small.switch()
    small.run_sql(
        FILLED.replace("t_next", "t_partitioned_next")
        .replace("like t ", "like t_partitioned ")
        .replace("alter table t ", "alter table t_partitioned ")
    )
    with pytest.raises(PreconditionError, match=r"1 rows differ"):
        small.work.require_fit(small.conn, leaving=True)
