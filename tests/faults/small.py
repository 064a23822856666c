"""One small table of somebody's, and what each verb does to it, without the command line and its hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rehearsal.catalog.tables import split_name
from rehearsal.checks.duplicates import find_duplicates
from rehearsal.checks.inspection import inspect
from rehearsal.checks.preflight import run_preflight
from rehearsal.commands.cleanup import clean_up
from rehearsal.commands.db import look_at_history
from rehearsal.environment import Database, Environment
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.parity import compare
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.table import Switchover
from tests.fix_postgres import ROOT
from tests.fix_tables import deploy

TABLE = """
create table public.t (id bigint primary key, at timestamptz not null, v int);
insert into public.t
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97 from generate_series(1, 400) as n;
"""


@dataclass
class Small:
    """A database with `public.t` in it, and a plan for it."""

    database: Database
    conn: Connection
    files: SqlFiles
    run: Run
    plan: Plan = field(init=False)

    def setup(self, text: str = TABLE, *, strategy: str = "swap", **table: Any) -> None:
        """Make the tables, then the target as `db.migrate` does; nothing may be refused."""
        self.conn.execute("set search_path = public")
        self.conn.execute(as_query(text))
        self.conn.execute("set search_path = pg_catalog")
        self.conn.execute("analyze public.t")
        spec = {"name": "public.t", "key": "at", "premake": 1, **table}
        self.plan = Plan.model_validate({"name": "small", "strategy": strategy, "tables": [spec]})
        found = run_preflight(self.conn, self.files, self.plan)
        blockers = [
            f"{finding.id}: {finding.subject}: {finding.condition}"
            for finding in found
            if finding.severity == "blocker"
        ]
        assert not blockers, blockers
        deploy(self.conn, self.files, self.plan)

    @property
    def work(self) -> Switchover:
        """The table's switchover."""
        return Switchover(self.database, self.files, self.plan, self.plan.tables[0], self.run)

    @property
    def context(self) -> Context:
        """What the verbs are given."""
        here = self.database
        env = Environment("local", "local", ROOT, here, here, "@process/db", (), ROOT, "root@localhost", None)
        return Context(ROOT, self.plan, env, self.run, self.files, "")

    def switch(self) -> None:
        """Copy, follow, cut over; a second time changes nothing."""
        assert self.work.prepare() | self.work.switch()
        assert not self.work.prepare()
        assert not self.work.switch()

    def roll_back(self) -> None:
        """Go back; a second time changes nothing."""
        assert self.work.roll_back()
        assert not self.work.roll_back()

    def split(self) -> None:
        """Split the history of an attached table."""
        assert HistorySplit(self.work).split()

    def verify(self) -> None:
        """Compare as `db.verify` does, self-test and values that repeat among it, and the structure as gates do."""
        spec = self.plan.tables[0]
        if self.plan.strategy == "attach":
            assert look_at_history(self.context, self.conn, self.plan.tables) == 0
            return
        source, target = self.context.pair(self.conn, spec)
        keylog = self.work.log_now(self.conn)
        told = compare(self.database, self.files, source, target, spec.key, keylog=keylog)
        assert (told.unexplained, told.self_test) == (0, True), told
        assert [
            repeated.sets
            for repeated in find_duplicates(self.conn, self.files, source, target, spec.key)
            if repeated.sets
        ] == []

    def unwanted(self) -> list[str]:
        """Return what the gates `target-structure` and `definition` would say."""
        spec = self.plan.tables[0]
        source, target = self.context.pair(self.conn, spec)
        found = inspect(self.conn, self.files, spec, source, target)
        said = [problem for finding in found if finding.check != "partitions" for problem in finding.problems]
        migration = state.read_migration(self.conn, split_name(spec.name))
        if migration.state not in (state.SWAPPED, state.ATTACHED, state.SPLIT, state.MIRRORED):
            return said
        judged = self.work.differences(self.conn)
        return said + [difference.id for difference in judged if difference.reason is None]

    def clean_up(self, stays: Stays | None = None) -> None:
        """Drop what is kept for the rollback, after its days; `stays`: which of two mirrored tables is used."""
        self.conn.execute("update rehearsal.migration set changed_at = now() - interval '90 days'")
        clean_up(self.context, self.conn, stays)

    def run_sql(self, text: str) -> None:
        """Run SQL text of the application, in a session of its own."""
        with connect(self.database, role="application") as conn:
            conn.execute("set search_path = public")
            conn.execute(as_query(text))
