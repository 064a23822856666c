"""A server that does not let the role into the restore drill's database says so before anything else, with the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.cluster import Cluster
from rehearsal.checks.backup import backup, restore_drill
from rehearsal.checks.preflight import check_drill
from rehearsal.environment import Database
from rehearsal.errors import CannotSee, PreconditionError, StepFailed
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.waiting import eventually

NAME = "drill_refused"
Drill = Callable[[], None]


@pytest.fixture
def refused(conn: Connection, database: Database) -> Iterator[Database]:
    """A database, not there yet, that access rules keep everybody from."""
    rules = Path(scalar(conn, "show hba_file"))
    before = rules.read_text()
    rules.write_text(f"host {NAME} all all reject\nlocal {NAME} all reject\n{before}")
    scratch = replace(database, name=NAME)
    try:
        conn.execute("select pg_catalog.pg_reload_conf()")
        # Until then the server has not taken in its access rules.
        eventually(lambda: what_it_says(scratch), 30, that=lambda said: "pg_hba.conf" in said)
        yield scratch
    finally:
        rules.write_text(before)
        conn.execute("select pg_catalog.pg_reload_conf()")


def what_it_says(database: Database) -> str:
    """Return why no session is to be had."""
    with pytest.raises(PreconditionError) as caught:
        connect(database)
    return str(caught.value)


@pytest.fixture
def drill(
    conn: Connection, database: Database, refused: Database, sql_files: SqlFiles, cluster: Cluster, tmp_path: Path
) -> Drill:
    """The scenario: a backup, and its drill in that database."""
    conn.execute("create table public.t (id bigint primary key); insert into public.t select generate_series(1, 9)")
    folder = Path(cluster.facts()["bin"])

    def run() -> None:
        made = backup(database, sql_files, [("public", "t")], tmp_path / "backup", folder)
        try:
            with pytest.raises(CannotSee, match=f"host {NAME} {database.user} 127.0.0.1/32 scram-sha-256"):
                restore_drill(database, sql_files, made, refused.name, folder)
        except StepFailed as exc:
            message = f"the run ends in the middle: {exc}"
            raise AssertionError(message) from exc
        assert scalar(conn, f"select count(*) from pg_database where datname = '{NAME}'") == 0

    return run


@pytest.mark.fault("s04")
def test_a_drill_that_is_not_let_in_cannot_see_and_names_the_line(drill: Drill) -> None:
    """There is no verdict on it, the rest of the rehearsal goes on; nothing is left."""
    drill()


@pytest.mark.fault("s04", mutant=True)
def test_a_drill_that_finds_out_from_pg_restore_is_caught(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: the run ended at its ninth phase, with the tables prepared."""
    monkeypatch.setattr("rehearsal.checks.scratch.require_entry", lambda *_: None)
    with pytest.raises(AssertionError, match="the run ends in the middle"):
        drill()


@pytest.mark.fault("s04")
def test_preflight_warns_of_the_line_before_anything_is_made(conn: Connection, refused: Database) -> None:
    """A database that is not there yet, and that the role is let into, is no finding."""
    (found,) = check_drill(conn, refused)

    assert (found.id, found.severity) == ("restore-drill", "warning")
    assert found.condition == f"{refused.user} is not let into {NAME}, which the restore drill makes and drops"
    assert found.remedy.endswith(f"reload: host {NAME} {refused.user} 127.0.0.1/32 scram-sha-256")
    assert list(check_drill(conn, replace(refused, name="drill_not_there"))) == []
