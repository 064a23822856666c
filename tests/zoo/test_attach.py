"""Every specimen under the strategy attach: there, split, back and there again, or refused by name before a write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rehearsal.catalog.definition import differences, read_definition
from rehearsal.checks.preflight import Intent, check_act
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.strategies.attach.split import HistorySplit
from tests.fix_tables import deploy
from tests.zoo.world import SPECIMENS, Specimen, Zoo

METHOD, KEY, IDENTITY = {"attach-method"}, {"attach-key-type"}, {"not-carried-identity"}
TRIGGER, REPLICA = {"not-carried-trigger"}, {"not-carried-replica-identity"}
# What attach cannot carry yet, by specimen: all that is said against it, and nothing else.
REFUSED: dict[str, set[str]] = {
    **dict.fromkeys(("by_hash_text", "by_hash_uuid", "by_list_boolean", "by_list_enum", "by_list_number"), METHOD),
    **dict.fromkeys(("by_hash_bigint", "by_list_text"), METHOD | IDENTITY),
    **dict.fromkeys(("by_bigint", "by_epoch_ms", "by_epoch_s", "by_smallint", "by_uuid_v7"), KEY),
    "by_identity": KEY | IDENTITY,
    "checks": {"attach-no-inherit", "attach-not-valid"},
    **dict.fromkeys(("empty", "hostile_long", "identity_always", "identity_backwards"), IDENTITY),
    **dict.fromkeys(("identity_by_default", "owner", "weekly"), IDENTITY),
    "hostile_trigger": IDENTITY | TRIGGER,
    "policies": {"not-carried-policy"},
    **dict.fromkeys(("replica_identity_full", "replica_identity_index", "replica_identity_nothing"), REPLICA),
    "triggers": TRIGGER,
    "unique_deferrable": {"attach-deferrable"},
}
# In CI; the others go there and back in `./inv test --long`.
SAMPLE = {"foreign_keys", "generated", "hostile_names", "key_mixed", "plain", "tablespaces", "types_times"}


def parameter(specimen: Specimen) -> object:
    """Return the test of a specimen."""
    kept = specimen.name in SAMPLE or specimen.name in REFUSED
    return pytest.param((specimen, "attach"), id=specimen.name, marks=[] if kept else [pytest.mark.hours])


@pytest.mark.parametrize("zoo", [parameter(specimen) for specimen in SPECIMENS], indirect=True)
def test_history_is_attached_or_refused(zoo: Zoo, conn: Connection, sql_files: SqlFiles) -> None:
    """Nothing of the definition is lost, nor a row; what cannot be carried is said before the first write."""
    before = zoo.digest()
    found = [finding for act in Intent for finding in check_act(conn, sql_files, zoo.plan, act)]
    against = {finding.id for finding in found if finding.severity == "blocker" or finding.id.startswith("trial")}
    assert against == REFUSED.get(zoo.specimen.name, set())
    assert zoo.digest() == before
    if not against:
        there_and_back(zoo, conn, sql_files)


def there_and_back(zoo: Zoo, conn: Connection, files: SqlFiles) -> None:
    """Attach, split, go back, attach again, with writes after each act; each of them twice, the second no change."""
    deploy(conn, files, zoo.plan)
    zoo.write()
    act(zoo, zoo.work.prepare)
    act(zoo, zoo.work.switch)
    assert zoo.unwanted() == []
    act(zoo, HistorySplit(zoo.work).split)
    assert zoo.unwanted() == []
    act(zoo, zoo.work.roll_back)
    source = zoo.read(zoo.name)
    assert source.kind == "r"
    assert [lost.id for lost in differences(zoo.original, read_definition(conn, files, source))] == []
    zoo.work.prepare()
    act(zoo, zoo.work.switch)
    assert zoo.unwanted() == []


def act(zoo: Zoo, what: Callable[[], bool]) -> None:
    """Do an act twice: the first changes something, none changes a row; then the application writes."""
    rows = zoo.rows(zoo.name)
    assert what()
    applied = zoo.digest()
    assert not what()
    assert (zoo.digest(), zoo.rows(zoo.name)) == (applied, rows)
    zoo.write()
    zoo.holds()


def test_the_lists_name_specimens() -> None:
    """A specimen that was renamed would be left out of CI, or looked at as if nothing stood against it."""
    names = {specimen.name for specimen in SPECIMENS}
    assert set(REFUSED) | SAMPLE <= names
    assert not set(REFUSED) & SAMPLE
