"""The verbs as people type them, by a role that owns the table and is no superuser."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from rehearsal import cli
from rehearsal.commands import lifecycle
from rehearsal.postgres.connection import advisory_lock, connect
from tests.fix_verbs import Managed

PARTED = """
create table public.t (id bigint, at timestamptz not null, v int, primary key (id, at)) partition by range (at);
do $$
declare
    first timestamptz := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC';
begin
    for n in 0..6 loop
        execute format('create table public.t_%s partition of public.t for values from (%L) to (%L)', n,
                       first - (6 - n) * interval '1 month', first - (5 - n) * interval '1 month');
    end loop;
end
$$;
insert into public.t select n, now() - n * interval '20 days', n from generate_series(0, 8) as n;
"""
OTHERS = ("--table", "public.t", "--interval", "1 month")


@pytest.fixture
def world(managed: Managed) -> Managed:
    """A table that others partitioned, seven months old."""
    managed.setup(sql_text=PARTED)
    managed.run("set timezone = 'UTC'")
    return managed


def test_the_whole_way(world: Managed, tmp_path: Path) -> None:
    """Adopt, look, make, retain by a saved decision; each a second time changes nothing."""
    assert "adopted" in world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months", "--premake", "2")
    assert "no change" in world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months", "--premake", "2")
    looked = world.verb("lifecycle-status")
    assert (looked.code, "0 of 2 ready ahead" in looked.text) == (1, True)
    assert "create table" in world.verb("lifecycle-premake", "--dry-run").text
    assert "premake public.t_y" in world.done("lifecycle-premake")
    assert "no change" in world.done("lifecycle-premake")
    decision = tmp_path / "retain.json"
    assert "concurrently;" in world.done("lifecycle-retain", "--save", str(decision))
    assert json.loads(decision.read_text())["acts"]["public.t"]
    assert "detach public.t_0" in world.done("lifecycle-retain", "--apply", str(decision))
    assert "no change" in world.done("lifecycle-retain")
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        assert cli.main(["lifecycle-status", "--plan", "managed", "--env", "managed", "--json"]) == 0
    status = json.loads(out.getvalue())[0]
    assert status["ready"] == 2
    assert {held["leaf"] for held in status["held"]} == {"public.t_0", "public.t_1", "public.t_2"}


def test_a_decision_is_refused_once_the_catalog_has_changed(world: Managed, tmp_path: Path) -> None:
    """What would be done is named; nothing is done."""
    world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months")
    decision = tmp_path / "retain.json"
    world.done("lifecycle-retain", "--save", str(decision))
    world.run("alter table public.t_0 rename to t_renamed")
    said = world.verb("lifecycle-retain", "--apply", str(decision))
    assert (said.code, "has changed since" in said.text) == (1, True), said.text
    assert "public.t_renamed" in said.text
    assert world.rows("select count(*) from pg_inherits where inhparent = 'public.t'::regclass") == [(7,)]


def test_mutant_a_decision_that_is_not_compared(
    world: Managed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file would be believed."""
    monkeypatch.setattr(lifecycle, "require_same", lambda _saved, _now: None)
    with pytest.raises(AssertionError):
        test_a_decision_is_refused_once_the_catalog_has_changed(world, tmp_path)


def test_a_decision_of_another_database_is_refused(world: Managed, tmp_path: Path) -> None:
    """A clone has the same leaves."""
    world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months")
    decision = tmp_path / "retain.json"
    world.done("lifecycle-retain", "--save", str(decision))
    said = json.loads(decision.read_text())
    decision.write_text(json.dumps(said | {"system_identifier": 1}))
    assert "it was decided for database" in world.verb("lifecycle-retain", "--apply", str(decision)).text


WRONG = [
    (("lifecycle-adopt", "--interval", "1 month"), 2, "name another one by --table"),
    (("lifecycle-adopt", "--table", "t", "--interval", "1 month"), 2, "with its schema"),
    (("lifecycle-adopt", "--table", "public.t"), 2, "--interval '1 month'"),
    (("lifecycle-adopt", *OTHERS, "--retention", "soon"), 2, "write it as '1 month'"),
    (("lifecycle-adopt", *OTHERS, "--premake", "0"), 2, "from 1 to 400"),
    (("lifecycle-adopt", *OTHERS, "--zone", "Moon/Sea"), 1, "knows no time zone"),
    (("lifecycle-adopt", "--table", "public.none", "--interval", "1 month"), 1, "no partitioned table public.none"),
    (("lifecycle-adopt", "--table", "public.t", "--interval", "1 week"), 1, "not 1 week"),
    (("lifecycle-status",), 1, "run `./inv lifecycle.adopt` first"),
    (("lifecycle-premake",), 1, "run `./inv lifecycle.adopt` first"),
    (("lifecycle-retain",), 1, "run `./inv lifecycle.adopt` first"),
    (("lifecycle-retain", "--apply", "nowhere.json"), 2, "cannot be read"),
    (("lifecycle-retain", "--apply", "a", "--save", "b"), 2, "give one of them"),
    (("lifecycle-adopt", *OTHERS, "--retention", "24"), 1, "24 does not fit"),
    (("lifecycle-adopt", *OTHERS, "--hold", "7"), 2, "write it as"),
    (("lifecycle-install",), 1, "run `./inv lifecycle.adopt` first"),
    (("lifecycle-install", "--remove"), 2, "no group `clock`"),
    (("lifecycle-install", "--clock", "kubernetes"), 2, "by --save FILE"),
    (("lifecycle-install", "--save", "x.yaml"), 2, "--save belongs to --clock kubernetes"),
    (("lifecycle-install", "--clock", "pg_cron", "--remove"), 1, "create extension pg_cron"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG)
def test_wrong_words_are_told_clearly(world: Managed, words: tuple[str, ...], code: int, said: str) -> None:
    """One line, the exit code, no traceback, nothing done."""
    found = world.verb(*words)
    assert (found.code, said in found.text) == (code, True), found.text
    assert "Traceback" not in found.text


def test_a_manifest_is_written_of_the_verbs_database_and_twice_the_same(world: Managed, tmp_path: Path) -> None:
    """Its password comes from a secret; a folder that is not there is said."""
    world.done("lifecycle-adopt", *OTHERS)
    manifest = tmp_path / "clock.yaml"
    world.done("lifecycle-install", "--clock", "kubernetes", "--save", str(manifest))
    text = manifest.read_text()
    assert world.mig.name in text
    assert text.count("secretKeyRef") == 2
    world.done("lifecycle-install", "--clock", "kubernetes", "--save", str(manifest))
    assert manifest.read_text() == text
    said = world.verb("lifecycle-install", "--clock", "kubernetes", "--save", str(tmp_path / "no" / "x.yaml"))
    assert (said.code, "cannot be written" in said.text) == (2, True), said.text


def test_another_run_on_one_table_keeps_no_other_from_its_leaves(world: Managed) -> None:
    """Who holds the first one is said, the second one is done."""
    world.run(
        "create table public.a_first (like public.t) partition by range (at); "
        "create table public.a_0 partition of public.a_first for values from ('2026-01-01+00') to ('2026-02-01+00')"
    )
    world.done("lifecycle-adopt", "--table", "public.a_first", "--interval", "1 month")
    world.done("lifecycle-adopt", *OTHERS)
    key = "lifecycle.premake public.a_first"
    with connect(world.mig, role="lifecycle.premake") as other, advisory_lock(other, key):
        said = world.verb("lifecycle-premake")
    assert (said.code, "another run holds lifecycle.premake public.a_first" in said.text) == (1, True), said.text
    assert "premake public.t_y" in said.text


def test_nothing_that_can_be_made_is_a_failure(world: Managed) -> None:
    """A partition without end, and a row in the default one where the next partition should be."""
    world.done("lifecycle-adopt", *OTHERS)
    world.run("create table public.t_rest partition of public.t default; "
              "insert into public.t values (99, date_trunc('month', now()) + interval '40 days', 1)")  # fmt: skip
    said = world.verb("lifecycle-premake")
    assert (said.code, "0 of 3 partitions are ready ahead" in said.text) == (1, True), said.text
    assert "default partition" in said.text


def test_another_version_of_the_functions_is_not_trusted(world: Managed) -> None:
    """They decide what is dropped: they are installed by adoption only."""
    world.done("lifecycle-adopt", *OTHERS)
    world.run("update rehearsal.lifecycle_code set checksum = 'old'")
    assert "another version" in world.verb("lifecycle-premake").text
    world.done("lifecycle-adopt", *OTHERS)
    world.done("lifecycle-premake")


@pytest.mark.parametrize("place", ["/nonexistent/x.json", "/"])
def test_a_decision_that_cannot_be_written_is_said(world: Managed, place: str) -> None:
    """In one line."""
    world.done("lifecycle-adopt", *OTHERS, "--retention", "3 months")
    said = world.verb("lifecycle-retain", "--save", place)
    assert (said.code, "cannot be written" in said.text) == (2, True), said.text


def test_forgotten_it_is_left_alone(world: Managed) -> None:
    """What was made stays."""
    world.done("lifecycle-adopt", *OTHERS)
    assert "forgotten: public.t" in world.done("lifecycle-adopt", "--forget", "--table", "public.t")
    assert "no change" in world.done("lifecycle-adopt", "--forget", "--table", "public.t")
    assert world.verb("lifecycle-premake").code == 1


def test_the_tables_of_a_plan_are_adopted_once_they_are_switched(managed: Managed) -> None:
    """Before, it says what to do; retention waits until the switchover is cleaned up, making does not."""
    managed.setup(rows=4_000, plan='retention = "3 months"')
    assert "run `./inv db.switchover` first" in managed.verb("lifecycle-adopt").text
    managed.done("migrate")
    managed.done("switchover")
    managed.done("lifecycle-adopt")
    assert "a switchover of public.t is not cleaned up" in managed.verb("lifecycle-retain").text
    managed.done("lifecycle-premake")
    managed.done("rollback")
    assert "public.t" in managed.verb("lifecycle-status").text
