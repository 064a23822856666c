"""Reports: a property's day, and its cash balance.

Reads and writes go to the plain or to the partitioned tables, as the process was told at start.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from psycopg import sql
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from example_app.web import Answer, Body, database_of, found, parse

Id = Annotated[int, Field(ge=1, lt=2**63)]


class Day(Body):
    """A property and a day; today if none is given."""

    property_id: Id
    day: date = Field(default_factory=lambda: datetime.now(UTC).date(), alias="date")


REPORT = sql.SQL("""
select p.id as "propertyId", %(day)s::date as date, r.count as "revenueCount", r.cents as "revenueCents",
       e.count as "expenseCount", e.cents as "expenseCents", r.cents - e.cents as "netCents",
       b.closing_cents as "closingCents"
from public.properties as p
cross join lateral (
    select count(*) as count, coalesce(sum(amount_cents), 0)::bigint as cents from {revenues}
    where property_id = p.id and occurred_at >= %(day)s::date and occurred_at < %(day)s::date + 1
) as r
cross join lateral (
    select count(*) as count, coalesce(sum(amount_cents), 0)::bigint as cents from {expenses}
    where property_id = p.id and occurred_at >= %(day)s::date and occurred_at < %(day)s::date + 1
) as e
left join {balances} as b on b.property_id = p.id and b.balance_date = %(day)s::date
where p.id = %(property_id)s
""")


async def report(request: Request) -> Response:
    """Report the revenues, expenses and cash of one property on one day."""
    body = await parse(request, Day)
    database = database_of(request)
    query = REPORT.format(
        revenues=database.read_table("revenues"),
        expenses=database.read_table("expenses"),
        balances=database.read_table("daily_cash_balances"),
    )
    return Answer(found(await database.one(query, **body.model_dump()), f"property {body.property_id}"))


REFRESH = sql.SQL("""
insert into {balances} as b
       (org_id, property_id, balance_date, opening_cents, cash_in_cents, cash_out_cents, closing_cents)
select p.org_id, p.id, %(day)s::date, o.cents, i.cents, x.cents, o.cents + i.cents - x.cents
from public.properties as p
cross join lateral (
    select coalesce((select closing_cents from {balances_read}
                     where property_id = p.id and balance_date = %(day)s::date - 1), 0) as cents
) as o
cross join lateral (
    select coalesce(sum(amount_cents), 0)::bigint as cents from {revenues}
    where property_id = p.id and payment_mode = 'cash' and occurred_at >= %(day)s::date
          and occurred_at < %(day)s::date + 1
) as i
cross join lateral (
    select coalesce(sum(amount_cents), 0)::bigint as cents from {expenses}
    where property_id = p.id and payment_mode = 'cash' and occurred_at >= %(day)s::date
          and occurred_at < %(day)s::date + 1
) as x
where p.id = %(property_id)s
on conflict (property_id, balance_date) do update
set opening_cents = excluded.opening_cents, cash_in_cents = excluded.cash_in_cents,
    cash_out_cents = excluded.cash_out_cents, closing_cents = excluded.closing_cents, updated_at = now()
returning b.id, b.property_id as "propertyId", b.balance_date as date, b.opening_cents as "openingCents",
          b.closing_cents as "closingCents"
""")


async def refresh(request: Request) -> Response:
    """Work out the cash balance of a day anew; inserts it or replaces what was there."""
    body = await parse(request, Day)
    database = database_of(request)
    query = REFRESH.format(
        balances=database.write_table("daily_cash_balances"),
        balances_read=database.read_table("daily_cash_balances"),
        revenues=database.read_table("revenues"),
        expenses=database.read_table("expenses"),
    )
    return Answer(found(await database.one(query, **body.model_dump()), f"property {body.property_id}"))


ROUTES = [
    Route("/reports/daily", report),
    Route("/finance/daily-cash-balance/refresh", refresh, methods=["POST"]),
]
