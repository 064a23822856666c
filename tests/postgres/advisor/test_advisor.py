"""The advisor on live tables: the key, the width and the strategy that an engineer would choose, with the reasons."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rehearsal.advisor.advise import advise
from rehearsal.advisor.facts import read_table_facts
from rehearsal.advisor.write import write_plan
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.plan.file import load_plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes

NOW = datetime(2026, 3, 15, tzinfo=UTC)
AT = "'2025-01-01'::timestamptz + n * interval '3 hours'"
V7 = "(lpad(to_hex(1767225600000 + n * 2000000::bigint), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid"

CHANGED = "(id bigserial primary key, updated_at timestamptz not null, created_at timestamptz not null, note text)"
COUNTED = "(id uuid primary key default gen_random_uuid(), ts bigint not null, body text)"
HOSTILE = '("K ""e%y" date not null, id int, "n\'o\te" text, primary key (id, "K ""e%y"))'
TABLES: dict[str, tuple[str, dict[str, object]]] = {
    "a time, not the time of the last change": (
        f"{CHANGED}|select n, '2026-03-01', {AT}, 'x'",
        {"key": "created_at", "interval": "1 month", "method": "range", "marker": "note"},
    ),
    "a uuid of version 7": (
        f"(id uuid primary key, amount int, paid boolean not null)|select {V7}, n, n % 2 = 0",
        {"key": "id", "interval": "1 month", "method": "range", "marker": None},
    ),
    "milliseconds": (
        f"{COUNTED}|select gen_random_uuid(), 1760000000000 + n * 3000000::bigint, 'x'",
        {"key": "ts", "epoch": "ms", "interval": "1 month"},
    ),
    "a growing number": ("(id int primary key, body text)|select n, 'x'", {"key": "id", "interval": "1000"}),
    "a tenant that spreads": (
        "(id uuid primary key default gen_random_uuid(), body text)|select gen_random_uuid(), 'x'",
        {"key": "id", "method": "hash", "modulus": 4},
    ),
    "a hostile name": (
        f"{HOSTILE}|select '2025-01-01'::date + n % 400, n, 'x'",
        {"key": 'K "e%y', "interval": "1 month", "marker": "n'o\te"},
    ),
}


def make(conn: Connection, text: str, name: str = "t") -> None:
    """Make and fill a table, and let the planner see it."""
    columns, _, rows = text.partition("|")
    conn.execute("set search_path = public, pg_catalog")
    conn.execute(as_query(f'create table "{name}" {columns}'))
    conn.execute(as_query(f'insert into "{name}" {rows} from generate_series(1, 2000) as n'))
    conn.execute(as_query(f'analyze "{name}"'))


@pytest.mark.parametrize("name", TABLES)
def test_the_key_is_the_one_that_an_engineer_would_choose(
    conn: Connection, sql_files: SqlFiles, tmp_path: Path, name: str
) -> None:
    """The written plan loads, passes its own checks, and can be rendered; nothing was left in the database."""
    text, wanted = TABLES[name]
    make(conn, text)
    before = scalar(conn, "select count(*) from pg_class")

    path, advice = write_plan(conn, sql_files, "public.t", tmp_path)

    plan = load_plan(path)
    table = plan.tables[0]
    assert {key: getattr(table, key) for key in wanted} == wanted
    assert advice.strategy == plan.strategy == "swap"
    assert scalar(conn, "select count(*) from pg_class") == before
    assert advice.facts.sample is not None
    assert advice.facts.sample.rows == 2_000
    written = path.read_text()
    assert all(said in written for said in ("About 2,000 rows", "ACCESS EXCLUSIVE", "docs/benchmarks.md", "copy"))
    assert "What would stop it just now" not in written
    assert render_changes(conn, sql_files, plan, NOW)


def test_a_plan_is_never_overwritten(conn: Connection, sql_files: SqlFiles, tmp_path: Path) -> None:
    """What people wrote since stays."""
    make(conn, TABLES["a growing number"][0])
    path, _ = write_plan(conn, sql_files, "public.t", tmp_path)
    path.write_text("mine")

    with pytest.raises(UsageError, match="already exists and is not overwritten"):
        write_plan(conn, sql_files, "public.t", tmp_path)
    assert path.read_text() == "mine"
    assert write_plan(conn, sql_files, "public.t", tmp_path, name="other")[0].name == "other.toml"


def test_what_is_in_the_way_is_said_in_the_plan(conn: Connection, sql_files: SqlFiles, tmp_path: Path) -> None:
    """Blockers of preflight, and the decisions that the plan needs, stand beside the words for them."""
    make(conn, f"(id int primary key, at timestamptz not null, code text unique)|select n, {AT}, 'c' || n")
    conn.execute("create table public.child (t int references public.t)")

    text = write_plan(conn, sql_files, "public.t", tmp_path)[0].read_text()

    assert "What would stop it just now" in text
    assert '# uniques = { "t_code_key" = "add-key" }' in text
    assert '# references = { "child_t_fkey" = "composite" }' in text


def test_a_short_disk_leads_to_attach_where_the_key_allows_it(conn: Connection, sql_files: SqlFiles) -> None:
    """With the key in the primary key no row need be copied; without, the reason is said."""
    make(conn, f"(id int, at timestamptz not null, primary key (id, at))|select n, {AT}")
    make(conn, f"(id int primary key, at timestamptz not null)|select n, {AT}", "u")
    fits = advise(read_table_facts(conn, sql_files, ("public", "t"), free_bytes=1), NOW)
    stands = advise(read_table_facts(conn, sql_files, ("public", "u"), free_bytes=1), NOW)

    assert fits.strategy == "attach"
    assert "no row is copied" in fits.why[0]
    assert stands.strategy == "swap"
    assert "the key at is not in u_pkey" in stands.why[0]


def test_a_table_without_any_key_is_refused(conn: Connection, sql_files: SqlFiles, tmp_path: Path) -> None:
    """In words, and so is a table that is not there."""
    make(conn, "(body json)|select to_json(n)")
    with pytest.raises(PreconditionError, match=r"no column of public\.t can be a partition key"):
        write_plan(conn, sql_files, "public.t", tmp_path)
    with pytest.raises(PreconditionError, match=r"there is no table public\.nothing"):
        write_plan(conn, sql_files, "public.nothing", tmp_path)
