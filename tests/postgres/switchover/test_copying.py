"""Chunks of the copy: their size follows bytes and time, and their ledger stays whole whatever is split or fails."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Name, split_name
from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.evidence.events import Progress
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.copy.chunks import SHORTEST
from tests.fix_postgres import burning
from tests.fix_tables import EVENTS, deploy, difference, make_plan, make_switchover, names_of

# Random text is not compressed, so its length is what it takes; the wide rows are the newest ones.
WIDE = """
create table public.papers (id int primary key, at timestamptz not null, body text);
alter table public.papers alter body set storage external;
insert into public.papers select n, '2026-01-01'::timestamptz + n * interval '1 minute', 'x'
from generate_series(1, 3000) as n;
insert into public.papers select n, '2026-01-01'::timestamptz + n * interval '1 minute', repeat('x', 200000)
from generate_series(3001, 3100) as n;
analyze public.papers;
"""
GAPS = """
select count(*) from (
    select lower_block, lag(upper_block, 1, 0::bigint) over (order by lower_block) as before from rehearsal.chunk
) as one where lower_block <> before
"""
# A chunk of more rows than this never ends by itself, a smaller one is as quick as any: no test of a clock.
SLOW = """
create function public.slow() returns trigger language plpgsql as $$
declare
    seen int := coalesce(nullif(current_setting('test.seen', true), ''), '0')::int + 1;
begin
    perform set_config('test.seen', seen::text, true);
    if seen > {most} then
        perform pg_catalog.pg_sleep(600);
    end if;
    return new;
end $$;
create trigger slow before insert on public."We""ird Events_partitioned" for each row execute function public.slow();
"""

# The trigger above is the test's own; a migration looks at both definitions before it copies.
ACCEPTED = [{"name": EVENTS, "key": "Created At", "accepted": ['trigger "slow": only there after']}]


def ledger(conn: Connection) -> list[tuple[int, int, int, int]]:
    """Return blocks, rows and bytes of each chunk that is done."""
    query = (
        "select lower_block, upper_block, rows, bytes from rehearsal.chunk where done_at is not null order by number"
    )
    return conn.execute(as_query(query)).fetchall()


def test_wide_rows_make_small_chunks(database: Database, conn: Connection, sql_files: SqlFiles, run: Run) -> None:
    """A hundred rows of 200 kB stand in two blocks; a chunk has as many blocks as its bytes allow, one at least."""
    conn.execute(as_query(WIDE))
    table = {"name": "public.papers", "key": "at"}
    copy = {"chunk_mb": 1, "chunk_rows": 2000}
    plan = Plan.model_validate({"name": "papers", "strategy": "swap", "tables": [table], "copy": copy})
    deploy(conn, sql_files, plan)

    make_switchover(database, sql_files, plan, run).prepare()

    done = ledger(conn)
    assert all(bytes_ <= 1 << 20 or upper - lower == 1 for lower, upper, _, bytes_ in done), done
    assert max(bytes_ for *_, bytes_ in done) > 1 << 20, "no block was ever too wide: nothing was tested"
    assert sum(rows for _, _, rows, _ in done) == 3100
    assert scalar(conn, as_query(GAPS)) == 0
    assert scalar(conn, "select count(*) from public.papers_partitioned where length(body) = 200000") == 100


@pytest.mark.parametrize("shared", [True, False])
def test_chunks_are_short_while_others_are_at_work(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, shared: bool
) -> None:
    """The first chunk for others is a few blocks, whatever is planned; alone, each is as large as it was planned."""
    plan = make_plan("swap", copy={"chunk_rows": 50_000, "workers": 1}, pace={"mode": "gentle" if shared else "full"})
    deploy(conn, sql_files, plan)
    with burning(database):
        make_switchover(database, sql_files, plan, run).prepare()

    blocks = [upper - lower for lower, upper, *_ in ledger(conn)]
    total = sum(blocks)
    assert total > SHORTEST, "the table is no larger than a short chunk"
    assert blocks[0] == (SHORTEST if shared else total), blocks
    assert scalar(conn, as_query(GAPS)) == 0
    assert difference(conn, events, names_of(events).target) == (0, 0)


def test_chunk_that_times_out_is_tried_again_at_half(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """Chunks of more than 300 rows time out: the first ones fail, smaller ones pass, and no row is missing."""
    copy = {"chunk_rows": 2000, "chunk_timeout_s": 1}
    plan = make_plan("swap", copy=copy, tables=ACCEPTED)
    deploy(conn, sql_files, plan)
    conn.execute(as_query(SLOW.format(most=300)))

    make_switchover(database, sql_files, plan, run).prepare()

    assert len(ledger(conn)) > 4, "two or three were planned: none was split, so nothing was tested"
    assert scalar(conn, as_query(GAPS)) == 0
    assert difference(conn, events, names_of(events).target) == (0, 0)


def test_copy_gives_up_by_name_and_the_next_run_goes_on(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """What was copied is kept; once the reason is gone, the rest follows."""
    copy = {"chunk_rows": 300, "chunk_timeout_s": 0.2, "chunk_attempts": 2, "workers": 1}
    plan = make_plan("swap", copy=copy, tables=ACCEPTED)
    deploy(conn, sql_files, plan)
    conn.execute(as_query(SLOW.format(most=0)))
    work = make_switchover(database, sql_files, plan, run)

    with pytest.raises(StepFailed, match=r"failed 2 times in a row.*copy\.chunk_timeout_s"):
        work.prepare()
    assert scalar(conn, "select count(*) from rehearsal.chunk where done_at is null") > 0
    conn.execute(as_query('drop trigger slow on public."We""ird Events_partitioned"'))

    assert work.prepare()
    assert difference(conn, events, names_of(events).target) == (0, 0)


def test_progress_ends_at_the_rows_there_are(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """Splits change the number of chunks, never what is told of rows: the last line says all of them."""
    plan = make_plan("swap", copy={"chunk_rows": 2000, "chunk_s": 0.001})
    deploy(conn, sql_files, plan)

    make_switchover(database, sql_files, plan, run).prepare()

    told = [event.what for event in run.events() if isinstance(event.what, Progress) and "copy" in event.what.what]
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert (told[-1].done, told[-1].total) == (4000, 4000)
    assert len(told) < len(ledger(conn)), "one in a while is recorded, not each chunk"
    assert split_name(plan.tables[0].name) == events
