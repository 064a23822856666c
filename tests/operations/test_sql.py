"""Decisions of operations on roles, databases and the registry; what PostgreSQL makes of them, real servers show.

The texts that reach psql are compared where their order or their quoting is the promise.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from fleet.passwords import is_verifier_of, scram_verifier
from tests.operations.conftest import SESSION, Fake, Ran

PASSWORD = "pa'ss:wor\\d"
ON_ARGV = (
    "env 'PGPASSFILE=/root/pass file' PGCONNECT_TIMEOUT=10 'PGAPPNAME=pg-rehearsal hosts' 'PGOPTIONS=-c TimeZone=UTC"
)
PLACE = ["-h", "db.example", "-p", "5433", "-U", "rehearsal", "-d"]


def change(name: str, body: str, *, transactional: bool = True, checksum: str | None = None) -> dict[str, Any]:
    checksum = checksum or hashlib.sha256(body.encode()).hexdigest()
    return {"name": name, "file": f"sql/{name}", "checksum": checksum, "transactional": transactional, "body": body}


def said_to_psql(ran: Ran, database: str = "finance") -> str:
    """Return the SQL of the one command, which is on standard input and in no word."""
    words, text = ran.only.words, ran.only.text
    assert ran.only.line.startswith(ON_ARGV)
    assert " psql -XAtqw " in ran.only.line
    assert "ON_ERROR_STOP=1" in words
    assert words[-len(PLACE) - 3 :] == [*PLACE, database, "-f", "-"]
    assert text
    return text


def test_sql_runs_unless_a_row_says_that_it_is_done(fake: Fake) -> None:
    """Done is one row with `t`; anything else, silence too, is not."""
    values = {"session": SESSION, "unless": "select is_done", "text": "do it;"}
    done = fake.run("operations.sql", {"is_done": "t"}, **values)
    others = [fake.run("operations.sql", {"is_done": said}, **values) for said in ("f", "", ["t", "t"], "t\x1ft")]

    assert done.noop == "done before"
    assert [said_to_psql(ran) for ran in others] == ["do it;"] * 4


def test_sql_is_refused_by_the_first_row_of_what_forbids_it(fake: Fake) -> None:
    """Even if the work was done before; without such a row it is as if there were no condition."""
    values: dict[str, Any] = {"session": SESSION, "unless": "select is_done", "text": "do it;"}
    values["refuse_if"] = ["select forbids", "there is another mark"]

    refused = fake.run("operations.sql", {"forbids": ["staging", "other"], "is_done": "t"}, **values)
    free = fake.run("operations.sql", {"forbids": ""}, **values)

    assert refused.refusal == "there is another mark: staging"
    assert said_to_psql(free) == "do it;"


def test_a_session_is_had_by_another_user_of_the_host_where_the_inventory_says_so(fake: Fake) -> None:
    """The environment is set behind `runuser`, which would drop it."""
    session = {**SESSION, "run_as": "postgres", "psql": "/usr/lib/postgresql/15/bin/psql"}
    ran = fake.run("operations.sql", {}, session=session, unless="select 1", text="x;")

    assert ran.only.words[:5] == ["runuser", "-u", "postgres", "--", "env"]
    assert "/usr/lib/postgresql/15/bin/psql" in ran.only.words


@pytest.mark.parametrize(
    ("rows", "noop", "refusal"),
    [
        (["seen"], "rehearsal can do what it must", None),
        (
            ["seen", "it may create tables", "role app's there"],
            None,
            "on finance as rehearsal this does not hold: it may create tables; role app's there",
        ),
    ],
)
def test_what_a_role_cannot_do_is_named_all_at_once(
    fake: Fake, rows: list[str], noop: str | None, refusal: str | None
) -> None:
    """One run of it is enough to ask somebody for all rights."""
    wanted = {"it may create tables": "true", "role app's there": "false"}
    ran = fake.run("operations.can", {"union all": rows}, session=SESSION, wanted=wanted)

    assert (ran.noop if noop else ran.refusal) == (noop or refusal)
    assert "role app'" in ran.lines[0]


def test_a_session_that_cannot_be_had_is_said_by_psql_itself(fake: Fake) -> None:
    """No row at all: the next command is one that fails with the server's own words."""
    assert said_to_psql(fake.run("operations.can", {}, session=SESSION, wanted={"x": "true"})) == "select 1;"


@pytest.fixture
def password(tmp_path: Path) -> dict[str, str]:
    """A reference to the password."""
    (tmp_path / "password").write_text(PASSWORD)
    return {"file": str(tmp_path / "password")}


@pytest.mark.parametrize(
    "have", ["", "4096", scram_verifier("another").split("$")[1]], ids=["none", "cut off", "of another password"]
)
def test_a_role_gets_its_password_as_a_verifier_only(fake: Fake, password: dict[str, str], have: str) -> None:
    """No role or an old kind of password, something odd, another one; neither statement nor word has the password."""
    ran = fake.run("operations.role", {"pg_authid": have}, session=SESSION, role='we"ird', password=password)

    text = said_to_psql(ran)
    assert text.index("log_statement = 'none'") < text.index("create role") < text.index("alter role")
    assert text.index("pg_stat_statements.track = 'none'") < text.index("alter role")
    assert 'alter role "we""ird" login password ' in text
    assert is_verifier_of(text.rpartition(" password ")[2].strip().strip(";").strip("'"), PASSWORD)
    assert not any(PASSWORD in line or "SCRAM" in line for line in ran.lines)
    assert PASSWORD not in text
    assert "pa'" not in text


def test_a_role_with_this_password_is_left_alone(fake: Fake, password: dict[str, str]) -> None:
    """The server compares it with one of its own salt, which goes there over standard input; nothing is written."""
    costs = scram_verifier(PASSWORD).split("$")[1]
    values = {"session": SESSION, "role": "app", "password": password}
    ran = fake.run("operations.role", {"pg_authid": costs, "PGPASSFILE": "t"}, **values)
    other = fake.run("operations.role", {"pg_authid": costs, "PGPASSFILE": "f"}, **values)

    assert ran.noop == "role app has this password"
    assert other.changed
    assert len(set(ran.lines)) == 2
    assert not any(PASSWORD in line or "SCRAM" in line for line in ran.lines)


def test_a_private_question_is_in_no_word(fake: Fake) -> None:
    """Its rows are read as those of any other."""
    assert fake.fact("facts.PrivateRows", ["a\x1fb", ""], session=SESSION) == [["a", "b"]]


@pytest.mark.parametrize("operation", ["operations.role", "operations.private_file"])
def test_a_password_that_is_not_there_yet_fails_one_host(fake: Fake, operation: str) -> None:
    """An exception would end the run of all hosts."""
    values = {"operations.role": {"session": SESSION, "role": "app", "password": {"env": "NOT_SET"}}}
    values["operations.private_file"] = {"path": "/p", "text": {"env": "NOT_SET"}}
    ran = fake.run(operation, {}, **values[operation])

    assert ran.refusal == "the environment variable NOT_SET with a password is not set; export it and run again"


def test_a_database_is_made_once(fake: Fake) -> None:
    """Names are quoted by type."""
    values = {"session": SESSION, "database": 'Fi"nance', "owner": "rehearsal"}
    there = fake.run("operations.database", {"pg_database": "t"}, **values)
    missing = fake.run("operations.database", {}, **values)

    want = 'create database "Fi""nance" owner "rehearsal" template template0 encoding \'UTF8\';'
    assert there.noop == 'database Fi"nance is there'
    assert said_to_psql(missing) == want


DROP = {"session": {**SESSION, "database": "postgres"}, "database": "finance", "kind": "docker"}


@pytest.mark.parametrize("marks", ["docker", ""])
def test_a_throwaway_database_is_dropped(fake: Fake, marks: str) -> None:
    """With the mark of its kind, or without any; the mark is looked for in the database itself."""
    ran = fake.run("operations.dropped_database", {"pg_database": "t", "environment_mark": marks}, **DROP)

    assert said_to_psql(ran, "postgres") == 'drop database "finance" with (force);'
    assert " -d finance " in next(line for line in ran.lines if "environment_mark" in line)


def test_a_database_that_is_not_there_needs_no_dropping(fake: Fake) -> None:
    """A second run."""
    assert fake.run("operations.dropped_database", {}, **DROP).noop == "there is no database finance"


@pytest.mark.parametrize("kind", ["staging", "production", ""])
def test_a_database_that_is_not_throwaway_is_never_dropped(fake: Fake, kind: str) -> None:
    """Whatever its mark says, and before anything is asked of it."""
    answers = {"pg_database": "t", "environment_mark": kind}
    ran = fake.run("operations.dropped_database", answers, **{**DROP, "kind": kind})

    said = f"database finance of an environment of kind {kind} is never dropped; only local and docker are"
    assert ran.refusal == said
    assert "psql" not in "".join(ran.lines)


def test_a_database_with_another_mark_is_not_dropped(fake: Fake) -> None:
    """An inventory that points at the wrong server."""
    ran = fake.run("operations.dropped_database", {"pg_database": "t", "environment_mark": "production"}, **DROP)

    assert ran.refusal == "database finance is marked production, the inventory says docker; it is not dropped"


@pytest.mark.parametrize("mark", ["production", ""])
def test_a_database_without_the_inventory_s_mark_is_not_written_to(fake: Fake, mark: str) -> None:
    """The reason is raised on the server, so that one that cannot be reached says that instead."""
    right = fake.run("operations.marked", {"environment_mark": "staging"}, session=SESSION, kind="staging")
    wrong = fake.run("operations.marked", {"environment_mark": mark}, session=SESSION, kind="staging")

    assert right.noop == "database finance is marked staging"
    said = said_to_psql(wrong)
    assert said.startswith("do $$ begin raise exception using message = 'database finance is not marked staging, ")
    assert "nothing was written; mark it with `./inv db.provision`" in said


def test_an_edited_change_is_refused_with_every_reason(fake: Fake) -> None:
    """A file that is not the manifest's, and one that is not what was applied; unedited ones are nothing to do."""
    good, odd = change("p/001", "select 1;"), change("p/002", "select 2;", checksum="0" * 64)
    applied = {"rehearsal.change": [f"p/001\x1f{'1' * 64}"]}
    values = {"session": SESSION}

    ran = fake.run("operations.changes_unedited", applied, changes=[good, odd], **values)
    fine = {"rehearsal.change": [f"p/001\x1f{good['checksum']}"]}
    unedited = fake.run("operations.changes_unedited", fine, changes=[good], session=SESSION)

    first, second = ran.refusal.splitlines()
    assert first.startswith("change p/001 was edited after it was applied (applied 111111111111, now ")
    assert second == "change p/002: sql/p/002 is missing or differs from the manifest; render it again"
    assert unedited.noop == "no change was edited"


def test_a_change_is_applied_once(fake: Fake) -> None:
    """What is in the registry is not run again, and psql is not even asked."""
    wanted = change("p/001", "select 1;")
    ran = fake.run("operations.change", {}, session=SESSION, change=wanted, applied={"p/001": wanted["checksum"]})

    assert ran.noop == "p/001 was applied before"
    assert ran.lines == []


def test_a_change_and_its_row_are_one_transaction_that_asks_again_for_locks(fake: Fake) -> None:
    """The row goes before the body, the proof that it was one transaction after it; the tries are bounded."""
    wanted = change("p/001", 'create table "it\'s" ();')
    values = {"session": SESSION, "change": wanted, "applied": {"p/000": "0"}, "lock_timeout_ms": 750}
    command = fake.run("operations.change", {}, **values).only

    parts = ["begin;", "'750ms'", "insert into rehearsal.change", "\ncreate table", "one_transaction", "\ncommit;"]
    text = command.text or ""
    places = [text.rindex(part) for part in parts]
    assert places == sorted(places)
    assert f"('p/001', '{wanted['checksum']}', 'create table \"it''s\" ();')" in text
    assert "[ $try -ge 15 ]" in command.line
    assert wanted["body"] not in command.line


def test_a_change_outside_a_transaction_gets_its_row_last_and_is_not_repeated(fake: Fake) -> None:
    """A row without the index would say that it was built."""
    wanted = change("p/002", "create index concurrently i on t (c);", transactional=False)
    text = said_to_psql(fake.run("operations.change", {}, session=SESSION, change=wanted, applied={}))

    assert "begin;" not in text
    assert text.index("lock_timeout = '2000ms'") < text.index("\ncreate index") < text.index("\ninsert into rehearsal.")
