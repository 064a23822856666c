"""The generator: sends what is due when it is due, whatever became of what was sent before.

Owns the schedule, the workers and the order of ledger entries. Must not know phases, gates or what is rehearsed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from rehearsal.errors import PreconditionError
from rehearsal.load.arrivals import KeyChooser, merged
from rehearsal.load.clients import HttpClient, Result, SqlClient
from rehearsal.load.config import LoadConfig
from rehearsal.load.ledger import Ledger, LedgerWriter, canonical_key, finished_files, ledger_files, marker
from rehearsal.load.record import OpClass, Recorder
from rehearsal.load.subjects import Subject, Subjects
from rehearsal.plan.model import Operation

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One operation that is due."""

    operation: Operation
    kind: OpClass
    due: float
    was_free: bool


class Generator:
    """One run of the load, from start to stop."""

    def __init__(self, config: LoadConfig, tell: Tell) -> None:
        self._config = config
        self._tell = tell
        self._wall = time.time() - time.monotonic()
        self._rng = random.Random(f"{config.seed}:{config.segment}")  # noqa: S311 -- a choice of rows, not a secret
        self._keys = {table: KeyChooser(wanted, self._rng) for table, wanted in config.keys.items()}
        self._queues: dict[str, asyncio.Queue[Arrival]] = {"sql": asyncio.Queue(), "http": asyncio.Queue()}
        self._idle: Counter[str] = Counter()
        self._busy = 0
        self._dropped = 0
        self._stop = asyncio.Event()
        self._reason = ""
        self._ledger = LedgerWriter.claim(config.folder, config.run, config.segment)
        latency_path = self._ledger.path.with_name(self._ledger.path.name.replace(".ledger.", ".latency."))
        self._recorder = Recorder(latency_path, config.run, config.segment)
        self._subjects = Subjects(self._ledger.first_subject)
        self._http = HttpClient(config.servers, config.connections, config.timeout_s, failover=config.failover)

    def stop(self, reason: str) -> None:
        """Ask for the end: nothing new is sent, what is under way may finish."""
        self._reason = self._reason or reason
        self._stop.set()

    def mark(self, phase: str, at: float | None = None) -> None:
        """Begin a phase."""
        self._recorder.mark(phase, at or time.time())

    async def run(self) -> None:
        """Send until told to stop, or until the duration is over.

        Raises:
            PreconditionError: the database cannot be reached at the start; says why, never the password.
        """
        clients = [SqlClient(self._config.conninfo, self._config.timeout_s) for _ in range(self._config.connections)]
        await self._require_database(clients)
        await self._http.warm()
        adopted = self._adopt()
        paths = {"ledger": str(self._ledger.path), "latency": str(self._recorder.path)}
        workers = [asyncio.create_task(self._work("sql", client)) for client in clients]
        workers += [asyncio.create_task(self._work("http", None)) for _ in clients]
        self._tell({"status": "ready", **paths, "adopted": adopted})
        others = [asyncio.create_task(self._dispatch()), asyncio.create_task(self._tick())]
        try:
            await self._until_told([*workers, *others])
        finally:
            await self._wind_down(workers, others, clients)

    async def _require_database(self, clients: list[SqlClient]) -> None:
        if not any(operation.via == "sql" for operation in self._config.operations):
            return
        try:
            await asyncio.gather(*(client.connect() for client in clients))
        except psycopg.Error as exc:
            reason = " ".join(str(exc).split())
            advice = f"is the server up, and has it {len(clients)} free sessions?"
            message = f"the load cannot connect to the database: {reason}; {advice}"
            raise PreconditionError(message) from exc

    def _adopt(self) -> int:
        folder = self._config.folder
        others = [path for path in ledger_files(folder) if path != self._ledger.path]
        if set(others) - set(finished_files(folder)):
            return 0  # another generator lives: its rows are its own
        return self._subjects.adopt(Ledger(folder).read(others), self._config.keys)

    async def _until_told(self, tasks: list[asyncio.Task[None]]) -> None:
        told = asyncio.create_task(self._stop.wait())
        timeout = self._config.duration_s
        done, _ = await asyncio.wait([told, *tasks], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {told}:
            task.result()  # a defect of the generator itself: it must end loudly
        told.cancel()
        self.stop("duration")

    async def _wind_down(
        self, workers: list[asyncio.Task[None]], others: list[asyncio.Task[None]], clients: list[SqlClient]
    ) -> None:
        self._stop.set()
        await _cancel(others)
        idle = {task for task in workers if not task.done()}
        deadline = time.monotonic() + self._config.grace_s
        while self._busy and time.monotonic() < deadline and idle:
            _, idle = await asyncio.wait(idle, timeout=0.02)
        unfinished = self._busy
        unsent = self._dropped + sum(queue.qsize() for queue in self._queues.values())
        await _cancel(workers)
        await self._http.close()
        await asyncio.gather(*(client.close() for client in clients))
        self._recorder.end(time.time(), reason=self._reason, unsent=unsent, unfinished=unfinished)
        self._ledger.close()

    async def _dispatch(self) -> None:
        started = time.monotonic()
        turns = itertools.cycle(self._config.servers)
        seed = f"{self._config.seed}:{self._config.segment}"
        for at, number in merged(self._config.operations, seed, self._config.rate):
            due = started + at
            # Gives way even when it is behind, or the workers would starve.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            operation = self._config.operations[number]
            server = next(turns).name if operation.via == "http" else None
            kind = OpClass(operation.name, operation.action, operation.via, server)
            queue = self._queues[operation.via]
            self._recorder.offered(kind, due + self._wall)
            queue.put_nowait(Arrival(operation, kind, due, queue.qsize() < self._idle[operation.via]))

    async def _tick(self) -> None:
        used, at = time.process_time(), time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now_used, now = time.process_time(), time.monotonic()
            cpu = round((now_used - used) / (now - at), 3)
            used, at = now_used, now
            waiting = sum(queue.qsize() for queue in self._queues.values())
            status = self._recorder.flush(int(now + self._wall), now + self._wall, cpu=cpu, queue=waiting)
            self._tell({"status": "second", "queue": waiting, **status})

    async def _work(self, via: str, client: SqlClient | None) -> None:
        while True:
            self._idle[via] += 1
            arrival = await self._queues[via].get()
            self._idle[via] -= 1
            if self._stop.is_set():
                self._dropped += 1
                return
            self._busy += 1
            try:
                await self._perform(arrival, client)
            finally:
                self._busy -= 1

    async def _perform(self, arrival: Arrival, client: SqlClient | None) -> None:
        if arrival.was_free:
            self._recorder.started(time.monotonic() - arrival.due)
        read = arrival.operation.action == "read"
        result = await (self._read(arrival, client) if read else self._write(arrival, client))
        now = time.monotonic() + self._wall
        if result is None:
            self._recorder.skipped(arrival.kind, now)
            return
        self._recorder.done(
            arrival.kind,
            scheduled=arrival.due + self._wall,
            at=now,
            outcome=result.outcome,
            code=result.code,
            missing=result.missing,
        )

    async def _read(self, arrival: Arrival, client: SqlClient | None) -> Result | None:
        operation = arrival.operation
        subject = self._subjects.peek(operation.table, self._rng)
        if subject is None and _needs_row(operation):
            return None
        chooser = self._keys.get(operation.table)
        key = subject.key if subject else chooser.draw() if chooser else None
        values = {"id": subject.id if subject else None, "key": key, "old_key": key, "marker": "", "subject": 0}
        return await self._send(arrival, client, values, lambda _: None)

    async def _write(self, arrival: Arrival, client: SqlClient | None) -> Result | None:
        operation, config = arrival.operation, self._config
        subject = self._choose(operation)
        if subject is None:
            return None
        old_key = subject.key
        if operation.action == "move":
            subject.key = self._keys[operation.table].draw(other_than=old_key)
        subject.version += 1
        mark = marker(config.run, config.segment, subject.number, subject.version)
        seq = self._intend(arrival, subject)
        values = {"id": subject.id, "key": subject.key, "old_key": old_key, "marker": mark, "subject": subject.number}
        result = await self._send(arrival, client, values, lambda xid: self._ledger.commit(seq, xid))
        facts = {name: value for name, value in asdict(result).items() if value not in (None, False)}
        facts.update({"id": result.id} if operation.action == "insert" else {})
        self._ledger.outcome(seq, finished=time.time(), **facts)
        self._release(subject, operation, result, old_key)
        return result

    def _choose(self, operation: Operation) -> Subject | None:
        if operation.action == "insert":
            return self._subjects.new(operation.table, self._keys[operation.table].draw())
        return self._subjects.take(operation.table, self._rng)

    def _intend(self, arrival: Arrival, subject: Subject) -> int:
        return self._ledger.intent(
            subject=subject.number,
            op=arrival.operation.name,
            action=arrival.operation.action,
            via=arrival.operation.via,
            server=arrival.kind.server,
            table=subject.table,
            version=subject.version,
            key=canonical_key(subject.key),
            id=subject.id,
            scheduled=arrival.due + self._wall,
            started=time.time(),
        )

    async def _send(
        self, arrival: Arrival, client: SqlClient | None, values: dict[str, Any], announce: Callable[[str], None]
    ) -> Result:
        if client is not None:
            return await client.perform(arrival.operation, values, announce)
        texts = {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}
        return await self._http.perform(arrival.operation, texts, arrival.kind.server or "")

    def _release(self, subject: Subject, operation: Operation, result: Result, old_key: Any) -> None:
        if result.missing or result.outcome == "unknown":
            return
        if result.outcome == "failed":
            subject.key = old_key
            if operation.action != "insert":
                self._subjects.give_back(subject)
        elif operation.action != "delete":
            subject.id = result.id if operation.action == "insert" else subject.id
            self._subjects.give_back(subject)


def _needs_row(operation: Operation) -> bool:
    return "%(id)s" in (operation.sql or "") or "{id}" in (operation.path or "")


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
            raise result
