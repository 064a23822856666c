"""Finance: record, approve, change and remove revenues and expenses.

Writes go to the plain or to the partitioned tables, as the process was told at start.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from psycopg import sql
from pydantic import AwareDatetime, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from example_app.web import Answer, Body, database_of, found, parse

Kind = Literal["revenue", "expense"]
TABLES: dict[str, str] = {"revenue": "revenues", "expense": "expenses"}
Id = Annotated[int, Field(ge=1, lt=2**63)]


class Transaction(Body):
    """A new revenue or expense."""

    property_id: Id
    amount: Decimal = Field(ge=0, max_digits=14, decimal_places=2)
    description: str = Field(default="", max_length=1000)
    payment_mode: Literal["cash", "bank", "card", "online"] = "cash"
    occurred_at: AwareDatetime
    user_id: Id = 1


class Change(Body):
    """What may change in a transaction; a new `occurred_at` moves it to another partition."""

    description: str | None = Field(default=None, max_length=1000)
    occurred_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _something(self) -> Change:
        if self.description is None and self.occurred_at is None:
            raise ValueError("give description or occurredAt")
        return self


class Approval(Body):
    """Which transaction is approved."""

    transaction_id: Id
    type: Kind


CREATE = sql.SQL("""
insert into {table} (org_id, property_id, amount_cents, occurred_at, description, payment_mode, created_by_user_id)
select p.org_id, p.id, %(amount_cents)s, %(occurred_at)s, %(description)s, %(payment_mode)s, u.id
from public.properties as p
join public.users as u on u.id = %(user_id)s
where p.id = %(property_id)s
returning id, occurred_at as "occurredAt", status
""")


async def create(request: Request) -> Response:
    """Record a transaction."""
    body = await parse(request, Transaction)
    values = body.model_dump(exclude={"amount"}) | {"amount_cents": int(body.amount * 100)}
    database = database_of(request)
    row = await database.one(CREATE.format(table=database.write_table(_table(request))), **values)
    return Answer(found(row, f"property {body.property_id} or user {body.user_id}"))


CHANGE = sql.SQL("""
update {table}
set description = coalesce(%(description)s, description), occurred_at = coalesce(%(occurred_at)s, occurred_at),
    updated_at = now()
where id = %(id)s
returning id, occurred_at as "occurredAt", description, status
""")


async def change(request: Request) -> Response:
    """Change the text or the time of a transaction."""
    body = await parse(request, Change)
    database, number = database_of(request), request.path_params["id"]
    row = await database.one(CHANGE.format(table=database.write_table(_table(request))), id=number, **body.model_dump())
    return Answer(found(row, f"{request.path_params['kind']} {number}"))


DELETE = sql.SQL("delete from {table} where id = %(id)s returning id")


async def delete(request: Request) -> Response:
    """Remove a transaction."""
    database, number = database_of(request), request.path_params["id"]
    row = await database.one(DELETE.format(table=database.write_table(_table(request))), id=number)
    return Answer(found(row, f"{request.path_params['kind']} {number}") | {"deleted": True})


APPROVE = sql.SQL("""
update {table} set status = 'approved', updated_at = now() where id = %(id)s returning id, status
""")


async def approve(request: Request) -> Response:
    """Approve a transaction; approving it again changes nothing that is seen."""
    body = await parse(request, Approval)
    database = database_of(request)
    row = await database.one(APPROVE.format(table=database.write_table(TABLES[body.type])), id=body.transaction_id)
    return Answer(found(row, f"{body.type} {body.transaction_id}") | {"type": body.type})


def _table(request: Request) -> str:
    kind = request.path_params["kind"]
    if kind not in TABLES:
        raise HTTPException(404, f"no kind of transaction {kind}")
    return TABLES[kind]


ROUTES = [
    Route("/finance/approve", approve, methods=["POST"]),
    Route("/finance/{kind}", create, methods=["POST"]),
    Route("/finance/{kind}/{id:int}", change, methods=["PATCH"]),
    Route("/finance/{kind}/{id:int}", delete, methods=["DELETE"]),
]
