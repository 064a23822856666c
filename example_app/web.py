"""What every endpoint shares: JSON in and out, refusals, one log line a request."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from example_app.database import Database

access_log = logging.getLogger("app.access")
error_log = logging.getLogger("app.error")


class Body(BaseModel):
    """The body of a request; names are camelCase on the wire, and an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


Parsed = TypeVar("Parsed", bound=Body)


class Answer(JSONResponse):
    """JSON that knows times and exact numbers."""

    def render(self, content: Any) -> bytes:
        """Turn the content into bytes."""
        return json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def database_of(request: Request) -> Database:
    """Return the database of the app that serves the request."""
    database: Database = request.app.state.database
    return database


async def parse(request: Request, model: type[Parsed]) -> Parsed:
    """Read the body of a POST or PATCH, the query of a GET (plain parameters, or `input` as JSON).

    Raises:
        HTTPException: 400, naming the parameter at fault.
    """
    try:
        return model.model_validate(await _values(request))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise HTTPException(400, f"{where}: {first['msg'].removeprefix('Value error, ')}") from exc


async def _values(request: Request) -> Any:
    query = dict(request.query_params)
    if request.method == "GET" and "input" not in query:
        return query
    try:
        return json.loads(query["input"] if request.method == "GET" else await request.body())
    except ValueError as exc:
        raise HTTPException(400, "body: not valid JSON") from exc


def found(value: dict[str, Any] | None, what: str) -> dict[str, Any]:
    """Return the row, or answer 404 with what was looked for."""
    if value is None:
        raise HTTPException(404, f"no {what}")
    return value


async def refused(_request: Request, exc: Exception) -> Response:
    """Answer a refusal as JSON."""
    status, reason = (exc.status_code, exc.detail) if isinstance(exc, HTTPException) else (500, "internal error")
    return Answer({"error": reason}, status_code=status)


class OneLine:
    """Middleware: one log line a request, and a traceback for each error that no endpoint expected."""

    def __init__(self, app: ASGIApp, server: str) -> None:
        """Wrap `app`; `server` stands on each line."""
        self.app = app
        self.server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:  # noqa: BLE001 -- the last resort of a server: logged whole, answered 500
            error_log.exception("%s %s failed", scope["method"], scope["path"])
            if not status:
                await Answer({"error": "internal error"}, status_code=500)(scope, receive, watch)
        finally:
            took_ms = (time.perf_counter() - started) * 1e3
            access_log.info("%s %s %s %.1f ms %s", scope["method"], scope["path"], status, took_ms, self.server)
