"""Staging as a DBA hands it over: the database and its tables are somebody else's, and nothing was prepared for us."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from fleet.cluster import Cluster, free_port
from rehearsal.application.sourcescan import scan_statements
from rehearsal.environment import Database
from rehearsal.hosts import pyinfra as door
from rehearsal.postgres.connection import Connection, connect
from tests.fix_verbs import ROOT, Managed, Said

STATEMENT = re.compile(r"^(grant|alter|create) .*;(?=  -- )", re.MULTILINE)
SHOP = """\
create table public.places (id bigint primary key);
create table public.t (id bigint primary key, at timestamptz not null, v int, place bigint references public.places);
insert into public.t
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97 from generate_series(1, 500) as n;
grant select, insert, update, delete on public.t to {app};
alter table public.t owner to {owner};
alter table public.places owner to {owner};
"""


LEFT = "reassign owned by {owner} to current_user; drop owned by {owner}; drop role {owner}"


@pytest.fixture
def shop(managed: Managed) -> Iterator[Managed]:
    """The environment with everything taken away: a role `shop_N` owns the database and its tables."""
    mig, app = managed.mig.user, managed.app.user
    owner = mig.replace("mig", "shop")
    managed.write_plan("swap")
    for text in (
        f"create role {owner}; alter database {managed.mig.name} owner to {owner}",
        f"revoke all on schema public from {mig}; revoke pg_monitor from {mig}",
        f"grant create, usage on schema public to {owner}",
        f"revoke set on parameter session_replication_role, deadlock_timeout from {mig}",
        SHOP.format(app=app, owner=owner),
    ):
        if "parameter" not in text or managed.rows("select current_setting('server_version_num')::int >= 150000")[0][0]:
            managed.run(text, "superuser")
    yield managed
    managed.run(LEFT.format(owner=owner), "superuser")


def statements(said: Said) -> list[str]:
    """Return the lines that the DBA must run, as they are; not what is only wanted."""
    needed = said.text.partition("-- wanted:")[0]
    return [match[0] for match in STATEMENT.finditer(needed)]


def handed_over(shop: Managed) -> None:
    """Provision; if it says that something is needed, run that as it stands, and nothing else; then all must go."""
    before = shop.rows("select count(*) from pg_class") + shop.rows("select nspname from pg_namespace order by 1")
    said = shop.verb("provision")
    assert said.code == 1, said.text
    assert "rights are missing on the database" in said.text, "what is missing was not said"
    after = shop.rows("select count(*) from pg_class") + shop.rows("select nspname from pg_namespace order by 1")
    assert after == before
    for line in statements(said):
        shop.run(line, "superuser")
    for verb in ("provision", "migrate", "switchover", "verify", "rollback"):
        said = shop.verb(verb)
        assert said.code == 0, said.text
        assert shop.rows("select count(*) from public.t") == [(500,)], verb


@pytest.mark.fault("s04")
def test_what_a_database_of_somebody_else_lacks_is_said_as_statements_that_suffice(shop: Managed) -> None:
    """The statements are run word by word; the whole production path works then, and nothing was written before."""
    handed_over(shop)

    owner = shop.mig.user.replace("mig", "shop")
    assert shop.rows("select distinct relowner::regrole::text from pg_class where relname like 't%' and relkind = 'r'"
                     " and relnamespace = 'public'::regnamespace") == [(owner,)]  # fmt: skip


@pytest.mark.fault("s04", mutant=True)
def test_without_the_look_the_first_error_is_the_server_s(
    shop: Managed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: the first write meets a refusal of the server (42501)."""
    for name in ("deploy.py", "fleet", "sql", "templates", "plans"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "tasks").mkdir()
    for path in (ROOT / "tasks").glob("*.py"):
        text = re.sub(r"rights\.asked\(.*?\n\)\n", "", path.read_text(), flags=re.DOTALL)
        (tmp_path / "tasks" / path.name).write_text(text)
    monkeypatch.setattr(door, "PROJECT", tmp_path)

    with pytest.raises(AssertionError, match="what is missing was not said"):
        handed_over(shop)


# What a DBA may have left out or taken away, and the statement that gives it.
TAKEN = {
    "revoke pg_monitor from {mig}": "grant pg_monitor to {mig};",
    "alter role {mig} noinherit": "alter role {mig} inherit;",
    "revoke usage on schema public from {app}, public": "grant usage on schema public to {app};",
    "alter database {mig} owner to {root}": "grant connect, create on database {mig} to {mig};",
    "create role o_{mig}; alter table public.t owner to o_{mig}": "grant create on schema public to o_{mig};",
    "create table public.u (t bigint references public.t); create statistics public.st on id, v from public.t":
        "alter table public.u owner to {mig}; alter statistics public.st owner to {mig};",
    "create table public.places (id bigint primary key); alter table public.t add place bigint references"
    " public.places": "grant references, update on public.places to {mig};",
    "create schema aside; create table aside.kinds (id int primary key); alter table public.t add kind int"
    " references aside.kinds": "grant usage on schema aside to {mig};",
    "create function aside.f() returns trigger language plpgsql as 'begin return new; end';"
    " revoke execute on function aside.f() from public; create trigger f before insert on public.t for each row"
    " execute function aside.f()": "grant execute on function aside.f() to {mig};",
}  # fmt: skip


@pytest.mark.fault("s04")
def test_every_right_that_is_taken_is_asked_for_at_once(managed: Managed) -> None:
    """One run of it is enough to ask somebody for all; what is asked for is enough."""
    managed.setup(rows=10)
    names = {"mig": managed.mig.user, "app": managed.app.user, "root": managed.superuser.user}
    for taken in TAKEN:
        managed.run(taken.format(**names), "superuser")

    said = managed.verb("provision")

    assert said.code == 1
    asked = {statement.format(**names) for statement in TAKEN.values()}
    assert asked <= {line.replace(" with inherit true", "") for line in statements(said)}, said.text
    for line in statements(said):
        managed.run(line, "superuser")
    managed.done("provision")
    managed.run(LEFT.format(owner=f"o_{names['mig']}"), "superuser")


# What a plan does not touch, or an environment does not do, is not asked for: kinds of rows that name it.
LESS = {
    ("swap", "staging"): ({"right"}, {"right"}),
    ("dual-write", "staging"): (set[str](), {"right"}),
    ("attach", "staging"): (set[str](), {"right"}),
    ("swap", "production"): ({"right"}, {"wanted"}),
}


def asked_of(managed: Managed, strategy: str, kind: str) -> list[list[str]]:
    """Return what `sql/hosts/rights.sql` says, asked as the migrating role: kind, statement, reason."""
    settings = {"migrator": managed.mig.user, "app": managed.app.user, "tables": '["public.t"]'}
    settings |= {"strategy": strategy, "kind": kind}
    words = [word for name, value in settings.items() for word in ("-v", f"{name}={value}")]
    place = [f"--host={managed.mig.host}", f"--port={managed.mig.port}", f"--username={managed.mig.user}"]
    psql = managed.rows("select setting || '/psql' from pg_config() where name = 'BINDIR'")[0][0]
    command = [
        str(psql),
        "-XAtq",
        "-F\x1f",
        *words,
        *place,
        f"--file={ROOT / 'sql/hosts/rights.sql'}",
        managed.mig.name,
    ]
    environ = {**os.environ, "PGPASSWORD": managed.mig.password, "PGOPTIONS": "-c search_path=pg_catalog"}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return [line.split("\x1f") for line in said.stdout.splitlines()]


def asked_for_no_more(managed: Managed) -> None:
    """Raise AssertionError if a right is asked for that this plan, or this kind of environment, does without."""
    for (strategy, kind), (referring, monitor) in LESS.items():
        rows = asked_of(managed, strategy, kind)
        of = {word: {row[0] for row in rows if word in row[1]} for word in ("elsewhere", "pg_monitor", "parameter")}
        wanted = (
            {"wanted"} if managed.rows("select current_setting('server_version_num')::int >= 150000")[0][0] else set()
        )
        assert of == {"elsewhere": referring, "pg_monitor": monitor, "parameter": wanted}, (strategy, kind, rows)
        assert not any("signal" in row[1] for row in rows)


@pytest.fixture
def referred(managed: Managed) -> Iterator[Managed]:
    """A role without rights of its own; a table of somebody else points at the plan's."""
    managed.setup(rows=10)
    mig, other = managed.mig.user, managed.mig.user.replace("mig", "elsewhere")
    managed.run(f"revoke pg_monitor from {mig}; create role {other}", "superuser")
    managed.run(
        f"create table public.u (t bigint references public.t); alter table public.u owner to {other}", "superuser"
    )
    if managed.rows("select current_setting('server_version_num')::int >= 150000")[0][0]:
        managed.run(f"revoke set on parameter session_replication_role, deadlock_timeout from {mig}", "superuser")
    yield managed
    managed.run(LEFT.format(owner=other), "superuser")


@pytest.mark.fault("s04")
def test_no_more_is_asked_for_than_is_needed(referred: Managed) -> None:
    """A service gives no signals and no parameters; a table that points here is nothing to dual-write and attach."""
    asked_for_no_more(referred)


@pytest.mark.fault("s04", mutant=True)
def test_asking_for_parameters_that_no_service_gives_is_caught(
    referred: Managed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: what the engine does without was needed, so a database of a service was never provisioned."""
    (tmp_path / "sql" / "hosts").mkdir(parents=True)
    text = (ROOT / "sql" / "hosts" / "rights.sql").read_text()
    (tmp_path / "sql" / "hosts" / "rights.sql").write_text(text.replace("select 10, 'wanted'", "select 10, 'right'"))
    monkeypatch.setattr("tests.faults.test_staging.ROOT", tmp_path)
    if referred.rows("select current_setting('server_version_num')::int < 150000")[0][0]:
        pytest.skip("before 15 there is nothing to grant")
    with pytest.raises(AssertionError, match=r"'parameter': \{'right'\}"):
        asked_for_no_more(referred)


@pytest.fixture(scope="module")
def bare() -> Iterator[Connection]:
    """A server as a package brings it: nothing is loaded; pg_stat_statements was made all the same."""
    base = Path(tempfile.mkdtemp(prefix="pgr-bare-"))
    base.chmod(0o711)
    cluster = Cluster(base / "cluster")
    try:
        port = free_port()
        cluster.start(port=port, settings={"shared_preload_libraries": "''"})
        with connect(Database("127.0.0.1", port, "postgres", "postgres", cluster.password())) as conn:
            conn.execute("create extension pg_stat_statements schema public")
            conn.execute("create table public.t (id bigint primary key)")
            yield conn
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)


def statements_unseen(conn: Connection) -> None:
    """Fail if a look at the statements of the application is an error where the library is not loaded."""
    try:
        assert scan_statements(conn, ["public.t"]) is None
    except psycopg.errors.ObjectNotInPrerequisiteState as exc:
        raise AssertionError(str(exc)) from exc


@pytest.mark.fault("s04")
def test_a_library_that_is_not_loaded_is_no_error(bare: Connection) -> None:
    """The look says that it saw nothing; what is missing is a statement that leaves the other libraries as they are."""
    statements_unseen(bare)


@pytest.mark.fault("s04", mutant=True)
def test_a_look_at_a_library_that_is_not_loaded_is_caught(bare: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was in preflight: the extension is made, so its view was asked (55000)."""
    view = sql.Identifier("public", "pg_stat_statements")
    monkeypatch.setattr("rehearsal.application.sourcescan.statements_view", lambda _: view)
    with pytest.raises(AssertionError, match="must be loaded via"):
        statements_unseen(bare)
