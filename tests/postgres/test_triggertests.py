"""Trigger tests pass on a good mirror, name the class on a bad one, and leave nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rehearsal.catalog import Name
from rehearsal.postgres import Connection
from rehearsal.sqlfiles import SqlFiles
from rehearsal.triggertests import TriggerTest, results_text, run_trigger_tests
from tests.fix_tables import make_plan

MUTANTS = {
    "delete": (r"if tg_op <> 'INSERT' then\n.*?end if;", ""),
    "truncate": ("raise exception 'TRUNCATE", "raise notice 'TRUNCATE"),
    "replica role": ("enable always trigger", "enable trigger"),
}
SYNC_MUTANTS = {
    "update": ("do update set {{ assignments | raw }};", "do nothing;"),
    "key move": (
        "delete from {{ target | ident }} as t where",
        "delete from {{ target | ident }} as t where false and",
    ),
    "reverse direction": (
        "if tg_op <> 'DELETE' then\n        insert into {{ source | ident }}",
        "if false then\n        insert into {{ source | ident }}",
    ),
}


def _run(conn: Connection, files: SqlFiles, strategy: str, events: Name) -> dict[str, TriggerTest]:
    plan = make_plan(strategy)
    results = run_trigger_tests(conn, files, plan, plan.tables[0], events)
    return {one.name: one for one in results}


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_all_classes_pass_and_nothing_stays(conn: Connection, sql_files: SqlFiles, events: Name, strategy: str) -> None:
    """Every class has touched rows, and the scratch schema is gone."""
    results = _run(conn, sql_files, strategy, events)

    assert {name: one.observed for name, one in results.items() if one.passed is not True} == {}
    assert len(results) >= 12
    assert re.search(r"^PASS .* key move", results_text(list(results.values())), re.MULTILINE)
    assert conn.execute("select count(*) from pg_namespace where nspname like 'rehearsal_trigger%'").fetchone() == (0,)
    assert conn.execute("select count(*) from pg_proc where proname like '%rehearsal_trigger%'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("strategy", "name"), [*(("swap", one) for one in MUTANTS), *(("dual-write", one) for one in SYNC_MUTANTS)]
)
def test_mutant_fails_its_class(
    conn: Connection, sql_files: SqlFiles, events: Name, tmp_path: Path, strategy: str, name: str
) -> None:
    """A defect that is put into the mirror fails the class that it breaks."""
    pattern, replacement = {**MUTANTS, **SYNC_MUTANTS}[name]
    for path in sql_files.folder.rglob("*.sql*"):
        copy = tmp_path / path.relative_to(sql_files.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    mirror = tmp_path / "steps/mirror.sql.j2"
    text = mirror.read_text()
    plain = (
        re.sub(pattern, lambda _: replacement, text, flags=re.DOTALL)
        if name in MUTANTS
        else text.replace(pattern, replacement)
    )
    assert plain != text, "the mutation does not match the template any more"
    mirror.write_text(plain)

    results = _run(conn, SqlFiles(tmp_path), strategy, events)

    assert results[name].passed is False, results[name]
