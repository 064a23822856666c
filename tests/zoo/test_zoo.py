"""Every specimen goes forward, back and forward again, with writes all the time; its definition stays what it was."""

from __future__ import annotations

import pytest

from rehearsal.catalog.definition import differences, read_definition
from rehearsal.checks.preflight import Intent, check_act
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_tables import deploy
from tests.zoo.world import SPECIMENS, Zoo

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
CASES = [(specimen, strategy) for specimen in SPECIMENS for strategy in specimen.strategies]
PARAMETERS = [
    pytest.param(
        (specimen, strategy),
        id=f"{specimen.name}-{strategy}",
        marks=[] if strategy == specimen.strategies[0] or specimen.name in BY_BOTH else [pytest.mark.hours],
    )
    for specimen, strategy in CASES
]


def test_there_are_at_least_forty() -> None:
    """The zoo has as many tables as it promises, and no strategy of its list is left out."""
    assert len(SPECIMENS) >= 40
    assert {strategy for _, strategy in CASES} >= {"swap", "dual-write"}
    assert {specimen.name for specimen in SPECIMENS if len(specimen.strategies) > 1} >= BY_BOTH


@pytest.mark.parametrize("zoo", PARAMETERS, indirect=True)
def test_forward_back_and_forward_again(zoo: Zoo, conn: Connection, sql_files: SqlFiles) -> None:
    """No act is refused before the first write; nothing of the definition is lost, no row either; again: no change."""
    found = [finding for act in Intent for finding in check_act(conn, sql_files, zoo.plan, act)]
    assert [finding for finding in found if finding.severity == "blocker" or finding.id.startswith("trial")] == []
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
    assert [
        difference.id for difference in differences(zoo.original, read_definition(zoo.conn, zoo.files, source))
    ] == []
    zoo.write()
    zoo.rows_are_equal()
    zoo.holds()
