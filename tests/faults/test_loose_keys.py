"""A loosened foreign key does what the foreign key did, and bars neither comparison nor clean-up."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

import rehearsal.switchover.parity
from rehearsal.catalog.tables import Table
from rehearsal.environment import Database
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.pair import Pair
from tests.faults.small import TABLE, Small

# Name of the referencing table -> its foreign key's actions.
ACTIONS = {
    "no_action": "",
    "restricted": "on delete restrict on update restrict",
    "cascading": "on delete cascade on update cascade",
    "emptied": "on delete set null on update set null",
    "fallen": "on delete set default on update set default",
    "late": "deferrable initially deferred",
    "checked_late": "deferrable initially immediate",
    "whole": "match full",
}
CHILDREN = "".join(
    f"create table public.{name} (n int primary key, p bigint default 1 references public.t {how});"
    f"insert into public.{name} select n, n from generate_series(2, 5) as n;"
    for name, how in ACTIONS.items()
)
SEVERAL = """
alter table public.t add constraint t_pair unique (id, v), add column parent bigint references public.t;
update public.t set parent = id - 1 where id > 1;
create table public.pairs (id bigint, v int, foreign key (id, v) references public.t (id, v));
insert into public.pairs select id, v from public.t where id <= 5;
"""
NAMES = [f"{name}_p_fkey" for name in ACTIONS] + ["t_parent_fkey", "pairs_id_v_fkey"]


def loose_keys_are_carried(small: Small) -> None:
    """Through switchover, comparison, way back, and clean-up; children refuse and follow as before and after."""
    references = dict.fromkeys(NAMES, "loose")
    small.setup(TABLE + CHILDREN + SEVERAL, references=references, uniques={"t_pair": "per-partition"})
    try:
        for act in (small.switch, small.roll_back, small.switch):
            act()
            small.verify()
            refuses_and_follows(small)
        small.clean_up()
    except psycopg.errors.ForeignKeyViolation as exc:
        message = f"an act of ours met a foreign key: {exc}"
        raise AssertionError(message) from exc
    refuses_and_follows(small)


def refuses_and_follows(small: Small) -> None:
    """Witness, in a transaction that is rolled back: what the foreign keys forbid and do."""
    with small.conn.transaction(force_rollback=True):
        for name in ("no_action", "restricted", "whole", "checked_late"):
            for statement in (f"insert into public.{name} values (9, -1)", "delete from public.t where id = 3"):
                with (
                    pytest.raises(psycopg.errors.ForeignKeyViolation, match="violates foreign key"),
                    small.conn.transaction(),
                ):
                    small.conn.execute(statement.encode())
        small.conn.execute("update public.t set at = at + interval '40 days' where id = 3")
        barring = ("no_action", "restricted", "whole", "checked_late", "late", "pairs")
        for name in barring:
            small.conn.execute(f"delete from public.{name}".encode())
        small.conn.execute("update public.t set parent = null")
        small.conn.execute("delete from public.t where id = 3")
        seen = {name: small.conn.execute(f"select p from public.{name} where n = 3".encode()).fetchall()
                for name in ("cascading", "emptied", "fallen")}  # fmt: skip
        assert seen == {"cascading": [], "emptied": [(None,)], "fallen": [(1,)]}


@pytest.mark.fault("f08")
def test_loose_keys_of_every_action_are_carried(small: Small) -> None:
    loose_keys_are_carried(small)


@pytest.mark.fault("f08", mutant=True)
def test_they_would_not_be_if_the_self_test_wrote_into_the_table(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old behaviour: the comparison proves itself on rows of the live table, which children refer to."""

    def on_live_rows(database: Database, _files: SqlFiles, pair: Pair, *_: Any, **__: Any) -> tuple[bool, str]:
        live: Table = pair.target
        with connect(database) as conn, conn.transaction(force_rollback=True):
            conn.execute(sql.SQL("delete from {} where id = 3").format(sql.Identifier(*live.name)))
        return True, "on rows of the application"

    monkeypatch.setattr(rehearsal.switchover.parity, "run_self_test", on_live_rows)
    with pytest.raises(AssertionError, match="an act of ours met a foreign key"):
        loose_keys_are_carried(small)


MOVING = "update public.t set id = id + 100000, at = at + interval '60 days' where id = 3"
PAIRS = [
    ("c", "cascade"),
    ("c", "no action"),
    ("c", "set null"),
    ("n", "cascade"),
    ("a", "cascade"),
    ("c", "set default"),
]
MOVED = "".join(
    f"create table public.m{number} (n int primary key, p bigint default 1 references public.t "
    f"on delete {'cascade' if delete == 'c' else 'set null' if delete == 'n' else 'no action'} on update {update}"
    f"{' deferrable initially deferred' if number % 2 else ''});"
    for number, (delete, update) in enumerate(PAIRS)
)


def a_key_that_moves_with_its_row_is_an_update(small: Small) -> None:
    """A row that goes to another partition and gets another key: its children see ON UPDATE, as they did before."""
    small.setup(TABLE + MOVED, references={f"m{number}_p_fkey": "loose" for number in range(len(PAIRS))})
    before = [what_becomes_of_child(small, number) for number in range(len(PAIRS))]
    small.switch()
    after = [what_becomes_of_child(small, number) for number in range(len(PAIRS))]
    assert after == before, "children of a row that moved"
    small.roll_back()
    left = "select proname from pg_catalog.pg_proc where proname like 'loose\\_%%'"
    assert small.conn.execute(left).fetchall() == []


def what_becomes_of_child(small: Small, number: int) -> object:
    """Return the child after a move and, in the same transaction, after the deletion of a row that took the old key."""
    try:
        with small.conn.transaction(force_rollback=True):
            small.conn.execute(f"insert into public.m{number} values (3, 3)".encode())
            small.conn.execute(MOVING.encode())
            small.conn.execute("set constraints all immediate")
            moved = small.conn.execute(f"select p from public.m{number}".encode()).fetchall()
            small.conn.execute("insert into public.t select 3, at, v from public.t where id = 4")
            small.conn.execute(f"update public.m{number} set p = 3".encode())
            small.conn.execute("delete from public.t where id = 3")
            small.conn.execute("set constraints all immediate")
            return moved, small.conn.execute(f"select p from public.m{number}".encode()).fetchall()
    except psycopg.Error as exc:
        return exc.sqlstate


@pytest.mark.fault("f08")
def test_a_key_that_moves_with_its_row_is_an_update(small: Small) -> None:
    a_key_that_moves_with_its_row_is_an_update(small)


@pytest.mark.fault("f08", mutant=True)
def test_children_would_be_deleted_if_a_moved_row_counted_as_deleted(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old behaviour: what arrives as DELETE does what ON DELETE says."""
    render = SqlFiles.render

    def forgetful(self: SqlFiles, name: str, **values: Any) -> str:
        return render(self, name, **values).replace("event := 'UPDATE'", "event := tg_op")

    monkeypatch.setattr(SqlFiles, "render", forgetful)
    with pytest.raises(AssertionError, match="children of a row that moved"):
        a_key_that_moves_with_its_row_is_an_update(small)
