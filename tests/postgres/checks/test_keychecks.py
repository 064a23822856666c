"""Preflight of partition keys: each defect is put in, and is named with a remedy."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rehearsal.checks.preflight import run_preflight
from rehearsal.errors import PlanError, PreconditionError
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes
from tests.fix_tables import NOW

V7 = "(lpad(to_hex(1770000000000 + n * 1000), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid"


def plan_of(**spec: Any) -> Plan:
    """Return a plan for the table."""
    return Plan.model_validate({"name": "t", "strategy": "swap", "tables": [{"name": "public.t", "key": "k", **spec}]})


def make(conn: Connection, kind: str, value: str, more: str = "") -> None:
    """Make a table of 200 rows whose key is of a type."""
    conn.execute("set search_path = public, pg_catalog")
    text = f"create table t (id bigint primary key, k {kind} not null); "
    text += f"insert into t select n, {value} from generate_series(1, 200) as n; {more}"
    conn.execute(as_query(text))


TIMES = "'2026-01-01'::timestamptz + n * interval '1 hour'"
MILLIS = "1770000000000 + n * 1000"
AT = ("timestamptz", TIMES)
CASES: list[tuple[str, str, str, dict[str, Any], str, str]] = [
    (*AT, "update t set k = 'infinity' where id < 3", {}, "key-infinite", "2 rows have an inf"),
    (*AT, "update t set k = '20000-01-01' where id = 3", {}, "key-outlier", "1 rows have a key"),
    (*AT, "update t set k = '4713-01-01 BC' where id = 3", {}, "key-outlier", "1 rows have a key"),
    (*AT, "update t set k = '1900-01-01' where id < 4", {"interval": "1 day"}, "key-spread",
     r"46,\d{3} partitions.*interval = \"2 months\".*3 rows lie far from the other 197"),
    (*AT, "update t set k = '2100-01-01' where id < 5", {}, "key-spread", r"\d{3} partitions; 4 rows lie far"),
    (*AT, "", {"interval": "1000"}, "key-type", "an interval of 1000 values over timestamp"),
    (*AT, "", {"epoch": "ms"}, "key-type", "epoch over timestamp with time zone"),
    (*AT, "alter table t alter k drop not null; update t set k = null where id < 6", {}, "key-null",
     "5 rows have no key"),
    (*AT, "alter table t alter k drop not null", {}, "key-nullable", "the column may be null"),
    ("bigint", MILLIS, "", {}, "key-type", "an interval of 1 month over bigint"),
    ("bigint", MILLIS, "", {"epoch": "s"}, "key-epoch", "beyond the year 9999 when read as s"),
    ("bigint", MILLIS, "", {"epoch": "us"}, "key-epoch", "is 1970-01-21 when read as us"),
    ("bigint", "n", "update t set k = 9000000000000000000 where id = 7", {"interval": "1000"}, "key-spread",
     '9,000,000,000,000,004 partitions.*interval = "10000000000000000".*1 rows lie far from the other 199'),
    ("uuid", V7, "update t set k = gen_random_uuid() where id < 8", {}, "key-not-v7", "7 rows have a uuid that is not"),
    ("uuid", V7, "update t set k = '00000000-0001-7000-8000-000000000001' where id = 8", {}, "key-outlier",
     "1 rows have a uuid from before 1990"),
    ("text", "'a' || n % 3", "", {}, "key-type", "ranges over text"),
    ("numeric", "n", "", {"interval": "1000"}, "key-type", "ranges over numeric"),
    ("text", "'a' || n % 3", "", {"method": "list", "values": {"a": ["a0"]}}, "key-unlisted",
     r"values without a partition: a1 \(67 rows\), a2 \(67 rows\)"),
    ("int", "n % 2", "", {"method": "list", "values": {"a": ["zero"], "b": [1]}}, "key-values", "'zero' is no integer"),
    ("int", "n % 2", "", {"method": "list", "values": {"a": ["00"], "b": [0, 1]}}, "key-values", "value 0 is in a and"),
    ("json", "to_json(n)", "", {"method": "hash", "modulus": 2}, "key-type", "a hash of json"),
    ("json", "to_json(n)", "", {"method": "list", "values": {"a": ["1"]}}, "key-type", "a list of json"),
    ("int", "n", "", {"key": "kk", "interval": "10"}, "key-missing", "no such column"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "defect", "spec", "found", "said"), CASES)
def test_each_defect_is_found_and_a_good_key_is_not(
    conn: Connection,
    sql_files: SqlFiles,
    kind: str,
    value: str,
    defect: str,
    spec: dict[str, Any],
    found: str,
    said: str,
) -> None:
    """The finding has the number of rows or what the method wants, and a remedy."""
    make(conn, kind, value, defect)

    findings = [finding for finding in run_preflight(conn, sql_files, plan_of(**spec)) if finding.id.startswith("key-")]

    assert [finding.id for finding in findings] == [found], findings
    assert re.search(said, findings[0].condition), findings[0]
    assert findings[0].remedy


def test_a_refused_key_stops_the_rendering_too(conn: Connection, sql_files: SqlFiles) -> None:
    """Whoever passes preflight by is told the same."""
    make(conn, "bigint", MILLIS)
    with pytest.raises(PlanError, match='say epoch = "s", "ms" or "us"'):
        render_changes(conn, sql_files, plan_of(), NOW)
    with pytest.raises(PreconditionError, match=r"table public.t: key .* is no instant when it is read as s"):
        render_changes(conn, sql_files, plan_of(epoch="s"), NOW)


def test_a_plan_without_the_new_words_keeps_its_stamp(conn: Connection, sql_files: SqlFiles) -> None:
    """Changes that were applied before the words came must not look edited."""
    make(conn, "timestamptz", TIMES)
    plain = render_changes(conn, sql_files, plan_of(), NOW)[0].body.splitlines()[0]
    conn.execute("drop table t")
    make(conn, "bigint", MILLIS)
    ours = render_changes(conn, sql_files, plan_of(epoch="ms"), NOW)[0].body.splitlines()[0]

    assert plain.endswith(", public.t by k, 1 month, swap")
    assert ours.endswith(", public.t by k, 1 month, swap, epoch ms")
