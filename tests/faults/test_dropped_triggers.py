"""A trigger of ours that somebody dropped: it is named, made again with what was missed, and locks nobody in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg import sql

from rehearsal.commands.doctor import doctor, examine
from rehearsal.commands.session import Target
from rehearsal.environment import AppServer
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.switchover import repair
from rehearsal.switchover.trigger_states import TriggerState
from tests.faults.small import Small
from tests.faults.test_given_up import LEFT
from tests.faults.test_whole import ROWS, Walk, back, split, whole
from tests.fix_postgres import ROOT

WRITES = (
    "update t set v = v + 1 where id % 3 = 0; delete from t where id = 7; insert into t values (9001, '2026-01-10', 1)"
)
WALKS: dict[str, tuple[str, Walk]] = {
    "follows": ("swap", lambda small: small.work.prepare()),
    "swapped": ("swap", Small.switch),
    "swapped back": ("swap", back),
    "registered for mirrors": ("dual-write", lambda _: None),
    "mirrors to come": ("dual-write", lambda small: small.work.prepare()),
    "mirrored": ("dual-write", Small.switch),
    "split": ("attach", split),
}


def dropped(small: Small) -> list[TriggerState]:
    """Drop each trigger that is wanted just now, and write past them."""
    gone = small.work.trigger_states(small.conn)
    for trigger in gone:
        statement = sql.SQL("drop trigger {} on {}")
        small.conn.execute(statement.format(sql.Identifier(trigger.name), sql.Identifier(*trigger.table)))
    small.run_sql(WRITES)
    return gone


def mended(small: Small, walk: str) -> None:
    """Drop them all, have them made again; then rollback and removal go as ever."""
    strategy, act = WALKS[walk]
    small.setup(strategy=strategy)
    act(small)
    gone = dropped(small)
    assert gone
    told = " ".join(trouble.trouble for trouble in examine(small.context, small.conn, fix=False))
    assert [trigger.name for trigger in gone if f"{trigger.name} is missing" not in told] == []

    found = examine(small.context, small.conn, fix=True)
    if walk == "mirrored":
        # Without an app server to ask, nobody but the operator knows which of the two is written.
        assert "--leads source" in next(trouble.remedy for trouble in found if "rows differ" in trouble.trouble)
        examine(small.context, small.conn, fix=True, leads="source")
    assert [trigger for trigger in small.work.trigger_states(small.conn) if trigger.found != trigger.wanted] == []
    assert not [trouble for trouble in examine(small.context, small.conn, fix=False) if "trigger" in trouble.trouble]
    small.run_sql("update t set v = v + 1 where id % 5 = 0")
    rows = small.conn.execute(ROWS).fetchall()
    whole(small)
    assert small.conn.execute(ROWS).fetchall() == rows
    assert small.conn.execute(LEFT).fetchall() == []


@pytest.mark.parametrize("walk", WALKS)
def test_a_dropped_trigger_is_made_again_with_what_it_missed(small: Small, walk: str) -> None:
    """In each state in which triggers of ours are there, of each strategy."""
    mended(small, walk)


@pytest.mark.parametrize("walk", ["follows", "swapped"])
def test_a_copy_that_missed_writes_is_not_switched_to(small: Small, walk: str) -> None:
    """The trigger is there again, what it missed is not: the rows are compared before the next exchange."""
    strategy, act = WALKS[walk]
    small.setup(strategy=strategy)
    act(small)
    dropped(small)
    repair.enable_triggers(small.conn, small.work)
    with pytest.raises(PreconditionError, match="rows differ"):
        (small.work.switch if walk == "follows" else small.work.roll_back)()


def test_who_leads_is_said_only_where_nobody_can_be_asked(small: Small) -> None:
    """Without --fix it means nothing; an app server that does not say where it writes is not passed over."""
    with pytest.raises(UsageError, match="needs --fix"):
        doctor(Target(ROOT, "small", "local"), fix=False, leads="source")
    small.setup(strategy="dual-write")
    small.switch()
    small.conn.execute("alter table public.t disable trigger sync_to_partitioned_t")
    small.run_sql(WRITES)
    silent = replace(small.context.env, app_servers=(AppServer("app1", "http://127.0.0.1:1"),))
    found = examine(replace(small.context, env=silent), small.conn, fix=True, leads="source")
    assert [trouble.fixed for trouble in found if "rows differ" in trouble.trouble] == [False]


def test_one_whose_function_is_gone_stays_named(small: Small) -> None:
    """It cannot be made, so nothing is said to be done; the end of a swap does not stumble over it."""
    small.setup()
    small.switch()
    small.run_sql(f"drop function rehearsal.{small.work.names.function('refuse_truncate')[1]}() cascade")
    found = examine(small.context, small.conn, fix=True)
    assert {(trouble.fixed, "is missing" in trouble.trouble) for trouble in found} == {(False, True)}
    small.clean_up()
    assert small.conn.execute("select tgname from pg_trigger where not tgisinternal").fetchall() == []


def test_mutant_a_dropped_trigger_is_nobodys_business(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: named for ever, and every way out refused because of it."""
    puts_right = repair._puts_right
    monkeypatch.setattr(
        repair, "_puts_right", lambda conn, trigger: puts_right(conn, trigger) if trigger.found is not None else []
    )
    with pytest.raises(AssertionError):
        mended(small, "swapped")
