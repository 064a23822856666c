"""Expressions are compared by what the server makes of them, never by a text that changes when it is read back."""

from __future__ import annotations

import pytest

from rehearsal.catalog.definition import as_text
from rehearsal.catalog.readback import Readback
from rehearsal.errors import PreconditionError
from tests.faults.small import Small

TABLE = """
create table public.t (id bigint primary key, at timestamptz not null, v int, status varchar(10),
    g text generated always as (case when status in ('a', 'b') then 'x' else 'y' end) stored);
insert into public.t (id, at, v, status)
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97, 'a' from generate_series(1, 400) as n;
create index on public.t (id) where status in ('a', 'b');
create index on public.t (id) where v between 1 and 5;
create index on public.t (id) where (status)::text = 'a';
create index on public.t (lower(status), coalesce(status, ''));
create index on public.t ((status in ('a', 'b')), id) include (v);
create index on public.t (id) where at > '2026-01-01' and status not in ('x', 'y');
create index on public.t (status collate "C" desc) where not (v > 1 and v < 5);
create unique index on public.t (at, (status in ('c', 'd')), id);
alter table public.t add check (status in ('a', 'b')), add check (status <> all (array['x', 'y']) or v = 3),
    add check (at + interval '1 day 02:00' > '2020-01-01'), alter status set default 'a'::text;
create statistics public.s (dependencies, mcv) on (status in ('a', 'b')), v, (lower(status)) from public.t;
"""
MORE = """
create policy p on public.t using (status in ('a', 'b')) with check (status not in ('x', 'y'));
create function public.f() returns trigger language plpgsql as 'begin return null; end';
create trigger w after update on public.t for each row when (new.status in ('a', 'b')) execute function public.f();
create publication some_rows for table public.t where (v in (1, 2))
    with (publish = 'insert', publish_via_partition_root = true);
"""
# What the remedy of preflight comes to: the same objects, made from their printed texts.
AGAIN = """
do $$ declare line record; begin
    for line in select conname, pg_get_constraintdef(oid) as def from pg_constraint
                where conrelid = 'public.t'::regclass and contype = 'c' loop
        execute format('alter table public.t drop constraint %1$I, add constraint %1$I %2$s', line.conname, line.def);
    end loop;
    for line in select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as def from pg_index
                where indrelid = 'public.t'::regclass and not indisprimary loop
        execute format('drop index %s', line.name);
        execute line.def;
    end loop;
end $$;
"""
TEXTS = {"swap": TABLE + MORE, "dual-write": TABLE, "attach": TABLE + AGAIN}


def expressions_are_carried(small: Small, strategy: str) -> None:
    """There, back and there again no gate says that something is missing or other than it was."""
    small.setup(TEXTS[strategy], strategy=strategy)
    small.switch()
    assert small.unwanted() == [], "after the switch"
    if strategy != "dual-write":
        small.roll_back()
        if strategy == "swap":
            assert small.unwanted() == [], "after the way back"
        small.switch()
        assert small.unwanted() == [], "forward again"


# Reads and makes the target as a swap does.
AS_SWAP = pytest.param("dual-write", marks=pytest.mark.hours)


@pytest.mark.fault("f23")
@pytest.mark.parametrize("strategy", [strategy if strategy != "dual-write" else AS_SWAP for strategy in TEXTS])
def test_expressions_that_read_back_differently_are_no_difference(small: Small, strategy: str) -> None:
    expressions_are_carried(small, strategy)


@pytest.mark.fault("f23", mutant=True)
def test_they_would_be_if_texts_were_compared(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old behaviour: sign by sign."""
    monkeypatch.setattr(Readback, "same", lambda _, *texts: as_text(*texts))
    with pytest.raises((AssertionError, PreconditionError), match=r"nothing valid like|changed since its target"):
        expressions_are_carried(small, "swap")


@pytest.mark.fault("f23")
def test_expressions_that_mean_something_else_are_found(small: Small) -> None:
    """Witness: one value more in a list, another bound, another function; and nothing stays of what was read back."""
    small.setup(TABLE)
    small.switch()
    small.run_sql("""
        alter table public.t drop constraint t_status_check, add check (status in ('a', 'b', 'c'));
        drop index t_id_idx; create index t_id_idx on t (id) where status in ('a', 'c');
        drop index t_id_idx1; create index t_id_idx1 on t (id) where v between 1 and 6;
        alter table t alter status set default 'b';
        drop statistics s; create statistics s (dependencies, mcv) on (status in ('a', 'c')), v, (lower(status)) from t;
    """)
    said = "\n".join(small.unwanted())
    for subject in ("t_id_idx_old", "t_id_idx1_old", "t_status_check", "has default", 'statistics "public"."s"'):
        assert subject in said
    assert 'index "t_id_idx": definition' in said
    assert 'column "status": default' in said
    left = "select count(*) from pg_catalog.pg_class where relname = 'readback'"
    assert small.conn.execute(left).fetchone() == (0,)


@pytest.mark.fault("f23")
@pytest.mark.parametrize("index", [True, False])
def test_attach_refuses_before_anything_what_it_could_not_attach(small: Small, index: bool) -> None:
    """The server itself compares index and check of parent and history by what they are made of."""
    text = "create table public.t (id bigint primary key, at timestamptz not null, status varchar(10));"
    wrong = "create index on t (id) where" if index else "alter table t add constraint t_check check"
    text += f"{wrong} (status in ('a', 'b'))"
    with pytest.raises(AssertionError, match="attach-expression"):
        small.setup(text, strategy="attach")


def test_what_cannot_be_made_stays_the_text_that_it_is(small: Small) -> None:
    """A text over columns that are gone, one that is no expression, a kind that has none."""
    small.setup()
    table = small.context.pair(small.conn, small.plan.tables[0])[0]
    readback = Readback(small.conn, small.files, table)
    for subject, text in (('index "x"', "USING btree (gone)"), ('check "x"', "CHECK (("), ("table", "anything")):
        assert readback.text(subject, "definition", text) == text
    assert not readback.same('index "x"', "definition", None, "USING btree (id)")
    assert readback.same('index "x"', "definition", "USING btree (id) WHERE v in (1,2)",
                         "USING btree (id) WHERE (v = ANY (ARRAY[1, 2]))")  # fmt: skip
