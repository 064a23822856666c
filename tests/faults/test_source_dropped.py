"""The source of dual-write is dropped: killed anywhere, under writers, and only if every app server says so."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rehearsal.catalog.tables import Name
from rehearsal.commands.cleanup import clean_up, used_side
from rehearsal.environment import AppServer, Database, Environment
from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from tests.fix_postgres import ROOT
from tests.fix_tables import Prepared, make_plan, names_of, writing
from tests.fix_verbs import Managed
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]
FLAGS = 'after_cleanup = "{}"\n[flags]\nreads = "R"\nwrites = "W"'
LEFT = """
select count(*) from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'rehearsal' and c.relname like 'log%' or c.relname = 'We"ird Events_old'
"""


def context_of(database: Database, files: SqlFiles, run: Run, servers: tuple[AppServer, ...] = ()) -> Context:
    """Return what the verb is given for the events table, without days of waiting."""
    env = Environment("local", "local", ROOT, database, database, "@process/db", servers, ROOT, "root@localhost", None)
    return Context(ROOT, make_plan("dual-write", stable_days=0, unused_s=1), env, run, files, "")


def test_killed_at_statement_after_statement_it_ends_and_no_write_is_lost(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, prepared: Prepared, tmp_path: Path
) -> None:
    """The application writes the target meanwhile; each next life goes on, and the last one reaches the end."""
    prepared(make_plan("dual-write")).switch()
    target = names_of(events).target
    command = [sys.executable, "-m", "tests.killed", str(tmp_path / "runs"), "dual-write", "29", "end"]
    with writing(database, target, writers=2) as writers:
        facts = json.dumps(dataclasses.asdict(database))
        done = subprocess.run(command, cwd=ROOT, input=facts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 5
    assert writers.did_everything, writers.acknowledged
    assert writers.lost(conn, target) == []
    assert state.find_ended(conn, events) == target
    assert scalar(conn, LEFT) == 0


def test_who_writes_the_target_feels_only_the_lock(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, prepared: Prepared, run: Run
) -> None:
    """It takes the name under writers that name it as before: nothing acknowledged is lost, and no write fails."""
    work = prepared(make_plan("dual-write"))
    work.switch()
    names = names_of(events)
    context = context_of(database, sql_files, run)
    spec = context.plan.tables[0].model_copy(update={"after_cleanup": "takes_name"})
    context = dataclasses.replace(context, plan=context.plan.model_copy(update={"tables": [spec]}))
    with writing(database, names.target, writers=2) as writers:
        writers.until_at_work()
        clean_up(context, conn, "target")
        count = sum(writers.acknowledged.values())
        eventually(lambda: sum(writers.acknowledged.values()) >= count + 50 or writers.failed, 60)
    assert writers.failed == {}
    assert writers.lost(conn, events) == []
    assert state.find_ended(conn, events) == events


@contextmanager
def server(name: str, reads: str, writes: str) -> Iterator[AppServer]:
    """Serve a health answer that says these sides."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "ok", "routing": {"reads": reads, "writes": writes}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield AppServer(name, f"http://127.0.0.1:{httpd.server_address[1]}")
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join(10)


@pytest.mark.parametrize(
    ("sides", "stays"),
    [
        (("pp", "pp"), "target"),
        (("ll", "ll"), "source"),
        (("pp", "ll"), None),
        (("pp", "lp"), None),
        (("lp", "lp"), None),
        (("pp", "gone"), None),
    ],
)
def test_every_server_must_use_one_side(
    database: Database, sql_files: SqlFiles, run: Run, sides: tuple[str, ...], stays: str | None
) -> None:
    """Reads and writes, on all of them; one that differs or does not answer is named, and nothing goes."""
    words = {"p": "partitioned", "l": "legacy"}
    with ExitStack() as stack:
        servers = [
            AppServer(f"app{number}", "http://127.0.0.1:9")
            if said == "gone"
            else stack.enter_context(server(f"app{number}", words[said[0]], words[said[1]]))
            for number, said in enumerate(sides)
        ]
        context = context_of(database, sql_files, run, tuple(servers))
        if stays:
            assert used_side(context) == stays
            with pytest.raises(PreconditionError, match="app0"):
                used_side(context, "source" if stays == "target" else "target")
        else:
            with pytest.raises(PreconditionError, match=r"app0: .*app1: .*Nothing was dropped"):
                used_side(context)


@pytest.mark.parametrize("name", ["keeps_name", "takes_name"])
def test_every_verb_knows_that_it_has_ended(managed: Managed, name: str) -> None:
    """Through the command line, as a role that owns the table: before, the end itself, and everything after it."""
    managed.setup(strategy="dual-write", plan=f'premake = 1\nretention = "48 months"\n{FLAGS.format(name)}')
    path = managed.root / "plans" / "managed.toml"
    path.write_text(path.read_text().replace("[[tables]]", "stable_days = 0\nunused_s = 1\n[[tables]]"))
    managed.done("migrate")
    managed.done("switchover")
    assert managed.verb("cleanup").code == 1
    assert "--leads" in managed.verb("cleanup").text
    assert 'drop table "public"."t_old"' in managed.done("cleanup", "--dry-run", "--leads", "target")
    managed.done("lifecycle.adopt")
    managed.done("cleanup", "--leads", "target")
    stays = "public.t" if name == "takes_name" else "public.t_partitioned"
    assert "no change" in managed.done("cleanup")
    assert "no change" in managed.done("cleanup", "--dry-run")
    assert "no rollback" in managed.done("rollback")
    assert "no rollback" in managed.done("rollback", "--whole")
    assert "public.t: ended" in managed.done("status")
    assert managed.verb("doctor").text.count("remedy") == 0, managed.verb("doctor").text
    managed.done("verify")
    assert "no change" in managed.done("lifecycle.adopt")
    assert stays in managed.verb("lifecycle.status").text
    managed.verb("lifecycle.premake")
    assert managed.rows("select parent::text from rehearsal.lifecycle_policy") == [(stays,)]
    assert set(managed.rows("select distinct parent from rehearsal.lifecycle_history")) == {(stays,)}
    for verb in ("migrate", "switchover"):
        said = managed.verb(verb)
        assert said.code != 0
        assert "Traceback" not in said.text
    assert managed.rows("select count(*) from public.t_partitioned") == [(3000,)]
