"""History that was split is kept, detached: a copy of rows, and no place of rows."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.postgres.connection import Connection
from rehearsal.switchover import state
from rehearsal.switchover.strategies.attach.cutover import Attached
from tests.fix_verbs import Managed

TOLD = "rows in several partitions with the same primary key (17)"
# A key that is there already, in another month; its partition does not see the other.
DOUBLE = "insert into public.t values (17, '2026-02-20', 1)"
TIED = (
    "create table public.t (id bigint, at timestamptz not null, v int, primary key (id, at));"
    "insert into public.t select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97 "
    "from generate_series(1, 500) as n;"
)


def verify_after(managed: Managed, *verbs: str) -> str:
    """Run verbs, each of which must end well; then the comparison must, and say that there is nothing wrong."""
    for verb in verbs:
        managed.done(verb)
    said = managed.verb("verify")
    assert (said.code, TOLD in said.text) == (0, False), said.text
    return said.text


def split_is_equal(managed: Managed) -> None:
    """A healthy table stays healthy when its history is split."""
    managed.setup(rows=3_000, strategy="attach")
    verify_after(managed, "migrate")
    assert "attached; 0 rows outside history" in verify_after(managed, "switchover")
    assert "split; every row is in one of " in verify_after(managed, "split")


@pytest.mark.fault("f06")
def test_a_healthy_table_is_equal_after_its_history_was_split(managed: Managed) -> None:
    split_is_equal(managed)


@pytest.mark.fault("f06", mutant=True)
def test_it_would_not_be_if_the_kept_copy_counted(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old behaviour: history counts as a place of rows, whether it is a partition or not."""
    leaves = Attached._leaves

    def with_history(self: Attached, conn: Connection) -> list[Name]:
        kept = Catalog(conn, self.files).find(self.extra.history)
        return [*leaves(self, conn), *([self.extra.history] if kept else [])]

    monkeypatch.setattr(Attached, "_leaves", with_history)
    with pytest.raises(AssertionError, match="rows in several partitions with the same primary key"):
        split_is_equal(managed)


@pytest.mark.hours
@pytest.mark.fault("f06")
def test_it_is_equal_in_every_state_that_follows(managed: Managed) -> None:
    """Rows are written in each; the way back and the way forward again keep all of them, and clean-up drops a copy."""
    managed.setup(rows=2_000, strategy="attach")
    verify_after(managed, "migrate", "switchover", "split")
    managed.run("update public.t set v = 1 where id % 7 = 0; delete from public.t where id = 5")
    managed.run("insert into public.t values (9001, '2026-01-05', 1), (9002, now() + interval '40 days', 2)")
    verify_after(managed, "split")
    assert "every row is in the table itself" in verify_after(managed, "rollback")
    verify_after(managed, "switchover")
    managed.run("insert into public.t values (9003, '2026-01-05', 1), (9004, now() + interval '40 days', 2)")
    verify_after(managed, "split")
    managed.run("update rehearsal.migration set changed_at = now() - interval '90 days'", "superuser")
    managed.done("cleanup")
    assert managed.rows("select count(*), count(distinct id) from public.t") == [(2003, 2003)]


@pytest.mark.hours
@pytest.mark.fault("f06")
def test_ready_is_equal_and_so_is_a_key_that_holds_the_partition_key(managed: Managed) -> None:
    """A key that the partition key is part of cannot repeat; nothing is asked of rows then."""
    managed.setup(strategy="attach", sql_text=TIED)
    verify_after(managed, "migrate", "switchover", "split")
    verify_after(managed, "rollback")
    assert managed.rows("select count(*) from public.t") == [(500,)]


@pytest.mark.fault("f06")
@pytest.mark.parametrize("verbs", [("split",), ()], ids=["split", "attached"])
def test_a_key_that_does_repeat_is_found_before_and_after_the_split(managed: Managed, verbs: tuple[str, ...]) -> None:
    """Witness: comparison and way back name it, nothing is undone, and once it is gone both end well."""
    managed.setup(rows=500, strategy="attach")
    for verb in ("migrate", "switchover", *verbs):
        managed.done(verb)
    double = DOUBLE if verbs else "insert into public.t values (17, now() + interval '40 days', 1)"
    managed.run(double)
    for verb in ("verify", "rollback"):
        said = managed.verb(verb)
        assert (said.code, TOLD in said.text, "delete the surplus rows" in said.text) == (1, True, True), said.text
    wanted = state.SPLIT if verbs else state.ATTACHED
    assert managed.rows("select state from rehearsal.migration where source = 'public.t'") == [(wanted,)]
    managed.run("delete from public.t where id = 17 and v = 1")
    verify_after(managed, "rollback")
    assert managed.rows("select count(*) from public.t where id = 17") == [(1,)]
