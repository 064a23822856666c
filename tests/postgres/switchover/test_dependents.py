"""What points at the table moves with its name: there, back, there again; nothing is left behind or changed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from rehearsal.catalog.dependents import PROBLEMS, read_dependents
from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.dryrun import plan_acts
from tests.fix_tables import (
    NOW,
    Prepared,
    as_replica,
    deploy,
    difference,
    make_plan,
    make_switchover,
    names_of,
    writing,
)

KEY = "Created At"
POINTERS = """
create role "odd ""reader";
create schema "Other";
create view "Other"."big ""events" with (security_barrier) as
    select e.id, e.note, e."Created At" as at, u.name from public."We""ird Events" as e
    join public."Unit" as u on u.id = e."unit id" where e.amount > 10;
comment on view "Other"."big ""events" is 'with a comment';
comment on column "Other"."big ""events".note is 'and one on a column';
create view public.plain with (security_barrier, check_option = local) as
    select id, note, "Created At", "unit id", amount from public."We""ird Events" where amount < 90;
alter view public.plain alter column note set default 'from the view';
alter view public.plain owner to "odd ""reader";
grant select, insert, update on public."We""ird Events" to "odd ""reader";
grant usage on sequence public."We""ird Events_id_seq" to "odd ""reader";
grant select on public.plain to public;
grant update (note) on public.plain to "odd ""reader" with grant option;
create view public.stacked as select name, count(*) as n from "Other"."big ""events" group by name;
create view public.tower as select sum(n) as n from public.stacked;
create materialized view public.filled as select count(*) as n from public.plain;
create index filled_n on public.filled (n);
create function public.on_plain() returns trigger language plpgsql as
    'begin new.note := ''triggered''; return new; end';
create trigger on_plain instead of update on "Other"."big ""events" for each row execute function public.on_plain();

create table public.audit (id bigint, said text);
create rule "no loud notes" as on update to public."We""ird Events" where new.note = 'LOUD'
    do also insert into public.audit values (new.id, new.note);
comment on rule "no loud notes" on public."We""ird Events" is 'a rule with a comment';
create rule off as on delete to public."We""ird Events" where false do also delete from public.audit;
alter table public."We""ird Events" disable rule off;
create table public.inbox (id bigint, note text);
create rule forward as on insert to public.inbox where new.note = 'event' do instead
    insert into public."We""ird Events" ("Created At", "unit id", amount, note) values ('2026-02-02', 1, 1, new.note);

create table public.guarded (event bigint, secret text);
alter table public.guarded enable row level security;
create policy seen on public.guarded to "odd ""reader"
    using (exists (select from public."We""ird Events" as e where e.id = guarded.event))
    with check (guarded.event in (select id from public."We""ird Events"));

create function public.rows_of(unit int) returns setof public."We""ird Events" language sql stable as
    'select * from public."We""ird Events" where "unit id" = unit';
create function public.label(e public."We""ird Events") returns text language sql immutable as 'select e.note || ''!''';
revoke all on function public.label from public;
grant execute on function public.label to "odd ""reader" with grant option;
comment on function public.label is 'takes a row';
create function public.how_many(lowest numeric) returns bigint language sql
    begin atomic select count(*) from public."We""ird Events" where amount >= lowest; end;
grant execute on function public.how_many to "odd ""reader";
create procedure public.forget(which bigint) language sql
    begin atomic delete from public."We""ird Events" where id = which; end;

create publication plain_pub for table public."We""ird Events", public."Unit" with (publish_via_partition_root = true);
"""
FILTERED = """
create publication filtered for table public."We""ird Events" (id, "Created At", note, amount) where (id > 5)
    with (publish_via_partition_root = true);
"""
# All that people could notice: the texts, owners, rights and oids of everything that is not the table itself.
PICTURE = """
select concat_ws('|', 'relation', c.oid, c.oid::regclass, c.relkind, pg_get_userbyid(c.relowner), c.relacl,
                 c.reloptions, pg_get_viewdef(c.oid), obj_description(c.oid), (
    select string_agg(concat_ws('|', attname, attacl, col_description(c.oid, attnum), (
        select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = attrelid and adnum = attnum
    )), ',' order by attnum) from pg_attribute where attrelid = c.oid and attnum > 0
))
from pg_class as c where c.relnamespace::regnamespace::text in ('public', '"Other"') and c.relkind in ('v', 'm')
union all
select 'rule ' || pg_get_ruledef(oid) || ev_enabled::text || coalesce(obj_description(oid, 'pg_rewrite'), '')
from pg_rewrite where rulename <> '_RETURN' and ev_class >= 16384
union all
select 'policy ' || p::text from pg_policies as p
union all
select 'function ' || pg_get_functiondef(oid) || pg_get_userbyid(proowner) || coalesce(proacl::text, '-')
       || coalesce(obj_description(oid, 'pg_proc'), '')
from pg_proc where pronamespace = 'public'::regnamespace
union all
select 'published ' || p::text from pg_publication_tables as p
union all
select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where tgrelid = '"Other"."big ""events"'::regclass
order by 1
"""


def picture(conn: Connection) -> list[str]:
    """Return everything that points at the table, as people see it."""
    return [row[0] for row in conn.execute(PICTURE)]


@pytest.fixture
def pointed_at(conn: Connection, events: Name) -> Iterator[Name]:
    """The events table with something of every kind that points at it."""
    conn.execute(as_query(POINTERS))
    if conn.info.server_version >= 150000:
        conn.execute(as_query(FILTERED))
    yield events
    conn.execute('drop owned by "odd ""reader" cascade')
    conn.execute('drop role "odd ""reader"')


def oid_of(conn: Connection, files: SqlFiles, name: Name) -> int:
    """Return the oid of a table."""
    return Catalog(conn, files).read(name).oid


def answers(conn: Connection) -> dict[str, object]:
    """Use everything that points at the table; each use must see the live table."""
    asked = {
        "view": 'select count(*) from "Other"."big ""events"',
        "owned view": "select count(*) from public.plain",
        "stacked": "select n from public.tower",
        "function": "select count(*) from public.rows_of(2)",
        "row argument": 'select max(public.label(e)) from public."We""ird Events" as e where id = 77',
        "atomic": "select public.how_many(50)",
    }
    return {name: scalar(conn, as_query(query)) for name, query in asked.items()}


def test_everything_moves_with_the_name_and_back_and_forth(
    database: Database, conn: Connection, sql_files: SqlFiles, pointed_at: Name, run: Run
) -> None:
    """After each turn the picture is the same to the letter, nothing points at the other table, and all of it works."""
    plan, names = make_plan("swap"), names_of(pointed_at)
    deploy(conn, sql_files, plan)
    before = picture(conn)
    assert len(read_dependents(conn, sql_files, oid_of(conn, sql_files, pointed_at), KEY)) >= 10
    work = make_switchover(database, sql_files, plan, run)
    with writing(database, pointed_at, writers=2) as writers:
        assert work.prepare()
        turns = [
            (work.switch, names.retired, "p"),
            (work.roll_back, names.target, "r"),
            (work.switch, names.retired, "p"),
        ]
        for turn, other, kind in turns:
            assert turn()
            assert Catalog(conn, sql_files).read(pointed_at).kind == kind
            assert picture(conn) == before
            assert read_dependents(conn, sql_files, oid_of(conn, sql_files, other), KEY) == ()
    assert writers.lost(conn, pointed_at) == []

    # The retired table is emptied behind everybody's back: whatever still read it would show that.
    wanted = answers(conn)
    with as_replica(conn):
        conn.execute('delete from public."We""ird Events_old"')
    assert answers(conn) == wanted
    assert all(wanted.values())
    conn.execute("refresh materialized view public.filled")
    assert scalar(conn, "select n from public.filled") == wanted["owned view"]


def test_writes_through_views_and_rules_reach_the_live_table(
    conn: Connection, sql_files: SqlFiles, pointed_at: Name, prepared: Prepared
) -> None:
    """Updatable views, rules and procedures write the new table after the swap, and the old one after the way back."""
    plan, names = make_plan("swap"), names_of(pointed_at)
    work = prepared(plan)
    for turn in (work.switch, work.roll_back, work.switch):
        turn()
        conn.execute("delete from public.audit")
        conn.execute("insert into public.inbox values (1, 'event')")
        assert scalar(conn, 'select count(*) from public."We""ird Events" where note = \'event\'') == 1
        values = "('2026-02-01', 1, 7) returning id, note"
        insert = f'insert into public.plain ("Created At", "unit id", amount) values {values}'
        row = conn.execute(insert.encode()).fetchone()
        assert row is not None
        assert row[1] == "from the view"
        with pytest.raises(psycopg.errors.WithCheckOptionViolation, match='view "plain"'):
            conn.execute("update public.plain set amount = 95 where id = %s", [row[0]])
        conn.execute('update public."We""ird Events" set note = \'LOUD\' where id = %s', [row[0]])
        assert scalar(conn, "select count(*) from public.audit") == 1
        conn.execute("call public.forget(%s)", [row[0]])
        conn.execute('delete from public."We""ird Events" where note = \'event\'')
        work.follow()
        other = names.retired if Catalog(conn, sql_files).read(pointed_at).kind == "p" else names.target
        assert difference(conn, pointed_at, other) == (0, 0)


@pytest.mark.usefixtures("pointed_at")
def test_reader_of_a_view_and_the_swap_do_not_deadlock(
    database: Database, conn: Connection, prepared: Prepared
) -> None:
    """Whoever reads the view is waited for before the table is locked, and is named."""
    work = prepared(make_plan("swap", locks={"timeout_ms": 20, "max_timeout_ms": 40, "attempts": 2}))
    before = picture(conn)
    with psycopg.connect(**database.conninfo(), application_name="view reader") as reader:
        reader.execute("lock table public.audit in access share mode")
        reader.execute('select count(*) from "Other"."big ""events"')
        with pytest.raises(Exception, match="view reader"):
            work.switch()
        assert picture(conn) == before
    assert work.switch()
    assert picture(conn) == before


def test_failure_in_the_swap_leaves_everything_as_it_was(
    conn: Connection, pointed_at: Name, prepared: Prepared
) -> None:
    """The last statement of the move fails: names, views and publications are those from before."""
    work = prepared(make_plan("swap"))
    before = picture(conn)
    conn.execute(
        "create function public.boom() returns event_trigger language plpgsql as "
        "'begin raise exception ''boom''; end'; "
        "create event trigger boom on ddl_command_end when tag in ('ALTER PUBLICATION') execute function public.boom()"
    )
    with pytest.raises(StepFailed, match="boom"):
        work.switch()
    conn.execute("drop event trigger boom; drop function public.boom()")

    assert picture(conn) == before
    assert state.read_migration(conn, pointed_at).state == state.FOLLOWING
    assert work.switch()
    assert picture(conn) == before


@pytest.mark.usefixtures("pointed_at")
def test_something_left_behind_is_never_committed(conn: Connection, prepared: Prepared) -> None:
    """A template that forgets to bring things back is found before the commit (mutant of the check)."""
    work = prepared(make_plan("swap"))
    before = picture(conn)
    conn.execute(
        "create function public.spoil() returns event_trigger language plpgsql as "
        "'begin execute ''alter policy seen on public.guarded using (false)''; end'; "
        "create event trigger spoil on ddl_command_end when tag in ('ALTER PUBLICATION') "
        "execute function public.spoil()"
    )
    with pytest.raises(StepFailed, match="not moved as it was: policy seen"):
        work.switch()
    conn.execute("drop event trigger spoil; drop function public.spoil()")
    assert picture(conn) == before


STUCK = {
    "materialized": 'create materialized view public.m as select count(*) from public."We""ird Events"',
    "needs-primary-key": 'create view public.v as select id, note from public."We""ird Events" group by id',
    "shows-row": 'create view public.v as select e from public."We""ird Events" as e',
    "only": 'create view public.v as select id from only public."We""ird Events"',
    "temporary": 'create temporary view v as select id from public."We""ird Events"',
    "function-needed": 'create function public.f(e public."We""ird Events") returns int language sql immutable as '
    "'select 1'; create view public.v as select public.f(null)",
    "publication-leaves": 'create publication p for table public."We""ird Events"',
    "publication-all": "create publication p for all tables with (publish_via_partition_root = true)",
    "unknown": 'create table public.holder (e public."We""ird Events")',
}


@pytest.mark.parametrize("problem", STUCK)
def test_what_cannot_move_is_refused_with_a_remedy_before_and_at_the_swap(
    conn: Connection, sql_files: SqlFiles, events: Name, problem: str, prepared: Prepared
) -> None:
    """Preflight says so; made after preflight, the swap says so and changes nothing."""
    plan = make_plan("swap")
    work = prepared(plan)
    assert blockers(conn, sql_files, plan) == []
    conn.execute(STUCK[problem].encode())

    found = blockers(conn, sql_files, plan)
    assert [finding.remedy for finding in found] == [PROBLEMS[problem][2]]
    with pytest.raises(PreconditionError, match="would leave behind"):
        work.switch()
    assert state.read_migration(conn, events).state == state.FOLLOWING


@pytest.mark.usefixtures("events")
def test_column_list_without_the_key_is_refused(conn: Connection, sql_files: SqlFiles) -> None:
    """UPDATE on the partitioned table would fail, since its primary key has the partition key in it."""
    if conn.info.server_version < 150000:
        pytest.skip("column lists came with PostgreSQL 15")
    conn.execute(
        'create publication p for table public."We""ird Events" (id, note) with (publish_via_partition_root = true)'
    )
    assert [finding.remedy for finding in blockers(conn, sql_files, make_plan("swap"))] == [
        "add the key to the column list"
    ]


def blockers(conn: Connection, files: SqlFiles, plan: object) -> list[Finding]:
    """Return what preflight refuses."""
    return [finding for finding in run_preflight(conn, files, plan) if finding.severity == "blocker"]  # type: ignore[arg-type]


@pytest.mark.usefixtures("pointed_at")
def test_preflight_and_dry_run_name_what_moves(conn: Connection, sql_files: SqlFiles) -> None:
    """Nothing is moved that people did not read of before; dual-write leaves it where it is and says so."""
    plan = make_plan("swap")
    named = {finding.condition for finding in run_preflight(conn, sql_files, plan) if finding.id.startswith("moves-")}
    assert {"view public.plain", "rule off", "publication plain_pub", "policy seen on public.guarded"} <= named
    text = "\n".join(act.sql for act in plan_acts(conn, sql_files, plan, NOW) if act.step == "swap")
    for part in ("create or replace view public.plain", "alter publication plain_pub drop", "alter policy seen"):
        assert part in text, part

    stays = run_preflight(conn, sql_files, make_plan("dual-write"))
    assert "view public.plain" in {finding.condition for finding in stays if finding.id == "stays-view"}
    assert {finding.condition for finding in stays if finding.severity == "blocker"} == {
        "rule off",
        "rule no loud notes",
    }
