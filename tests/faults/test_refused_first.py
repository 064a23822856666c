"""What cannot be carried is refused by every verb before its first write, in whatever state the table is.

The digest that is compared is of catalogs, state tables and content of every schema but PostgreSQL's own.
"""

from __future__ import annotations

import pytest

from rehearsal.commands import cleanup, db, doctor
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.dryrun import catalog_digest
from tests.fix_verbs import ROOT, Managed

FILES = SqlFiles(ROOT / "sql")
FORCE = "alter table public.t enable row level security; alter table public.t force row level security;"
HIDES = FORCE + "create policy p on public.t using (id < 100) with check (true);"
CONTENT = """
select coalesce(string_agg(x, '' order by x), '') from (
    select table_schema || '.' || table_name || md5(query_to_xml(
        format('select * from %I.%I as r order by r::text', table_schema, table_name), true, true, '')::text) as x
    from information_schema.tables
    where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')
) as q
"""


def digest(managed: Managed) -> tuple[object, ...]:
    """Return what a refused verb must leave as it is."""
    with managed.session("superuser") as conn:
        conn.execute("select pg_catalog.pg_stat_force_next_flush()")
        found = conn.execute(CONTENT.encode()).fetchone()
        return catalog_digest(conn, FILES), found


def require_refused(managed: Managed, verb: str, *names: str) -> None:
    """Require exit code 1, each of the names in the message, and nothing written."""
    before = digest(managed)
    said = managed.verb(verb, *(["--fix"] if verb == "doctor" else []))
    assert said.code == 1, f"{verb} ended with {said.code}: {said.text}"
    assert "is refused before anything is written" in said.text, f"{verb}: {said.text}"
    for name in names:
        assert name in said.text, f"{verb}: {said.text}"
    assert digest(managed) == before, f"{verb} wrote something"


def ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the old behaviour back: single verbs do not ask."""
    for module in (db, cleanup, doctor):
        monkeypatch.setattr(module, "require_ready", lambda *_: None)


# ── f01: row security ────────────────────────────────────────────────────────────────────────────────────────────


def hidden_rows_are_never_dropped(managed: Managed) -> None:
    """A policy that hides rows from the migrating role: refused by the first verb."""
    managed.setup(rows=1_000)
    managed.run(HIDES)
    require_refused(managed, "migrate", "public.t", "row security", "bypassrls")


@pytest.mark.fault("f01")
def test_a_table_whose_policies_bind_its_owner_is_refused_before_anything_is_written(managed: Managed) -> None:
    """Forced row security, as the fault was found."""
    hidden_rows_are_never_dropped(managed)


@pytest.mark.fault("f01", mutant=True)
def test_verbs_that_do_not_ask_take_a_table_whose_rows_they_do_not_see(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without preflight, the scenario fails."""
    ask_nothing(monkeypatch)
    # With row_security pinned to off, PostgreSQL itself stops later, in words of its own.
    with pytest.raises(AssertionError, match="migrate: "):
        hidden_rows_are_never_dropped(managed)


def policies_between_verbs_are_seen(managed: Managed) -> None:
    """A policy that comes after `migrate`, and one that comes after `switchover`; taken away, the verb goes on."""
    managed.setup(rows=200)
    managed.write_plan("swap")
    path = managed.root / "plans" / "managed.toml"
    path.write_text("stable_days = 0\n" + path.read_text())
    undo = (
        "drop policy p on {0}; alter table {0} disable row level security; alter table {0} no force row level security"
    )
    managed.done("migrate")
    managed.run(HIDES)
    for verb in ("migrate", "switchover", "rollback", "doctor"):
        require_refused(managed, verb, "public.t", "row security")
    managed.run(undo.format("public.t"))
    managed.done("switchover")
    managed.run(HIDES.replace("public.t", "public.t_old"))
    for verb in ("switchover", "rollback", "cleanup", "doctor"):
        require_refused(managed, verb, "public.t_old", "row security")
    managed.run(undo.format("public.t_old"))
    managed.run("alter role current_user bypassrls".replace("current_user", f'"{managed.mig.user}"'), "superuser")
    managed.run(HIDES)
    managed.done("cleanup")
    assert managed.rows("select count(*) from public.t") == [(200,)]


@pytest.mark.fault("f01")
def test_policies_that_come_between_verbs_are_refused_by_the_next_one(managed: Managed) -> None:
    """Source and retired table, each verb; a role with BYPASSRLS sees all rows and goes on."""
    policies_between_verbs_are_seen(managed)


# ── f12: objects of other owners ─────────────────────────────────────────────────────────────────────────────────

FUNCTION = "create function public.others() returns setof public.t begin atomic select * from public.t; end"
REFERENCED = """
create table public.others (id int primary key); insert into public.others select generate_series(0, 96);
alter table public.t add foreign key (v) references public.others
"""
OTHERS = {
    "publication": ("create publication others for table public.t with (publish_via_partition_root = true)",
                    'alter publication "others" owner to'),
    "publication of all tables": ("create publication others for all tables", "name the tables"),
    "view": ("create view public.others as select id from public.t", "public.others"),
    "statistics": ("create statistics public.others on id, v from public.t", "public.others"),
    "function": (FUNCTION, "public.others"),
    "referencing table": ("create table public.others (id bigint references public.t)", "public.others"),
    "referenced table": (REFERENCED, "others"),
}  # fmt: skip


def others_are_refused(managed: Managed, kind: str) -> None:
    """An object that a superuser made, and that the swap would have to touch: named before the copy."""
    made, named = OTHERS[kind]
    more = 'references = { others_id_fkey = "loose" }' if kind == "referencing table" else ""
    managed.setup(rows=200, plan=more)
    managed.run(made, "superuser")
    require_refused(managed, "migrate", named)


@pytest.mark.fault("f12")
@pytest.mark.parametrize("kind", OTHERS)
def test_objects_of_other_owners_are_named_before_the_copy(managed: Managed, kind: str) -> None:
    """Each with what the DBA has to run."""
    others_are_refused(managed, kind)


@pytest.mark.fault("f12")
def test_the_remedy_for_a_publication_leads_to_the_switchover(managed: Managed) -> None:
    """The statements that preflight names, run by a superuser; the publication moves and comes back."""
    managed.setup(rows=200)
    managed.run(OTHERS["publication"][0], "superuser")
    said = managed.verb("migrate").text.splitlines()
    remedy = next(line for line in said if "[not-carried-publication]" in line)
    managed.run(remedy.partition("as superuser: ")[2].partition(" [")[0], "superuser")
    for verb in ("migrate", "switchover", "rollback"):
        managed.done(verb)
    tables = "select tablename from pg_publication_tables where pubname = 'others'"
    assert managed.rows(tables) == [("t",)]


@pytest.mark.fault("f12", mutant=True)
def test_verbs_that_do_not_ask_find_a_publication_of_another_owner_too_late(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without preflight, the scenario fails."""
    ask_nothing(monkeypatch)
    with pytest.raises(AssertionError, match="migrate ended with 0"):
        others_are_refused(managed, "publication")


# ── f10: what runs within the application's writes ───────────────────────────────────────────────────────────────


TABLE = "create table public.t (id {type} primary key, at timestamptz not null, v int); insert into public.t "
KEYS = {
    "ltree": ("create extension ltree schema public", "ltree", "public.="),
    "citext": ("create extension citext schema public", "citext", "public.="),
    "citext elsewhere": ("create schema ext; create extension citext schema ext; grant usage on schema ext to public",
                         "ext.citext", "ext.="),
    "domain over citext": ("create extension citext schema public; create domain public.mail as public.citext",
                           "public.mail", "public.="),
}  # fmt: skip


def keys_are_refused(managed: Managed, name: str) -> None:
    """A primary key whose operators are not in pg_catalog."""
    extension, kind, operator = KEYS[name]
    managed.setup(sql_text="select 1")
    managed.run(extension, "superuser")
    kind = kind if "." in kind else f"public.{kind}"
    rows = (
        f"select ('k' || n)::{kind}, '2026-01-01'::timestamptz + n * interval '1 day', n from generate_series(1, 50) n"
    )
    managed.run("set search_path = public; " + TABLE.format(type=kind) + rows)
    require_refused(managed, "migrate", "public.t.id", operator)


@pytest.mark.fault("f10")
@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_compares_by_operators_elsewhere_is_refused(managed: Managed, name: str) -> None:
    """Types of extensions, in public or not, and domains over them."""
    keys_are_refused(managed, name)


@pytest.mark.fault("f10", mutant=True)
def test_verbs_that_do_not_ask_leave_a_key_of_ltree_unwritable(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without preflight, the scenario fails."""
    ask_nothing(monkeypatch)
    with pytest.raises(AssertionError, match="migrate ended with 0"):
        keys_are_refused(managed, "ltree")
