"""A partition key that is the whole primary key: nothing else tells rows apart."""

from __future__ import annotations

from typing import Any

import pytest

from rehearsal.catalog.tables import Table
from rehearsal.rehearse import figures
from rehearsal.rehearse.phases.baseline import baseline
from tests.faults.small import Small

FILL = "insert into public.t select {}, n, 'x' from generate_series(1, 300) as n"
TIME = "'2026-01-01'::timestamptz + n * interval '2 hours'"
MS = f"lpad(to_hex((extract(epoch from {TIME}) * 1000)::bigint), 12, '0')"
VERSION_7 = f"({MS} || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid"
TABLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "uuid v7": ("uuid", VERSION_7, {}),
    "timestamptz": ("timestamptz", TIME, {}),
    "date": ("date", "'2026-01-01'::date + n::int", {}),
    "bigint": ("bigint", "n", {"interval": "100"}),
    "list": (
        "text",
        "'k' || n % 3 || '-' || n",
        {"method": "list", "values": {"k": ["k1-1"]}, "default_partition": True},
    ),
    "hash": ("bigint", "n", {"method": "hash", "modulus": 3}),
}
ATTACHED = ("timestamptz", "date")
CASES = [(kind, "swap") for kind in TABLES] + [(kind, "attach") for kind in ATTACHED] + [("uuid v7", "dual-write")]


def key_alone_is_carried(small: Small, kind: str, strategy: str) -> None:
    """Through all verbs, and the figures of a rehearsal before and after."""
    key, values, more = TABLES[kind]
    text = f"create table public.t (at {key} primary key, v bigint, w text); {FILL.format(values)};"
    small.setup(text, strategy=strategy, **more)
    context, spec = small.context, small.plan.tables[0]
    baseline(context)
    small.switch()
    small.verify()
    assert small.unwanted() == []
    try:
        figures.compare_figures(context, small.conn, spec, context.pair(small.conn, spec)[1])
    except StopIteration as exc:
        message = "a comparison of figures wants another column of the primary key"
        raise AssertionError(message) from exc
    told = [seen for seen in context.run.evidence() if seen.gate == "stats-unchanged"]
    assert [seen.passed for seen in told] == [True]
    if strategy != "dual-write":
        small.roll_back()
        small.verify()
        small.switch()
        small.verify()
        small.clean_up()
    assert small.conn.execute("select count(*) from public.t").fetchone() == (300,)


@pytest.mark.fault("f21")
@pytest.mark.parametrize(("kind", "strategy"), CASES)
def test_a_key_that_is_the_whole_primary_key_is_carried(small: Small, kind: str, strategy: str) -> None:
    key_alone_is_carried(small, kind, strategy)


@pytest.mark.fault("f21", mutant=True)
def test_it_would_not_be_if_another_column_were_wanted(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old behaviour: a column of the primary key that is not the partition key, whether there is one or not."""

    def other(table: Table, key: str) -> str:
        return next(column for column in table.primary_key if column != key)

    monkeypatch.setattr(figures, "row_column", other)
    with pytest.raises(AssertionError, match="wants another column"):
        key_alone_is_carried(small, "uuid v7", "swap")
