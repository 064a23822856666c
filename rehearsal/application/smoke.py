"""Smoke requests: what every app server must answer well, as declared in the plan; and errors in the app's log.

Owns HTTP to the application. Must not know databases: whether a row that was created reached both tables is judged
elsewhere, from the ids returned here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx

from rehearsal.plan.model import Plan, Smoke

PLACE = re.compile(r"\{(\w+)\}")
KINDS: dict[str, type | tuple[type, ...]] = {
    "<integer>": int,
    "<number>": (int, float),
    "<text>": str,
    "<list>": list,
}


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """What one server answered to one request; `passed` is None when the server could not be reached."""

    name: str
    server: str
    passed: bool | None
    status: int | None
    seconds: float
    observed: str
    created_id: int | None = None
    table: str | None = None


def run_smoke(plan: Plan, server_url: str, server_name: str, *, run_marker: str) -> list[SmokeResult]:
    """Send the plan's requests to one server, in order.

    `{marker}`, `{now}`, `{today}` and the values saved by earlier requests are filled into path, body and
    expectations. A request whose saved value is missing fails by name. A second run creates rows of its own.
    """
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "marker": run_marker,
        "now": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "today": now.date().isoformat(),
    }
    with httpx.Client(base_url=server_url, follow_redirects=False) as client:
        return [_ask(client, server_name, smoke, values) for smoke in plan.smoke]


def _ask(client: httpx.Client, server: str, smoke: Smoke, values: dict[str, Any]) -> SmokeResult:
    started = time.perf_counter()

    def failed(observed: str, *, passed: bool | None = False) -> SmokeResult:
        return SmokeResult(smoke.name, server, passed, None, time.perf_counter() - started, observed)

    try:
        path, body, expect = (fill(part, values) for part in (smoke.path, smoke.body, smoke.expect))
    except KeyError as exc:
        return failed(f"not sent: no earlier answer gave {exc.args[0]}")
    try:
        # A limit of its own above the plan's: a slow answer is a failure that was seen, with its time.
        answer = client.request(smoke.method, path, json=body, timeout=smoke.max_seconds * 3 + 2)
    except httpx.ConnectError as exc:
        return failed(f"server not reached: {exc}", passed=None)
    except httpx.TimeoutException:
        return failed(f"no answer within {smoke.max_seconds * 3 + 2:g} s; at most {smoke.max_seconds:g} s allowed")
    except httpx.HTTPError as exc:
        return failed(f"broken answer: {type(exc).__name__}: {exc}")
    content = _json(answer)
    values.update({name: content[key] for name, key in smoke.save.items() if key in content})
    seconds = time.perf_counter() - started
    wrong = _judge(smoke, answer, content, expect, seconds)
    created = content.get("id") if smoke.creates and answer.is_success else None
    observed = "; ".join(wrong) or f"{answer.status_code}, {len(answer.content)} bytes"
    created_id = created if isinstance(created, int) else None
    return SmokeResult(smoke.name, server, not wrong, answer.status_code, seconds, observed, created_id, smoke.creates)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _judge(smoke: Smoke, answer: httpx.Response, content: dict[str, Any], expect: Any, seconds: float) -> list[str]:
    wrong: list[str] = []
    if answer.status_code != smoke.status:
        wrong.append(f"status {answer.status_code} instead of {smoke.status}: {answer.text[:200]}")
    if seconds > smoke.max_seconds:
        wrong.append(f"took {seconds:.2f} s; at most {smoke.max_seconds:g} s allowed")
    if smoke.contains is not None and smoke.contains not in answer.text:
        wrong.append(f"answer does not contain {smoke.contains!r}")
    if smoke.creates and not isinstance(content.get("id"), int):
        wrong.append("answer has no id of the created row")
    return wrong + differences(expect, content)


def fill(part: Any, values: Mapping[str, Any]) -> Any:
    """Fill `{names}` into texts at any depth; a text that is one name alone keeps the value's type.

    >>> fill({"id": "{revenue}", "text": "{marker} x"}, {"revenue": 7, "marker": "m"})
    {'id': 7, 'text': 'm x'}
    """
    if isinstance(part, dict):
        return {key: fill(value, values) for key, value in cast("dict[str, Any]", part).items()}
    if isinstance(part, list):
        # mypy narrows Any to list[Any], pyright to a list of unknowns
        items = cast("list[Any]", part)  # type: ignore[redundant-cast]
        return [fill(value, values) for value in items]
    if not isinstance(part, str):
        return part
    alone = PLACE.fullmatch(part)
    return values[alone[1]] if alone else PLACE.sub(lambda match: str(values[match[1]]), part)


def differences(expect: Any, got: Any, where: str = "answer") -> list[str]:
    """Say in which of the expected parts an answer differs; parts that are not expected may be anything.

    >>> differences({"id": "<integer>", "status": "ok"}, {"id": 7, "status": "down", "more": 1})
    ["answer.status is 'down' instead of 'ok'"]
    """
    if isinstance(expect, dict) and isinstance(got, dict):
        wanted, had = cast("dict[str, Any]", expect), cast("dict[str, Any]", got)
        return [
            line
            for key, value in wanted.items()
            for line in (
                differences(value, had[key], f"{where}.{key}") if key in had else [f"{where}.{key} is missing"]
            )
        ]
    return [] if _fits(expect, got) else [f"{where} is {str(got)[:80]!r} instead of {expect!r}"]


def _fits(expect: Any, got: Any) -> bool:
    if isinstance(expect, str) and expect in KINDS:
        return isinstance(got, KINDS[expect]) and not isinstance(got, bool)
    if expect == "<not empty>":
        return bool(got)
    if expect == "<positive>":
        return isinstance(got, int | float) and got > 0
    return bool(expect == got)


ERROR = re.compile(r"\b(ERROR|CRITICAL|FATAL|PANIC)\b|^Traceback \(most recent call last\)")


def scan_log(path: Path, since_offset: int = 0) -> list[str]:
    """Return the error lines of a log beyond a place in it (a file that shrank was rotated: all of it is read).

    Raises:
        OSError: the log cannot be read, hence nothing was seen.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(since_offset if since_offset <= size else 0)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return [line for line in lines if ERROR.search(line)]
