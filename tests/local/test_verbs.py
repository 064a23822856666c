"""The single verbs on a provisioned environment, in the order in which a person uses them, once for each strategy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from fleet import local
from rehearsal import cli
from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.environment import Environment
from rehearsal.hosts.inventory import load_environment
from rehearsal.plan.file import load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from tests.local.conftest import ROOT, own_folder

pytestmark = pytest.mark.long
ROWS = "20000"
LEGACY = "  ".join(["reads legacy, writes legacy"] * 2)  # file and process
FOLDERS = ("inventories", "plans", "sql", "templates", "example_app", "rehearsal", "fleet", "tasks", "deploy.py")
Verb = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Place:
    """One plan on the environment: what it is, where it runs, and how its verbs are called."""

    plan: Plan
    env: Environment
    verb: Verb

    @property
    def names(self) -> Names:
        """Names of the first table's pair."""
        return Names(split_name(self.plan.tables[0].name))

    def state(self) -> str:
        """Return the state of the first table."""
        with connect(self.env.database) as conn:
            return state.read_migration(conn, self.names.source).state


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's, whose runs are its own."""
    root = tmp_path_factory.mktemp("project")
    for name in FOLDERS:
        (root / name).symlink_to(ROOT / name)
    return root


@pytest.fixture
def call(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    monkeypatch.setattr(cli, "ROOT", project)

    def verb(name: str, *words: str, plan: str | None = None) -> tuple[int, str]:
        code = cli.main([name, *(["--plan", plan] if plan else []), *words])
        out, err = capsys.readouterr()
        return code, out + err

    return verb


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A place of its own: the verbs put the real app where the other tests of hosts have a stand-in."""
    with own_folder() as base:
        yield base


@pytest.fixture
def at(folder: Path, call: Verb, request: pytest.FixtureRequest) -> Place:
    """The plan, provisioned afresh with few rows."""
    name: str = request.param
    plan = load_plan(ROOT / "plans" / f"{name}.toml")

    def verb(word: str, *words: str) -> tuple[int, str]:
        return call(word, *words, plan=name)

    assert verb("provision", "--fresh")[0] == 0
    code, said = verb("data", "--rows", ROWS)
    assert code == 0, said
    return Place(plan, load_environment("local", plan.name), verb)


@pytest.mark.parametrize("at", ["hospitality", "sensor_readings"], indirect=True)
def test_the_verbs_in_their_order(at: Place) -> None:
    """Each does its work once, says what it did, and does and says nothing more the second time."""
    look_before(at)
    switch(at)
    use(at)
    find_and_mend(at)
    go_back(at)


def look_before(at: Place) -> None:
    """Provision and data again change nothing; the twin is made once; a dry run changes nothing."""
    code, said = at.verb("provision")
    assert (code, "no change" in said, at.env.app_servers[0].url in said) == (0, True, True)
    code, said = at.verb("data", "--rows", ROWS)
    assert (code, "already existed" in said) == (0, True)
    code, said = at.verb("data", "--rows", "30000")
    assert (code, "as many rows as last time" in said) == (1, True)
    code, said = at.verb("verify")
    assert (code, "run `./inv db.migrate` first" in said) == (1, True)

    assert "changes applied" in at.verb("migrate")[1]
    assert "no change" in at.verb("migrate")[1]
    code, said = at.verb("verify")
    assert (code, "until `./inv db.switchover`" in said) == (3, True)
    code, said = at.verb("switchover", "--dry-run")
    assert code == 0
    assert "nothing was changed: the transaction was read only" in said
    assert at.state() == state.PREPARED


def switch(at: Place) -> None:
    """The switch comes once, and every pair is equal afterwards."""
    code, said = at.verb("switchover")
    assert (code, said.count(": switched")) == (0, len(at.plan.tables)), said
    assert at.state() == (state.SWAPPED if at.plan.strategy == "swap" else state.MIRRORED)
    code, said = at.verb("switchover")
    assert (code, said.count(": no change")) == (0, len(at.plan.tables)), said
    code, said = at.verb("verify")
    assert (code, "MISMATCH" in said) == (0, False), said


def use(at: Place) -> None:
    """Flags go on once, load runs and is reconciled, and the legacy tables are not dropped yet."""
    assert at.verb("flags-show")[1].count(LEGACY) == len(at.env.app_servers)
    if at.plan.strategy == "dual-write":
        code, said = at.verb("flags-set", "--reads", "on", "--writes", "on")
        assert (code, said.count("  restarted  ")) == (0, 2), said
        code, said = at.verb("flags-set", "--reads", "on", "--writes", "on")
        assert (code, said.count("not restarted")) == (0, 2), said
    code, said = at.verb("load", "--seconds", "3")
    assert re.search(r"0 of [1-9][\d,]* acknowledged writes lost", said), said
    code, said = at.verb("cleanup")
    assert code == 1
    assert re.search(r"may be dropped from \d{4}-\d\d-\d\d", said), said


def find_and_mend(at: Place) -> None:
    """Doctor finds nothing in a sound pair, then names each trouble that is put in, mends them, and is content."""
    code, said = at.verb("doctor")
    assert (code, "nothing found" in said) == (0, True), said
    trigger = put_troubles_in(at)

    code, said = at.verb("doctor")
    assert (code, trigger in said, "rows differ" in said, "[done]" in said) == (1, True, True, False), said
    code, said = at.verb("doctor", "--fix")
    assert (code, "[done]" in said) == (0, True), said
    code, said = at.verb("doctor")
    assert (code, "nothing found" in said) == (0, True), said


def put_troubles_in(at: Place) -> str:
    """Disable the mirror and take a row away from the table that lags, or is the twin; return the trigger's name."""
    swapped = at.plan.strategy == "swap"
    names = at.names
    trigger = names.reverse_capture_trigger if swapped else names.sync_trigger
    lagging = names.retired if swapped else names.target
    with connect(at.env.database) as conn, conn.transaction():
        conn.execute(
            sql.SQL("alter table {} disable trigger {}").format(sql.Identifier(*names.source), sql.Identifier(trigger))
        )
        conn.execute("set local session_replication_role = replica")
        primary = Catalog(conn, SqlFiles(ROOT / "sql")).read(lagging).primary_key[0]
        gone = sql.SQL("delete from {0} where {1} = (select min({1}) from {0})")
        table = sql.Identifier(*lagging)
        back = None if swapped else names.reverse_sync_trigger
        if back:
            conn.execute(sql.SQL("alter table {} disable trigger {}").format(table, sql.Identifier(back)))
        assert conn.execute(gone.format(table, sql.Identifier(primary))).rowcount == 1
        if back:
            conn.execute(sql.SQL("alter table {} enable always trigger {}").format(table, sql.Identifier(back)))
    return trigger


def go_back(at: Place) -> None:
    """The way back is gone once, and the rows are equal still."""
    code, said = at.verb("rollback")
    assert (code, "no change" in said) == (0, False), said
    code, said = at.verb("rollback")
    assert (code, "no change" in said) == (0, True), said
    assert at.verb("flags-show")[1].count(LEGACY) == len(at.env.app_servers)
    code, said = at.verb("verify")
    assert code == 0, said


def test_rows_are_not_made_behind_a_twin_and_hosts_go_down_once(folder: Path, call: Verb) -> None:
    """A twin made for an empty table has no partitions for old rows; and what is down cannot be stopped again."""
    assert call("provision", "--fresh", plan="hospitality")[0] == 0
    assert call("migrate", plan="hospitality")[0] == 0
    code, said = call("data", "--rows", ROWS, plan="hospitality")
    assert (code, "before `./inv db.migrate`" in said) == (1, True), said

    with connect(load_environment("local", "hospitality").database) as conn:
        assert scalar(conn, "select count(*) from public.revenues") == 0
    try:
        assert call("hosts-down", plan="hospitality") == (0, "app servers and database stopped\n")
        assert call("hosts-down", plan="hospitality") == (0, "no change: nothing was running\n")
        assert not local.Manager(folder).is_up()
    finally:
        assert call("provision", plan="hospitality")[0] == 0


def test_a_mistyped_command_line_ends_with_2() -> None:
    """As every other usage error does; plain invoke would say 1."""
    for words in (["db.bogus"], ["db.verify", "--bogus"], ["flags.set"]):
        done = subprocess.run(
            [sys.executable, "tasks.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "error: " in done.stderr) == (2, True), done
