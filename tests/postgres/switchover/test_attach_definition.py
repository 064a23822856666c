"""Everything that a table is, with strategy attach: carried to the parent, and the same again after the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal.catalog.definition import read_definition
from rehearsal.catalog.tables import Catalog
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.definition import find_leftovers
from rehearsal.switchover.strategies.registry import strategy_of
from tests.fix_tables import Prepared, deploy, make_switchover

R = "public.rich"
SETUP = f"""
create role attach_reader;
create table public.shops (id int primary key);
insert into public.shops values (1);
create table {R} (
    id bigserial primary key, at timestamptz not null default now(), shop int not null, body text, gone int,
    constraint positive check (shop > 0), constraint once unique (shop, at),
    constraint of_shop foreign key (shop) references public.shops (id) on delete cascade
);
alter table {R} drop gone;
create index by_time on {R} using brin (at) with (pages_per_range = 8);
create index "By Body" on {R} (lower(body) desc nulls last) include (shop) where shop > 1;
create statistics public.shop_body (dependencies) on shop, body from {R};
alter table {R} alter body set statistics 77;
alter table {R} alter body set storage external;
alter table {R} set (fillfactor = 70);
alter index public."By Body" alter column 1 set statistics 55;
comment on table {R} is 'the table';
comment on column {R}.body is 'a column';
comment on index public.by_time is 'an index';
comment on index public.rich_pkey is 'index of the key';
comment on constraint rich_pkey on {R} is 'the key';
comment on constraint once on {R} is 'a unique constraint';
comment on constraint positive on {R} is 'a check';
comment on constraint of_shop on {R} is 'a foreign key';
comment on statistics public.shop_body is 'statistics';
grant select on {R} to attach_reader;
grant update (shop) on {R} to attach_reader;
grant usage on sequence public.rich_id_seq to attach_reader;
insert into {R} (shop, at) select 1, now() - n * interval '1 minute' from generate_series(1, 100) as n;
analyze {R};
"""


@pytest.fixture
def plan(conn: Connection) -> Iterator[Plan]:
    """The plan of a table that has something of everything."""
    conn.execute(SETUP.encode())
    yield Plan.model_validate({"name": "rich", "strategy": "attach", "tables": [{"name": R, "key": "at"}]})
    conn.execute("drop owned by attach_reader; drop role attach_reader")


def test_nothing_is_lost_there_and_back_and_there_again(
    database: Database, conn: Connection, sql_files: SqlFiles, plan: Plan, run: Run
) -> None:
    """Two rounds: after each cut-over every difference is wanted, after each way back there is none."""
    assert [finding.id for finding in run_preflight(conn, sql_files, plan) if finding.severity == "blocker"] == []
    deploy(conn, sql_files, plan)
    spec, catalog = plan.tables[0], Catalog(conn, sql_files)
    before = read_definition(conn, sql_files, catalog.read(("public", "rich")))
    work = make_switchover(database, sql_files, plan, run)

    for _ in range(2):
        work.prepare()
        work.switch()
        found = strategy_of(plan).differences(conn, sql_files, plan, spec)
        assert [difference.id for difference in found if difference.reason is None] == []
        assert {difference.subject for difference in found} == {"table", 'index "rich_pkey"', 'primary key "rich_pkey"'}
        # Rows outside history, so that the way back has something to bring.
        conn.execute(
            f"insert into {R} (shop, at) values (1, now() + interval '40 days'), (1, now() + interval '80 days')"
        )

        work.roll_back()
        assert find_leftovers(conn, sql_files, spec) == []
        assert read_definition(conn, sql_files, catalog.read(("public", "rich"))) == before
    assert scalar(conn, "select count(*) from public.rich") == 104


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("comment on index public.by_time is null", 'index "by_time": comment: an index -> none'),
        (f"revoke select on {R} from attach_reader", "grant to attach_reader: select: granted -> none"),
        ("drop statistics public.shop_body", 'statistics "public"."shop_body": missing after'),
        (f"alter table {R} drop constraint of_shop", 'foreign key "of_shop": missing after'),
        (f"alter table {R} alter at drop default", 'column "at": default: now() -> none'),
    ],
    ids=lambda value: value[:20],
)
def test_what_the_parent_lacks_is_named(
    conn: Connection, sql_files: SqlFiles, plan: Plan, defect: str, said: str, prepared: Prepared
) -> None:
    """A parent that lost something is no longer what the table was; the difference is named, and nobody wants it."""
    work = prepared(plan)
    work.switch()
    conn.execute(defect.encode())

    unwanted = [
        difference.id
        for difference in strategy_of(plan).differences(conn, sql_files, plan, plan.tables[0])
        if difference.reason is None
    ]
    assert said in unwanted, unwanted
