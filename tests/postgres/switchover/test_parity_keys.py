"""Parity by keys of every kind: each row is looked for in the leaf that its key belongs to."""

from __future__ import annotations

import pytest

from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, scalar
from tests.fix_parity import Compare, run

KEYS = [
    ("date", "date '2026-01-30'", "+ (n % 5)::int", "'2026-02-01'"),
    ("timestamp(3)", "timestamp '2026-01-31 23:59:00'", "+ n * interval '1 second'", "'2026-02-01'"),
    ("timestamptz", "timestamptz '2026-01-31 23:59:00Z'", "+ n * interval '1 second'", "'2026-02-01Z'"),
    ("bigint", "0", "+ n", "90"),
]


@pytest.mark.parametrize("given", KEYS, ids=lambda given: given[0])
def test_keys_of_every_kind_find_their_leaf(
    conn: Connection, database: Database, compare_pair: Compare, given: tuple[str, str, str, str]
) -> None:
    """Bounds are ordered by their type: as text, 90 would stand after 100."""
    kind, start, step, bound = given
    upper = "100" if kind == "bigint" else "maxvalue"
    run(
        database,
        f"create table public.posts (id int primary key, key {kind} not null, body text)",
        "create table public.posts_p (like public.posts) partition by range (key)",
        f"create table public.posts_1 partition of public.posts_p for values from (minvalue) to ({bound})",
        f"create table public.posts_2 partition of public.posts_p for values from ({bound}) to ({upper})",
        "create table public.posts_3 partition of public.posts_p default",
        f"insert into public.posts select n, {start} {step}, 'b' from generate_series(1, 99) n",
        "insert into public.posts_p select * from public.posts",
    )

    got = compare_pair(database, ("public", "posts"), ("public", "posts_p"), "key", self_test=True)

    assert got.is_equal
    assert got.self_test is True
    counts = [scalar(conn, f"select count(*) from public.posts_{n}") for n in (1, 2, 3)]
    assert [leaf.source_count for leaf in got.leaves] == counts
    assert min(counts[:2]) > 0
    if kind == "bigint":
        conn.execute("delete from public.posts_2 where key = 95")
        assert compare_pair(database, ("public", "posts"), ("public", "posts_p"), "key").differences == {"missing": 1}


def test_null_keys_belong_into_default(database: Database, compare_pair: Compare) -> None:
    """They are counted, and looked for in DEFAULT."""
    run(
        database,
        "create table public.posts (id int primary key, key date)",
        "create table public.posts_p (like public.posts) partition by range (key)",
        "create table public.posts_1 partition of public.posts_p for values from ('2026-01-01') to ('2027-01-01')",
        "insert into public.posts select n, '2026-02-02' from generate_series(1, 9) n",
        "insert into public.posts values (10, null), (11, '2031-01-01')",
        "insert into public.posts_p select * from public.posts where id < 10",
    )
    got = compare_pair(database, ("public", "posts"), ("public", "posts_p"), "key")
    assert (got.null_keys, got.differences) == (1, {"missing": 2})
    assert got.leaves[-1].name == "(no partition)"

    run(
        database,
        "create table public.posts_rest partition of public.posts_p default",
        "insert into public.posts_p select * from public.posts where id >= 10",
    )
    got = compare_pair(database, ("public", "posts"), ("public", "posts_p"), "key")
    assert all(leaf.equal for leaf in got.leaves)
    assert (got.in_default, got.is_equal) == (2, False)


def test_self_test_moves_a_row_to_another_day_and_never_to_its_own(database: Database, compare_pair: Compare) -> None:
    """With a unit's days taken from the first on, a row's own day is the first that no other row refuses."""
    run(
        database,
        "create table public.posts (id int primary key, unit int, key date not null, body text, unique (unit, key))",
        "create table public.posts_p (like public.posts, unique (unit, key)) partition by range (key)",
        "create table public.posts_1 partition of public.posts_p for values from ('2026-02-01') to ('2026-03-01')",
        "insert into public.posts select n, 1, date '2026-01-31' + n, 'b' from generate_series(1, 20) n",
        "insert into public.posts_p select * from public.posts",
    )

    got = compare_pair(database, ("public", "posts"), ("public", "posts_p"), "key", self_test=True)

    assert (got.self_test, "moved" in got.self_test_note) == (True, True), got.self_test_note
