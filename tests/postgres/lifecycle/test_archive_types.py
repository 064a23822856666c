"""Every value comes back as it went: each kind of column in one leaf, proven by the server and looked at by itself."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pyarrow.parquet
import pytest

from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.lifecycle.reading import read_to_archive
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.postgres.lifecycle.archived import FIRST, Shelf
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_retain import YEAR

KINDS = """
create type public.mood as enum ('sad', 'so "so"', 'happy, ok');
create type public.pair as (a int, b text, c numeric);
create domain public.positive as int check (value > 0);
create domain public.moment as timestamptz;
create collation public.german (provider = libc, locale = 'C');
create table public.t (gone int, at timestamptz not null, v int, "Big ""I"".d" bigint, small smallint, flag boolean,
 r real, d double precision, txt text, vc varchar(12), ch char(6), c1 "char", n name, num numeric, money numeric(12,
 2), cash money, day date, plain_day date, ts timestamp, plain_ts timestamp, tz timestamptz, tm time, tmz timetz, iv
 interval, bin bytea, js json, jb jsonb, x xml, uid uuid, ip inet, net cidr, mac macaddr, bits bit(5), vbits bit
 varying, ints int[], texts text[], grid numeric[], moods public.mood[], mood public.mood, pair public.pair, pairs
 public.pair[], dom public.positive, dom_at public.moment, span int4range, spans tstzrange, many int4multirange, pt
 point, poly polygon, tsv tsvector, tsq tsquery, german text collate public.german, o oid, lsn pg_lsn, path jsonpath,
 twice int generated always as (v * 2) stored) partition by range (at);
create table public.t_first partition of public.t for values from ('2026-01-01+00') to ('2026-02-01+00');
"""
VALUES = r"""
insert into public.t (at, v, "Big ""I"".d", small, flag, r, d, txt, vc, ch, c1, n, num, money, cash, day, plain_day,
 ts, plain_ts, tz, tm, tmz, iv, bin, js, jb, x, uid, ip, net, mac, bits, vbits, ints, texts, grid, moods, mood, pair,
 pairs, dom, dom_at, span, spans, many, pt, poly, tsv, tsq, german, o, lsn, path)
values
('2026-01-01 00:00:00.000001+00', 1, 9223372036854775807, -32768, true, '-0', '-0', '', '', '', 'x', 'n"', 'NaN',
 0.10, '-1.5', 'infinity', '0001-01-01', '-infinity', '9999-12-31 23:59:59.999999', 'infinity', '24:00',
 '23:59:59.999999+15:59', '1 year -2 mons 3 days -04:05:06.789', '\x00ff', '{"a":  1,"a": 2}',
 '{"a": [1, null, "\u00e4"]}', '<a>&lt;</a>', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/64', '10.0.0.0/8',
 '08:00:2b:01:02:03', '10101', '1', '{}', '{"",NULL,"NULL","a,b"}', '{{1.0,1.00},{NaN,-0}}', '{sad,"so \"so\""}',
 'happy, ok', '(,"",)', '{"(1,x,1.10)",NULL}', 7, '-infinity', 'empty', '(,infinity)', '{[1,3),[5,)}', '(-0,NaN)',
 '((0,0),(1,1),(1,0))', '''a b'':1A c', 'a & !b', 'ä', 4294967295, 'FFFFFFFF/FFFFFFFF', '$.a'),
 ('2026-01-01 00:00:01+00', 2, -9223372036854775808, 32767, false, 'NaN', 'NaN', E'\\.', 'NULL', 'a', '', '',
 '-Infinity', -0.01, null, '4713-01-01 BC', '9999-12-31', '4713-01-01 00:00 BC', '0001-01-01',
 '294276-12-31 23:59:59.999999+00', '00:00', '00:00-15:59', '-178000000 years', '\x', 'null', 'null', '',
 '00000000-0000-0000-0000-000000000000', '1.2.3.4', '::/0', 'ff:ff:ff:ff:ff:ff', '00000', '', '[0:1]={1,2}', '{}',
 '{}', '{}', 'sad', null, '{}', null, 'infinity', '(,)', 'empty', '{}', '(1e308,-1e-308)', null, '', '',
 E'a\tb\r\nc"d''e\\N,f', 0, '0/0', 'strict $[*]'),
('2026-01-01 00:00:02+00', 3, 0, 0, null, 1.1754944e-38, 5e-324, E'\r', E'\n', null, null, null, 1e-30, null, null,
 null, null, null, null, '0001-01-01+00', null, null, '00:00:00.000001', null, null, '1.10', null, null, null, null,
 null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
 null, null, null, null),
('2026-01-01 00:00:03+00', 4, 1, 1, true, 3.4028235e38, 1.7976931348623157e308, '""', ' ', ' ', '"', '\', 0.1, null,
 null, '1582-10-10', '2026-02-28', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999',
 '1883-11-18 12:03:58+00', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
 null, null, null, null, null, null, null, null, null, null, null, null, null, null, U&'\FEFF\200B\+01F600', null,
 null, null);
insert into public.t (at, v, txt, vc) select '2026-01-01 01:00+00', 5, convert_from('\x01', 'UTF8') || chr(127) ||
 chr(1114111), chr(133);
insert into public.t (at, v, num, txt) select '2026-01-01 02:00+00', 6, ('7' || repeat('9', 130000) || '.' ||
 repeat('3', 16000))::numeric, repeat(E'long "line",\n', 400000);
insert into public.t (at) values ('2026-01-01 03:00+00');
"""

# Whoever changes one value while the file is read back.
MEDDLER = """
create function public.other() returns trigger language plpgsql as $$
begin
    if new.at = '2026-01-01 00:00:00.000001+00' then
        new.<column> := (select <other> from (select new.*) as n);
    end if;
    return new;
end $$;
create function public.meddle() returns event_trigger language plpgsql as $$
begin
    if current_query() like '%lifecycle_proof%' and to_regclass('public.meddled') is null then
        create table public.meddled ();
        execute (select format('create trigger other before insert on rehearsal.%I '
                               'for each row execute function public.other()', relname)
                 from pg_class where relname like 'lifecycle_proof_%');
    end if;
end $$;
create event trigger meddle on ddl_command_end when tag in ('CREATE TABLE') execute function public.meddle()
"""


def kinds_of(conn: Connection) -> str:
    """Return the table as this server can have it: without XML, or from 18 on with a column that is not stored."""
    try:
        conn.execute("select '<a/>'::xml")
        text = KINDS
    except psycopg.errors.FeatureNotSupported:
        text = KINDS.replace("x xml", "x text")
    virtual = "(v * 2) stored, thrice int generated always as (v * 3) virtual)"
    return text.replace("(v * 2) stored)", virtual) if conn.info.server_version >= 180000 else text


@pytest.fixture
def shelf(kept: Kept, tmp_path: Path) -> Shelf:
    """A table of all kinds, with a dropped column, and its first leaf held."""
    text = kinds_of(kept.conn) + YEAR[YEAR.index("create table public.t_m2") :]
    shelf = Shelf(kept, tmp_path)
    kept.setup(text + "alter table public.t drop column gone;")
    kept.run_sql(VALUES)
    kept.run_sql("insert into public.t (at, v) select '2026-02-10+00'::timestamptz + n * interval '1 month', n "
                 "from generate_series(0, 5) as n")  # fmt: skip
    kept.pass_to(kept.now.replace(month=7))
    kept.adopt(retention="3 months", archive=True)
    kept.retain()
    return shelf


def test_every_kind_comes_back_as_it_went(shelf: Shelf) -> None:
    """Archived, dropped, restored and attached: the same text of every value, and of what only bits tell apart."""
    conn = shelf.kept.conn
    rows = as_query("select t::text, float4send(r), float8send(d), bin, jb, twice from public.t_first as t order by at")
    before = conn.execute(rows).fetchall()
    assert len(before) == 7
    assert shelf.archive() == 3
    forms = {column.name: column.form for column in shelf.read().columns}
    assert "gone" not in forms
    assert (forms["day"], forms["plain_day"], forms["ts"], forms["plain_ts"]) == (
        "string",
        "date32",
        "string",
        "moment",
    )
    assert (forms["at"], forms["tz"], forms["dom_at"]) == ("moment_utc", "string", "string")
    assert (forms["num"], forms["dom"], forms["r"]) == ("string", "int32", "float")
    assert len(shelf.drop()) == 3
    assert shelf.restorer(shelf.manifest()).restore(attach=True), shelf.kept.told[-1].failure
    assert conn.execute(rows).fetchall() == before
    assert scalar(conn, "select count(*) from public.t where at < '2026-02-01+00'") == 7


def test_others_read_the_file(shelf: Shelf) -> None:
    """NULL and the empty text are two things, numbers are numbers, and moments are moments in UTC."""
    shelf.archive()
    found = pyarrow.parquet.read_table(shelf.manifest(FIRST).with_suffix(".parquet"))
    assert found.column("txt").to_pylist()[:4] == ["", "\\.", "\r", '""']
    assert found.column("txt").to_pylist()[-1] is None
    assert found.column('Big "I".d').to_pylist()[0] == 2**63 - 1
    assert str(found.column("at").to_pylist()[0]) == "2026-01-01 00:00:00.000001+00:00"
    assert found.column("twice").to_pylist()[:2] == [2, 4]
    assert str(found.column("r").to_pylist()[0]) == "-0.0"


@pytest.mark.parametrize("column", ["v", "txt", "d", "jb", "pairs", "day", "bin"])
def test_mutant_a_value_that_is_read_back_otherwise(shelf: Shelf, column: str) -> None:
    """The witness: the comparison sees one value of one row that differs, in any kind of column."""
    other = {
        "v": "v + 1",
        "txt": "txt || ' '",
        "d": "0",
        "jb": "'1.1'",
        "pairs": "'{NULL}'",
        "day": "null",
        "bin": "null",
    }
    shelf.kept.run_sql(MEDDLER.replace("<column>", column).replace("<other>", other[column]))
    with pytest.raises(Exception, match="is not proven"):
        shelf.archive()
    assert scalar(shelf.kept.conn, "select to_regclass('public.meddled') is not null")
    shelf.kept.run_sql("drop event trigger meddle")
    assert shelf.archive() == 3


INSIDE = {
    "xml[]": "",
    "public.doc": "create type public.doc as (a int, x xml);",
    "public.docs": "create type public.doc as (a int, x xml[]); create domain public.docs as public.doc[];",
}


@pytest.mark.parametrize("kind", INSIDE)
def test_xml_inside_a_value_is_refused_before_the_leaf_is_closed(kept: Kept, tmp_path: Path, kind: str) -> None:
    """By the column's name: the server itself does not see there what gets lost."""
    shelf = Shelf(kept, tmp_path)
    shelf.hold(INSIDE[kind] + YEAR + f"alter table public.t add column odd {kind}, add column plain xml;")
    act = read_to_archive(kept.conn, kept.policy.oid)[0]
    with pytest.raises(PreconditionError, match="is not archived: odd has xml inside"):
        shelf.archiver.archive(act)
    assert len(shelf.waiting()) == 3
    kept.run_sql("update public.t_first set v = v")
    assert shelf.drop() == []


def test_xml_that_reads_back_as_another_is_not_proven(kept: Kept, tmp_path: Path) -> None:
    """And writers are not the only ones who are blamed."""
    shelf = Shelf(kept, tmp_path)
    shelf.hold(YEAR + "alter table public.t add column x xml;")
    try:
        kept.run_sql("""update public.t_first set x = '<?xml version="1.0" encoding="UTF-8"?><a/>'""")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server is built without XML")
    with pytest.raises(StepFailed, match="XML declaration"):
        shelf.archive()
    assert list(tmp_path.iterdir()) == []
