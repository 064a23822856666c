"""The calendar moves on in the middle of a run, or between two verbs: nothing that is expected moves with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from rehearsal.catalog import keys
from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.checks import inspection
from rehearsal.checks.inspection import WantedBounds, inspect
from rehearsal.errors import UsageError
from rehearsal.evidence import run as evidence
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import read_applied, render_changes
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import find_migration
from tests.fix_verbs import Managed

SETUP = """
create table public.t (id bigint primary key, at {kind} not null);
insert into public.t select n, {newest} - n * {step} from generate_series(0, 200) as n;
"""


@dataclass(frozen=True)
class Midnight:
    """A run that begins two minutes before a period ends: its plan, and keys as the column has them."""

    began: datetime
    interval: str = "1 month"
    kind: str = "timestamptz"
    premake: int = 3
    epoch: str | None = None

    def key(self, moment: datetime) -> str:
        """Return SQL of a key."""
        text = f"'{moment.isoformat()}'::timestamptz"
        if self.epoch:
            return f"(extract(epoch from {text}))::bigint"
        return f"{text}" if self.kind == "timestamptz" else f"({text} at time zone 'UTC')::{self.kind}"

    def setup(self) -> str:
        """Return the table with rows up to the start of the run."""
        step = "3600" if self.epoch else "1" if self.kind == "date" else "interval '1 hour'"
        return SETUP.format(kind=self.kind, newest=self.key(self.began), step=step)

    @property
    def plan(self) -> Plan:
        """The plan of the table."""
        table = {"name": "public.t", "key": "at", "interval": self.interval, "premake": self.premake}
        epoch = {"epoch": self.epoch} if self.epoch else {}
        return Plan.model_validate(
            {"name": "t", "strategy": "swap", "tables": [{**table, "default_partition": True, **epoch}]}
        )


def at(text: str) -> datetime:
    """Return an instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MIDNIGHTS = [
    Midnight(at("2027-02-28 23:58")),
    Midnight(at("2028-02-29 23:58"), premake=0),
    Midnight(at("2026-12-31 23:58"), "1 year", premake=1),
    Midnight(at("2026-11-30 23:58"), "1 day"),
    Midnight(at("2026-11-29 23:58"), "1 week", kind="timestamp"),
    Midnight(at("2027-04-30 23:58"), kind="date", premake=0),
    Midnight(at("2027-12-31 23:58"), kind="bigint", epoch="s"),
]
each_midnight = pytest.mark.parametrize(
    "night", MIDNIGHTS, ids=lambda midnight: f"{midnight.began:%Y-%m-%d} {midnight.interval}"
)


def as_planned(found: keys.Keys) -> int:
    """The old rule: `premake` as the plan has it, also where that is none."""
    return found.key.spec.premake


def midnight_changes_nothing(conn: Connection, files: SqlFiles, night: Midnight, later: timedelta) -> None:
    """The twin is made before midnight, a row comes after it, then the structure is looked at."""
    conn.execute(as_query(night.setup()))
    for change in render_changes(conn, files, night.plan, night.began):
        conn.execute(as_query(change.body))
        conn.execute("insert into rehearsal.change (name, checksum, body) values (%s, 'test', %s)",
                     [change.name, change.body])  # fmt: skip
    after = night.key(night.began + later)
    names, catalog = Names(split_name("public.t")), Catalog(conn, files)
    for table in (names.source, names.target):
        conn.execute(sql.SQL("insert into {} values (1000, {})").format(sql.Identifier(*table), as_query(after)))

    found = inspect(
        conn, files, night.plan.tables[0], catalog.read(names.source), catalog.read(names.target), night.began
    )
    problems = [problem for finding in found if finding.check == "partitions" for problem in finding.problems]
    assert not problems, problems
    home = conn.execute(sql.SQL("select tableoid::regclass::text from {} where id = 1000").format(
        sql.Identifier(*names.target))).fetchone()  # fmt: skip
    assert home is not None
    assert not home[0].endswith("default"), f"the row after midnight is in {home}"
    again = render_changes(conn, files, night.plan, night.began + later)
    assert {change.name: change.body for change in again} == read_applied(conn)


@pytest.mark.fault("v11")
@each_midnight
def test_midnight_at_a_periods_end_changes_nothing(conn: Connection, sql_files: SqlFiles, night: Midnight) -> None:
    """Rows written after it have a partition, no other is missed, and the registry knows the change as applied."""
    midnight_changes_nothing(conn, sql_files, night, timedelta(minutes=4))


@pytest.mark.fault("v11")
def test_a_run_that_is_resumed_days_later_expects_what_it_made(conn: Connection, sql_files: SqlFiles) -> None:
    """Days of partitions were used up meanwhile; the run's start is the same."""
    midnight_changes_nothing(conn, sql_files, Midnight(at("2026-11-30 23:58"), "1 day"), timedelta(days=3))


@pytest.mark.fault("v11", mutant=True)
@pytest.mark.parametrize("night", [MIDNIGHTS[0], MIDNIGHTS[2], MIDNIGHTS[3]], ids=lambda midnight: midnight.interval)
def test_bounds_from_the_moment_of_asking_are_missed(
    conn: Connection, sql_files: SqlFiles, night: Midnight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old way: what should be there is computed from the keys and the clock of the moment that looks."""

    def asked_now(conn: Connection, files: SqlFiles, spec: object, source: object, *_: object) -> WantedBounds:
        asked = night.began + timedelta(minutes=5)
        bounds = keys.plan_bounds(conn, files, spec, source, asked)  # type: ignore[arg-type]
        return WantedBounds([bound.limits for bound in bounds], [])

    monkeypatch.setattr(inspection, "expected_bounds", asked_now)

    with pytest.raises(AssertionError, match="no partition from"):
        midnight_changes_nothing(conn, sql_files, night, timedelta(minutes=4))


@pytest.mark.fault("v11", mutant=True)
def test_leaves_that_end_with_the_period_of_the_start_are_missed(
    conn: Connection, sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `premake = 0` there was no partition after that of the start."""
    monkeypatch.setattr(keys.Keys, "premake", property(as_planned))

    with pytest.raises(AssertionError, match="no partition from"):
        midnight_changes_nothing(conn, sql_files, MIDNIGHTS[1], timedelta(minutes=4))


def test_a_leaf_that_is_gone_is_missed_all_the_same(conn: Connection, sql_files: SqlFiles) -> None:
    """The last partition that was premade, and a partition too many far ahead: both are said."""
    night = MIDNIGHTS[0]
    midnight_changes_nothing(conn, sql_files, night, timedelta(minutes=4))
    conn.execute("drop table public.t_y2027m05")
    conn.execute(
        "create table public.t_far partition of public.t_partitioned for values from ('2030-01-01') to ('2030-02-01')"
    )
    names, catalog = Names(split_name("public.t")), Catalog(conn, sql_files)
    source, target = catalog.read(names.source), catalog.read(names.target)

    found = inspect(conn, sql_files, night.plan.tables[0], source, target, night.began)
    said = " ".join(problem for finding in found for problem in finding.problems)
    assert re.search("no partition from 2027-05-01", said)
    assert "t_far from 2030-01-01" in said


def test_a_twin_that_ran_out_of_partitions_is_missed(conn: Connection, sql_files: SqlFiles) -> None:
    """A run that begins when the last partition is in use: one interval after its start has to be there."""
    night = MIDNIGHTS[0]
    midnight_changes_nothing(conn, sql_files, night, timedelta(minutes=4))
    names, catalog = Names(split_name("public.t")), Catalog(conn, sql_files)
    source, target = catalog.read(names.source), catalog.read(names.target)

    def problems(began: str) -> list[str]:
        found = inspect(conn, sql_files, night.plan.tables[0], source, target, at(began))
        return [problem for finding in found if finding.check == "partitions" for problem in finding.problems]

    assert problems("2027-04-30 23:58") == []
    assert problems("2027-05-01 00:00") == ["no partition from 2027-06-01 00:00:00+00 to 2027-07-01 00:00:00+00"]


def test_the_start_of_a_run_is_in_its_name(tmp_path: Path) -> None:
    """Opened again it is the same; a folder of another name is no run."""
    made = Run.create(tmp_path, "local", "t")
    (tmp_path / "20270228T235800Z-local-t").mkdir()

    assert Run.open(tmp_path, made.name).began == made.began
    assert Run.open(tmp_path, "20270228T235800Z-local-t").began == at("2027-02-28 23:58")
    with pytest.raises(UsageError, match="does not begin with the moment of a run"):
        _ = Run(tmp_path).began


VERBS = "premake = 0\ndefault_partition = true\n"


def single_verbs_a_month_apart(managed: Managed, began: Callable[[str | None], None]) -> None:
    """`db.migrate` on the last day of a month, again and `db.switchover` after midnight; rows of both months."""
    managed.setup(rows=300, plan=VERBS)
    managed.done("provision")
    began("2026-10-31 23:58")
    managed.done("migrate")
    began("2026-11-01 00:03")
    assert "no change" in managed.done("migrate")
    managed.run("insert into public.t values (100000, '2026-11-01 00:02:00+00', 1)")
    managed.done("switchover")
    managed.run("insert into public.t values (100001, '2026-11-01 00:04:00+00', 1)", "app")

    homes = managed.rows("select distinct tableoid::regclass::text from public.t where id >= 100000")
    assert homes == [("public.t_y2026m11",)], homes
    managed.done("verify")


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Let the runs that are made from now on begin at a moment."""

    def let(moment: str | None) -> None:
        stamp = evidence.STAMP if moment is None else at(moment).strftime(evidence.STAMP)
        monkeypatch.setattr(evidence, "STAMP", stamp)
        monkeypatch.setattr(Run, "began", at(moment or "2026-01-01"))

    return let


@pytest.mark.fault("v11")
def test_single_verbs_on_both_sides_of_midnight(managed: Managed, began: Callable[[str | None], None]) -> None:
    """The twin that was made last month takes the rows of this one; the registry says no change."""
    single_verbs_a_month_apart(managed, began)


@pytest.mark.fault("v11", mutant=True)
def test_single_verbs_without_the_interval_more(
    managed: Managed, began: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, rows after midnight fall into DEFAULT."""
    monkeypatch.setattr(keys.Keys, "premake", property(as_planned))

    with pytest.raises(AssertionError, match="1 rows in the default partition"):
        single_verbs_a_month_apart(managed, began)


def test_a_twin_of_an_earlier_version_has_no_note_of_its_making(conn: Connection, sql_files: SqlFiles) -> None:
    """Then the start of the run stands for it, as long as no key is newer."""
    night = MIDNIGHTS[0]
    midnight_changes_nothing(conn, sql_files, night, timedelta(minutes=4))
    found = find_migration(conn, split_name("public.t"))
    assert found
    assert found.detail.leaves
    assert found.detail.leaves.at == datetime(2027, 2, 28, 23, 58, tzinfo=UTC)
    conn.execute("update rehearsal.migration set detail = '{}'; delete from public.t where id = 1000")
    names, catalog = Names(split_name("public.t")), Catalog(conn, sql_files)
    source, target = catalog.read(names.source), catalog.read(names.target)

    said = inspect(conn, sql_files, night.plan.tables[0], source, target, night.began)

    assert [finding for finding in said if finding.check == "partitions" and not finding.passed] == []
    assert scalar(conn, "select count(*) from public.t") == 201
