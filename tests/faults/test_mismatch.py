"""The mismatch that a rehearsal puts in harms nobody's row, whatever points at the table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.environment import AppServer, Database
from rehearsal.errors import CannotSee
from rehearsal.evidence.data import Taken
from rehearsal.evidence.events import MismatchMoved
from rehearsal.evidence.run import Run
from rehearsal.load.ledger import marker
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.rehearse import mismatch
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import StopHere
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.parity import ParityReport, compare
from rehearsal.switchover.table import Switchover
from tests.fix_app import StartApp
from tests.fix_postgres import ROOT
from tests.fix_tables import deploy, make_switchover
from tests.load_world import make_environment

ACTIONS = (
    "on delete cascade",
    "on delete set null",
    "on delete no action",
    "deferrable initially deferred",
    "on delete cascade on update cascade deferrable initially deferred",
)
# Whatever an application may hang on its table: a trigger that writes elsewhere, also in replica sessions.
SETUP = """
create table public.build (id bigint primary key, at timestamptz not null, v int, note varchar(120));
create table public.step (id bigint primary key, build_id bigint references public.build {action});
create table public.audit (id bigint generated always as identity, build bigint, what text);
create function public.audited() returns trigger language plpgsql as $$
begin
    insert into public.audit (build, what) values (coalesce(new.id, old.id), tg_op);
    return coalesce(new, old);
end $$;
create trigger audited before update or delete on public.build for each row execute function public.audited();
alter table public.build enable always trigger audited;
create constraint trigger late after update or delete on public.build
    deferrable initially deferred for each row execute function public.audited();
insert into public.build select n, '2026-01-01'::timestamptz + n * interval '3 hours', n % 7, 'theirs'
from generate_series(1, 400) as n;
insert into public.step select n, 1 + n % 400 from generate_series(1, 800) as n;
"""
OWN = (1_001, 1_070)


@dataclass
class World:
    """One switched pair with rows of the load in it."""

    conn: Connection
    context: Context
    work: Switchover

    @property
    def spec(self) -> str:
        """Name of the table."""
        return self.context.plan.tables[0].name

    def play(self) -> bool | None:
        """Put the mismatch in as the phase does; return what its gate says."""
        mismatch.inject(self.context, self.context.plan.tables[0])
        return next(seen.passed for seen in self.context.run.evidence() if seen.gate == "mismatch-found")

    def others(self) -> dict[str, object]:
        """Return the digest of each table but for the rehearsal's own rows, and of its own rows too."""
        query = (
            "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where c.relkind in ('r', 'p') and n.nspname = 'public' order by 2"
        )
        digest = "select count(*), sum(hashtextextended(t::text, 0)) from {} as t"
        return {
            name[1]: self.conn.execute(sql.SQL(digest).format(sql.Identifier(*name))).fetchone()
            for name in self.conn.execute(query).fetchall()
        }

    def triggers(self) -> list[tuple[object, ...]]:
        """Return how each trigger of the database fires."""
        return self.conn.execute(
            "select tgrelid::regclass::text, tgname, tgenabled::text from pg_trigger order by 1, 2"
        ).fetchall()


Make = Callable[..., World]


@pytest.fixture
def world(database: Database, conn: Connection, sql_files: SqlFiles, run: Run, start_app: StartApp) -> Make:
    """Makes a world of a strategy whose children have a foreign key of some kind."""

    def make(strategy: str, action: str = ACTIONS[0], *, marker_column: str | None = "note", own: bool = True) -> World:
        conn.execute(as_query(SETUP.format(action=action)))
        for n in range(*OWN) if own else ():
            conn.execute(
                "insert into public.build values (%s, '2026-02-03 04:05:06.789+00', 1, %s)",
                [n, marker(run.name, "switchover", n, 1)],
            )
        plan = plan_of(strategy, marker_column)
        deploy(conn, sql_files, plan)
        work = make_switchover(database, sql_files, plan, run)
        work.prepare()
        work.switch()
        flags = {"USE_PARTITIONED_TABLES": "true", "ENABLE_PARTITION_ROUTING": "true"}
        servers = [AppServer("app1", start_app("app1", **flags).url)] if strategy == "dual-write" else []
        env = make_environment(database, *servers)
        return World(conn, Context(ROOT, plan, env, run, sql_files, ""), work)

    return make


def plan_of(strategy: str, marker_column: str | None) -> Plan:
    """Return the plan of the table."""
    table = {"name": "public.build", "key": "at", "default_partition": True, "marker": marker_column}
    if strategy == "swap":
        table["references"] = {"step_build_id_fkey": "loose"}
    return Plan.model_validate(
        {"name": "builds", "strategy": strategy, "tables": [{k: v for k, v in table.items() if v is not None}]}
    )


def harms_nobody(world: World) -> None:
    """The mismatch is found, repaired, and each row of each table is as it was; so is each trigger."""
    before, triggers = world.others(), world.triggers()
    try:
        passed = world.play()
    except Exception as exc:
        raise AssertionError(f"the phase failed: {exc!r}; {changed(before, world.others())}") from exc
    assert world.others() == before, changed(before, world.others())
    assert world.triggers() == triggers
    assert passed, [seen.observed for seen in world.context.run.evidence()]
    context, spec = world.context, world.context.plan.tables[0]
    source, target = context.pair(world.conn, spec)
    assert compare(context.env.database, context.files, source, target, spec.key, self_test=False).unexplained == 0


def changed(before: dict[str, object], after: dict[str, object]) -> str:
    """Say which tables have other rows."""
    return f"rows changed in {sorted(name for name in before if before[name] != after.get(name))}"


@pytest.mark.fault("f19")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_the_mismatch_harms_no_row_of_any_table(world: Make, strategy: str, action: str) -> None:
    """Children and what triggers write are as before, whatever the foreign key does on DELETE."""
    harms_nobody(world(strategy, action))


def old_way(context: Context, spec: object) -> None:
    """Delete rows of anybody from the live table, as it was."""
    plan_table = context.plan.tables[0]
    with context.session("mismatch") as conn:
        _, target = context.pair(conn, plan_table)
        leaf = max(target.partitions, key=lambda leaf: leaf.estimated_rows).name
        live = split_name(plan_table.name)
        statement = sql.SQL("delete from {} where id in (select id from {} where note = 'theirs' limit 50)")
        del spec
        conn.execute(statement.format(sql.Identifier(*live), sql.Identifier(*leaf)))
    context.run.record("mismatch-found", plan_table.name, True, "50 rows taken out")


@pytest.mark.fault("f19", mutant=True)
@pytest.mark.parametrize("action", ACTIONS[:4])
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_rows_taken_out_of_the_live_table_are_harm(
    world: Make, strategy: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old way takes children along, sets them null, or fails."""
    monkeypatch.setattr(mismatch, "inject", old_way)

    with pytest.raises(AssertionError, match=r"rows changed in|the phase failed"):
        harms_nobody(world(strategy, action))


@pytest.mark.fault("f19", mutant=True)
def test_triggers_that_do_not_rest_are_harm(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dual-write: the application's triggers are at work on the source; they must not see our change."""
    monkeypatch.setattr(
        "rehearsal.switchover.quiet.AT_WORK", "select 'x', 'O' where %s::text is null and %s::text[] is null"
    )

    with pytest.raises(AssertionError, match=r"rows changed in .*audit"):
        harms_nobody(world("dual-write"))


@pytest.mark.fault("f19", mutant=True)
def test_a_repair_that_takes_the_row_out_first_is_harm(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of one of our own rows goes with it when the repair deletes and inserts instead of changing."""
    made = world("dual-write")
    made.conn.execute("insert into public.step select n, n from generate_series(1001, 1069) as n")

    def out_and_in(self: Replay, held: Connection) -> int:
        return self.batch(held, 10_000)

    monkeypatch.setattr(Replay, "merge", out_and_in)

    with pytest.raises(AssertionError, match=r"rows changed in .*step"):
        harms_nobody(made)


def finds_it_beside_a_log(made: World) -> None:
    """All rows of the load were written a moment ago, and no more of them than the log may keep: all keys are there."""
    made.conn.execute("update public.build set v = v + 1 where note like 'lg:%'")
    assert 0 < made.work.current_replay(made.conn).pending(made.conn) <= made.context.plan.copying.drain_until
    with contextlib.suppress(StopHere):
        made.play()
    (seen,) = [seen for seen in made.context.run.evidence() if seen.gate == "mismatch-found"]
    assert seen.passed is True, f"not seen: {seen.observed}"
    assert seen.data == Taken(mismatch.INJECTED)


@pytest.mark.fault("f19")
def test_a_light_load_leaves_rows_to_find(world: Make) -> None:
    """What its log keeps is taken over before rows are picked; a key in the log would explain the mismatch away."""
    finds_it_beside_a_log(world("swap"))


@pytest.mark.fault("f19", mutant=True)
def test_rows_whose_keys_wait_in_the_log_hide_the_mismatch(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is left as it is, as it was, and the first look is the last."""
    monkeypatch.setattr(Replay, "once", lambda *_: 0)
    monkeypatch.setattr(mismatch, "TRIES", 1)

    with pytest.raises(AssertionError, match=r"not seen: .* 0 unexplained"):
        finds_it_beside_a_log(world("swap"))


def test_children_of_our_own_rows_stay(world: Make) -> None:
    """The repair changes our rows where they stand."""
    made = world("dual-write")
    made.conn.execute("insert into public.step select n, n from generate_series(1001, 1069) as n")

    harms_nobody(made)


def test_what_a_killed_phase_left_is_mended_first(world: Make) -> None:
    """The phase was killed between the mismatch and its repair; its repetition begins with the repair."""
    made = world("swap")
    retired = made.work.names.retired
    column, prefix = "note", f"lg:{made.context.run.name}:"
    picked = mismatch.pick_rows(made.conn, made.work, retired, column)
    made.context.run.tell(MismatchMoved(made.spec, mismatch.PUT_IN, len(picked)))
    assert len(mismatch.change_rows(made.conn, made.work, retired, column, picked)) == mismatch.INJECTED

    assert made.play() is True
    query = sql.SQL("select count(*) from {} where starts_with(note, {})")
    assert scalar(made.conn, query.format(sql.Identifier(*retired), sql.Literal(prefix))) == OWN[1] - OWN[0]


@pytest.mark.parametrize("missing", ["marker", "rows", "key"])
def test_without_a_row_of_its_own_it_says_so(world: Make, missing: str) -> None:
    """No marker column, no row of the load, or a marker that is part of a key: never somebody else's row."""
    made = world("swap", marker_column=None if missing == "marker" else "note", own=missing != "rows")
    if missing == "key":
        made.conn.execute(
            sql.SQL("create unique index on {} (id, note)").format(sql.Identifier(*made.work.names.retired))
        )
    before = made.others()

    said = {"marker": "no marker column", "rows": "no row that this run's load wrote", "key": "part of a key"}
    with pytest.raises(CannotSee, match=said[missing]):
        made.play()
    assert made.others() == before


def test_a_comparison_that_does_not_look_stops_the_run(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing found: the gate fails, and the rows are as they were all the same."""
    made = world("swap")
    before = made.others()

    def nothing(_: ParityReport) -> set[mismatch.Identity]:
        return set()

    monkeypatch.setattr(mismatch, "found_in", nothing)

    with pytest.raises(StopHere):
        made.play()
    assert [seen.passed for seen in made.context.run.evidence() if seen.gate == "mismatch-found"] == [False]
    assert made.others() == before
    assert Catalog(made.conn, made.context.files).find(made.work.names.retired)
