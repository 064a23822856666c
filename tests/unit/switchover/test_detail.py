"""What a migration remembers: the keys that rows have always had, and rows of other versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from rehearsal.catalog.bounds import Decided
from rehearsal.errors import PreconditionError
from rehearsal.switchover.detail import (
    Detail,
    HistoryIndex,
    HistoryPrimary,
    LaterLeaf,
    Split,
    StepDetail,
)
from rehearsal.switchover.kept import IndexNames, KeptKey, StatisticsNames
from rehearsal.switchover.state import Migration, migration_of
from rehearsal.switchover.target.references import Reference

REFERENCE = (
    '{"name": "fk", "schema": "public", "table": "child", "kind": "r", "is_own": false, "columns": ["a"], '
    '"referenced": ["id"], "on_delete": "a", "on_update": "a", "match": "s", "is_primary": true, "deferrable": false, '
    '"deferred": false, "validated": true, "definition": "FOREIGN KEY", "is_owner": true, "has": ["a"], '
    '"decision": "loose"}'
)
ATTACH = (
    '{"until": "2027-01-01", "key_type": "timestamptz", "nullable": false, '
    '"leaves": [{"suffix": "y2027m01", "lower": "a", "upper": "b"}], '
    '"primary": {"swapped": true, "source": "t_pkey", "history": "h_pkey", "key_index": "k", "back_index": "b", '
    '"rest": "using btree (id)", "columns": ["id"], "identity": ["id", "at"], '
    '"key_rest": "using btree (id, at)", "clustered": false}, '
    '"indexes": [{"source": "i", "target": "i_p", "history": "i_h", "is_primary": ""}], "columns": ["id", "at"], '
    '"statistics": [{"source": ["s", "a"], "target": ["s", "b"], "retired": ["s", "c"], "history": ["s", "d"]}]}'
)
STATISTICS = StatisticsNames(("s", "a"), ("s", "b"), ("s", "c"), ("s", "d"))
# Each part as versions before this one stored it; rows of them are in databases that go on.
PARTS: list[tuple[Detail, str]] = [
    (Detail(definition={"table": {"owner": "app"}}), '{"definition": {"table": {"owner": "app"}}}'),
    (
        Detail(foreign_keys=(KeptKey("fk", "FOREIGN KEY", "why"),), guard="744"),
        '{"foreign_keys": [{"name": "fk", "definition": "FOREIGN KEY", "comment": "why"}], "guard": "744"}',
    ),
    (
        Detail(indexes=(IndexNames(("s", "i"), None, ("s", "i_old")),), statistics=(STATISTICS,)),
        (
            '{"indexes": [{"source": ["s", "i"], "target": null, "retired": ["s", "i_old"]}], "statistics": '
            '[{"source": ["s", "a"], "target": ["s", "b"], "retired": ["s", "c"], "history": ["s", "d"]}]}'
        ),
    ),
    (Detail(references=(Reference(**json.loads(REFERENCE)),)), f'{{"references": [{REFERENCE}]}}'),
    (Detail(fine=("public.t_y2026m01",)), '{"fine": ["public.t_y2026m01"]}'),
    (Detail(guard="7", rolled_back=True), '{"guard": "7", "rolled_back": true}'),
    (
        Detail(
            attach=Split(
                "2027-01-01",
                "timestamptz",
                nullable=False,
                leaves=(LaterLeaf("y2027m01", "a", "b"),),
                primary=HistoryPrimary(
                    swapped=True,
                    source="t_pkey",
                    history="h_pkey",
                    key_index="k",
                    back_index="b",
                    rest="using btree (id)",
                    columns=["id"],
                    identity=["id", "at"],
                    key_rest="using btree (id, at)",
                ),
                indexes=(HistoryIndex("i", "i_p", "i_h", ""),),
                columns=("id", "at"),
                statistics=(STATISTICS,),
            )
        ),
        f'{{"attach": {ATTACH}}}',
    ),
]


@pytest.mark.parametrize(("part", "stored"), PARTS)
def test_a_row_has_the_keys_it_always_had(part: Detail, stored: str) -> None:
    """Written as before with the version beside it, and read from a row that has none."""
    assert part.to_json() == {**json.loads(stored), "version": 1}
    assert Detail.model_validate(json.loads(stored)) == part


def test_a_split_of_before_has_no_definition_of_the_new_key() -> None:
    """An earlier version kept none: it is made from its columns alone."""
    stored = json.loads(f'{{"attach": {ATTACH}}}')
    del stored["attach"]["primary"]["key_rest"], stored["attach"]["primary"]["clustered"]
    kept = Detail.model_validate(stored).attach
    assert kept is not None
    assert kept.primary.key_rest == ""


def test_an_update_leaves_alone_what_it_was_not_given() -> None:
    """`detail || update`: an empty part of the model must not empty that of the row."""
    assert Detail().to_json() == {}
    assert Detail(guard="7").to_json() == {"version": 1, "guard": "7"}
    assert StepDetail().to_json() == {}
    assert StepDetail(barrier="744").to_json() == {"barrier": "744"}


def test_a_row_of_another_version_is_read_as_far_as_known() -> None:
    """Keys that came later are left out; what a template of `db.migrate` wrote is a moment."""
    leaves = {"at": "2027-02-28T23:58:00+00:00", "oldest": None, "newest": None}
    row = {"version": 2, "later": {}, "leaves": leaves, "foreign_keys": [{"name": "fk", "definition": "x", "new": 1}]}

    found = Detail.model_validate(row)

    assert (found.version, found.foreign_keys) == (2, (KeptKey("fk", "x"),))
    assert found.leaves == Decided(datetime(2027, 2, 28, 23, 58, tzinfo=UTC))
    assert Decided(datetime(2027, 2, 28, 23, 58, tzinfo=UTC)).to_detail() == leaves
    earlier = {"source": ["s", "a"], "target": ["s", "b"], "retired": ["s", "c"]}
    assert Detail.model_validate({"statistics": [earlier]}).statistics[0].history is None


def test_a_split_that_is_not_decided_says_what_comes_first() -> None:
    """Not an error of a key."""
    with pytest.raises(PreconditionError, match=r"history has no end yet; run `./inv db\.switchover` first"):
        Split.of_detail(Detail())


def test_a_row_that_cannot_be_read_names_its_keys() -> None:
    """Refused in words, and not by the first reader that misses something."""
    row = (1, "public.t", "finance", "swap", "swapped", {"foreign_keys": [{"name": "fk"}], "fine": 3})

    with pytest.raises(PreconditionError, match=r"public\.t .* cannot read: foreign_keys\.0\.definition, fine; go on"):
        migration_of(row)
    assert migration_of((*row[:5], {})) == Migration(1, "public.t", "finance", "swap", "swapped", Detail())
