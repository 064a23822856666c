"""One life of the engine: a forked process that works on a leg until it is done, is killed, or gives up by name."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.environment import Database
from rehearsal.errors import RehearsalError
from rehearsal.evidence.run import Run
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_postgres import ROOT
from tests.fix_tables import make_switchover
from tests.kills.points import Position, follow
from tests.kills.world import Leg, plan_of

PATIENCE_S = 90.0
UNCLEAR = 70


@dataclass(frozen=True)
class Target:
    """When a life is struck: at a statement of a step, or at the first one after it that this life gets to."""

    rank: int
    statement: int
    kind: str
    waits: bool = False


@dataclass(frozen=True)
class End:
    """How a life ended: by itself, with an error, or by a signal; and in which step it was struck, if it was."""

    code: int
    error: str | None
    message: str
    struck_in: str | None
    counts: list[int]


def live(
    database: Database,
    strategy: str,
    leg: Leg,
    run: Run,
    target: Target | None,
    strike: Callable[[str, int, int], None],
    mutate: Callable[[], None] | None = None,
) -> End:
    """Live through a leg; `strike` is called in the driver with kind, process and backend when the moment has come."""
    position = Position(leg.order)
    said, answer = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        if mutate:
            mutate()
        _be(database, strategy, leg, run, target, position, said[1], answer[0])
    os.close(said[1])
    os.close(answer[0])
    try:
        struck, words = _watch(child, said[0], answer[1], target, strike, position)
    finally:
        os.close(said[0])
        os.close(answer[1])
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and struck is None:
        struck = position.step
    return End(code, words.get("error"), words.get("message", ""), struck, position.read()[1])


def _watch(
    child: int,
    said: int,
    answer: int,
    target: Target | None,
    strike: Callable[[str, int, int], None],
    position: Position,
) -> tuple[str | None, dict[str, Any]]:
    deadline, buffer, struck = time.monotonic() + PATIENCE_S, b"", None
    words: dict[str, Any] = {}
    while True:
        if not select.select([said], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            return struck, {"error": "Hangs", "message": f"no end after {PATIENCE_S:.0f} s in {position.step}"}
        if not (data := os.read(said, 65536)):
            return struck, words
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "backend" in told and target:
                struck = position.order[told["rank"]]
                strike(target.kind, child, told["backend"])
                if target.waits:
                    os.write(answer, b".")
            else:
                words = told


def _be(
    database: Database,
    strategy: str,
    leg: Leg,
    run: Run,
    target: Target | None,
    position: Position,
    said: int,
    answer: int,
) -> None:
    armed = [target]

    def say(**words: Any) -> None:
        os.write(said, json.dumps(words).encode() + b"\n")

    def before(rank: int, number: int, cursor: Any) -> Callable[[], None] | None:
        blow = armed[0]
        if blow is None or rank < blow.rank or (rank == blow.rank and number < blow.statement):
            return None
        armed[0] = None
        if blow.kind == "engine before":
            os.kill(os.getpid(), signal.SIGKILL)
        if blow.kind == "engine after":
            return lambda: os.kill(os.getpid(), signal.SIGKILL)
        say(backend=cursor.connection.info.backend_pid, rank=rank)
        if blow.waits:
            os.read(answer, 1)
        return None

    code = UNCLEAR
    try:
        follow(position, before)
        work = make_switchover(database, SqlFiles(ROOT / "sql"), plan_of(strategy), run)
        leg.work(work)
        code = 0
    except RehearsalError as exc:
        code = exc.exit_code
        say(error=type(exc).__name__, message=str(exc))
    except BaseException as exc:  # noqa: BLE001 -- told to the driver, which counts it as unclear
        say(error=type(exc).__name__, message=str(exc))
    finally:
        os._exit(code)
