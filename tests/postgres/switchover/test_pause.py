"""Pause and resume: a row in the database that running copies honour between chunks."""

from __future__ import annotations

import threading

import pytest

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.evidence.events import Event, Progress, ThrottleChanged
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.copy.pause import end_pause, read_pause, set_pause
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of, writing

DONE = "select count(*) from rehearsal.chunk where done_at is not null"
WAIT_S = 60.0


def test_second_pause_and_second_resume_change_nothing(conn: Connection) -> None:
    """Who paused first, and why, stands."""
    assert set_pause(conn, "events", "deploy at noon")
    assert not set_pause(conn, "events", "another reason")
    assert "deploy at noon" in str(read_pause(conn, "events"))
    assert read_pause(conn, "others") is None
    assert end_pause(conn, "events")
    assert not end_pause(conn, "events")


@pytest.mark.parametrize("after", [0, 3])
def test_paused_copy_waits_and_goes_on(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, after: int
) -> None:
    """Paused before it begins or amid its chunks: none begins until the pause ends, and nothing is lost meanwhile."""
    plan, names = make_plan("swap"), names_of(events)
    deploy(conn, sql_files, plan)
    paused, progress = threading.Event(), 0

    def hear(event: Event) -> None:
        nonlocal progress
        if isinstance(event.what, ThrottleChanged) and event.what.paused:
            paused.set()
        elif isinstance(event.what, Progress) and "copy" in event.what.what:
            progress += 1
            if progress == after:
                with connect(database) as own:
                    set_pause(own, plan.name, "amid")

    run.listen(hear)
    if not after:
        set_pause(conn, plan.name)
    with writing(database, events) as writers:
        worker = threading.Thread(target=make_switchover(database, sql_files, plan, run).prepare)
        worker.start()
        assert paused.wait(WAIT_S)
        held = scalar(conn, DONE)
        # One worker is told of the pause; the other one may still be at the chunk that it had begun.
        assert after <= held <= after + plan.copying.workers
        assert scalar(conn, "select count(*) from rehearsal.chunk where done_at is null") > 0
        assert worker.is_alive()
        end_pause(conn, plan.name)
        worker.join(WAIT_S)

    assert not worker.is_alive()
    assert state.read_migration(conn, events).state == state.FOLLOWING
    assert writers.acknowledged
    make_switchover(database, sql_files, plan, run).follow()
    assert difference(conn, events, names.target) == (0, 0)
    told = [event.what for event in run.events()]
    said = [what.text for what in told if isinstance(what, ThrottleChanged) and what.paused is not None]
    assert "db.resume" in said[0]
    assert said[-1].endswith("goes on after the pause")
