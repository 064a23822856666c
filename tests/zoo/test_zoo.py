"""Every specimen goes forward, back and forward again, with writes all the time; its definition stays what it was."""

from __future__ import annotations

import pytest
from psycopg import sql

from rehearsal.catalog.definition import differences, read_definition
from rehearsal.checks.preflight import Intent, check_act
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_tables import deploy
from tests.zoo.world import ROLES, SPECIMENS, Specimen, Zoo

BUILT_WITH = "select setting like %s from pg_catalog.pg_config where name = 'CONFIGURE'"
# By both strategies in CI: what mirrors of dual-write do in a way of their own with names, types, numbers, lists, rules
# and generated columns. The others go by their first strategy there, by their second in `./inv test --long`.
BY_BOTH = {
    "by_list_text",
    "foreign_keys",
    "generated",
    "hostile_names",
    "identity_always",
    "key_mixed",
    "plain",
    "policies",
    "types_times",
}
CASES = [(one, strategy) for one in SPECIMENS for strategy in one.strategies]
PARAMETERS = [
    pytest.param(
        (one, strategy),
        id=f"{one.name}-{strategy}",
        marks=[] if strategy == one.strategies[0] or one.name in BY_BOTH else [pytest.mark.hours],
    )
    for one, strategy in CASES
]


@pytest.fixture(scope="session")
def zoo_roles(server: Database) -> None:
    """Roles and a tablespace that specimens speak of; they belong to the cluster, not to a database."""
    with connect(server) as conn:
        for role in ROLES:
            conn.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        if conn.info.server_version >= 150000:
            conn.execute("set allow_in_place_tablespaces = on")
            conn.execute("create tablespace \"zoo space\" location ''")


@pytest.fixture
def zoo(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, zoo_roles: None, request: pytest.FixtureRequest
) -> Zoo:
    """The specimen of the test, made on a database of its own."""
    specimen: Specimen
    specimen, strategy = request.param
    if conn.info.server_version < specimen.since * 10_000:
        pytest.skip(f"needs PostgreSQL {specimen.since}")
    if specimen.built_with and not scalar(conn, BUILT_WITH, [f"%--with-{specimen.built_with}%"]):
        pytest.skip(f"needs a server that is built with {specimen.built_with}")
    return Zoo(database, conn, sql_files, specimen, strategy, run)


def test_there_are_at_least_forty() -> None:
    """The zoo has as many tables as it promises, and no strategy of its list is left out."""
    assert len(SPECIMENS) >= 40
    assert {strategy for _, strategy in CASES} >= {"swap", "dual-write"}
    assert {one.name for one in SPECIMENS if len(one.strategies) > 1} >= BY_BOTH


@pytest.mark.parametrize("zoo", PARAMETERS, indirect=True)
def test_forward_back_and_forward_again(zoo: Zoo, conn: Connection, sql_files: SqlFiles) -> None:
    """No act is refused before the first write; nothing of the definition is lost, no row either; again: no change."""
    found = [one for act in Intent for one in check_act(conn, sql_files, zoo.plan, act)]
    assert [one for one in found if one.severity == "blocker" or one.id.startswith("trial")] == []
    deploy(conn, sql_files, zoo.plan)
    zoo.write()

    assert zoo.work.prepare()
    assert not zoo.work.prepare()
    zoo.write()
    zoo.holds()
    forward(zoo)

    back(zoo)
    forward(zoo)


def forward(zoo: Zoo) -> None:
    """Switch, twice; the definition is what it was but for what the strategy says of it, and the rows are equal."""
    mirrored = zoo.mirrored
    assert zoo.work.switch() is not mirrored
    applied = zoo.digest()
    assert not zoo.work.switch()
    assert zoo.digest() == applied
    assert zoo.unwanted() == []
    assert len(zoo.judged()) >= 1, "the table is not partitioned"
    assert zoo.misshapen() == []
    zoo.write()
    if zoo.strategy == "dual-write":
        zoo.write(zoo.names.target)
    zoo.rows_are_equal()
    zoo.holds()
    assert zoo.unwanted() == []


def back(zoo: Zoo) -> None:
    """Go back, twice; the definition is exactly what it was in the beginning."""
    assert zoo.work.roll_back() is (zoo.strategy == "swap")
    assert not zoo.work.roll_back()
    source = zoo.read(zoo.name)
    assert source.kind == "r"
    assert [one.id for one in differences(zoo.original, read_definition(zoo.conn, zoo.files, source))] == []
    zoo.write()
    zoo.rows_are_equal()
    zoo.holds()
