"""What the database remembers of runs: by psql and by the verbs, with and without work, and where one failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import errors

from tests.fix_verbs import Managed
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_retain import YEAR, past
from tests.postgres.lifecycle.test_verbs import OTHERS, world

__all__ = ["world"]
RAN = "select parent::text, act, ok, succeeded_at from rehearsal.lifecycle_ran order by 1, 2"


def ran(kept: Kept) -> list[tuple[Any, ...]]:
    """Return each table's runs."""
    return kept.conn.execute(RAN).fetchall()


def call(kept: Kept, what: str) -> None:
    """Run a part of the clock without Python, whose time is the server's."""
    kept.conn.execute("call rehearsal.lifecycle_run(%s, %s)", [what, kept.now])


def test_a_run_with_nothing_to_do_has_ended_well(kept: Kept) -> None:
    kept.setup()
    call(kept, "premake")
    call(kept, "premake")
    assert ran(kept) == [("public.t", "premake", True, kept.now)]


def test_a_run_that_failed_keeps_when_it_last_ended_well(kept: Kept) -> None:
    """Too few partitions are ahead, since what is behind the last one cannot be made."""
    kept.setup()
    call(kept, "premake")
    first = kept.now
    kept.pass_to(datetime(2026, 2, 15, tzinfo=UTC))
    kept.run_sql("create table public.t_end partition of public.t for values from ('2026-05-01+00') to (maxvalue)")
    with pytest.raises(errors.RaiseException):
        call(kept, "premake")
    assert ran(kept) == [("public.t", "premake", False, first)]


def test_what_is_wrong_with_one_table_takes_no_success_from_another(kept: Kept) -> None:
    """Whatever the order in which they are looked after."""
    kept.setup()
    for name in ("a", "z"):
        kept.run_sql(
            f"create table public.{name} (at timestamptz) partition by range (at); "
            f"create table public.{name}_1 partition of public.{name} "
            "for values from ('2026-01-01+00') to ('2026-02-01+00')"
        )
        kept.adopt(name=("public", name))
    kept.run_sql("drop table public.t")
    with pytest.raises(errors.RaiseException):
        call(kept, "premake")
    assert [row[1:] for row in ran(kept) if row[0].startswith("public.")] == [("premake", True, kept.now)] * 2


def test_both_parts_of_a_retention_must_end_well(kept: Kept) -> None:
    """The second part alone is no success: the first one failed."""
    past(kept, f"{YEAR}create table public.t_rest partition of public.t default;")
    with pytest.raises(errors.RaiseException):
        kept.conn.execute("call rehearsal.lifecycle_run('retain', '2030-01-01+00')")
    call(kept, "finish")
    assert ran(kept) == [("public.t", "retain", False, None)]
    call(kept, "retain")
    assert ran(kept) == [("public.t", "retain", True, None)]
    call(kept, "finish")
    assert ran(kept) == [("public.t", "retain", True, kept.now)]


def test_who_is_forgotten_has_no_runs(kept: Kept) -> None:
    kept.setup()
    call(kept, "premake")
    kept.run_sql("delete from rehearsal.lifecycle_policy")
    assert ran(kept) == []


def test_the_verbs_note_their_ends_and_a_dry_run_notes_none(world: Managed) -> None:
    """As the migrating role; a failure is noted too."""
    world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months")
    world.verb("lifecycle-premake", "--dry-run")
    assert world.rows("select count(*) from rehearsal.lifecycle_ran") == [(0,)]
    with world.session() as other, other.transaction():
        other.execute("lock table public.t in share row exclusive mode")
        assert world.verb("lifecycle-premake").code == 1
    query = "select act, ok, succeeded_at is null from rehearsal.lifecycle_ran order by act"
    assert world.rows(query) == [("premake", False, True)]
    world.done("lifecycle-premake")
    world.done("lifecycle-retain")
    assert world.rows(query) == [("premake", True, False), ("retain", True, False)]
