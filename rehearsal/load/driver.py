"""The engine's handle on one generator: start, mark phases, stop, and know when it died.

Owns the child process. Passwords reach it by a file of mode 0600 that it removes once read, never by argv.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rehearsal.environment import Environment
from rehearsal.errors import CannotSee, StepFailed, UsageError
from rehearsal.evidence.events import LoadStarted, LoadStopped
from rehearsal.evidence.run import Run
from rehearsal.load.config import KeyRange, LoadConfig, Server
from rehearsal.load.keyranges import read_key_ranges
from rehearsal.load.summary import LoadSummary, summarize_files
from rehearsal.plan.model import Operation, Plan

READY_S = 30.0
STOP_S = 20.0


def ledger_folder(run: Run) -> Path:
    """Return where the generators of a run write their ledgers and latencies."""
    return run.folder / "ledger"


class LoadProcess:
    """One generator in a process of its own, for one segment of a run.

    A context manager: at the end of the block it is stopped, however the block ends; when the engine itself is
    killed, the end of its stdin stops it. Without `keys`, the range of each table's key is read from the database.
    `failover` sends what an app server refused to the next one, as a load balancer would.

    Raises:
        UsageError: an operation lacks its text, its marker or its app servers.
        PreconditionError: a planned table is not there.
    """

    def __init__(
        self,
        env: Environment,
        plan: Plan,
        run: Run,
        segment: str,
        *,
        operations: Callable[[Operation], bool] | None = None,
        keys: Mapping[str, KeyRange] | None = None,
        rate: float = 1.0,
        duration_s: float | None = None,
        failover: bool = False,
    ) -> None:
        self._run = run
        self._segment = re.sub(r"[^A-Za-z0-9_.-]", "-", segment)
        self._chosen = [operation for operation in plan.load.operations if operations is None or operations(operation)]
        _require_sound(self._chosen, plan, env)
        self._config = LoadConfig(
            run=run.name,
            segment=self._segment,
            folder=ledger_folder(run),
            conninfo={name: value for name, value in env.app_database.conninfo().items() if value is not None},
            servers=[Server(name=server.name, url=server.url) for server in env.app_servers],
            operations=self._chosen,
            keys=dict(keys) if keys is not None else read_key_ranges(env.database, plan),
            connections=plan.load.connections,
            seed=plan.load.seed,
            rate=rate,
            duration_s=duration_s,
            failover=failover,
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._statuses: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader: threading.Thread | None = None
        self._fault: str | None = None
        self.latency_path: Path | None = None
        self.ledger_path: Path | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the generator, if it was started."""
        return self._child.pid if self._child else None

    def start(self) -> Self:
        """Start the generator and wait until it sends.

        Raises:
            StepFailed: it did not come up; says why.
        """
        folder = ledger_folder(self._run)
        folder.mkdir(parents=True, exist_ok=True)
        path = _write_config(self._config)
        try:
            with (folder / f"{self._segment}.log").open("ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "rehearsal.load", "--config", str(path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the engine's: it stops the load in its own order
                )
            self._reader = threading.Thread(target=self._listen, args=(self._child,), daemon=True)
            self._reader.start()
            self._await_ready(folder)
        finally:
            path.unlink(missing_ok=True)
        self._run.tell(LoadStarted(self._segment, tuple(operation.name for operation in self._chosen)))
        return self

    def mark(self, phase: str) -> None:
        """Begin a phase: what happens from now on is counted under it.

        Raises:
            CannotSee: the generator is gone.
        """
        self._tell(cmd="mark", phase=phase, at=time.time())

    def is_alive(self) -> bool:
        """Return whether the generator runs."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> LoadSummary:
        """Stop the generator, wait for what is under way, and return what the load felt; a second call only reads.

        Raises:
            CannotSee: it was never started.
        """
        if self._child is None or self.latency_path is None:
            message = f"the load of segment {self._segment} was never started, so there is nothing to summarize"
            raise CannotSee(message)
        first = self._child.stdin is not None and not self._child.stdin.closed
        self._end(self._child)
        summary = summarize_files([self.latency_path])
        if self._fault:
            summary = replace(summary, honest=False, reasons=(*summary.reasons, self._fault))
        if first:
            self._run.tell(LoadStopped(self._segment, summary.honest, summary.reasons))
        return summary

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._end(self._child)

    def _tell(self, **command: Any) -> None:
        child = self._child
        try:
            if child is None or child.stdin is None:
                raise BrokenPipeError
            child.stdin.write((json.dumps(command) + "\n").encode())
            child.stdin.flush()
        except (OSError, ValueError) as exc:
            message = (
                f"the load of segment {self._segment} is gone; look in {ledger_folder(self._run)}/{self._segment}.log"
            )
            raise CannotSee(message) from exc

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdin is not None and not child.stdin.closed:
            try:
                child.stdin.write(b'{"cmd": "stop"}\n')
                child.stdin.close()
            except BrokenPipeError:
                pass  # it ended before it was told: its files say how
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()  # it had its grace; what it leaves without an outcome is unknown, as after any kill
            child.wait()
        if self._reader is not None:
            self._reader.join()
        if child.stdout is not None:
            child.stdout.close()

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        for line in child.stdout or ():
            status: dict[str, Any] = json.loads(line)
            kind = status.pop("status")
            # What each second brought is in the latency file already.
            if kind != "second":
                self._fault = status["message"] if kind == "error" else self._fault
                self._statuses.put({"status": kind, **status})
        self._statuses.put({"status": "gone", "message": "it ended"})

    def _await_ready(self, folder: Path) -> None:
        try:
            status = self._statuses.get(timeout=READY_S)
        except queue.Empty:
            status = {"status": "late", "message": f"it was not ready within {READY_S:.0f} s"}
        if status["status"] != "ready":
            if self._child is not None:
                self._end(self._child)
            reason = f"{status.get('message')}; see {folder / self._segment}.log"
            message = f"the load of segment {self._segment} did not start: {reason}"
            raise StepFailed(message)
        self.latency_path, self.ledger_path = Path(status["latency"]), Path(status["ledger"])


def _write_config(config: LoadConfig) -> Path:
    # Outside the run's folder, which is handed around: mkstemp makes it readable by us alone.
    fd, name = tempfile.mkstemp(prefix="pg-rehearsal-load-", suffix=".json")
    with os.fdopen(fd, "w") as file:
        file.write(config.dump())
    return Path(name)


def _require_sound(operations: list[Operation], plan: Plan, env: Environment) -> None:
    if not operations:
        message = f"plan {plan.name} has no operation for this load; add [[load.operations]]"
        raise UsageError(message)
    planned = {table.name: table for table in plan.tables}
    for operation in operations:
        needed = operation.sql if operation.via == "sql" else operation.path
        if not needed:
            message = (
                f"operation {operation.name} of plan {plan.name} has no {'sql' if operation.via == 'sql' else 'path'}"
            )
            raise UsageError(message)
        if operation.action != "read" and (operation.table not in planned or planned[operation.table].marker is None):
            message = (
                f"operation {operation.name} writes {operation.table}, which is no table of plan {plan.name} "
                "with a marker"
            )
            raise UsageError(message)
        if operation.via == "http" and not env.app_servers:
            message = f"operation {operation.name} goes by HTTP, and environment {env.name} has no app servers"
            raise UsageError(message)
