"""A table that a clean-up or a rollback drops takes its lifecycle policy along, and what is held of it is not lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal.commands import cleanup
from rehearsal.commands.db import roll_back_table
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.policy import Wish, read_policies, write_policy
from rehearsal.postgres.connection import scalar
from tests.faults.small import Small

HELD = """
insert into rehearsal.lifecycle_detached (leaf_oid, leaf, parent, checks, state, since, hold, system_identifier)
values ('public.t_far'::regclass, 'public.t_far', 'public.t_partitioned'::regclass, '{}', 'held', now(), '7 days', 1)
"""
FORGOTTEN = "select parent from rehearsal.lifecycle_history where act = 'forget'"


def adopt(small: Small, name: str) -> None:
    """Let a table be looked after."""
    with small.conn.transaction():
        install_code(small.conn, small.files)
        write_policy(small.conn, "small", Wish(("public", name), "1 month", 1))


def back(small: Small) -> None:
    """Take the switchover back, and end it."""
    small.roll_back()
    cleanup.clean_up(small.context, small.conn, "source")


def whole(small: Small) -> None:
    """Take it back and remove all that was made for it."""
    roll_back_table(small.work, small.conn)
    cleanup.clean_up(small.context, small.conn, "source")


@pytest.fixture(params=["swap", "dual-write", "attach"])
def looked_after(small: Small, request: pytest.FixtureRequest) -> Iterator[Small]:
    """A table that was switched, whose partitioned form is adopted."""
    small.setup(strategy=request.param)
    small.switch()
    adopt(small, "t_partitioned" if request.param == "dual-write" else "t")
    yield small
    oids = (
        "select count(*) from rehearsal.lifecycle_policy where parent::oid not in (select oid from pg_catalog.pg_class)"
    )
    assert scalar(small.conn, oids) == 0


@pytest.mark.parametrize("way", [back, whole])
def test_no_policy_of_a_table_that_is_gone_is_left(looked_after: Small, way: object) -> None:
    """Whichever strategy made it; the history says that it was forgotten."""
    small = looked_after
    assert callable(way)
    if small.plan.strategy == "dual-write":
        cleanup.clean_up(small.context, small.conn, "source")
    else:
        way(small)
    assert read_policies(small.conn, None) == []
    assert len(small.conn.execute(FORGOTTEN).fetchall()) == 1
    assert scalar(small.conn, "select count(*) from public.t") == 400


def test_the_policy_of_a_table_that_stays_is_kept(small: Small) -> None:
    """After the clean-up of a swap it is looked after as before."""
    small.setup()
    small.switch()
    adopt(small, "t")
    small.clean_up()
    assert [policy.table for policy in read_policies(small.conn, None)] == ["public.t"]
    assert small.conn.execute(FORGOTTEN).fetchall() == []


def test_a_held_partition_keeps_its_table_from_being_dropped(small: Small) -> None:
    """Its rows are nowhere else: named with what to do, and nothing is dropped; attached again, it goes."""
    small.setup()
    small.switch()
    adopt(small, "t")
    small.roll_back()
    small.conn.execute("create table public.t_far (like public.t_partitioned)")
    small.conn.execute(HELD)
    with pytest.raises(PreconditionError, match=r"are kept: public\.t_far.*Nothing was dropped"):
        small.clean_up()
    assert scalar(small.conn, "select pg_catalog.to_regclass('public.t_partitioned') is not null")
    small.conn.execute("drop table public.t_far")
    small.clean_up()
    assert read_policies(small.conn, None) == []
