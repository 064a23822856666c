"""Parity on a real server: equal pairs match, and each way to be unequal is found and named."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity import ParityReport, compare
from rehearsal.switchover.parity import pair as pair_module
from tests.fix_parity import KEY, SOURCE, TARGET, Compare, run

_numbers = itertools.count(1)

# Asymmetric on purpose: a null, an empty text, equal prices with other scales, instants on a bound, hostile names.
PAIR = """
create schema "We""ird";
create table "We""ird"."Table %s" (
    id bigint primary key, "Created At" timestamptz not null, price numeric, fixed numeric(9, 2),
    ratio double precision, "memo""s" text, tags text[], doc jsonb, raw json, place point, span interval,
    padded char(4), flag boolean, twice bigint generated always as (id * 2) stored
);
create table "We""ird"."Table %s twin" (like "We""ird"."Table %s" including generated)
    partition by range ("Created At");
create table "We""ird".leaf_old partition of "We""ird"."Table %s twin" for values from (minvalue) to ('2026-01-01Z');
create table "We""ird".leaf_1 partition of "We""ird"."Table %s twin" for values from ('2026-01-01Z') to ('2026-02-01Z');
create table "We""ird".leaf_2 partition of "We""ird"."Table %s twin" for values from ('2026-02-01Z') to ('2026-03-01Z');
create table "We""ird".leaf_rest partition of "We""ird"."Table %s twin" default;
insert into "We""ird"."Table %s"
select n, timestamptz '2025-12-31 22:00Z' + (n % 40) * interval '1 day' + n * interval '1 second',
       n % 7 + 0.10, n % 11, n / 3.0,
       case n % 5 when 0 then null when 1 then '' else 'note ' || n end, array['a', n::text],
       jsonb_build_object('n', n % 13), '{"raw": 1}', point(n, 1), interval '1 day', 'ab', n % 2 = 0
from generate_series(1, 20000) as n;
insert into "We""ird"."Table %s twin"
    (id, "Created At", price, fixed, ratio, "memo""s", tags, doc, raw, place, span, padded, flag)
select id, "Created At", price, fixed, ratio, "memo""s", tags, doc, raw, place, span, padded, flag
from "We""ird"."Table %s" order by "Created At";
alter table "We""ird"."Table %s twin" add primary key (id, "Created At");
"""
TWIN, ORIGIN = '"We""ird"."Table %s twin"', '"We""ird"."Table %s"'


@pytest.fixture(scope="module")
def pair_template(server: Database, template: str) -> str:
    """Name of a database with an equal pair of 20,000 rows in it."""
    name = "parity_template"
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
    with connect(Database(server.host, server.port, name, server.user, server.password)) as conn:
        conn.execute(PAIR)
        conn.execute("vacuum analyze")
    return name


@contextlib.contextmanager
def clone(server: Database, template: str) -> Generator[Database]:
    """Clone a database for the block."""
    name = f"pair_{next(_numbers)}"
    names = sql.Identifier(name), sql.Identifier(template)
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(*names))
    yield Database(server.host, server.port, name, server.user, server.password)
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def pair(server: Database, pair_template: str) -> Iterator[Database]:
    """A database with an equal pair in it."""
    with clone(server, pair_template) as database:
        yield database


def compare_by(database: Database, files: SqlFiles) -> ParityReport:
    """Compare the pair with these SQL texts, and prove that corruption is seen."""
    with connect(database) as conn:
        catalog = Catalog(conn, files)
        return compare(database, files, catalog.read(SOURCE), catalog.read(TARGET), KEY)


def test_equal_pair_matches_and_the_self_test_sees_each_class(pair: Database, compare_pair: Compare) -> None:
    """An equal pair is equal, leaf by leaf, and corruption of each class would have been seen."""
    got = compare_pair(pair, self_test=True)

    assert got.is_equal
    assert got.has_explanation
    assert [leaf.name for leaf in got.leaves] == ["leaf_old", "leaf_1", "leaf_2", "leaf_rest"]
    assert sum(leaf.source_count > 0 for leaf in got.leaves) >= 3
    assert (got.source_count, got.target_count) == (20_000, 20_000)
    assert (got.self_test, got.self_test_note) == (
        True,
        "corruption was seen: duplicate, misrouted, missing, moved, orphan, stale",
    )
    with connect(pair) as conn:
        assert scalar(conn, f"select count(*) from {TWIN} where id < 0") == 0  # rolled back


MUTANTS = [
    ("missing", 1, [f"delete from {TWIN} where id = 77"]),
    ("orphan", 1, [f"delete from {ORIGIN} where id = 77"]),
    ("stale", 1, [f"update {TWIN} set flag = not flag where id = 77"]),
    ("moved", 1, [f'update {TWIN} set "Created At" = "Created At" + interval \'1 hour\' where id = 77']),
    ("moved", 1, [f"update {TWIN} set \"Created At\" = '2025-03-03Z' where id = 77"]),
    ("duplicate", 1, [f"insert into {TWIN} (id, \"Created At\") values (77, '2026-02-09Z')"]),
    # A pair that cancels out under XOR: two rows replaced by two equal ones.
    ("orphan", 2, [f"insert into {TWIN} (id, \"Created At\") values (-1, '2026-01-09Z'), (-2, '2026-01-09Z')"]),
    # Counts, and each column's own sum, stay equal.
    (
        "stale",
        2,
        [f"update {TWIN} set \"memo\"\"s\" = case id when 77 then 'note 78' else 'note 77' end where id in (77, 78)"],
    ),
    ("stale", 1, [f"update {TWIN} set price = price::text::numeric(10, 3) where id = 77"]),
    ("stale", 1, [f"update {TWIN} set ratio = '-0' where id = 77", f"update {ORIGIN} set ratio = 0 where id = 77"]),
    ("stale", 1, [f'update {TWIN} set "memo""s" = \'\' where id = 75']),
    ("stale", 1, [f'update {TWIN} set "memo""s" = null where id = 76']),
    ("stale", 1, [f"update {TWIN} set span = '24 hours' where id = 77"]),
    ("stale", 1, [f"update {TWIN} set raw = '{{\"raw\":1}}' where id = 77"]),
    ("stale", 1, [f"update {TWIN} set doc = '{{\"n\": 12.0}}' where id = 77"]),
    ("stale", 1, [f"update {TWIN} set place = point(77, 2) where id = 77"]),
    ("stale", 1, [f"update {TWIN} set tags = array['a', null] where id = 77"]),
]


@pytest.fixture(scope="module")
def mended(server: Database, pair_template: str) -> Iterator[Callable[[], Database]]:
    """A database with an equal pair, mended anew by each call: cheaper than a clone for each mutant."""
    copied = 'id, "Created At", price, fixed, ratio, "memo""s", tags, doc, raw, place, span, padded, flag'
    touched = "where id < 0 or id between 70 and 80"
    with clone(server, pair_template) as database:
        run(database, f"create table public.saved as select * from {ORIGIN} {touched}")

        def mend() -> Database:
            for name in (ORIGIN, TWIN):
                run(database, f"delete from {name} {touched}")
                run(database, f"insert into {name} ({copied}) select {copied} from public.saved")
            return database

        yield mend


@pytest.mark.parametrize(("kind", "count", "statements"), MUTANTS)
def test_each_class_of_difference_is_found(
    mended: Callable[[], Database], compare_pair: Compare, kind: str, count: int, statements: list[str]
) -> None:
    """One row among 20,000 is enough, and it is named with both images."""
    database = mended()
    run(database, *statements)

    got = compare_pair(database)

    assert not got.is_equal
    assert got.differences == {kind: count}
    assert (got.unexplained, got.explained, got.has_explanation) == (count, 0, False)
    assert {example.kind for example in got.examples} == {kind}
    assert "MISMATCH" in got.text()
    shown = got.examples[0]
    assert (shown.source_row is None) == (kind in {"orphan", "duplicate"})
    assert (shown.target_row is None) == (kind == "missing")


def test_all_classes_at_once_are_told_apart(pair: Database, compare_pair: Compare) -> None:
    """Classes do not hide one another, among 100,000 rows."""
    copied = 'id, "Created At", price, fixed, ratio, "memo""s", tags, doc, raw, place, span, padded, flag'
    more = f"select id + n * 20000, {copied[4:]} from {ORIGIN}, generate_series(1, 4) as n"
    run(
        pair,
        f"insert into {ORIGIN} ({copied}) {more}",
        f"insert into {TWIN} ({copied}) select {copied} from {ORIGIN} where id > 20000",
        *(
            mutant.replace("77", str(number))
            for number, (_, _, all_of) in enumerate(MUTANTS[:6], 101)
            for mutant in all_of
        ),
    )

    got = compare_pair(pair)

    assert got.source_count == 99_999
    assert got.differences == {"missing": 1, "orphan": 1, "stale": 1, "moved": 2, "duplicate": 1}
    assert {(example.kind, example.identity[0]) for example in got.examples} == {
        (kind, str(number)) for number, (kind, _, _) in enumerate(MUTANTS[:6], 101)
    }


def test_swapped_values_are_found_by_the_digest_itself(pair: Database, compare_pair: Compare) -> None:
    """Summed record hashes alone are blind to two rows that swap a column's values; ours are not."""
    blind = f'select sum(hash_record_extended(row(id, "memo""s"), 0)::numeric) % (2::numeric ^ 64) from {TWIN}'
    with connect(pair) as conn:
        before = scalar(conn, blind)
        run(pair, MUTANTS[7][2][0])
        after = scalar(conn, blind)
    assert (before - after) % 2**64 == 0  # witness: this is the swap that a plain sum does not see

    assert [leaf.name for leaf in compare_pair(pair).leaves if not leaf.equal]


def test_leak_into_the_default_partition_is_not_equal(pair: Database, compare_pair: Compare) -> None:
    """A row in DEFAULT is equal to its source and still in the wrong place."""
    run(pair, *(f"insert into {name} (id, \"Created At\") values (-5, '2027-01-01Z')" for name in (ORIGIN, TWIN)))

    got = compare_pair(pair)

    assert all(leaf.equal for leaf in got.leaves)
    assert (got.in_default, got.is_equal, got.has_explanation) == (1, False, False)


def test_row_in_the_wrong_leaf_is_found(pair: Database, compare_pair: Compare) -> None:
    """A leaf that was attached on the word of a constraint which does not hold."""
    run(
        pair,
        f'alter table {TWIN} detach partition "We""ird".leaf_2',
        'update "We""ird".leaf_2 set "Created At" = \'2026-01-15Z\' where id = (select min(id) from "We""ird".leaf_2)',
        'alter table "We""ird".leaf_2 add constraint ok '
        "check (\"Created At\" >= '2026-02-01Z' and \"Created At\" < '2026-03-01Z') not valid",
        "update pg_constraint set convalidated = true where conname = 'ok'",
        f"alter table {TWIN} attach partition \"We\"\"ird\".leaf_2 for values from ('2026-02-01Z') to ('2026-03-01Z')",
        f'update {ORIGIN} set "Created At" = \'2026-01-15Z\' where id = (select min(id) from "We""ird".leaf_2)',
    )

    got = compare_pair(pair)

    assert got.differences == {"misrouted": 1}
    assert got.examples[0].leaf == "leaf_2"


def test_empty_target_lacks_every_row(pair: Database, compare_pair: Compare) -> None:
    """Before the migration: counted, not listed."""
    run(pair, f"truncate {TWIN}")

    got = compare_pair(pair, self_test=True)

    assert (got.differences, got.unexplained) == ({"missing": 20_000}, 20_000)
    assert got.self_test is True  # with rows of the source: a comparison that sees nothing would be known by now


MIXED, RECORD = "pg_catalog.hashint8extended(", 'pg_catalog.hash_record_extended({{ row(pair.columns, "x") | raw }}, 0)'
CELLS, JOINED = "row({% for column in columns %}", "macro equal(columns, one, other) -%}\n{% for column in columns %}"
BLIND = {
    "a digest that counts only": ("digest", "row(pair.columns,", "row(pair.columns[:0],"),
    "a digest without its outer hash": ("digest", f"{MIXED}{RECORD}, 0)", RECORD),
    "a column that is left out": ("cells", CELLS, CELLS.replace("columns %}", "columns[:-2] %}")),
    "a key that is left out": (
        "cells",
        CELLS,
        CELLS.replace("columns %}", "columns if column.name != 'Created At' %}"),
    ),
    "identity without the partition key": ("cells", JOINED, JOINED.replace("columns %}", "columns[:1] %}")),
    "no stale rows": ("drill", "'stale'\n", "'misrouted'\n"),
    "no missing rows": ("drill", "full join t on", "right join t on"),
    "no orphans": ("drill", "full join t on", "left join t on"),
    "no moved rows": ("drill", "when m.kind is not null then 'moved'", ""),
    "no duplicates": ("drill", "then 'duplicate'", "then 'orphan'"),
    "no misrouted rows": ("drill", 'or t."rehearsal leaf" <> {{ expected("t") | raw }}', ""),
    "everything is in the key log": ("drill", '{{ logged("s") | raw }} and {{ logged("t") | raw }} as', "true as"),
    "one row only": ("drill", "where place <= {{ max_examples | literal }}", "where place <= 1"),
}


@pytest.fixture
def blind(sql_files: SqlFiles, tmp_path: Path, request: pytest.FixtureRequest) -> SqlFiles:
    """The project's SQL texts, but for one of the comparison that is made blind."""
    name, there, instead = BLIND[request.param]
    shutil.copytree(sql_files.folder, tmp_path / "sql")
    (path,) = (tmp_path / "sql" / "switchover" / "parity").rglob(f"{name}.sql.j2")
    assert path.read_text().count(there) == 1
    path.write_text(path.read_text().replace(there, instead))
    return SqlFiles(tmp_path / "sql")


@pytest.mark.parametrize("blind", BLIND, indirect=True)
def test_self_test_fails_where_corruption_cannot_be_seen(mended: Callable[[], Database], blind: SqlFiles) -> None:
    """A comparison that is blind to a class, a column or a key finds the pair equal, and its own proof fails."""
    database = mended()

    got = compare_by(database, blind)

    assert got.is_equal
    assert got.self_test is False, got.self_test_note
    assert "was not seen" in got.self_test_note


def test_self_test_fails_for_a_column_that_was_never_read(
    mended: Callable[[], Database], sql_files: SqlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which columns there are comes from the catalog, not from the comparison itself."""
    read = pair_module.read_encodings
    monkeypatch.setattr(
        pair_module,
        "read_encodings",
        lambda *args, **more: tuple(column for column in read(*args, **more) if column.name != "place"),
    )

    got = compare_by(mended(), sql_files)

    assert got.is_equal
    assert (got.self_test, "place" in got.self_test_note) == (False, True), got.self_test_note


def test_self_test_waits_for_nobody(pair: Database, compare_pair: Compare) -> None:
    """Rows that are locked, and tables that nobody may write to, are no hindrance: it only reads."""
    with connect(pair, autocommit=False, role="writer") as writer:
        writer.execute(f"select from {TWIN} for update")
        writer.execute(f"lock table {TWIN}, {ORIGIN} in exclusive mode")

        assert compare_pair(pair, self_test=True).self_test is True
        writer.rollback()


def test_text_is_the_same_for_the_same_rows(pair: Database, compare_pair: Compare) -> None:
    """Before and after can be diffed: no timing, no snapshot in it."""
    assert compare_pair(pair).text() == compare_pair(pair, workers=3).text()


def test_other_columns_are_refused_by_name(pair: Database, compare_pair: Compare) -> None:
    """Types are never cast silently."""
    run(pair, f"alter table {TWIN} alter price type numeric(12, 2)")

    with pytest.raises(PreconditionError, match=r"price is numeric in the source and numeric\(12,2\)"):
        compare_pair(pair)
