"""The lifecycle of one table in a rehearsal: a leaf made on the real one, leaves dropped on a scratch one, each proved.

Owns what must be there afterwards, by the calendar of `catalog.bounds` and the catalog itself: the functions that are
judged compute by PostgreSQL's. Locks on the application's table: SHARE UPDATE EXCLUSIVE, ms.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from psycopg import sql

from rehearsal.catalog.bounds import Bound
from rehearsal.catalog.definition import read_facts
from rehearsal.catalog.keys import Key, read_key
from rehearsal.catalog.tables import STATE_SCHEMA, Catalog, Name, Partition, Table, dotted
from rehearsal.evidence.events import LockTaken
from rehearsal.lifecycle.policy import Policy, Wish, find_policy, forget_policies, write_policy
from rehearsal.lifecycle.reading import LeafAct, clock_objection, read_to_make, read_to_retire
from rehearsal.lifecycle.standing import read_standing
from rehearsal.lifecycle.work import Done, LeafWorker
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import LockPolicy
from rehearsal.rehearse.context import Context
from rehearsal.switchover.names import Names, fit

# The plan that policies of a rehearsal name, so that those of a killed one are told from anybody's.
OURS = "of a rehearsal"
PREFIX = "scratch_leaves_"
# A day of hold, passed.
HOLD_IS_OVER = """
update rehearsal.lifecycle_detached set since = since - interval '2 days'
where parent::oid = %s::oid and state = 'held'
"""
# Rows that are brought into each leaf of the scratch table.
MOST_ROWS = 1_000
# Periods before the current one in the scratch table, of which all but the last are past a retention of one period.
PAST = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found: None where it could not be seen."""

    passed: bool | None
    observed: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Care:
    """One planned table and its partitioned form, whatever that is called just now."""

    context: Context
    conn: Connection
    spec: TableSpec
    table: Table
    # Who does the acts instead of this program: premake or retain of all that is looked after; returns what failed.
    clock: Callable[[str], list[str]] | None = None

    def by(self, clock: Callable[[str], list[str]]) -> Care:
        """Return the same with somebody else at work."""
        return replace(self, clock=clock)

    @property
    def key(self) -> Key:
        """The partition key."""
        return read_key(self.conn, self.context.files, self.table, self.spec)

    def premake(self) -> Seen:
        """Make one leaf more than the switchover left, while writers are at work; a second run must change nothing."""
        with self._adopted(self._wish(self.table.name, self._ready() + 1)) as policy:
            acts = read_to_make(self.conn, policy.oid)
            told = self._do(policy, acts, makes=True)
            again = read_to_make(self.conn, policy.oid)
            problems = [*told, *self._ahead(policy), *self._unlike(policy)]
            problems += [f"a second run would {act.text}" for act in again]
        made = sum(act.act == "premake" for act in acts)
        said = f"{made} made under writers, like its sibling, without gap or overlap; again: no change"
        if not made and not problems:
            return Seen(None, "no leaf had to be made, so none was seen to be", log_of(acts))
        return Seen(not problems, "; ".join(problems) or said, log_of(acts))

    def _ready(self) -> int:
        """Return how many leaves are ahead; of keys that are numbers as many as the plan wants."""
        if not self.key.tells_time:
            return self.spec.premake
        found = Catalog(self.conn, self.context.files).read(self.table.name)
        return sum(self._begins_ahead(leaf) for leaf in found.partitions if not leaf.is_default)

    def retain(self) -> Seen:
        """Detach and drop what is past one period on a scratch table of the same shape; other leaves keep every row."""
        bounds = self._scratch_bounds()
        scratch = ScratchTable(self, bounds)
        wish = replace(self._wish(scratch.name, 1), retention=self.spec.interval, hold="1 day")
        with scratch.made(), self._adopted(wish) as policy:
            if clock := clock_objection(self.conn, policy.oid, datetime.now(UTC)):
                return Seen(None, f"{clock}, so retention trusts no clock")
            before = scratch.rows()
            detaching = self._retire(policy)
            problems = [*detaching.told, *scratch.after_detach(before)]
            problems += [f"within the hold a run would {act.text}" for act in self._to_retire(policy)]
            self.conn.execute(HOLD_IS_OVER, [policy.oid])
            dropping = self._retire(policy)
            problems += [*dropping.told, *scratch.after_drop(before)]
            problems += [f"a third run would {act.text}" for act in self._to_retire(policy)]
        gone, kept = PAST - 1, sum(before[PAST - 1 :])
        said = f"{gone} leaves detached, readable, then dropped; {kept:,} rows of the others kept; again: no change"
        return Seen(not problems, "; ".join(problems) or said, log_of([*detaching.acts, *dropping.acts]))

    def _wish(self, name: Name, premake: int) -> Wish:
        return Wish(name, self.spec.interval, max(1, premake), epoch=self.spec.epoch)

    @contextmanager
    def _adopted(self, wish: Wish) -> Generator[Policy]:
        """Look after a table for the block; a policy that somebody wrote is used as it is, and stays."""
        found = find_policy(self.conn, wish.name)
        if found:
            yield found
            return
        with self.conn.transaction():
            write_policy(self.conn, OURS, wish)
        policy = find_policy(self.conn, wish.name)
        try:
            if policy:
                yield policy
        finally:
            if not self.conn.closed:
                forget_policies(self.conn, OURS, wish.name)

    def _do(self, policy: Policy, acts: Sequence[LeafAct], *, makes: bool) -> list[str]:
        if self.clock:
            return self.clock("premake" if makes else "retain")
        done: list[Done] = []
        worker = LeafWorker(self.conn, policy, LockPolicy(**self.context.plan.locks.model_dump()), done.append)
        (worker.make if makes else worker.retire)(acts)
        for ended in done:
            if cost := ended.report:
                self.context.run.tell(
                    LockTaken(policy.table, ended.act.text, cost.attempts, cost.waited_ms, cost.held_ms, cost.blockers)
                )
        return [ended.failure for ended in done if ended.failure]

    def _to_retire(self, policy: Policy) -> list[LeafAct]:
        return read_to_retire(self.conn, policy.oid, datetime.now(UTC))

    def _retire(self, policy: Policy) -> Retired:
        acts = self._to_retire(policy)
        return Retired(acts, self._do(policy, acts, makes=False))

    def _ahead(self, policy: Policy) -> list[str]:
        """Return what is wrong with the bounds by Python's calendar."""
        found = Catalog(self.conn, self.context.files).read(self.table.name)
        leaves = [leaf for leaf in found.partitions if not leaf.is_default]
        problems = [
            f"between {dotted(leaf.name)} and {dotted(after.name)}: {leaf.upper} is not {after.lower}"
            for leaf, after in pairwise(leaves)
            if leaf.upper != after.lower
        ]
        problems += [f"{dotted(leaf.name)} is no {self.spec.interval}" for leaf in leaves[-1:] if not self._fits(leaf)]
        ready = sum(self._begins_ahead(leaf) for leaf in leaves)
        if self.key.tells_time and ready < policy.premake:
            problems.append(f"{ready} of {policy.premake} are ready ahead")
        return problems

    def _fits(self, leaf: Partition) -> bool:
        key = self.key
        if leaf.lower is None or leaf.upper is None:
            return False
        if not key.tells_time:
            return int(leaf.upper) - int(leaf.lower) == key.interval.values
        lower, upper = (key.clock.instant(key.clock.read(text)) for text in (leaf.lower, leaf.upper))
        return key.interval.floor(lower) == lower and key.interval.add(lower) == upper

    def _begins_ahead(self, leaf: Partition) -> bool:
        key = self.key
        if leaf.lower is None or not key.tells_time:
            return False
        return key.clock.instant(key.clock.read(leaf.lower)) > datetime.now(UTC)

    def _unlike(self, policy: Policy) -> list[str]:
        """Return what the new leaf lacks, and indexes that are not on every leaf."""
        standing = read_standing(self.conn, self.context.files, policy, datetime.now(UTC))
        facts = read_facts(self.conn, self.context.files, Catalog(self.conn, self.context.files).read(self.table.name))
        missing = [f"{subject} is missing {said['missing']}" for subject, said in facts.items() if "missing" in said]
        return [*standing.differences, *missing]

    def _scratch_bounds(self) -> list[Bound]:
        key, now = self.key, datetime.now(UTC)
        starts = [key.interval.add(key.interval.floor(now), number) for number in range(-PAST, 2)]
        texts = [key.clock.text(start) for start in [*starts, key.interval.add(starts[-1])]]
        return [
            Bound(key.interval.suffix(start), texts[number], texts[number + 1]) for number, start in enumerate(starts)
        ]


@dataclass(frozen=True, slots=True)
class Retired:
    """Acts of one retention, and what failed of them."""

    acts: list[LeafAct]
    told: list[str]


@dataclass(frozen=True, slots=True)
class ScratchTable:
    """A scratch table in schema `rehearsal`, shaped like the real one; its first leaves are past their retention."""

    care: Care
    bounds: list[Bound]

    @property
    def name(self) -> Name:
        """Name of the table."""
        return STATE_SCHEMA, fit("_".join(self.care.table.name), prefix=PREFIX)

    def leaf(self, number: int) -> Name:
        """Return the name of a leaf."""
        return Names(self.name).leaf(self.bounds[number].suffix)

    @contextmanager
    def made(self) -> Generator[None]:
        """Make and fill it for the block; nothing of it is left."""
        conn, spec = self.care.conn, self.care.spec
        self._drop()
        with conn.transaction():
            conn.execute(
                self.care.context.files.query(
                    "rehearse/scratch_leaves.sql.j2",
                    scratch=self.name,
                    table=self.care.table.name,
                    key=spec.key,
                    columns=self.care.table.stored_columns,
                    leaves=[
                        {"name": self.leaf(number), "lower": bound.lower, "upper": bound.upper}
                        for number, bound in enumerate(self.bounds)
                    ],
                    most=MOST_ROWS,
                    has_default=spec.default_partition,
                    default_leaf=Names(self.name).default_leaf,
                )
            )
        try:
            yield
        finally:
            if not conn.closed:
                self._drop()

    def rows(self) -> list[int]:
        """Count the rows of each leaf by its own name, attached or not; -1 where it is gone."""
        return [self._count(self.leaf(number)) for number in range(len(self.bounds))]

    def after_detach(self, before: Sequence[int]) -> list[str]:
        """Return what is wrong once the first leaves must be detached and readable, and the others attached."""
        gone = PAST - 1
        problems = [] if self.rows() == list(before) else [f"rows were {before} and are {self.rows()}"]
        attached = self._attached()
        problems += [f"{dotted(self.leaf(n))} is still attached" for n in range(gone) if self.leaf(n) in attached]
        rest = (self.leaf(number) for number in range(gone, len(self.bounds)))
        return problems + [f"{dotted(leaf)} is not attached any more" for leaf in rest if leaf not in attached]

    def after_drop(self, before: Sequence[int]) -> list[str]:
        """Return what is wrong once the first leaves must be gone, and the others whole."""
        gone = PAST - 1
        wanted = [-1] * gone + list(before[gone:])
        return [] if self.rows() == wanted else [f"rows must be {wanted} by leaf, -1 for none, and are {self.rows()}"]

    def _attached(self) -> set[Name]:
        return {leaf.name for leaf in Catalog(self.care.conn, self.care.context.files).read(self.name).partitions}

    def _count(self, name: Name) -> int:
        conn = self.care.conn
        if scalar(conn, "select pg_catalog.to_regclass(%s) is null", [sql.Identifier(*name).as_string(conn)]):
            return -1
        return int(scalar(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(*name))))

    def _drop(self) -> None:
        names = [self.name, *(self.leaf(number) for number in range(len(self.bounds)))]
        for name in names:
            self.care.conn.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*name)))


LEFT = """
select n.nspname, c.relname from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and pg_catalog.starts_with(c.relname, %s) and c.relkind in ('r', 'p')
order by c.relkind = 'r'
"""


def clear_leftovers(conn: Connection) -> None:
    """Forget policies and drop scratch tables of rehearsals, a killed one's too. Locks: none on tables of others."""
    forget_policies(conn, OURS)
    for name in conn.execute(LEFT, [STATE_SCHEMA, PREFIX]).fetchall():
        conn.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*name)))


def log_of(acts: Sequence[LeafAct]) -> str:
    """Return the statements of acts as they were run."""
    return "".join(f"-- {act.text}\n{''.join(f'{text};{chr(10)}' for text in act.statements)}" for act in acts)
