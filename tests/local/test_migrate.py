"""The registry: changes through pyinfra and psql into a real database."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rehearsal.errors import HostsFailed
from rehearsal.hosts.manifest import Change, write_manifest
from rehearsal.hosts.pyinfra import HostsResult, run_pyinfra
from rehearsal.postgres.connection import connect, scalar
from tests.local.conftest import INVENTORY, PLAN, ROOT, Local
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]


def migrate(manifest: Path, **data: int) -> HostsResult:
    return run_pyinfra(INVENTORY, "migrate", plan=PLAN, data={"manifest": str(manifest), **data})


def changes_of(place: Local, prefix: str) -> list[tuple[str, str]]:
    with connect(place.env.database) as conn:
        query = "select name, checksum from rehearsal.change where name like %s order by name"
        return list(conn.execute(query, [prefix + "/%"]).fetchall())


def test_changes_are_applied_once_and_an_edited_one_is_refused_before_anything_runs(
    place: Local, tmp_path: Path
) -> None:
    """Second run: no change. Then an applied change is edited and a new one added: neither runs."""
    made = Change(
        "once/001_table", "create table public.\"Once\" (\"weird'name\" text default E'it''s \\\\ %(x)s :y $1');"
    )
    two = Change(
        "once/002_index", 'create index concurrently once_idx on public."Once" ("weird\'name");', transactional=False
    )
    manifest = write_manifest(tmp_path, "hosts_local", [made, two])

    first, second = migrate(manifest), migrate(manifest)

    assert (first.changed, second.changed) == (2, 0)
    assert changes_of(place, "once") == [(made.name, made.checksum), (two.name, two.checksum)]
    with connect(place.env.database) as conn:
        body = scalar(conn, "select body from rehearsal.change where name = 'once/001_table'")
    assert body == made.body

    edited = Change(made.name, made.body + " -- edited")
    manifest = write_manifest(tmp_path, "hosts_local", [Change("once/000_new", "select 1;"), edited, two])
    with pytest.raises(HostsFailed, match="once/001_table was edited after it was applied"):
        migrate(manifest)
    assert len(changes_of(place, "once")) == 2


def test_a_failing_change_leaves_neither_work_nor_row(place: Local, tmp_path: Path) -> None:
    """The change before it stays; what the failing one did is gone; the next change does not run."""
    changes = [
        Change("failing/001", "create table public.failing_first ();"),
        Change("failing/002", "create table public.failing_half ();\nselect 1 / 0;"),
        Change("failing/003", "create table public.failing_third ();"),
    ]
    with pytest.raises(HostsFailed, match=r"apply change failing/002 failed: .*division by zero"):
        migrate(write_manifest(tmp_path, "hosts_local", changes))

    assert [name for name, _ in changes_of(place, "failing")] == ["failing/001"]
    with connect(place.env.database) as conn:
        query = "select array_agg(relname::text) from pg_catalog.pg_class where relname like 'failing%%'"
        assert scalar(conn, query, []) == ["failing_first"]


def test_a_change_waits_for_its_lock_again_and_again_but_not_forever(place: Local, tmp_path: Path) -> None:
    """The reader goes once a try was seen to give up; a later try gets the lock."""
    waits = "select pid from pg_catalog.pg_locks where not granted and relation = 'public.waited'::regclass"
    tries: set[int] = set()

    with (
        ThreadPoolExecutor(1) as pool,
        connect(place.env.database) as conn,
        connect(place.env.database, autocommit=False) as reader,
    ):
        conn.execute("create table public.waited ()")
        reader.execute("select from public.waited")
        changes = [Change("wait/001", "alter table public.waited add id int;")]
        done = pool.submit(migrate, write_manifest(tmp_path, "hosts_local", changes), lock_timeout_ms=200)
        # Each try is a psql of its own: a second process that waits is the first one's second try.

        def look() -> set[int]:
            tries.update(row[0] for row in conn.execute(waits))
            return tries

        eventually(look, 60, that=lambda seen: len(seen) >= 2, unless=done.done)
        reader.rollback()
        result = done.result()

    assert result.changed == 1
    assert len(tries) >= 2


INTERRUPTED = """
import sys
from pathlib import Path
from rehearsal.hosts.pyinfra import run_pyinfra
from tests.local.conftest import INVENTORY, PLAN
try:
    run_pyinfra(INVENTORY, "migrate", plan=PLAN, data={"manifest": sys.argv[1]})
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_ends_every_process_and_leaves_nothing_half_done(place: Local, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a change: pyinfra, psql and the statement on the server end, and the work is gone."""
    body = "create table public.interrupted (); select pg_catalog.pg_sleep(120);"
    manifest = write_manifest(tmp_path, "hosts_local", [Change("interrupt/001", body)])
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(manifest)], cwd=ROOT, start_new_session=True)
    sleeping = "select count(*) from pg_catalog.pg_stat_activity where wait_event = 'PgSleep'"
    with connect(place.env.database) as conn:
        try:
            eventually(lambda: scalar(conn, sleeping) == 1, 60)
            child.send_signal(signal.SIGINT)
            assert child.wait(60) == 130
        finally:
            child.kill()
        eventually(lambda: scalar(conn, sleeping) == 0, 60)
        assert scalar(conn, "select to_regclass('public.interrupted') is null")
    assert changes_of(place, "interrupt") == []
    processes = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(manifest) not in processes
