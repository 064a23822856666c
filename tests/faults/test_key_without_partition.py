"""A row whose key has no partition, written while the target is copied or follows: which way on there is."""

from __future__ import annotations

import pytest

from rehearsal.errors import StepFailed
from rehearsal.postgres import connection
from rehearsal.postgres.connection import scalar
from tests.faults.small import Small

FAR = "insert into t values (9001, '2031-05-05', 1)"


@pytest.mark.parametrize("way", ["rollback", "correct the row"])
def test_the_way_on_is_said_and_leads_on(small: Small, way: str) -> None:
    """Both that are named; before, nothing is switched, and nothing is lost."""
    small.setup()
    small.work.prepare()
    small.run_sql("set lc_messages = 'C'; " + FAR)
    with pytest.raises(StepFailed, match=r"2031.*`\./inv db\.rollback`.*default_partition = true.*correct the row"):
        small.work.switch()
    if way == "rollback":
        assert small.work.roll_back()
        small.setup("select", default_partition=True)
        small.switch()
    else:
        small.run_sql("update t set at = '2026-02-01' where id = 9001")
        assert small.work.switch()
    assert scalar(small.conn, "select count(*) from public.t where id = 9001") == 1
    small.verify()


def test_mutant_the_servers_words_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: the code and the server's message, at each run again."""
    monkeypatch.setattr(connection, "REMEDIES", {})
    with pytest.raises(AssertionError, match="Regex"):
        test_the_way_on_is_said_and_leads_on(small, "rollback")
