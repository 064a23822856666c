"""Telemetry: readings of a unit, statistics over them, alerts.

The table keeps its name through a swap, so nothing here is routed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from psycopg import sql
from pydantic import AwareDatetime, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from example_app.web import Answer, Body, database_of, found, parse

Id = Annotated[int, Field(ge=1, lt=2**63)]
BUCKETS = {"hour": timedelta(days=7), "day": timedelta(days=30), "month": timedelta(days=365)}


class Recent(Body):
    """The newest readings of a unit."""

    unit_id: Id
    limit: int = Field(default=100, ge=1, le=1000)


class Range(Body):
    """The readings of a unit from a time on, up to and without another; the last 7 days if none is given."""

    unit_id: Id
    from_: AwareDatetime | None = Field(default=None, alias="from")
    to: AwareDatetime | None = None

    def bounds(self, width: timedelta = timedelta(days=7)) -> dict[str, datetime]:
        """Return the range, its open ends filled in."""
        upper = self.to or datetime.now(UTC)
        return {"lower": self.from_ or upper - width, "upper": upper}


class Aggregate(Range):
    """Statistics of a unit, one row a bucket."""

    bucket: Literal["hour", "day", "month"] = "day"


class Unit(Body):
    """Which unit is meant."""

    unit_id: Id


UNIT = sql.SQL("""
select id as "unitId", name, min_temperature as "minTemperature", max_temperature as "maxTemperature"
from public.units where id = %(unit_id)s
""")
COLUMNS = sql.SQL("""id, device_id as "deviceId", temperature, humidity, battery,
       signal_strength as "signalStrength", recorded_at as "recordedAt" """)
RECENT = sql.SQL("""
select {columns} from public.sensor_readings
where unit_id = %(unit_id)s
order by recorded_at desc limit %(limit)s
""").format(columns=COLUMNS)
BY_UNIT = sql.SQL("""
select {columns} from public.sensor_readings
where unit_id = %(unit_id)s and recorded_at >= %(lower)s and recorded_at < %(upper)s
order by recorded_at
""").format(columns=COLUMNS)
AGGREGATE = sql.SQL("""
select date_trunc(%(bucket)s, recorded_at) as bucket, count(*) as readings, min(temperature) as "minTemperature",
       round(avg(temperature), 2) as "avgTemperature", max(temperature) as "maxTemperature",
       round(avg(humidity), 2) as "avgHumidity"
from public.sensor_readings
where unit_id = %(unit_id)s and recorded_at >= %(lower)s and recorded_at < %(upper)s
group by 1 order by 1
""")
# One pass over the last day of one unit; a rule that matched nothing gives no row.
ALERTS = sql.SQL("""
with last_day as materialized (
    select r.temperature, r.battery, r.signal_strength, r.recorded_at, u.min_temperature, u.max_temperature
    from public.sensor_readings as r
    join public.units as u on u.id = r.unit_id
    where r.unit_id = %(unit_id)s and r.recorded_at >= now() - interval '1 day' and r.recorded_at <= now()
)
select 'too_warm' as rule, 'critical' as severity, count(*) as readings, max(recorded_at) as "lastAt"
from last_day where temperature > max_temperature having count(*) > 0
union all
select 'too_cold', 'critical', count(*), max(recorded_at)
from last_day where temperature < min_temperature having count(*) > 0
union all
select 'battery_low', 'warning', count(*), max(recorded_at) from last_day where battery < 15 having count(*) > 0
union all
select 'signal_weak', 'warning', count(*), max(recorded_at)
from last_day where signal_strength < -110 having count(*) > 0
union all
select 'silent', 'warning', 0, null from last_day having count(*) = 0
""")


async def _unit(request: Request, number: int) -> dict[str, Any]:
    return found(await database_of(request).one(UNIT, unit_id=number), f"unit {number}")


async def recent(request: Request) -> Response:
    """Answer the newest readings of a unit."""
    body = await parse(request, Recent)
    unit = await _unit(request, body.unit_id)
    return Answer(unit | {"readings": await database_of(request).all(RECENT, **body.model_dump())})


async def by_unit(request: Request) -> Response:
    """Answer the readings of a unit in a range of time."""
    body = await parse(request, Range)
    unit, bounds = await _unit(request, body.unit_id), body.bounds()
    return Answer(unit | {"readings": await database_of(request).all(BY_UNIT, unit_id=body.unit_id, **bounds)})


async def aggregate(request: Request) -> Response:
    """Answer statistics of a unit by hour, day or month."""
    body = await parse(request, Aggregate)
    unit, bounds = await _unit(request, body.unit_id), body.bounds(BUCKETS[body.bucket])
    rows = await database_of(request).all(AGGREGATE, unit_id=body.unit_id, bucket=body.bucket, **bounds)
    return Answer(unit | {"bucket": body.bucket, "buckets": rows})


async def evaluate(request: Request) -> Response:
    """Evaluate the alert rules on the last day of a unit."""
    body = await parse(request, Unit)
    unit = await _unit(request, body.unit_id)
    return Answer(unit | {"alerts": await database_of(request).all(ALERTS, unit_id=body.unit_id)})


ROUTES = [
    Route("/trpc/readings.recent", recent, methods=["GET", "POST"]),
    Route("/trpc/readings.byUnit", by_unit, methods=["GET", "POST"]),
    Route("/trpc/readings.aggregate", aggregate, methods=["GET", "POST"]),
    Route("/trpc/alerts.evaluate", evaluate, methods=["GET", "POST"]),
]
