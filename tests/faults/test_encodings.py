"""A database that is not in UTF-8 is carried like any other: rows and names with umlauts, there and back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import fleet.psql
from fleet.cluster import Cluster
from rehearsal.catalog.tables import Catalog
from rehearsal.checks.backup import backup, restore_drill
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import RehearsalError
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres import pinned
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.parity import compare
from tests.fix_tables import deploy, make_switchover

# What stands for the umlauts in each encoding.
WORDS = {"LATIN1": "größe", "LATIN9": "größe €", "WIN1252": "größe „€“", "EUC_JP": "が漢く", "UTF8": "größe 漢"}
TABLE = """
create table public."{word}" (
    id bigint primary key, at timestamptz not null, "{word}" text default '{word}', check ("{word}" <> 'x{word}')
);
insert into public."{word}" select n, '2026-01-01'::timestamptz + n * interval '2 hours', '{word} ' || n
from generate_series(1, 1500) as n;
create index "nach {word}" on public."{word}" ("{word}");
comment on column public."{word}"."{word}" is 'die {word}';
create view public."sicht {word}" as select "{word}" from public."{word}";
"""


def make_database(server: Database, name: str, encoding: str) -> Database:
    """Make a database in an encoding, with nothing in it."""
    text = "create database {} encoding {} template template0 lc_collate 'C' lc_ctype 'C'"
    with connect(server) as conn:
        conn.execute(sql.SQL(text).format(sql.Identifier(name), sql.Literal(encoding)))
    return replace(server, name=name)


@pytest.fixture
def encoded(server: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database in the encoding that the test names."""
    name = f"encoded_{request.param.lower()}"
    yield make_database(server, name, request.param)
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def plan_for(word: str) -> Plan:
    """Return a plan for the table of that name."""
    table = {"name": f"public.{word}", "key": "at"}
    return Plan.model_validate({"name": "encoded", "strategy": "swap", "tables": [table]})


def carried_there_and_back(encoded: Database, files: SqlFiles, run: Run, folder: Path, word: str) -> None:
    """Swap, compare, back up and restore, and back: the text is the same each time, names too."""
    plan = plan_for(word)
    content = sql.SQL("select md5(string_agg({0}, '|' order by id)) from public.{0}").format(sql.Identifier(word))
    with connect(encoded) as conn:
        conn.execute(files.query("registry.sql"))
        conn.execute(as_query(TABLE.format(word=word)))
        before = scalar(conn, content)
        deploy(conn, files, plan)
        work = make_switchover(encoded, files, plan, run)
        work.prepare()
        work.switch()
        live, retired = (Catalog(conn, files).read(name) for name in (work.names.source, work.names.retired))
        # A row that differs is shown, so that its text travels.
        conn.execute(sql.SQL("set rehearsal.applying = 'on'; update {} set {} = 'anders' where id = 7").format(
            sql.Identifier(*retired.name), sql.Identifier(word)))  # fmt: skip
        report = compare(encoded, files, retired, live, "at", self_test=False)
        assert [example.identity for example in report.examples if "7" in str(example.identity)], report.examples
        conn.execute(sql.SQL("update {} set {} = {} where id = 7").format(
            sql.Identifier(*retired.name), sql.Identifier(word), sql.Literal(f"{word} 7")))  # fmt: skip
        conn.execute("reset rehearsal.applying")
        assert compare(encoded, files, retired, live, "at", self_test=False).is_equal
        assert scalar(conn, content) == before
        made = backup(encoded, files, [live.name], folder / "backup")
        drill = restore_drill(encoded, files, made, f"{encoded.name}_drill")
        assert drill.is_equal, drill.differences
        work.roll_back()
        assert scalar(conn, content) == before


def umlauts_are_carried(encoded: Database, files: SqlFiles, run: Run, folder: Path, word: str) -> None:
    """Whatever goes wrong with the text is a failure of the promise."""
    try:
        carried_there_and_back(encoded, files, run, folder, word)
    except (RehearsalError, psycopg.Error, UnicodeError) as exc:
        message = f"not carried: {type(exc).__name__}: {exc}"
        raise AssertionError(message) from exc


@pytest.mark.fault("f14")
@pytest.mark.parametrize("encoded", list(WORDS), indirect=True)
def test_a_database_in_another_encoding_is_carried(
    encoded: Database, sql_files: SqlFiles, run: Run, tmp_path: Path
) -> None:
    """Rows, defaults, checks, comments, names of tables, columns, indexes and views."""
    word = WORDS[encoded.name.removeprefix("encoded_").upper()]
    umlauts_are_carried(encoded, sql_files, run, tmp_path, word)


@pytest.mark.fault("f14", mutant=True)
@pytest.mark.parametrize("encoded", ["LATIN1", "EUC_JP"], indirect=True)
def test_without_a_pinned_encoding_it_is_not(
    encoded: Database, sql_files: SqlFiles, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pinned, "PINNED", {setting: pinned.PINNED[setting] for setting in pinned.PINNED if setting != "client_encoding"}
    )
    monkeypatch.delitem(pinned.PINNED_VARIABLES, "PGCLIENTENCODING")
    word = WORDS[encoded.name.removeprefix("encoded_").upper()]

    with pytest.raises(AssertionError, match="not carried"):
        umlauts_are_carried(encoded, sql_files, run, tmp_path, word)


def psql_says_umlauts(encoded: Database, cluster: Cluster, folder: Path) -> None:
    """Psql of the host layer reads and prints UTF-8, whatever the host's user and the database have."""
    passfile = folder / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{encoded.password}\n")
    psql = f"{cluster.facts()['bin']}/psql"
    session = fleet.psql.Session(encoded.host, encoded.port, encoded.user, encoded.name, str(passfile), psql)
    command = session.command("-f", "-").get_raw_value()
    text = (
        'create table public."größe" (t text); insert into public."größe" values (\'süß\'); '
        "select relname || ' ' || length(relname) from pg_class where relname = 'größe'; select t from public.größe;"
    )
    done = subprocess.run(["sh", "-c", command], input=text.encode(), capture_output=True, check=False,
                          env={**os.environ, "PGDATESTYLE": "German"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        assert done.stdout.decode().splitlines() == ["größe 5", "süß"]
    except UnicodeDecodeError as exc:
        raise AssertionError(f"no UTF-8: {exc}") from exc


@pytest.mark.fault("f14")
@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_psql_of_the_hosts_speaks_utf_8(encoded: Database, cluster: Cluster, tmp_path: Path) -> None:
    psql_says_umlauts(encoded, cluster, tmp_path)


@pytest.mark.fault("f14", mutant=True)
@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_psql_as_the_database_has_it_does_not(
    encoded: Database, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fleet.psql,
        "PINNED",
        {setting: fleet.psql.PINNED[setting] for setting in fleet.psql.PINNED if setting != "client_encoding"},
    )
    monkeypatch.delitem(fleet.psql.PINNED_VARIABLES, "PGCLIENTENCODING")

    with pytest.raises(AssertionError, match="größe 7"):
        psql_says_umlauts(encoded, cluster, tmp_path)


@pytest.mark.fault("f14")
@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_a_database_without_an_encoding_is_refused_by_name(encoded: Database, sql_files: SqlFiles) -> None:
    """SQL_ASCII keeps bytes of any kind: nobody can say which text they are."""
    with connect(encoded) as conn:
        conn.execute(sql_files.query("registry.sql"))
        conn.execute(as_query(TABLE.format(word="plain")))
        found = {finding.id: finding for finding in run_preflight(conn, sql_files, plan_for("plain"))}
    assert found["encoding"].severity == "blocker"
    assert "SQL_ASCII" in found["encoding"].condition
