"""Readings: store, correct and remove what the sensors measured.

The table keeps its name through a swap, so nothing here is routed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from psycopg import sql
from pydantic import AwareDatetime, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from example_app.web import Answer, Body, database_of, found, parse

Id = Annotated[int, Field(ge=1, lt=2**63)]
Share = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2)]
Degrees = Annotated[Decimal, Field(gt=-273, lt=999, decimal_places=2)]


class Reading(Body):
    """A new reading."""

    unit_id: Id
    device_id: Id
    temperature: Degrees
    humidity: Share | None = None
    battery: int | None = Field(default=None, ge=0, le=100)
    signal_strength: int | None = Field(default=None, ge=-200, le=100)
    recorded_at: AwareDatetime
    source: str = Field(default="device", max_length=200)


class Correction(Body):
    """What may change in a reading; a new `recorded_at` moves it to another partition."""

    temperature: Degrees | None = None
    source: str | None = Field(default=None, max_length=200)
    recorded_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _something(self) -> Correction:
        if self.temperature is None and self.source is None and self.recorded_at is None:
            raise ValueError("give temperature, source or recordedAt")
        return self


INGEST = sql.SQL("""
insert into public.sensor_readings
       (unit_id, device_id, temperature, humidity, battery, signal_strength, recorded_at, source)
select u.id, d.id, %(temperature)s, %(humidity)s, %(battery)s, %(signal_strength)s, %(recorded_at)s, %(source)s
from public.units as u
join public.devices as d on d.id = %(device_id)s
where u.id = %(unit_id)s
returning id, recorded_at as "recordedAt"
""")
CORRECT = sql.SQL("""
update public.sensor_readings
set temperature = coalesce(%(temperature)s, temperature), source = coalesce(%(source)s, source),
    recorded_at = coalesce(%(recorded_at)s, recorded_at)
where id = %(id)s
returning id, temperature, source, recorded_at as "recordedAt"
""")
REMOVE = sql.SQL("delete from public.sensor_readings where id = %(id)s returning id")


async def ingest(request: Request) -> Response:
    """Store a reading."""
    body = await parse(request, Reading)
    row = await database_of(request).one(INGEST, **body.model_dump())
    return Answer(found(row, f"unit {body.unit_id} or device {body.device_id}"))


async def correct(request: Request) -> Response:
    """Correct a reading."""
    body, number = await parse(request, Correction), request.path_params["id"]
    row = await database_of(request).one(CORRECT, id=number, **body.model_dump())
    return Answer(found(row, f"reading {number}"))


async def remove(request: Request) -> Response:
    """Remove a reading."""
    number = request.path_params["id"]
    return Answer(found(await database_of(request).one(REMOVE, id=number), f"reading {number}") | {"deleted": True})


ROUTES = [
    Route("/trpc/readings.ingest", ingest, methods=["POST"]),
    Route("/trpc/readings/{id:int}", correct, methods=["PATCH"]),
    Route("/trpc/readings/{id:int}", remove, methods=["DELETE"]),
]
