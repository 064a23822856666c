"""Open-loop clients in a process of their own, so that a busy engine does not slow their clock.

    python -m tests.bench.writers RATE    # facts of the database on the first line of stdin; ends with stdin

Unlike those of `tests/writing.py`, which write as fast as they can and keep a ledger, these keep to a rate and measure.
Latency counts from the moment at which a statement was due. Two of three statements write, one reads. At the end one
JSON list of [due, milliseconds] is printed; the clock is the machine's monotonic one, which the caller has too.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial

import psycopg

from rehearsal.environment import Database
from rehearsal.postgres.connection import connect
from tests.bench.world import ROOT
from tests.writing import at_work

CLIENTS = 8
STATEMENTS = (
    (
        "insert into public.readings (unit_id, device_id, temperature, battery, recorded_at, source) "
        "values (1, 1, 20, 50, '2025-06-01'::timestamptz + %(part)s * interval '90 days', 'client')"
    ),
    "update public.readings set battery = 51 where id = %(id)s",
    "select temperature from public.readings where id = %(id)s",
)
Sample = tuple[float, float]


@dataclass
class Samples:
    """What the clients measured, once they have ended."""

    all: list[Sample] = field(default_factory=list)

    def between(self, start: float, end: float) -> list[float]:
        """Return the milliseconds of statements that were due in a span, sorted."""
        return sorted(ms for due, ms in self.all if start <= due <= end)


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


@contextmanager
def clients(database: Database, rate: float, rows: int) -> Generator[Samples]:
    """Keep the clients at work for the block; the samples are there after it."""
    command = [sys.executable, "-m", "tests.bench.writers", str(rate), str(rows)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    child.stdin.write(json.dumps(asdict(database)) + "\n")
    child.stdin.flush()
    assert child.stdout.readline() == "ready\n"
    samples = Samples()
    try:
        yield samples
    finally:
        said, _ = child.communicate()
        samples.all = [(due, ms) for due, ms in json.loads(said)]


def _client(database: Database, number: int, every: float, rows: int, out: list[Sample], stop: threading.Event) -> None:
    chance = random.Random(number)
    with connect(database, role="load") as conn:
        due = time.monotonic() + every * number / CLIENTS
        while not stop.wait(max(0.0, due - time.monotonic())):
            values = {"id": chance.randint(1, rows), "part": chance.random()}
            try:
                conn.execute(chance.choice(STATEMENTS), values)
            except psycopg.errors.SerializationFailure:
                continue
            finally:
                out.append((due, (time.monotonic() - due) * 1e3))
                due += every


def main(words: list[str]) -> None:
    """Run the clients until stdin ends."""
    rate, rows = float(words[0]), int(words[1])
    database = Database(**json.loads(sys.stdin.readline()))
    out: list[Sample] = []
    with at_work(*(partial(_client, database, number, CLIENTS / rate, rows, out) for number in range(CLIENTS))):
        print("ready", flush=True)
        sys.stdin.read()
    print(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1:])
