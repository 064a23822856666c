"""The manifest: written, read and refused. Pure files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.changes import find_refusals, read_changes
from rehearsal.errors import SqlFileError
from rehearsal.hosts.manifest import Change, find_transaction_control, write_manifest

CHANGES = [
    Change("plan/001_schema", "create table a ();\r\nselect 'ä';"),
    Change("plan/002", "select 1;", transactional=False),
]


def test_the_hosts_read_what_was_written(tmp_path: Path) -> None:
    """The engine and the hosts see the same names, bodies and checksums, line ends included."""
    path = write_manifest(tmp_path, "plan_local", CHANGES)

    other = read_changes(path)

    assert json.loads(path.read_text())["database"] == "plan_local"
    assert [(change.name, change.body, change.checksum) for change in other] == [
        (change.name, change.body, change.checksum) for change in CHANGES
    ]
    assert [change.transactional for change in other] == [True, False]
    assert find_refusals(other, {"plan/002": CHANGES[1].checksum}) == []


def test_every_edited_or_missing_file_is_refused(tmp_path: Path) -> None:
    """All reasons come at once, the last file's too."""
    path = write_manifest(tmp_path, "plan_local", CHANGES)
    (tmp_path / "sql" / "plan" / "001_schema.sql").write_text("drop table a;")
    (tmp_path / "sql" / "plan" / "002.sql").unlink()

    reasons = find_refusals(read_changes(path), {})

    assert [reason.split(":")[0] for reason in reasons] == ["change plan/001_schema", "change plan/002"]


def test_an_edited_applied_change_is_refused(tmp_path: Path) -> None:
    """The registry has another checksum than the manifest."""
    path = write_manifest(tmp_path, "plan_local", CHANGES)

    reasons = find_refusals(read_changes(path), {"plan/001_schema": "0" * 64})

    assert "plan/001_schema was edited after it was applied" in reasons[0]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("select 1; commit;", "commit"),
        ("BEGIN; select 1;", "begin"),
        ("select ';'; start   transaction;", "start   transaction"),
        ("select 1; rollback;", "rollback"),
        ("savepoint a; rollback to a;", None),
        ("-- commit;\nselect 'x; commit;', \"y; commit\" /* ; commit */;", None),
        ("do $f$ begin perform 1; commit; end $f$;", None),
        ("select E'it\\'; commit; ';", None),
        ("create function f() returns int begin atomic select 1; end;", None),
    ],
)
def test_a_body_that_ends_its_transaction_is_found(body: str, word: str | None) -> None:
    """Only statements count, not what stands in comments, strings and function bodies."""
    assert find_transaction_control(body) == word


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([Change("a/b", "select 1;"), Change("a/b", "select 2;")], "listed twice"),
        ([Change("../b", "select 1;")], "cannot be named so"),
        ([Change("a/b", "commit;")], "statement 'commit'"),
    ],
)
def test_a_bad_manifest_is_not_written(tmp_path: Path, changes: list[Change], message: str) -> None:
    """Nothing is written, neither files nor the manifest."""
    with pytest.raises(SqlFileError, match=message):
        write_manifest(tmp_path, "plan_local", changes)
    assert list(tmp_path.iterdir()) == []
