"""Queries on every kind of partition key: the leaves that must be touched are known from the bounds."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.queries.compare import QueryResult, compare_queries, performance_results_text
from rehearsal.environment import Database
from rehearsal.errors import PlanError
from rehearsal.plan.model import Query
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover.names import Names
from tests.fix_keys import METHODS, TABLE, deploy_now

RANGE = "{key} >= %(lower)s and {key} < %(upper)s"


def ask(database: Database, conn: Connection, files: SqlFiles, name: str, where: str, **asked: Any) -> QueryResult:
    """Fill both tables of a specimen and compare one query on them."""
    specimen = METHODS[name]
    conn.execute("set search_path = public, pg_catalog")
    conn.execute(as_query(specimen.setup))
    plan = specimen.plan("swap")
    deploy_now(conn, files, plan)
    pair = sql.Identifier(*Names(TABLE).target), sql.Identifier(*TABLE)
    conn.execute(sql.SQL("insert into {} select * from {}").format(*pair))
    conn.execute("analyze")
    text = f"select count(*) from {{table}} where {where.replace('{key}', quote_ident(specimen.spec['key']))}"
    query = Query(name="q", table=".".join(TABLE), sql=text, max_slowdown=None, **asked)
    catalog = Catalog(conn, files)
    tables = {".".join(TABLE): (catalog.read(TABLE), catalog.read(Names(TABLE).target))}
    return compare_queries(database, files, [query], tables, specs=plan.tables, runs=3)[0]


ASKED: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("bigint range", RANGE, {"window": "1500"}, {"from_5000", "from_6000"}),
    ("bigint epoch in ms", RANGE, {"month": 2}, {"y2026m03"}),
    ("uuid v7 that is the primary key", RANGE, {"month": 1}, {"y2026m04"}),
    ("uuid v7 that is the primary key", RANGE, {"window": "3 days"}, {"y2026m05"}),
    ("date of a domain", RANGE, {"window": "7 days"}, {"y2026m05d11"}),
    ("bigint range", "{key} = %(key)s", {}, {"from_6000"}),
    ("list of text with a default", "{key} = %(key)s", {}, {"us"}),
    ("list of an enum in the primary key", "{key} = %(key)s", {}, {"rest"}),
    ("hash of a bigint primary key", "{key} = %(key)s", {}, {"h0", "h1", "h2", "h3"}),
    ("hash of a uuid", "{key} = %(key)s", {}, {"h0", "h1", "h2", "h3", "h4"}),
    ("hash of a text of a domain", "{key} = %(key)s", {}, {"h0", "h1", "h2"}),
]


@pytest.mark.parametrize(("name", "where", "asked", "leaves"), ASKED)
def test_pruning_is_judged_by_the_bounds(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    name: str,
    where: str,
    asked: dict[str, Any],
    leaves: set[str],
) -> None:
    """The expected leaves are those that PostgreSQL executes, and for a key the one that holds its row."""
    got = ask(database, conn, sql_files, name, where, **asked)

    assert got.pruning_ok, performance_results_text([got])
    possible = {Names(TABLE).leaf(suffix)[1] for suffix in leaves}
    assert got.expected <= possible
    assert len(got.expected) == (1 if "%(key)s" in where else len(leaves))


def test_a_query_that_is_not_pruned_is_caught(database: Database, conn: Connection, sql_files: SqlFiles) -> None:
    """The mutant: the key hidden in an expression."""
    got = ask(database, conn, sql_files, "hash of a bigint primary key", "{key} + 0 = %(key)s")

    assert got.pruning_ok is False
    assert "key 1500" in performance_results_text([got])
    assert scalar(conn, "select 1") == 1


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("bigint range", {"month": 1}, "is a number; write its window as one"),
        ("list of numbers", {"window": "7"}, None),
        ("hash of a text of a domain", {"window": "7 days"}, "has no window or month; use"),
    ],
)
def test_a_window_that_means_nothing_is_a_plan_error(
    database: Database, conn: Connection, sql_files: SqlFiles, name: str, asked: dict[str, Any], reason: str | None
) -> None:
    """Said before anything is timed; a list of numbers has an order, so a window of them is run and judged whole."""
    if reason is None:
        assert ask(database, conn, sql_files, name, RANGE, **asked).pruning_ok is not None
        return
    with pytest.raises(PlanError, match=reason):
        ask(database, conn, sql_files, name, RANGE, **asked)
