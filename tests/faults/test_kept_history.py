"""History that was split follows its partitions until the clean-up; what it missed is seen, brought, and never lost."""

from __future__ import annotations

import pytest

from rehearsal.commands.db import look_at_history
from rehearsal.commands.doctor import examine
from rehearsal.commands.session import FAILED
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover.names import Names
from rehearsal.switchover.strategies.attach import history, watches
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from tests.faults.small import TABLE, Small

CONTENT = "select sum(hashtextextended((t.*)::text, 0)) from public.t"
# Where history ends: with the month that holds the day after now.
END = "(date_trunc('month', (now() + interval '1 day') at time zone 'UTC') + interval '1 month') at time zone 'UTC'"
LATER = f"insert into public.t select 9000 + n, {END}, n from generate_series(1, 5) as n;"


def capture(small: Small) -> str:
    """Return the name of the trigger by which history follows."""
    return Names(HistoryNames(small.work.names).history).reverse_capture_trigger


def miss(small: Small, missed: str, *, on_again: bool) -> None:
    """Let rows of January be written while nothing is captured."""
    trigger = capture(small)
    small.run_sql(f"alter table t_y2026m01 disable trigger {trigger}")
    small.run_sql(missed)
    if on_again:
        small.run_sql(f"alter table t_y2026m01 enable always trigger {trigger}")


@pytest.fixture
def split(small: Small) -> Small:
    """A table whose history was split, with rows outside history too."""
    small.setup(strategy="attach", interval="1 month")
    small.switch()
    small.run_sql(LATER)
    small.split()
    return small


WRITES = (
    "update t set v = v + 1000 where at < '2026-02-01'",
    "delete from t where at < '2026-01-20'",
    "insert into t values (7777, '2026-01-10 12:34', 5)",
)


@pytest.mark.parametrize("missed", WRITES, ids=["updated", "deleted", "inserted"])
@pytest.mark.parametrize("on_again", [True, False], ids=["on-again", "off"])
def test_what_was_missed_is_refused_seen_brought_and_then_nothing_bars_the_rollback(
    split: Small, missed: str, *, on_again: bool
) -> None:
    """The remedies that a refusal names work: verify fails, doctor brings the rows, the rollback has each of them."""
    miss(split, missed, on_again=on_again)
    before = scalar(split.conn, CONTENT)

    with pytest.raises(PreconditionError, match=r"rows differ|is off"):
        split.work.roll_back()
    assert look_at_history(split.context, split.conn, split.plan.tables) == FAILED
    with pytest.raises(PreconditionError, match=r"rows differ.*doctor --fix"):
        split.clean_up()

    assert all(trouble.fixed for trouble in examine(split.context, split.conn, fix=True))
    assert examine(split.context, split.conn, fix=True) == []
    split.verify()
    split.roll_back()
    assert scalar(split.conn, CONTENT) == before


def test_without_the_comparison_they_would_be_lost(split: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same writes, with nobody who compares rows."""
    monkeypatch.setattr(watches, "prove_rows", lambda *_: lambda: None)
    miss(split, WRITES[0], on_again=True)
    before = scalar(split.conn, CONTENT)
    assert split.work.roll_back()
    assert scalar(split.conn, CONTENT) != before


def test_healthy_history_is_compared_and_bars_nothing(split: Small) -> None:
    """Writes to old and to new partitions, rows that move between them; partitions that nothing changed are proved."""
    miss(split, "select 1", on_again=True)
    split.run_sql("update t set v = v + 1 where id % 3 = 0")
    split.run_sql(f"update t set at = {END} where id = 7")
    split.run_sql("update t set at = '2026-01-05' where id = 9001")
    before = scalar(split.conn, CONTENT)
    split.verify()
    assert examine(split.context, split.conn, fix=False) == []
    split.roll_back()
    assert scalar(split.conn, CONTENT) == before


def test_a_healthy_split_is_cleaned_up_after_a_comparison(split: Small) -> None:
    """The last comparison is of what history holds, not of rows that it never had."""
    split.run_sql("update t set v = v + 1 where id % 3 = 0")
    split.clean_up()
    assert scalar(split.conn, "select to_regclass('public.t_history') is null")


def test_the_comment_of_a_foreign_key_is_not_lost(small: Small) -> None:
    """The parent adopts its keys anew after the exchange, there and back."""
    other = "create table public.kind (v int primary key); insert into public.kind select generate_series(0, 96);"
    key = "alter table public.t add constraint t_kind foreign key (v) references public.kind (v);"
    small.setup(f"{other}{TABLE}{key} comment on constraint t_kind on public.t is 'of a kind';", strategy="attach")
    said = "select obj_description(oid) from pg_constraint where conname = 't_kind' and conrelid = 'public.t'::regclass"
    small.switch()
    assert scalar(small.conn, said) == "of a kind"
    small.split()
    assert scalar(small.conn, said) == "of a kind"
    small.roll_back()
    assert scalar(small.conn, said) == "of a kind"


def test_a_partition_that_is_detached_for_a_while_keeps_its_rows_in_history(split: Small) -> None:
    """Nothing is brought meanwhile, or history would lose what the partition alone has; attached again, all goes on."""
    before = scalar(split.conn, CONTENT)
    split.run_sql("alter table t detach partition t_y2026m01")
    for act in (split.work.follow, split.clean_up, lambda: examine(split.context, split.conn, fix=True)):
        with pytest.raises(PreconditionError, match=r"t_y2026m01 was detached"):
            act()
    split.run_sql("alter table t attach partition t_y2026m01 for values from ('2026-01-01') to ('2026-02-01')")
    split.roll_back()
    assert scalar(split.conn, CONTENT) == before


def test_mutant_a_replay_while_a_partition_is_detached(split: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: the repair took its rows out of history, and the rollback had them from nowhere."""
    before = scalar(split.conn, CONTENT)
    monkeypatch.setattr(history, "_refuse_detached", lambda *_: None)
    split.run_sql("alter table t detach partition t_y2026m01")
    examine(split.context, split.conn, fix=True)
    split.run_sql("alter table t attach partition t_y2026m01 for values from ('2026-01-01') to ('2026-02-01')")
    split.work.roll_back()
    assert scalar(split.conn, CONTENT) != before
