"""From every state the table comes back whole: nothing of ours is left, and a switchover can begin anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rehearsal.catalog.definition import read_facts
from rehearsal.catalog.tables import Catalog
from rehearsal.commands import cleanup
from rehearsal.commands.db import roll_back_table
from rehearsal.environment import AppServer
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import state
from tests.faults.small import TABLE, Small
from tests.faults.test_given_up import LEFT
from tests.fix_app import StartApp
from tests.fix_tables import deploy
from tests.waiting import eventually

SETUP = TABLE + "create index t_v on t (v); comment on table t is 'ours'; alter table t add check (v is not null);"
ROWS = "select pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(r::text, 0)) from public.t as r"
Walk = Callable[[Small], object]


def back(small: Small) -> None:
    """There and back, as the verbs do."""
    small.switch()
    roll_back_table(small.work, small.conn)


def forth_again(small: Small) -> None:
    """There, back, and there again."""
    back(small)
    small.work.prepare()
    small.work.switch()


def split(small: Small) -> None:
    """There, and history is split."""
    small.switch()
    small.split()


WALKS: dict[str, Walk] = {
    "registered": lambda _: None,
    "prepared": lambda small: small.work.prepare(),
    "switched": Small.switch,
    "back": back,
    "forth again": forth_again,
}
STATES = [(strategy, walk) for strategy in ("swap", "dual-write", "attach") for walk in WALKS] + [("attach", "split")]


def whole(small: Small) -> None:
    """Roll back and remove what was made, as `./inv db.rollback --whole` does; no stable days are waited for."""
    roll_back_table(small.work, small.conn)
    cleanup.clean_up(small.context, small.conn, "source")


def facts(small: Small) -> object:
    """Return all that the table is, and its rows."""
    found = Catalog(small.conn, small.files).read(("public", "t"))
    return read_facts(small.conn, small.files, found), small.conn.execute(ROWS).fetchall()


@pytest.mark.parametrize(("strategy", "walk"), STATES)
def test_nothing_is_left_in_whatever_state_it_was(small: Small, strategy: str, walk: str) -> None:
    """A second time there is nothing to do; then it can begin anew, and TRUNCATE is nobody's business."""
    small.setup(SETUP, strategy=strategy)
    before = facts(small)
    {**WALKS, "split": split}[walk](small)

    whole(small)
    assert small.conn.execute(LEFT).fetchall() == []
    assert facts(small) == before
    whole(small)
    assert facts(small) == before

    deploy(small.conn, small.files, small.plan)
    small.switch()
    small.verify()
    whole(small)
    small.run_sql("truncate t")


def test_mirrored_rows_that_only_the_target_has_are_not_dropped(small: Small) -> None:
    """Somebody switched the mirror off and wrote: the rows are named, the trigger too, and doctor's way on is given."""
    small.setup(SETUP, strategy="dual-write")
    small.switch()
    trigger = small.work.names.reverse_sync_trigger
    small.run_sql(f"alter table t_partitioned disable trigger {trigger}")
    small.run_sql("insert into t_partitioned (id, at, v) select 900001, max(at), 7 from t_partitioned")
    with pytest.raises(PreconditionError, match=trigger):
        whole(small)
    small.run_sql(f"alter table t_partitioned enable always trigger {trigger}")
    with pytest.raises(PreconditionError, match="1 rows differ"):
        whole(small)
    assert scalar(small.conn, "select count(*) from public.t_partitioned where id = 900001") == 1


@pytest.mark.parametrize("flags", [("reads",), ("writes",), ("reads", "writes")])
def test_a_server_that_uses_the_target_keeps_it(
    small: Small, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """It is asked, and named with what it said; one that does not answer uses nobody knows what."""
    small.setup(SETUP, strategy="dual-write")
    small.switch()
    names = {"reads": "USE_PARTITIONED_TABLES", "writes": "ENABLE_PARTITION_ROUTING"}
    server = start_app("app1", **{names[flag]: "true" for flag in flags})
    context = small.context
    served = replace(context, env=replace(context.env, app_servers=(AppServer("app1", server.url),)))

    # Where it reads and writes the target it is the source that goes, in its time.
    said = r"may be dropped from" if len(flags) == 2 else r"do not say: app1: .*partitioned.*flags.set"
    with pytest.raises(PreconditionError, match=said):
        cleanup.clean_up(served, small.conn)
    server.process.terminate()
    eventually(lambda: server.process.poll() is not None)
    with pytest.raises(PreconditionError, match="do not say: app1: ConnectError"):
        cleanup.clean_up(served, small.conn)
    assert small.work.migration(small.conn).state == state.MIRRORED

    # The mutant: nobody is asked.
    monkeypatch.setattr(cleanup, "used_side", lambda *_: "source")
    cleanup.clean_up(served, small.conn)
    assert scalar(small.conn, "select to_regclass('public.t_partitioned') is null")


def test_a_server_that_uses_the_source_lets_it_go(small: Small, start_app: StartApp) -> None:
    """Its flags are off."""
    small.setup(SETUP, strategy="dual-write")
    small.switch()
    context, server = small.context, start_app("app1")
    env = replace(context.env, app_servers=(AppServer("app1", server.url),))
    cleanup.clean_up(replace(context, env=env), small.conn)
    assert small.conn.execute(LEFT).fetchall() == []
