"""Each act asks preflight in each state; a way back asks for little; what will run is tried; statements are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Catalog, Name, split_name
from rehearsal.checks.preflight import ASKS, Intent, check_act, run, statements
from rehearsal.checks.preflight.place import places
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.dryrun import catalog_digest
from tests.fix_tables import deploy, make_plan, make_switchover
from tests.waiting import eventually

OTHERS = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker'
"""
STRANGER = """
create role stranger in role pg_monitor;
grant usage on schema rehearsal, public to stranger;
grant select on all tables in schema rehearsal, public to stranger
"""


def blockers(conn: Connection, files: SqlFiles, plan: Plan, act: Intent) -> list[Finding]:
    """Return what bars an act."""
    return [finding for finding in check_act(conn, files, plan, act) if finding.severity == "blocker"]


def digest_at_rest(conn: Connection, files: SqlFiles) -> str:
    """Return the digest of catalogs and row counters, once the counters of what was written before are there.

    Sessions of the engine that end count their rows then.
    """
    eventually(lambda: scalar(conn, OTHERS) == 0)
    conn.execute("select pg_catalog.pg_stat_force_next_flush()")
    return catalog_digest(conn, files)


def walk(conn: Connection, database: Database, files: SqlFiles, plan: Plan, run_: Run) -> Iterator[str | None]:
    """Bring the table from state to state."""
    work = make_switchover(database, files, plan, run_)

    def now() -> str | None:
        found = state.find_migration(conn, split_name(plan.tables[0].name))
        return found.state if found else None

    yield now()
    deploy(conn, files, plan)
    steps: list[Callable[[], object]] = [work.prepare, work.switch, work.roll_back]
    for step in [lambda: None, *steps]:
        step()
        yield now()


@pytest.fixture
def stranger(conn: Connection) -> Iterator[None]:
    """A role that sees the catalog, owns nothing, and is bound by policies."""
    conn.execute(as_query(STRANGER))
    yield
    conn.execute("drop owned by stranger; drop role stranger")


def every_act_asks_in_every_state(
    conn: Connection, database: Database, files: SqlFiles, run_: Run, strategy: str
) -> list[str | None]:
    """Whoever may do all is refused nothing, whom policies bind is refused everything, and asking changes nothing."""
    plan = make_plan(strategy)
    seen: list[str | None] = []
    for now in walk(conn, database, files, plan, run_):
        seen.append(now)
        before = digest_at_rest(conn, files)
        for act in Intent:
            found = blockers(conn, files, plan, act)
            assert found == [], f"{act} in state {now}: {found}"
            for name in filter(Catalog(conn, files).find, places(conn, files, plan)[0].relations):
                ids = {finding.id for finding in asked_by_stranger(conn, files, plan, act, name)}
                assert "row-security" in ids, f"{act} in state {now} does not ask for {name}: {ids}"
        assert digest_at_rest(conn, files) == before
    return seen


def asked_by_stranger(conn: Connection, files: SqlFiles, plan: Plan, act: Intent, name: Name) -> list[Finding]:
    """Ask as a role that policies bind, with row security on one table."""
    with conn.transaction(force_rollback=True):
        conn.execute(sql.SQL("alter table {} enable row level security").format(sql.Identifier(*name)))
        conn.execute("set local role stranger")
        return blockers(conn, files, plan, act)


STATES = {
    "swap": [None, "prepared", "following", "swapped", "following"],
    "dual-write": [None, "prepared", "following", "mirrored", "mirrored"],
    "attach": [None, "prepared", "ready", "attached", "prepared"],
}


@pytest.mark.fault("f01")
@pytest.mark.usefixtures("events", "stranger")
@pytest.mark.parametrize("strategy", STATES)
def test_every_act_asks_for_every_table_in_every_state(
    conn: Connection, database: Database, sql_files: SqlFiles, run: Run, strategy: str
) -> None:
    """Acts × states of each strategy; a healthy table is never refused."""
    assert every_act_asks_in_every_state(conn, database, sql_files, run, strategy) == STATES[strategy]


@pytest.mark.fault("f01", mutant=True)
@pytest.mark.usefixtures("events", "stranger")
@pytest.mark.parametrize("act", list(Intent))
def test_an_act_that_does_not_ask_is_caught(
    conn: Connection, database: Database, sql_files: SqlFiles, run: Run, act: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken out of the one table that says what an act asks."""
    monkeypatch.setitem(ASKS, act, frozenset())
    with pytest.raises(AssertionError, match=f"{act} in state .* does not ask"):
        every_act_asks_in_every_state(conn, database, sql_files, run, "swap")


def a_rollback_is_open(conn: Connection, database: Database, files: SqlFiles, run_: Run) -> None:
    """No disk, no lock slots, statements that a partitioned table refuses: nothing of that bars a rollback."""
    plan = make_plan("swap")
    for now in walk(conn, database, files, plan, run_):
        if now == "swapped":
            assert any(finding.id == "room" for finding in check_act(conn, files, plan, Intent.SPLIT, free_bytes=0))
            assert check_act(conn, files, plan, Intent.ROLLBACK, free_bytes=0) == []
            return


@pytest.mark.usefixtures("events")
def test_a_rollback_asks_only_for_what_it_needs(
    conn: Connection, database: Database, sql_files: SqlFiles, run: Run
) -> None:
    """An emergency is not barred by opinions."""
    a_rollback_is_open(conn, database, sql_files, run)


@pytest.mark.fault("f01", mutant=True)
@pytest.mark.usefixtures("events")
def test_a_rollback_that_asks_for_room_is_caught(
    conn: Connection, database: Database, sql_files: SqlFiles, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback that asks what a switchover asks."""
    monkeypatch.setitem(ASKS, Intent.ROLLBACK, ASKS[Intent.SWITCHOVER])
    with pytest.raises(AssertionError, match="room"):
        a_rollback_is_open(conn, database, sql_files, run)


BARS_ROLLBACK = {
    "capture-off": 'alter table public."We""ird Events" disable trigger user',
    "name-taken": 'create table public."We""ird Events_partitioned" ()',
    "log-missing": "alter table rehearsal.{log} rename to gone",
}


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("identifier", BARS_ROLLBACK)
def test_a_rollback_that_would_fail_or_lose_is_refused(
    conn: Connection, database: Database, sql_files: SqlFiles, run: Run, identifier: str
) -> None:
    """Its log is written, its names are free."""
    plan = make_plan("swap")
    for now in walk(conn, database, sql_files, plan, run):
        if now == "swapped":
            names = places(conn, sql_files, plan)[0].names
            with conn.transaction(force_rollback=True):
                log = sql.Identifier(names.reverse_log[1]).as_string(None)
                conn.execute(as_query(BARS_ROLLBACK[identifier].replace("{log}", log)))
                assert [finding.id for finding in blockers(conn, sql_files, plan, Intent.ROLLBACK)] == [identifier]
            return


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("strategy", ["swap", "dual-write", "attach"])
def test_a_taken_name_is_found_before_the_first_write(conn: Connection, sql_files: SqlFiles, strategy: str) -> None:
    """The target's name, a leaf's name, and a type's."""
    for made in ('create table public."We""ird Events_partitioned" ()',
                 'create type public."We""ird Events_partitioned" as enum ()'):  # fmt: skip
        with conn.transaction(force_rollback=True):
            conn.execute(as_query(made))
            assert [finding.id for finding in blockers(conn, sql_files, make_plan(strategy), Intent.MIGRATE)] == [
                "name-taken"
            ]


# ── what will run within the application's writes ────────────────────────────────────────────────────────────────

FUNCTIONS = """
create function public.inner_one(int) returns boolean language sql immutable as 'select $1 is not null';
create function public.fits(int) returns boolean language plpgsql immutable as $$ begin return inner_one($1); end $$;
create function public.twice(int) returns int language plpgsql immutable as $$
begin if inner_one($1) then return 2 * $1; end if; return 0; end $$;
create table public.audit (n int);
create function public.note() returns trigger language plpgsql as $$
begin insert into public.audit values (1); return null; end $$;
set search_path = public;
"""
COLUMNS = {
    "a check": "v int check (public.fits(v))",
    "a generated column": "v int, w int generated always as (public.twice(v)) stored",
    "an index": "v int); create index on public.t ((public.twice(v))",
    "a partial index": "v int); create unique index on public.t (at, v) where (public.fits(v)",
    "a check of two columns": "v int, u int default 1, check (u > 0 and public.fits(v))",
}


def call_without_schema_is_found(conn: Connection, files: SqlFiles, columns: str, strategy: str) -> None:
    """The application's path has the schema; triggers and copy do not see it."""
    plan = Plan.model_validate({"name": "t", "strategy": strategy, "tables": [{"name": "public.t", "key": "at"}]})
    conn.execute(as_query(FUNCTIONS))
    conn.execute(as_query(
        f"create table public.t (id bigserial primary key, at timestamptz not null, {columns});"
        "insert into public.t (at, v) select '2026-01-01'::timestamptz + n * interval '1 day', n "
        "from generate_series(1, 50) as n; set search_path = pg_catalog"
    ))  # fmt: skip
    if strategy == "swap":
        conn.execute("create trigger noted after insert or update on public.t for each statement "
                     "execute function public.note()")  # fmt: skip
    before, drawn = digest_at_rest(conn, files), "select last_value from public.t_id_seq union all table public.audit"
    kept = conn.execute(drawn).fetchall()
    found = blockers(conn, files, plan, Intent.MIGRATE)
    assert [(finding.id, "inner_one" in finding.condition) for finding in found] == [("trial", True)], found
    assert (digest_at_rest(conn, files), conn.execute(drawn).fetchall()) == (before, kept)
    for name in ("fits", "twice"):
        conn.execute(as_query(f"alter function public.{name}(int) set search_path = public"))
    assert blockers(conn, files, plan, Intent.MIGRATE) == []


@pytest.mark.fault("f10")
@pytest.mark.parametrize("strategy", ["swap", "dual-write", "attach"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_call_without_its_schema_is_found_by_trial(
    conn: Connection, sql_files: SqlFiles, name: str, strategy: str
) -> None:
    """A trial on a scratch table finds it, leaves nothing, fires nothing, and passes once the function has a path."""
    call_without_schema_is_found(conn, sql_files, COLUMNS[name], strategy)


@pytest.mark.fault("f10", mutant=True)
def test_without_the_trial_it_is_not_found(
    conn: Connection, sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial taken out."""
    monkeypatch.setattr(run, "check_trial", lambda _: [])
    with pytest.raises(AssertionError, match=r"\('trial', True\)"):
        call_without_schema_is_found(conn, sql_files, COLUMNS["a check"], "dual-write")


KEYS = {
    "ltree": ("ltree", "public.ltree"),
    "citext": ("citext", "public.citext"),
    "array of citext": ("citext", "public.citext[]"),
    "cube": ("cube", "public.cube"),
}


def keys_with_operators_elsewhere(conn: Connection, files: SqlFiles, name: str, strategy: str) -> list[str]:
    """Return what is found of a primary key of an extension's type."""
    extension, kind = KEYS[name]
    plan = Plan.model_validate({"name": "t", "strategy": strategy, "tables": [{"name": "public.t", "key": "at"}]})
    conn.execute(as_query(f"create extension {extension} schema public"))
    conn.execute(as_query(f"create table public.t (id {kind} primary key, at timestamptz not null)"))
    return [f"{finding.id} {finding.subject}" for finding in blockers(conn, files, plan, Intent.MIGRATE)]


@pytest.mark.fault("f10")
@pytest.mark.parametrize("strategy", ["swap", "dual-write", "attach"])
@pytest.mark.parametrize("name", KEYS)
def test_keys_with_operators_elsewhere_are_refused_where_rows_are_compared(
    conn: Connection, sql_files: SqlFiles, name: str, strategy: str
) -> None:
    """By type, on an empty table too; an array compares by an operator of PostgreSQL's own."""
    wanted = [] if strategy == "attach" or name.startswith("array") else ["key-operator public.t.id"]
    assert keys_with_operators_elsewhere(conn, sql_files, name, strategy) == wanted


# ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────

SEEN = {
    "delete from t where ctid = any(array(select ctid from t where v > 1 limit 5))": "ctid-write",
    'delete\nfrom only "public" . "t" where "ctid" = \'(0,1)\'': "ctid-write",
    "update public.t set v = 1 where ctid in (select ctid from public.t limit 1 for update skip locked)": "ctid-write",
    "select ctid from t where id = 1": "ctid-read",
    "insert into t values (1, now(), 1) on conflict do nothing": "on-conflict-any",
    "with x as (select 1) insert into public.t select 1, now(), 1 from x on conflict\n do nothing": "on-conflict-any",
    "insert into t values (1, now(), 1) on conflict on constraint t_pkey do nothing": "on-conflict-constraint",
    'insert into "t" as x values (1, now(), 1) on conflict ("id") do update set v = x.v': "on-conflict-target",
    "insert into t values (-1, now(), 1) returning (xmax = 0)": "system-column",
    "copy t to stdout": "copy-to",
    "COPY public.t (id, v) TO STDOUT (format csv)": "copy-to",
    "select count(*) from only t": "only",
    "select tableoid from t": "tableoid",
}
UNSEEN = (
    "select count(*) from t -- by ctid",
    "select 'ctid', \"at\" from t",
    "insert into other values (1) on conflict do nothing",
    "insert into other select id from t on conflict (id) do nothing",
    "copy (select * from t) to stdout",
    "copy other to stdout",
)


def statements_are_named(conn: Connection, files: SqlFiles, text: str, identifier: str) -> None:
    """One statement of the application is found with its text, in every act that goes forward."""
    plan = Plan.model_validate({"name": "t", "strategy": "swap", "tables": [{"name": "public.t", "key": "at"}]})
    conn.execute("create extension pg_stat_statements schema public")
    conn.execute("create table public.t (id bigint primary key, at timestamptz not null, v int);"
                 "create table public.other (id bigint primary key); set search_path = public")  # fmt: skip
    say(conn, text)
    conn.execute("set search_path = pg_catalog")
    found = [
        finding for finding in check_act(conn, files, plan, Intent.MIGRATE) if finding.condition.startswith("seen: ")
    ]
    assert identifier in {finding.id for finding in found}, found
    assert all(
        finding.severity == ("blocker" if finding.id == "on-conflict-target" else "warning") for finding in found
    )


def say(conn: Connection, text: str) -> None:
    """Run a statement, whatever it returns; where all others are forgotten, it is not the rarest one of too many."""
    conn.execute("select public.pg_stat_statements_reset()")
    if text.lower().startswith("copy"):
        with conn.cursor().copy(as_query(text)) as copied:
            for _ in copied:
                pass
    else:
        conn.execute(as_query(text))


@pytest.mark.fault("f20")
@pytest.mark.parametrize("text", SEEN)
def test_a_statement_that_partitioning_changes_is_named(conn: Connection, sql_files: SqlFiles, text: str) -> None:
    """Quoted or not, qualified or not, over several lines."""
    statements_are_named(conn, sql_files, text, SEEN[text])


@pytest.mark.fault("f20", mutant=True)
@pytest.mark.parametrize("text", [text for text in SEEN if SEEN[text] != "on-conflict-target"][::4])
def test_looking_for_conflict_targets_alone_misses_it(
    conn: Connection, sql_files: SqlFiles, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: only targets of ON CONFLICT."""
    monkeypatch.setattr(statements, "USES", statements.USES[:1])
    with pytest.raises(AssertionError, match=f"assert '{SEEN[text]}' in"):
        statements_are_named(conn, sql_files, text, SEEN[text])


@pytest.mark.fault("f20")
def test_statements_that_stay_as_they_are_are_not_named(conn: Connection, sql_files: SqlFiles) -> None:
    """Notes, literals, other tables; and what pg_dump says."""
    plan = Plan.model_validate({"name": "t", "strategy": "swap", "tables": [{"name": "public.t", "key": "at"}]})
    conn.execute("create extension pg_stat_statements schema public")
    conn.execute("create table public.t (id bigint primary key, at timestamptz not null, v int);"
                 "create table public.other (id bigint primary key); set search_path = public")  # fmt: skip
    ours = "-- Count and digest of a piece of a table, for each range of keys between two bounds\n"
    assert ours.strip() in sql_files.headers()
    for text in (*UNSEEN, "COPY public.t (id, at, v) TO stdout;", f"{ours}select ctid from only public.t"):
        say(conn, text)
    conn.execute("set search_path = pg_catalog")
    assert [
        finding
        for finding in check_act(conn, sql_files, plan, Intent.MIGRATE)
        if finding.condition.startswith("seen: ")
    ] == []


@pytest.mark.fault("f20")
def test_what_cannot_be_read_is_counted_and_said(conn: Connection, sql_files: SqlFiles) -> None:
    """Not installed; statements of other roles without the right."""
    plan = Plan.model_validate({"name": "t", "strategy": "swap", "tables": [{"name": "public.t", "key": "at"}]})
    said = [finding.condition for finding in statements.check_statements(conn, sql_files, plan)]
    assert said == ["it is not loaded (shared_preload_libraries), or not created in this database"]
    conn.execute("create extension pg_stat_statements schema public")
    with conn.transaction(force_rollback=True):
        conn.execute("create role nosy; set local role nosy")
        said = [finding.condition for finding in statements.check_statements(conn, sql_files, plan)]
    assert any("statements of other roles are hidden" in condition for condition in said), said
