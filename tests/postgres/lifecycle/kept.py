"""A table whose partitions are looked after, and the years that pass over it through the one door of now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.policy import Policy, Wish, read_policies, write_policy
from rehearsal.lifecycle.reading import LeafAct, LeafTrouble, read_leaves, read_to_make, read_to_retire, read_troubles
from rehearsal.lifecycle.standing import Standing, read_standing
from rehearsal.lifecycle.work import Done, LeafWorker
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import LockPolicy
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

TABLE = """
create table public.t (
    id bigint generated always as identity, at timestamptz not null, v int check (v >= 0), primary key (id, at)
) partition by range (at);
create index t_v on public.t (v);
create table public.t_first partition of public.t for values from ('2026-01-01+00') to ('2026-02-01+00');
"""
DOOR = """
create or replace function rehearsal.lifecycle_now() returns timestamptz
language sql volatile set search_path = pg_catalog, pg_temp as $$ select timestamptz '{}' $$
"""
BUDGET = LockPolicy(attempts=3, budget_s=5)
JANUARY = datetime(2026, 1, 15, tzinfo=UTC)


@dataclass
class Kept:
    """`public.t` with a policy; `now` is what the server says the time is."""

    conn: Connection
    files: SqlFiles
    now: datetime = JANUARY
    told: list[Done] = field(default_factory=list[Done])

    def setup(self, text: str = TABLE, *, now: datetime = JANUARY, **how: Any) -> None:
        """Make the table and adopt it: monthly, three ahead, unless `how` says otherwise."""
        self.run_sql(text)
        install_code(self.conn, self.files)
        self.pass_to(now)
        self.adopt(**how)

    def adopt(self, **how: Any) -> bool:
        """Write the policy."""
        wish = Wish(**{"name": ("public", "t"), "every": "1 month", "premake": 3, **how})
        with self.conn.transaction():
            return write_policy(self.conn, "kept", wish)

    def pass_to(self, now: datetime) -> None:
        """Let it be another time, through the one door."""
        self.now = now
        self.conn.execute(as_query(DOOR.format(now.isoformat())))

    def run_sql(self, text: str) -> None:
        """Run statements of somebody else."""
        self.conn.execute(as_query(text))

    @property
    def policy(self) -> Policy:
        """The table's policy."""
        return read_policies(self.conn, "kept")[0]

    @property
    def worker(self) -> LeafWorker:
        """Whoever does the acts; what became of them is kept in `told`."""
        return LeafWorker(self.conn, self.policy, BUDGET, self.told.append)

    def to_make(self) -> list[LeafAct]:
        """Return what premake would do."""
        return read_to_make(self.conn, self.policy.oid)

    def to_retire(self, runner: datetime | None = None) -> list[LeafAct]:
        """Return what retention would do."""
        return read_to_retire(self.conn, self.policy.oid, runner or self.now)

    def premake(self) -> list[LeafAct]:
        """Make what is due; all of it must be done, and nothing be left to do."""
        acts = self.to_make()
        assert self.worker.make(acts), self.told[-1].failure
        assert self.to_make() == []
        return acts

    def retain(self, runner: datetime | None = None) -> list[LeafAct]:
        """Detach and drop what is due; all of it must be done."""
        acts = self.to_retire(runner)
        assert self.worker.retire(acts), self.told[-1].failure
        return acts

    def bounds(self) -> list[tuple[str | None, str | None]]:
        """Return the real bounds of the leaves, DEFAULT left out."""
        return [(leaf.lower, leaf.upper) for leaf in read_leaves(self.conn, self.policy.oid) if not leaf.is_default]

    def troubles(self) -> list[LeafTrouble]:
        """Return what is wrong."""
        return read_troubles(self.conn, self.policy.oid)

    def ids(self) -> list[str]:
        """Return the ids of what is wrong."""
        return [trouble.id for trouble in self.troubles()]

    def standing(self) -> Standing:
        """Return how the table stands."""
        return read_standing(self.conn, self.files, self.policy, self.now)

    def write(self, moment: datetime, v: int = 1) -> None:
        """Write one row of a moment."""
        self.conn.execute("insert into public.t (at, v) values (%s, %s)", [moment, v])
