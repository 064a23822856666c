"""Every strategy alike: after preparation, after the cut-over, after rollback, after the second cut-over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.dryrun import plan_acts
from rehearsal.switchover.strategies.registry import STRATEGIES
from rehearsal.switchover.table import Switchover
from tests.fix_tables import EVENTS, NOW, deploy, difference, make_plan, make_switchover

ROWS = 'select count(*) from public."We""ird Events"'


@dataclass
class Way:
    """A table on its way, looked at after each act."""

    work: Switchover
    conn: Connection
    events: Name

    def act(self, act: Callable[[], bool]) -> None:
        """Do it; a second time changes nothing."""
        before = self.work.migration(self.conn)
        if act() or before != self.work.migration(self.conn):
            assert not act()

    @property
    def now(self) -> state.Migration:
        """How far the table is."""
        return self.work.migration(self.conn)

    def write(self, note: str) -> None:
        """Write a row as the application does, with keys of today and of old."""
        for day in ("2026-01-03", "2026-03-14"):
            self.conn.execute(
                'insert into public."We""ird Events" ("Created At", "unit id", amount, note) values (%s, 1, 7, %s)',
                [day, note],
            )
        self.conn.execute('update public."We""ird Events" set note = %s where id = 9', [note])
        self.conn.execute(
            'delete from public."We""ird Events" where id = (select min(id) from public."We""ird Events")'
        )

    def is_sound(self) -> None:
        """Triggers are as they must be, nothing lags that cannot follow, both tables have the same rows."""
        work, conn = self.work, self.conn
        assert [trigger for trigger in work.trigger_states(conn) if trigger.found != trigger.wanted] == []
        work.follow()
        if log := work.log_now(conn):
            assert scalar(conn, f'select count(*) from {log[0]}."{log[1].replace(chr(34), chr(34) * 2)}"') == 0
        pair = work.strategy.pair(work.names, self.now)
        if work.plan.traits.copies:
            assert difference(conn, pair.plain, pair.parted) == (0, 0)

    def is_used_by_the_application(self) -> None:
        """After the cut-over: the state says so, and nothing differs that has no reason."""
        assert self.now.state in self.work.strategy.switched
        assert [difference.id for difference in self.work.differences(self.conn) if difference.reason is None] == []
        kind = "p" if self.work.plan.traits.takes_name else "r"
        assert Catalog(self.conn, self.work.files).read(self.events).kind == kind

    def is_as_before(self) -> None:
        """After rollback: the application has an ordinary table, which nothing was left on."""
        assert Catalog(self.conn, self.work.files).read(self.events).kind == "r"
        if self.work.plan.traits.takes_name:
            assert self.now.state not in self.work.strategy.switched
            assert [difference.id for difference in self.work.differences(self.conn)] == []


@pytest.fixture(params=sorted(STRATEGIES))
def way(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, request: pytest.FixtureRequest
) -> Way:
    """The events table, registered for a strategy."""
    plan = make_plan(str(request.param))
    deploy(conn, sql_files, plan)
    return Way(make_switchover(database, sql_files, plan, run), conn, events)


def test_there_and_back_and_there_again(way: Way) -> None:
    """The same table of acts for each strategy, with writes after each of them; no row is lost on the way."""
    work, rows = way.work, int(scalar(way.conn, ROWS))
    way.act(work.prepare)
    assert way.now.state not in work.strategy.switched
    assert work.strategy.looks(way.now, leaving=False)
    way.write("prepared")
    way.is_sound()

    way.act(work.switch)
    way.is_used_by_the_application()
    way.write("switched")
    way.is_sound()

    assert work.strategy.looks(way.now, leaving=True)
    way.act(work.roll_back)
    way.is_as_before()
    way.write("back")
    way.is_sound()

    work.prepare()
    way.act(work.switch)
    way.is_used_by_the_application()
    way.write("again")
    way.is_sound()
    assert int(scalar(way.conn, ROWS)) == rows + 4
    assert scalar(way.conn, 'select note from public."We""ird Events" where id = 9') == "again"


def test_the_dry_run_names_what_is_to_come_and_nothing_after_it(way: Way) -> None:
    """Acts of a strategy while its switchover is to come; none once it is switched."""
    work = way.work
    acts = plan_acts(way.conn, work.files, work.plan, NOW)
    assert {act.table for act in acts} == {EVENTS}
    assert all(act.sql and act.lock and act.seconds > 0 for act in acts)
    work.prepare()
    work.switch()
    assert plan_acts(way.conn, work.files, work.plan, NOW) == []


def test_every_named_step_begins_once_in_a_cycle(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a progress view, a test that kills, and the ledger of steps know of is the same list."""
    begun: list[str] = []
    monkeypatch.setattr(Switchover, "begin", lambda _, step: begun.append(step))
    way.work.prepare()
    way.work.switch()
    marked = {row[0] for row in way.conn.execute("select name from rehearsal.step where name <> 'seen'")}
    assert len(begun) == len(set(begun)) or begun.count("weak keys") == 1
    # Steps within a lock are marked by their own transaction under a name of theirs.
    assert marked - {"sync-on", "capture-off"} <= set(begun)
