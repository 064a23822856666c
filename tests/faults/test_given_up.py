"""A switchover that is under way can be given up: nothing of it is left on the application's table."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from rehearsal.catalog.definition import read_facts
from rehearsal.catalog.tables import Catalog
from rehearsal.commands import db
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import state
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.strategies import copied
from tests.faults.small import TABLE, Small
from tests.fix_tables import deploy

CHILD = """
create table public.child (id bigint primary key, t_id bigint constraint child_t references public.t (id));
insert into public.child select n, n from generate_series(1, 100) as n;
"""
LEFT = """
select relname from pg_catalog.pg_class where relnamespace = 'rehearsal'::regnamespace and relname ~ '_t(_|$)' union all
select relname from pg_catalog.pg_class where relname like 't\\_%' and relkind in ('r', 'p') union all
select proname from pg_catalog.pg_proc where pronamespace = 'rehearsal'::regnamespace and proname ~ '_t(_|$)' union all
select name from rehearsal.change union all select source from rehearsal.migration
"""


def facts(small: Small, table: str) -> object:
    """Return everything that a table is."""
    return read_facts(small.conn, small.files, Catalog(small.conn, small.files).read(("public", table)))


def killed_in_the_copy(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the preparation end in the middle of the copy."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Follow, "_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            small.work.prepare()


def nothing(_small: Small, _patch: pytest.MonkeyPatch) -> None:
    """Leave the table as `db.migrate` has made it."""


def follows(small: Small, _patch: pytest.MonkeyPatch) -> None:
    """Let the target follow."""
    small.work.prepare()


States = Callable[[Small, pytest.MonkeyPatch], None]


@pytest.mark.parametrize("way", [nothing, killed_in_the_copy, follows], ids=["prepared", "copying", "following"])
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_it_is_given_up_in_every_state_before_the_exchange(
    small: Small, monkeypatch: pytest.MonkeyPatch, strategy: str, way: States
) -> None:
    """TRUNCATE works again, the table is what it was; a second run changes nothing, and it can begin anew."""
    small.setup(strategy=strategy)
    way(small, monkeypatch)
    with pytest.raises(psycopg.errors.ObjectInUse, match="TRUNCATE"):
        small.run_sql("truncate t")

    assert "given up" in db.roll_back_table(small.work, small.conn)
    assert "no change" in db.roll_back_table(small.work, small.conn)
    assert small.conn.execute(LEFT).fetchall() == []
    assert scalar(small.conn, "select count(*) from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass") == 0
    small.run_sql("truncate t; insert into t values (1, '2026-01-01', 1)")

    deploy(small.conn, small.files, small.plan)
    small.switch()
    small.verify()


def test_partition_keys_of_other_tables_go_too(small: Small) -> None:
    """What a composite foreign key needs is taken off the table that refers, however far it came."""
    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    before = facts(small, "child")
    small.work.prepare()
    assert facts(small, "child") != before
    assert small.work.roll_back()
    assert facts(small, "child") == before


def test_after_a_rollback_the_target_follows_until_its_clean_up(small: Small) -> None:
    """A second rollback changes nothing; the clean-up ends the change log, and then nothing is left."""
    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    before = facts(small, "child")
    small.switch()
    assert "db.cleanup" in db.roll_back_table(small.work, small.conn)
    assert db.roll_back_table(small.work, small.conn) == "no change"
    assert state.read_migration(small.conn, small.work.names.source).state == state.FOLLOWING

    small.clean_up()
    small.clean_up()
    assert small.conn.execute(LEFT).fetchall() == []
    assert facts(small, "child") == before
    small.run_sql("delete from child; truncate t, child")


def test_what_is_under_way_is_not_cleaned_up(small: Small) -> None:
    """A copy of days is not thrown away by the verb that ends what has been switched."""
    small.setup()
    small.work.prepare()
    with pytest.raises(PreconditionError, match="is following"):
        small.clean_up()


def test_mutant_a_rollback_that_knows_swaps_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: what has not been exchanged could not be taken back, and TRUNCATE stayed refused."""

    def refuse(*_: object) -> None:
        message = "there is no swap to take back"
        raise PreconditionError(message)

    monkeypatch.setattr(copied, "give_up", refuse)
    with pytest.raises(PreconditionError, match="no swap"):
        test_it_is_given_up_in_every_state_before_the_exchange(small, monkeypatch, "swap", follows)
