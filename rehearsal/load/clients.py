"""How one operation is sent, by SQL or by HTTP, and what its end proves.

`failed` means that it certainly changed nothing, `ok` that it was acknowledged; anything else is `unknown`. Must not
know schedules or subjects.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import httpx
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from rehearsal.load.config import Server
from rehearsal.load.ledger import Outcome
from rehearsal.plan.model import Operation
from rehearsal.postgres.connection import as_application
from rehearsal.postgres.sqlfiles import as_query

Announce = Callable[[str], None]
_PLACEHOLDER = re.compile(r"\{(id|key|old_key|marker|subject)\}")
_NOT_FOUND = 404
_GREETING_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """How an operation ended. `missing`: it was accepted, but the row it was for was not there."""

    outcome: Outcome
    code: str | None = None
    error: str | None = None
    rows: int | None = None
    id: int | str | None = None
    missing: bool = False


# The load's own limit, unless the application's is shorter; and no statement outlives a killed generator.
LIMITS = """
select pg_catalog.set_config('client_connection_check_interval', '500', false),
       (select pg_catalog.set_config(name, %(ms)s, false) from pg_catalog.pg_settings
        where name = 'statement_timeout' and (setting = '0' or setting::bigint > %(ms)s::bigint))
"""


class SqlClient:
    """One session of the load, with the defaults of the application's role; connects anew after it was lost."""

    def __init__(self, conninfo: Mapping[str, Any], timeout_s: float) -> None:
        self._conninfo: dict[str, Any] = {**conninfo, "connect_timeout": 10, **as_application("load")}
        self._timeout_ms = str(round(timeout_s * 1e3))
        self._conn: AsyncConnection[TupleRow] | None = None

    async def connect(self) -> AsyncConnection[TupleRow]:
        """Return the session, a new one if there is none or it was lost.

        Raises:
            psycopg.OperationalError: the server does not answer or refuses it.
        """
        if self._conn is None or self._conn.closed:
            conn = await AsyncConnection.connect(**self._conninfo, prepare_threshold=None)
            try:
                await conn.execute(LIMITS, {"ms": self._timeout_ms})
                await conn.commit()
            except BaseException:
                await conn.close()
                raise
            self._conn = conn
        return self._conn

    async def perform(self, operation: Operation, values: Mapping[str, Any], announce: Announce) -> Result:
        """Run the statement in a transaction of its own; `announce` gets its id before COMMIT is sent."""
        try:
            conn = await self.connect()
        except psycopg.Error as exc:
            return Result("failed", _code(exc, "no connection"))
        asked = False
        try:
            cursor = await conn.execute(as_query(operation.sql or ""), values)
            rows = cursor.rowcount
            row = await cursor.fetchone() if cursor.description else None
            if operation.action != "read":
                announce(await _transaction_id(conn))
            asked = True
            await conn.commit()
        except psycopg.Error as exc:
            return await self._failed(conn, exc, asked=asked)
        except asyncio.CancelledError:
            await conn.close()
            raise
        return _accepted(operation, rows, row[0] if row and operation.action == "insert" else None)

    async def close(self) -> None:
        """End the session."""
        if self._conn is not None:
            await self._conn.close()

    async def _failed(self, conn: AsyncConnection[TupleRow], exc: psycopg.Error, *, asked: bool) -> Result:
        lost = conn.closed
        code = _code(exc, "connection lost")
        if not lost:
            try:
                await conn.rollback()
            except psycopg.Error:
                await conn.close()
        # A server that still answers has refused the COMMIT; one that went away may have done it.
        return Result("unknown" if lost and asked else "failed", code, exc.diag.message_primary)


async def _transaction_id(conn: AsyncConnection[TupleRow]) -> str:
    row = await (await conn.execute("select pg_catalog.pg_current_xact_id()::text")).fetchone()
    return str(row[0]) if row else ""


def _code(exc: psycopg.Error, otherwise: str) -> str:
    return exc.sqlstate or otherwise


def _accepted(operation: Operation, rows: int, new_id: Any) -> Result:
    if operation.action == "read":
        return Result("ok", rows=rows)
    if operation.action == "insert":
        usable = new_id if isinstance(new_id, int) or new_id is None else str(new_id)
        return Result("ok", rows=rows, id=usable, missing=rows == 0)
    return Result("ok", rows=rows, missing=rows == 0)


class HttpClient:
    """Sends to the app servers; shared by all workers."""

    def __init__(self, servers: Sequence[Server], connections: int, timeout_s: float, *, failover: bool) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # No proxy of the surroundings: the servers are measured, not the way through somebody else.
        self._client = httpx.AsyncClient(timeout=timeout_s, limits=limits, trust_env=False)
        self._servers = {server.name: server.url.rstrip("/") for server in servers}
        self._failover = failover

    async def warm(self) -> None:
        """Open a connection to each server: the first request of a process blocks it for 80 ms, with imports."""
        await asyncio.gather(*(self._greet(url) for url in self._servers.values()))

    async def _greet(self, url: str) -> None:
        # A server that is down now is the load's to record, not a reason not to start.
        with contextlib.suppress(httpx.HTTPError):
            await self._client.head(url + "/", timeout=_GREETING_S)

    async def perform(self, operation: Operation, values: Mapping[str, Any], server: str) -> Result:
        """Send the request to the server, or to the next one if that refuses the connection and failover is on."""
        names = list(self._servers)
        first = names.index(server)
        refused = Result("failed", "no server")
        for name in (names[first:] + names[:first]) if self._failover else [server]:
            try:
                return await self._send(operation, values, self._servers[name])
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
                refused = Result("failed", type(exc).__name__)
            except httpx.HTTPError as exc:
                # It was sent; whether it was done, only the rows can tell.
                return Result("failed" if operation.action == "read" else "unknown", type(exc).__name__)
        return refused

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _send(self, operation: Operation, values: Mapping[str, Any], url: str) -> Result:
        body = fill(operation.body, values) if operation.body is not None else None
        response = await self._client.request(
            operation.method or "GET", url + fill_path(operation.path or "/", values), json=body
        )
        return judge_answer(operation, response)


def judge_answer(operation: Operation, response: httpx.Response) -> Result:
    """Return what an answer proves."""
    code = str(response.status_code)
    if response.is_success:
        return Result("ok", code, id=find_id(response) if operation.action == "insert" else None)
    if response.is_server_error and operation.action != "read":
        return Result("unknown", code)
    gone = response.status_code == _NOT_FOUND and operation.action in {"update", "delete", "move"}
    return Result("failed", code, missing=gone)


def find_id(response: httpx.Response) -> int | str | None:
    """Return `id` of a JSON answer, also from below `result`, `data` and `json`, as RPC servers wrap it."""
    try:
        found: Any = response.json()
    except ValueError:
        return None
    while isinstance(found, dict):
        answer = cast("dict[str, Any]", found)
        if isinstance(answer.get("id"), int | str):
            return cast("int | str", answer["id"])
        found = next((answer[name] for name in ("result", "data", "json") if name in answer), None)
    return None


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Put values in place of `{id}`, `{key}`, `{old_key}`, `{marker}`, `{subject}`; alone, a value keeps its type.

    >>> fill({"id": "{id}", "note": "n {id}"}, {"id": 7})
    {'id': 7, 'note': 'n 7'}
    """
    if isinstance(template, dict):
        return {name: fill(value, values) for name, value in cast("dict[str, Any]", template).items()}
    if isinstance(template, list):
        return [fill(value, values) for value in cast("Sequence[Any]", template)]
    if not isinstance(template, str):
        return template
    whole = _PLACEHOLDER.fullmatch(template)
    return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)


def fill_path(template: str, values: Mapping[str, Any]) -> str:
    """Put URL-encoded values into a path.

    >>> fill_path("/a/{id}?at={key}", {"id": 7, "key": "12:00+00"})
    '/a/7?at=12%3A00%2B00'
    """
    return _PLACEHOLDER.sub(lambda found: quote(str(values[found[1]]), safe=""), template)
