"""Two tables whose names differ by a dot alone would have one log; the second one is refused."""

from __future__ import annotations

import pytest

from rehearsal.checks.preflight import run_preflight, standing
from rehearsal.checks.preflight.run import Intent, check_act
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.fix_tables import deploy

TABLES = """
create schema app; create schema app_user;
create table app.user_orders (id bigint primary key, at timestamptz not null);
create table app_user.orders (id bigint primary key, at timestamptz not null);
insert into app.user_orders values (1, '2026-01-01'); insert into app_user.orders values (1, '2026-01-01');
"""


def plan_of(*names: str) -> Plan:
    """Return a plan of these tables."""
    return Plan.model_validate(
        {"name": "orders", "strategy": "swap", "tables": [{"name": name, "key": "at"} for name in names]}
    )


def refused(conn: Connection, files: SqlFiles, plan: Plan) -> dict[str, str]:
    """Return what `db.migrate` is refused for, by table."""
    found = check_act(conn, files, plan, Intent.MIGRATE)
    assert [finding.id for finding in found if finding.severity == "blocker"] == [
        finding.id for finding in run_preflight(conn, files, plan) if finding.severity == "blocker"
    ]
    return {finding.subject: finding.condition for finding in found if finding.severity == "blocker"}


def test_in_one_plan_both_are_refused(conn: Connection, sql_files: SqlFiles) -> None:
    """With the log's name and the other table's."""
    conn.execute(as_query(TABLES))
    found = refused(conn, sql_files, plan_of("app.user_orders", "app_user.orders"))
    assert set(found) == {"app.user_orders", "app_user.orders"}
    assert "rehearsal.log_forward_app_user_orders would be the log of app_user.orders too" in found["app.user_orders"]


def second_of_two(conn: Connection, sql_files: SqlFiles) -> None:
    conn.execute(as_query(TABLES))
    deploy(conn, sql_files, plan_of("app.user_orders"))
    assert set(refused(conn, sql_files, plan_of("app_user.orders"))) == {"app_user.orders"}
    assert refused(conn, sql_files, plan_of("app.user_orders")) == {}


def test_the_second_of_two_plans_is_refused_and_the_first_goes_on(conn: Connection, sql_files: SqlFiles) -> None:
    """Whoever is registered keeps what is its own."""
    second_of_two(conn, sql_files)


def test_mutant_names_are_taken_to_be_ones_own(
    conn: Connection, sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old way: the second table took the first one's log and functions."""
    monkeypatch.setattr(standing, "_others", lambda _place: [])
    with pytest.raises(AssertionError):
        second_of_two(conn, sql_files)
