"""Rows that refer to a mirrored table are not deleted by the mirror."""

from __future__ import annotations

import pytest

from rehearsal.checks.preflight import relations
from rehearsal.checks.preflight.run import Intent, check_act
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.faults.small import TABLE, Small

CASCADING = TABLE + (
    "create table child (id bigint primary key, t_id bigint constraint child_t references t (id) {action});"
    "insert into child select id, id from t where id <= 10;"
)
MOVED = "update t_partitioned set at = at + interval '1 month' where id = 10"


@pytest.mark.parametrize("action", ["on delete cascade", "on delete set null", "on delete set default"])
def test_what_a_mirror_would_delete_is_refused_before_the_first_write(small: Small, action: str) -> None:
    """A row that changes its partition is two writes in the source, and the first takes its referencing rows along."""
    small.conn.execute("set search_path = public")
    small.conn.execute(as_query(CASCADING.format(action=action)))
    small.plan = Plan.model_validate(
        {"name": "small", "strategy": "dual-write", "tables": [{"name": "public.t", "key": "at"}]}
    )
    found = check_act(small.conn, small.files, small.plan, Intent.MIGRATE)
    refused = [finding for finding in found if finding.severity == "blocker"]
    assert [finding.id for finding in refused] == ["stays-reference"]
    assert action.upper() in refused[0].condition


def test_mutant_a_cascade_that_is_only_warned_of(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: a row changes its month on the partitioned side, and its referencing rows are gone."""
    monkeypatch.setattr(relations, "DELETES", frozenset())
    small.setup(CASCADING.format(action="on delete cascade"), strategy="dual-write")
    small.switch()
    small.run_sql(MOVED)
    assert scalar(small.conn, "select count(*) from public.child where t_id = 10") == 0
