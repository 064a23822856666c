"""Tables that were altered once they are mirrored or attached: the way on that is named works; what is remembered."""

from __future__ import annotations

import pytest

from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Sight, read_remembered
from tests.faults.test_drift import BEFORE, PREMADE, follow, refused, unwatched

# What is altered once both tables are mirrored: on one, then on the other, which the refusal names as the way on.
MIRRORED = {
    "check": "alter table public.{} add constraint big check (v >= 0)",
    "default": "alter table public.{} alter w set default 'b'",
    "not null": "alter table public.{} alter v set not null",
    "grant": "grant select on public.{} to public",
}


@pytest.mark.fault("f04")
@pytest.mark.parametrize("what", MIRRORED)
@pytest.mark.parametrize("leaving", [False, True])
def test_the_way_on_that_is_named_for_mirrored_tables_works(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, what: str, *, leaving: bool
) -> None:
    """The same statement on the other table, whichever it was that differs; `db.migrate` would leave both alone."""
    made = follow(database, conn, sql_files, run, "dual-write")
    assert made.switch()
    first, second = ("t_partitioned", "t") if leaving else ("t", "t_partitioned")
    conn.execute(as_query(MIRRORED[what].format(first)))
    named = "same statements on the other of public.t and public.t_partitioned"
    refused(conn, lambda: made.require_fit(conn, leaving=leaving), named)
    conn.execute(as_query(MIRRORED[what].format(second)))
    made.require_fit(conn, leaving=leaving)


@pytest.mark.fault("f04")
def test_a_column_that_both_have_and_no_mirror_carries_is_refused(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run
) -> None:
    """Its values would be in one table only; taken off again, flags may go on."""
    made = follow(database, conn, sql_files, run, "dual-write")
    assert made.switch()
    for table in ("t", "t_partitioned"):
        conn.execute(as_query(f"alter table public.{table} add note text"))
    refused(conn, lambda: made.require_fit(conn), 'column "note": mirrored .*take it off')
    refused(conn, lambda: made.require_fit(conn, leaving=True), 'column "note": mirrored .*take it off')
    for table in ("t", "t_partitioned"):
        conn.execute(as_query(f"alter table public.{table} drop column note"))
    made.require_fit(conn)


@pytest.mark.fault("f04")
def test_a_type_changed_on_both_mirrored_tables_has_its_rows_compared(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run
) -> None:
    """What was cast meanwhile differs, though the definitions are the same again."""
    made = follow(database, conn, sql_files, run, "dual-write")
    assert made.switch()
    conn.execute("alter table public.t alter v type numeric(10,2)")
    conn.execute("update public.t set v = 1.25 where id = 1")
    conn.execute("alter table public.t_partitioned alter v type numeric(10,2)")
    refused(conn, lambda: made.require_fit(conn), "1 rows differ")


@pytest.mark.fault("f05")
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_what_is_remembered_under_the_lock_is_what_is_there(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, strategy: str
) -> None:
    """Partitions are read before the lock and triggers under it; together they are what a whole reading finds."""
    made = follow(database, conn, sql_files, run, strategy)
    assert made.switch()
    plain, parted = ("t_old", "t") if strategy == "swap" else ("t", "t_partitioned")
    require_remembered(conn, sql_files, plain, parted)
    if made.roll_back():
        require_remembered(conn, sql_files, "t", "t_partitioned")


def require_remembered(conn: Connection, files: SqlFiles, plain: str, parted: str) -> None:
    """Compare what the step keeps with what is there."""
    sight = Sight(files, Names(("public", "t")), ("public", plain), ("public", parted))
    kept = read_remembered(conn, state.read_migration(conn, ("public", "t")).id)
    assert kept == sight.read(conn)


@pytest.mark.fault("f05")
def test_attach_names_a_trigger_that_one_partition_alone_has(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run
) -> None:
    """Partitions that came or went leave the table's rows as they are; a trigger of one would be gone."""
    made = follow(database, conn, sql_files, run, "attach")
    assert made.switch()
    conn.execute(as_query(PREMADE.format(suffix="")))
    conn.execute(
        "create trigger mine before update on public.t_new for each row "
        "execute function pg_catalog.suppress_redundant_updates_trigger()"
    )
    refused(conn, made.roll_back, "public.t_new: own triggers .*mine")
    conn.execute("drop trigger mine on public.t_new")
    assert made.roll_back()


@pytest.mark.fault("f04", mutant=True)
@pytest.mark.parametrize("what", ["type", "check", "default", "grant on a leaf"])
def test_without_the_comparison_the_switch_ends_well(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old behaviour: what was altered while the target followed is not in it, and nobody is told."""
    unwatched(monkeypatch)
    made = follow(database, conn, sql_files, run, "swap")
    conn.execute(as_query(BEFORE[what][0]))
    with pytest.raises(AssertionError, match="not refused"):
        refused(conn, made.switch, BEFORE[what][1])
