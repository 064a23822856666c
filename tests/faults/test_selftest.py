"""A comparison, its self-test too, writes nothing into an application's table and runs none of its code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

import rehearsal.switchover.parity
from rehearsal.catalog.tables import Catalog
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.parity import ParityReport, compare
from rehearsal.switchover.parity.pair import Pair
from tests.fix_verbs import Managed
from tests.waiting import eventually

# Columns of the kinds that a copy of a row could stumble over: nothing of it may be evaluated.
TABLES = """
create table public.used (n bigint generated always as identity primary key, what text);
create function public.is_known(text) returns boolean language plpgsql as
    $$ begin return exists (select from used) or length($1) >= 0; end $$;
set search_path = public;
insert into used (what) values ('known');
create domain public.known as text check (is_known(value));
create table public.t (
    id bigint primary key, at timestamptz not null, v int not null check (v >= 0), code public.known,
    doubled int generated always as (v * 2) stored, number bigint generated always as identity,
    place point, raw json, span tstzrange, tags text[], path int[], mark "char", bits bit(3), never xml
);
insert into public.t (id, at, v, code, place, raw, span, tags, path, mark, bits)
select n, '2026-01-01Z'::timestamptz + n * interval '7 hours', n % 97, 'code ' || n, point(n, 1), '{"a": 1}',
       tstzrange('2026-01-01Z', null), array['a', n::text], array[n], 'x', b'101'
from generate_series(1, 300) as n;
create table public.t_p (like public.t including generated) partition by range (at);
create table public.t_1 partition of public.t_p for values from ('2026-01-01Z') to ('2026-02-01Z');
create table public.t_2 partition of public.t_p for values from ('2026-02-01Z') to ('2026-06-01Z');
insert into public.t_p (id, at, v, code, number, place, raw, span, tags, path, mark, bits)
select id, at, v, code, number, place, raw, span, tags, path, mark, bits from public.t;
alter table public.t_p add primary key (id, at);
alter table public.t_1 add constraint one_at_a_time exclude using gist (place with ~=);
"""
FUNCTION = """
create function public.f() returns trigger language plpgsql as $$ begin {body} end $$;
"""
EVERYWHERE = ("t", "t_1", "t_2")
APPEND_ONLY = FUNCTION.format(body="raise exception 'append only';")
DRAWS = "create sequence public.drawn;" + FUNCTION.format(
    body="perform pg_catalog.nextval('public.drawn'); return null;"
)
UNQUALIFIED = FUNCTION.format(body="insert into used (what) values (tg_op); return null;")
TRIGGER = "create trigger f {when} on public.{table} for each {level} execute function public.f();"
ANY = "insert or update or delete"


def _on_all(first: str, when: str, level: str = "row") -> str:
    return first + "".join(TRIGGER.format(when=when, table=table, level=level) for table in EVERYWHERE)


HINDRANCES = {
    "f07": {
        "append only": _on_all(APPEND_ONLY, "before update or delete"),
        "an audit trigger that draws numbers": _on_all(DRAWS, f"after {ANY}"),
        "a statement trigger": _on_all(APPEND_ONLY, f"before {ANY} or truncate", "statement"),
        "a statement trigger that draws numbers": _on_all(DRAWS, f"after {ANY}", "statement"),
        "triggers that always fire": _on_all(APPEND_ONLY, f"before {ANY}")
        + "".join(f"alter table public.{table} enable always trigger f;" for table in EVERYWHERE),
        "a rule": "create rule no as on update to public.t_1 do instead nothing;"
        "create rule not_at_all as on delete to public.t_1 do instead nothing;",
        "row security": "alter table public.t_1 enable row level security;"
        "alter table public.t_1 force row level security;"
        "create policy p on public.t_1 using (true) with check (false);",
    },
    "f30": {
        "unqualified names": _on_all(UNQUALIFIED, f"after {ANY}"),
        "unqualified names before a row": _on_all(
            FUNCTION.format(body="insert into used (what) values (tg_op); return coalesce(new, old);"), f"before {ANY}"
        ),
        "unqualified names in a statement trigger": _on_all(UNQUALIFIED, f"after {ANY}", "statement"),
        "unqualified names of a function": _on_all(
            FUNCTION.format(body="perform is_known('x'); return null;"), f"after {ANY}"
        ),
    },
}
EVENT_TRIGGER = """
create function public.none() returns event_trigger language plpgsql as $$ begin raise exception 'no change'; end $$;
create event trigger no_change on ddl_command_start execute function public.none();
"""
COUNTERS = """
select relname, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd from pg_stat_user_tables
where schemaname = 'public' order by relname
"""
NUMBERS = "select schemaname, sequencename, last_value from pg_sequences where schemaname = 'public' order by 2"
CONTENT = "select (select sum(hashtext(x::text)) from public.{} as x), (select count(*) from public.used)"
WATCHED = "select count(*) from pg_stat_activity where application_name like 'pg-rehearsal parity%'"
FLUSH = "select pg_stat_force_next_flush(), pg_stat_clear_snapshot()"


def flush(conn: Connection) -> None:
    """Make the counters whole: a session counts its writes when it ends."""
    eventually(lambda: scalar(conn, WATCHED) == 0, 60)
    conn.execute(FLUSH)


def counted(conn: Connection, table: str = "t") -> list[object]:
    """Return what writes leave behind, rolled back ones too: row counters, numbers drawn, content."""
    flush(conn)
    texts = (COUNTERS, NUMBERS, CONTENT.format(table))
    return [conn.execute(as_query(text)).fetchall() for text in texts]


def compared(database: Database, files: SqlFiles) -> ParityReport:
    """Compare both tables, as a role that reads would."""
    with connect(database) as conn:
        catalog = Catalog(conn, files)
        tables = catalog.read(("public", "t")), catalog.read(("public", "t_p"))
    try:
        return compare(database, files, *tables, "at")
    except (CannotSee, psycopg.ProgrammingError) as exc:
        message = f"was cut short: {exc}"
        raise AssertionError(message) from exc


def nothing_is_written(conn: Connection, database: Database, files: SqlFiles, hindrance: str) -> ParityReport:
    """Compare with the hindrance in place: proved, and no row, number or counter of the application moved."""
    conn.execute(as_query(TABLES))
    conn.execute("reset search_path")
    conn.execute(as_query(hindrance))
    before = counted(conn)
    report = compared(database, files)
    assert report.is_equal, report.text()
    assert report.self_test is True, f"self-test: {report.self_test_note}"
    assert counted(conn) == before, "a table of the application was written to"
    return report


CASES = [(fault, hindrance) for fault, ones in HINDRANCES.items() for hindrance in ones]
FAULTS = [pytest.param(fault, hindrance, id=hindrance, marks=pytest.mark.fault(fault)) for fault, hindrance in CASES]
MUTANTS = [
    pytest.param(fault, hindrance, id=hindrance, marks=pytest.mark.fault(fault, mutant=True))
    for fault, hindrance in CASES
]


@pytest.mark.parametrize(("fault", "hindrance"), FAULTS)
def test_a_comparison_writes_nothing_whatever_the_application_forbids_or_counts(
    conn: Connection, database: Database, sql_files: SqlFiles, fault: str, hindrance: str
) -> None:
    """Triggers, rules and policies of the application are neither obstacle nor fired."""
    report = nothing_is_written(conn, database, sql_files, HINDRANCES[fault][hindrance])

    assert report.self_test_note == "corruption was seen: duplicate, misrouted, missing, moved, orphan, stale"


UPDATE = "update public.t_1 set v = v + 1 where ctid = (select min(ctid) from public.t_1)"


def corrupt_in_place(database: Database, _: SqlFiles, pair: Pair, *__: object) -> tuple[bool | None, str]:
    """Do what the self-test did: corrupt a row of the table itself, and roll back."""
    with connect(database, autocommit=False, role="parity self-test") as conn:
        conn.execute("set local lock_timeout = '500ms'")
        try:
            if not conn.execute(UPDATE).rowcount:
                return False, "corruption was not seen: stale"
        except (psycopg.errors.RaiseException, psycopg.errors.LockNotAvailable) as exc:
            return None, str(exc)
        finally:
            conn.rollback()
    return True, "corruption was seen: stale"


@pytest.mark.parametrize(("fault", "hindrance"), MUTANTS)
def test_corruption_in_place_is_caught(
    conn: Connection,
    database: Database,
    sql_files: SqlFiles,
    fault: str,
    hindrance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the self-test was fails, or leaves traces: each of these worlds can tell."""
    monkeypatch.setattr(rehearsal.switchover.parity, "run_self_test", corrupt_in_place)

    with pytest.raises(AssertionError, match=r"self-test: |was cut short|was written to"):
        nothing_is_written(conn, database, sql_files, HINDRANCES[fault][hindrance])


@pytest.mark.parametrize("mode", ["share", "share row exclusive", "exclusive"])
@pytest.mark.fault("f07")
def test_a_comparison_does_not_wait_for_who_bars_writers(
    conn: Connection, database: Database, sql_files: SqlFiles, mode: str
) -> None:
    """Only a lock that bars readers bars a comparison."""
    proved_under_lock(conn, database, sql_files, mode)


@pytest.mark.fault("f07", mutant=True)
def test_corruption_in_place_waits_for_who_bars_writers(
    conn: Connection, database: Database, sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the self-test was cannot be done under such a lock."""
    monkeypatch.setattr(rehearsal.switchover.parity, "run_self_test", corrupt_in_place)

    with pytest.raises(AssertionError, match="lock timeout"):
        proved_under_lock(conn, database, sql_files, "share")


def proved_under_lock(conn: Connection, database: Database, files: SqlFiles, mode: str) -> None:
    """Compare while somebody holds a lock on all of the tables."""
    with locked(database, conn, mode):
        report = compared(database, files)
    assert report.self_test is True, report.self_test_note


@contextlib.contextmanager
def locked(database: Database, conn: Connection, mode: str) -> Iterator[None]:
    """Make the tables, and hold a lock on both and on their leaves."""
    conn.execute(as_query(TABLES))
    conn.execute("reset search_path")
    with connect(database, autocommit=False, role="reindex") as other:
        other.execute(as_query(f"lock table public.t, public.t_p in {mode} mode"))
        yield
        other.rollback()


@pytest.mark.fault("f07")
def test_who_may_only_read_can_prove_it_too(conn: Connection, database: Database, sql_files: SqlFiles) -> None:
    """A role without a right to write or to make temporary tables, whose transactions are read only by default."""
    conn.execute(as_query(TABLES))
    conn.execute("reset search_path")
    name = sql.Identifier(f"reader_{database.name}")
    conn.execute(sql.SQL("create role {} login password 'reader'").format(name))
    conn.execute(sql.SQL("revoke temporary on database {} from public").format(sql.Identifier(database.name)))
    for text in (
        "grant select on all tables in schema public to {}",
        "alter role {} set default_transaction_read_only = on",
    ):
        conn.execute(as_query(text.replace("{}", name.as_string(conn))))
    try:
        reader = replace(database, user=f"reader_{database.name}", password="reader")
        assert compared(reader, sql_files).self_test is True
    finally:
        conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(name))


@pytest.mark.fault("f30")
def test_event_triggers_of_others_do_not_fire(conn: Connection, database: Database, sql_files: SqlFiles) -> None:
    """Nothing is created, so what watches over statements that create sees none."""
    nothing_is_written(conn, database, sql_files, EVENT_TRIGGER)


@pytest.mark.fault("f07")
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_tables_with_hardly_a_row_are_proved_with_made_up_ones(
    conn: Connection, database: Database, sql_files: SqlFiles, rows: int
) -> None:
    """An empty table is no reason for an inconclusive comparison."""
    report = nothing_is_written(
        conn, database, sql_files, f"delete from public.t where id > {rows}; delete from public.t_p where id > {rows}"
    )

    assert ("made-up" in report.self_test_note) == (rows == 0)


KEYS = {
    "date": ("date", "range", "from ('2026-01-01') to ('2026-02-01')", "id"),
    "epoch": ("bigint", "range", "from (1700000000000) to (1800000000000)", "id, k"),
    "the last numbers of a type": ("smallint", "range", "from (32767) to (maxvalue)", "id"),
    "number that is the primary key": ("int", "range", "from (5) to (6)", "k"),
    "uuid that is the primary key": (
        "uuid", "range", "from ('019b0000-0000-7000-8000-000000000000') to ('019c0000-0000-7000-8000-000000000000')",
        "k",
    ),
    "list of one text": ("text", "list", "in ('de')", "id"),
    "list of one truth": ("boolean", "list", "in (true)", "id"),
    "list of one label in the primary key": ("public.kind", "list", "in ('a')", "k, id"),
    "list of one domain": ("public.tenant", "list", "in ('de')", "id"),
    "hash that is the primary key": ("bigint", "hash", "with (modulus 1, remainder 0)", "k"),
    "hash of a uuid": ("uuid", "hash", "with (modulus 1, remainder 0)", "id"),
}  # fmt: skip
VALUES = {
    "date": "'2026-01-31'", "epoch": "1750000000000", "the last numbers of a type": "32767",
    "number that is the primary key": "5", "uuid that is the primary key": "'019b5555-0000-7000-8000-000000000000'",
    "list of one text": "'de'", "list of one truth": "true", "list of one label in the primary key": "'a'",
    "list of one domain": "'de'", "hash that is the primary key": "7",
    "hash of a uuid": "'019b5555-0000-7000-8000-000000000000'",
}  # fmt: skip


@pytest.mark.fault("v10")
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("name", KEYS)
def test_a_row_can_be_moved_in_the_only_partition_of_any_key(
    conn: Connection, database: Database, sql_files: SqlFiles, name: str, rows: int
) -> None:
    """However narrow the partition is, and with one row or none."""
    kind, method, bound, primary = KEYS[name]
    conn.execute("create type public.kind as enum ('a', 'b')")
    conn.execute("create domain public.tenant as text check (value = 'de')")
    for text in (
        f"create table public.t (id bigint not null, k {kind} not null, note text, primary key ({primary}))",
        f"create table public.t_p (like public.t) partition by {method} (k)",
        f"create table public.t_1 partition of public.t_p for values {bound}",
        f"insert into public.t select 1, {VALUES[name]}, 'note' where {rows} > 0",
        "insert into public.t_p select * from public.t",
    ):
        conn.execute(as_query(text))
    catalog = Catalog(conn, sql_files)

    got = compare(database, sql_files, catalog.read(("public", "t")), catalog.read(("public", "t_p")), "k")

    assert (got.is_equal, got.self_test) == (True, True), got.self_test_note
    assert ("moved" in got.self_test_note) == ("k" not in primary)


AUDITED = """
create table public.audit_log (n bigint generated always as identity primary key, what text);
create function public.audit() returns trigger language plpgsql as
    $$ begin insert into audit_log (what) values (tg_op); return null; end $$;
create function public.append_only() returns trigger language plpgsql as
    $$ begin raise exception 'append only'; end $$;
create table public.t (id bigint primary key, at timestamptz not null, v int);
insert into public.t
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97 from generate_series(1, 900) as n;
"""
THEN = """
create trigger audit after insert or update or delete on public.{0} for each row execute function public.audit();
create trigger append_only before update or delete on public.{0} for each row execute function public.append_only();
"""


def verified(managed: Managed) -> None:
    """Switch over, and verify: the table is append only and audited meanwhile, by unqualified names."""
    managed.setup(sql_text=AUDITED)
    managed.done("provision")  # writes the file of passwords that the next verb's psql reads
    managed.done("migrate")
    managed.done("switchover")
    managed.run(THEN.format("t"))
    with managed.session("superuser") as conn:
        texts = (COUNTERS, NUMBERS)
        before = [conn.execute(as_query(text)).fetchall() for text in texts]
        said = managed.verb("verify")
        assert said.code == 0, said.text
        assert "self-test: PASS" in said.text, said.text
        flush(conn)
        assert [conn.execute(as_query(text)).fetchall() for text in texts] == before


@pytest.mark.fault("f07")
@pytest.mark.fault("f30")
def test_verify_writes_nothing_into_a_table_that_is_append_only(managed: Managed) -> None:
    """The verb, as the role that owns the table."""
    verified(managed)


def corrupt_any(database: Database, _: SqlFiles, pair: Pair, *__: object) -> tuple[bool | None, str]:
    """Do what the self-test did, in the first partition that has a row."""
    leaf = sql.Identifier(*next(leaf.name for leaf in pair.leaves if leaf.oid and not leaf.is_default))
    with connect(database, autocommit=False, role="parity self-test") as conn:
        try:
            conn.execute(sql.SQL("update {} set v = v + 1").format(leaf))
        except psycopg.errors.RaiseException as exc:
            return None, str(exc)
        finally:
            conn.rollback()
    return True, "corruption was seen: stale"


@pytest.mark.hours  # by the verb; CI has this mutant by the comparison itself, above
@pytest.mark.fault("f07", mutant=True)
@pytest.mark.fault("f30", mutant=True)
def test_verify_that_corrupts_in_place_is_caught(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the self-test was, the verb fails."""
    monkeypatch.setattr(rehearsal.switchover.parity, "run_self_test", corrupt_any)

    with pytest.raises(AssertionError, match="append only"):
        verified(managed)
