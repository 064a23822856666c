"""The service as a whole: routes, health, the page, and what happens at start and stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from example_app import finance, readings, reports, telemetry
from example_app.database import Database
from example_app.settings import Settings, routing_name
from example_app.web import Answer, OneLine, database_of, refused

log = logging.getLogger("app")
STATIC = Path(__file__).parent / "static"


def make_service(settings: Settings) -> Starlette:
    """Make the service; it opens its pool when it starts, and serves while the database is away."""

    @asynccontextmanager
    async def lifespan(service: Starlette) -> AsyncIterator[None]:
        database = Database(settings)
        await database.pool.open(wait=False)
        service.state.database = database
        service.state.settings = settings
        log.info("%s serves: %s", settings.server_name, _routing(settings))
        yield
        await database.pool.close(timeout=1)
        log.info("%s stops", settings.server_name)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/", to_dashboard),
            Route("/dashboard", dashboard),
            Mount("/static", StaticFiles(directory=STATIC)),
            *reports.ROUTES,
            *finance.ROUTES,
            *telemetry.ROUTES,
            *readings.ROUTES,
        ],
        middleware=[Middleware(OneLine, server=settings.server_name)],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )


def _routing(settings: Settings) -> dict[str, str]:
    return {"reads": routing_name(settings.reads_partitioned), "writes": routing_name(settings.writes_partitioned)}


async def health(request: Request) -> Response:
    """Say whether the database answers, and which tables this server reads and writes."""
    settings: Settings = request.app.state.settings
    about = {"server": settings.server_name, "routing": _routing(settings)}
    if not await database_of(request).answers():
        log.warning("the database does not answer")
        return Answer({"status": "database does not answer"} | about, status_code=503)
    return Answer({"status": "ok"} | about)


async def dashboard(_request: Request) -> Response:
    """Serve the page that draws the temperatures of a unit."""
    return FileResponse(STATIC / "dashboard.html", media_type="text/html")


async def to_dashboard(_request: Request) -> Response:
    """Send a visitor of the root to the page."""
    return RedirectResponse("/dashboard?unit=1")
