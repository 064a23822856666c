"""The single verbs as somebody's own database sees them: a role that owns the table and is no superuser.

`managed` is an environment of kind `staging` on the tests' server, with an inventory and a checkout of its own. Verbs
run in this process, through the command line, so that a test can put an old behaviour back (`monkeypatch`) and see its
own scenario fail.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from fleet.cluster import Cluster
from rehearsal import cli
from rehearsal.environment import Database
from rehearsal.hosts import inventory
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "managed"
LINKED = ("deploy.py", "fleet", "rehearsal", "sql", "tasks", "templates", "requirements.lock", "pyproject.toml")
_numbers = itertools.count(1)
TABLE = """
create table public.t (id bigint primary key, at timestamptz not null, v int);
insert into public.t
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97 from generate_series(1, {rows}) as n;
grant select, insert, update, delete on public.t to {app};
"""
PLAN = """\
name = "managed"
strategy = "{strategy}"
[[tables]]
name = "public.t"
key = "at"
interval = "1 month"
{more}
"""


@dataclass(frozen=True)
class Said:
    """What a verb ended with and said, both streams together."""

    code: int
    text: str


@dataclass(frozen=True)
class Managed:
    """The environment: the plan's database as its owner `mig`, as the application and as superuser."""

    root: Path
    mig: Database
    app: Database
    superuser: Database

    def setup(self, rows: int = 3_000, *, strategy: str = "swap", plan: str = "", sql_text: str | None = None) -> None:
        """Make the tables as `mig` (`public.t` unless `sql_text` says otherwise), the registry, and the plan."""
        text = TABLE.format(rows=rows, app=self.app.user) if sql_text is None else sql_text
        with connect(self.mig) as conn:
            conn.execute(as_query(text))
            # What `db.provision` does on a managed database, without its seconds; test_world provisions.
            conn.execute(SqlFiles(ROOT / "sql").query("registry.sql"))
            conn.execute("insert into rehearsal.environment_mark (kind) values ('staging')")
        self.write_plan(strategy, plan)

    def write_plan(self, strategy: str, more: str = "") -> None:
        """Write the plan `managed`; `more` goes into its only table, or begins tables of its own."""
        (self.root / "plans" / "managed.toml").write_text(PLAN.format(strategy=strategy, more=more))

    def verb(self, name: str, *words: str) -> Said:
        """Run one verb of the command line on the plan, with `--yes`."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = cli.main([name, "--plan", "managed", "--env", "managed", "--yes", *words])
            except SystemExit as exc:
                code = int(exc.code or 0)
        return Said(code, said.getvalue())

    def plain(self, name: str, *words: str) -> Said:
        """Run one verb with these words alone."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = cli.main([name, *words])
            except SystemExit as exc:
                code = int(exc.code or 0)
        return Said(code, said.getvalue())

    def done(self, name: str, *words: str) -> str:
        """Run a verb that must end with 0; return what it said."""
        said = self.verb(name, *words)
        assert said.code == 0, said.text
        return said.text

    @contextlib.contextmanager
    def session(self, who: str = "mig") -> Iterator[Connection]:
        """Open a session as `mig`, `app` or `superuser`."""
        with connect({"mig": self.mig, "app": self.app, "superuser": self.superuser}[who], role="test") as conn:
            yield conn

    def run(self, text: str, who: str = "mig") -> None:
        """Run SQL text."""
        with self.session(who) as conn:
            conn.execute(as_query(text))

    def rows(self, query: str, who: str = "superuser") -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with self.session(who) as conn:
            return conn.execute(as_query(query)).fetchall()


def read_once(read: Callable[[Path, Path], list[dict[str, Any]]]) -> Callable[[Path, Path], list[dict[str, Any]]]:
    """Return a reader that asks pyinfra once for each text of an inventory: a second of each verb is that."""
    known: dict[bytes, list[dict[str, Any]]] = {}

    def reader(path: Path, root: Path) -> list[dict[str, Any]]:
        texts = [file.read_bytes() for file in (path, *sorted((path.parent / "group_data").glob("*.py")))]
        key = b"\0".join(texts)
        if key not in known:
            known[key] = read(path, root)
        return deepcopy(known[key])

    return reader


@pytest.fixture
def managed(server: Database, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Managed]:
    """An environment of kind `staging` whose migrating role owns the database and is nobody else."""
    number = next(_numbers)
    mig, app = f"mig_{number}", f"app_{number}"
    with connect(server) as conn:
        for role in (mig, app):
            name = sql.Identifier(role)
            conn.execute(sql.SQL("create role {} login password {}").format(name, PASSWORD))
        conn.execute(sql.SQL("create database {0} owner {0}").format(sql.Identifier(mig)))
    database = replace(server, name=mig, user=mig, password=PASSWORD)
    world = Managed(_checkout(tmp_path, database, app, cluster), database,
                    replace(database, user=app), replace(server, name=mig))  # fmt: skip
    monkeypatch.setattr(cli, "ROOT", world.root)
    monkeypatch.setattr(inventory, "_read_inventory", read_once(inventory._read_inventory))
    monkeypatch.setenv("REHEARSAL_RUNS", str(world.root / "runs"))
    with connect(world.superuser) as conn:
        conn.execute(sql.SQL("grant create, usage on schema public to {}").format(sql.Identifier(mig)))
        conn.execute(sql.SQL("grant pg_monitor to {}").format(sql.Identifier(mig)))
        if conn.info.server_version >= 150000:
            setting = "grant set on parameter session_replication_role, deadlock_timeout to {}"
            conn.execute(sql.SQL(setting).format(sql.Identifier(mig)))
    yield world
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(mig)))
        for role in (mig, app):
            conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


def _checkout(folder: Path, database: Database, app: str, cluster: Cluster) -> Path:
    root = folder / "checkout"
    (root / "plans").mkdir(parents=True)
    (root / "inventories" / "group_data").mkdir(parents=True)
    for name in LINKED:
        (root / name).symlink_to(ROOT / name)
    (root / "inventories" / "group_data" / "all.py").symlink_to(ROOT / "inventories" / "group_data" / "all.py")
    (root / "password").write_text(PASSWORD)
    # As `db.provision` writes it.
    (root / "pgpass").touch(mode=0o600)
    (root / "pgpass").write_text(f"*:*:*:{database.user}:{PASSWORD}\n")
    password = {"file": str(root / "password")}
    values = {
        "env_kind": "staging",
        "db_managed": True,
        "db_host": database.host,
        "db_port": database.port,
        "db_name": database.name,
        "db_bin": cluster.facts()["bin"],
        "db_migrator": database.user,
        "db_app_role": app,
        "db_migrator_password": password,
        "db_app_password": password,
        "passfile": str(root / "pgpass"),
        "backup_dir": str(root / "backups"),
        "admin_email": "dba@example.org",
    }
    (root / "inventories" / "managed.py").write_text(f"database = [('@process/db', {values!r})]\n")
    return root
