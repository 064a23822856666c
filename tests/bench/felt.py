"""What the application feels: capture on each write, the stall at the cut-over, latency while rows are copied."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass

from rehearsal.catalog.tables import Catalog
from rehearsal.environment import Database
from rehearsal.evidence.events import LockTaken, ThrottleChanged
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import as_query, quote_ident
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity import compare
from tests.bench.world import TABLE, Cost, World, backend_seconds, count, make_plan
from tests.bench.writers import clients, percentile

WRITES = 2_000
TURNS = 5
RATE = 200.0
SETTLE_S = 2.0
QUIET_S = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: what, how much, and what it is compared with."""

    what: str
    value: str
    target: str = ""


def capture(world: World) -> list[Figure]:
    """Return what the key log costs a write: time on the core of the writing backend, with and without."""
    plan, database = make_plan(), world.clone()
    world.deploy(database, plan)
    trigger = quote_ident(Names(TABLE).capture_trigger)
    spent: dict[str, list[float]] = {"disable": [], "enable always": []}
    with connect(database) as conn:
        for _ in range(TURNS):
            for mode, times in spent.items():
                conn.execute(as_query(f"alter table public.readings {mode} trigger {trigger}"))
                times.append(_write(conn, world.rows))
    bare, logged = (statistics.median(times) for times in spent.values())
    return [
        Figure("bare write, CPU of its backend", f"{bare / WRITES * 1e6:.0f} µs"),
        Figure("write with capture on", f"{logged / bare:.2f} times the bare write", "≤ 1.3"),
    ]


def _write(conn: Connection, rows: int) -> float:
    """Insert, update and delete single rows; return the seconds that the backend spent on a core."""
    pid = conn.info.backend_pid
    before = backend_seconds(pid)
    for number in range(WRITES // 2):
        text = (
            "insert into public.readings (unit_id, device_id, temperature, recorded_at) values (1, 1, 20, "
            "'2025-06-01'::timestamptz + %s * interval '1 second') returning id"
        )
        new = scalar(conn, text, [number])
        if number % 2:
            conn.execute("delete from public.readings where id = %s", [new])
        else:
            conn.execute("update public.readings set battery = 7 where id = %s", [1 + number * 37 % rows])
    return backend_seconds(pid) - before


def stall(world: World) -> list[Figure]:
    """Return the longest that a client waited at each of five swaps, and how long the lock was held."""
    plan, database = make_plan(pace="full"), world.clone()
    world.deploy(database, plan)
    work = world.switchover(database, plan)
    work.prepare()
    spans: list[tuple[float, float]] = []
    with clients(database, RATE, world.rows) as samples:
        for _ in range(TURNS):
            time.sleep(SETTLE_S)  # the clients' usual latency before each swap is part of what is measured
            started = time.monotonic()
            work.switch()
            spans.append((started, time.monotonic()))
            work.roll_back()
    held = [event.what.held_ms for event in work.run.events() if isinstance(event.what, LockTaken)]
    worst = [percentile(samples.between(start - 0.5, end + 0.5), 1) for start, end in spans]
    calm = samples.between(spans[0][0] - SETTLE_S, spans[0][0] - 0.5)
    said = ", ".join(f"{figure:.0f}" for figure in worst)
    return [
        Figure(f"client at {RATE:.0f} statements/s, before the swap, p50 and p100",
               f"{percentile(calm, 0.5):.1f} and {percentile(calm, 1):.1f} ms"),
        Figure(f"longest wait of a client, {TURNS} swaps", f"{said} ms", "each < 100"),
        Figure("locks of swaps and ways back, longest hold", f"{max(held):.0f} ms"),
    ]  # fmt: skip


PARTS = {"copy": "rows", "indexes": "indexes", "statistics": "statistics"}


def foreground(world: World, rounds: int) -> list[Figure]:
    """Return the clients' p99 without a copy, and during it at full and at the default pace, for each of its parts."""
    pooled: dict[tuple[str, str], list[float]] = {}
    seconds: dict[str, list[float]] = {"full": [], "gentle": []}
    for _ in range(rounds):
        for pace, took in seconds.items():
            database, plan = world.clone(), make_plan(pace=pace)
            world.deploy(database, plan)
            work = world.switchover(database, plan)
            with clients(database, RATE, world.rows) as samples:
                threading.Event().wait(QUIET_S)  # the quiet span is what the copy is compared with
                started, clock = time.monotonic(), time.time() - time.monotonic()
                work.prepare()
                ended = time.monotonic()
            took.append(ended - started)
            # The first second is the clients' warm-up.
            spans = {"quiet": (started - QUIET_S + 1, started), "all": (started, ended)} | _spans(database, clock)
            for part, span in spans.items():
                pooled.setdefault(("" if part == "quiet" else pace, part), []).extend(samples.between(*span))
            said = [event.what.text for event in work.run.events() if isinstance(event.what, ThrottleChanged)]
            print(f"   {pace}: {took[-1]:.2f} s; {'; '.join(said) or 'never slowed'}")
    p99 = {name: percentile(sorted(values), 0.99) for name, values in pooled.items()}
    quiet = p99["", "quiet"]
    aims = {"full": ("without throttle", "reported"), "gentle": ("with the default throttle", "≤ 2 times")}
    return [
        Figure(f"p99 of {RATE:.0f} statements/s, no copy", f"{quiet:.1f} ms"),
        *(
            Figure(
                f"while copying {name} ({statistics.median(seconds[pace]):.1f} s)",
                f"{p99[pace, 'all']:.1f} ms, {p99[pace, 'all'] / quiet:.1f} times; "
                + ", ".join(f"{text} {p99[pace, part]:.1f}" for part, text in PARTS.items()),
                aim,
            )
            for pace, (name, aim) in aims.items()
        ),
    ]


def _spans(database: Database, clock: float) -> dict[str, tuple[float, float]]:
    """Return when the parts of a copy began and ended; `clock` is the wall's clock less the monotonic one."""
    query = (
        "select name, duration_ms / 1e3, extract(epoch from done_at)::float8 from rehearsal.step where name = any(%s)"
    )
    with connect(database) as conn:
        rows = conn.execute(query, [list(PARTS)]).fetchall()
    return {name: (ended - clock - took, ended - clock) for name, took, ended in rows}


def parity(world: World) -> list[Figure]:
    """Return what the exact comparison of both sides costs, against the copy and against counting both."""
    plan, database = make_plan(pace="full"), world.clone()
    world.deploy(database, plan)
    work = world.switchover(database, plan)
    work.prepare()
    work.switch()
    compared, counted = (world.measure(lambda: _compare(world, database)), world.measure(lambda: _count(database)))
    with connect(database) as conn:
        copied = float(scalar(conn, "select duration_ms from rehearsal.step where name = 'copy'")) / 1e3
        whole = float(scalar(conn, "select sum(duration_ms) from rehearsal.step")) / 1e3
    return [
        Figure("exact parity of both sides, two sessions", _said(compared)),
        Figure("… against the copy with its indexes and statistics", f"{compared.seconds / whole:.2f}", "≤ 0.25"),
        Figure("… against the copy of rows alone", f"{compared.seconds / copied:.2f}"),
        Figure("… against count(*) of both", f"{compared.seconds / counted.seconds:.1f} times its time"),
    ]


def _compare(world: World, database: Database) -> None:
    with connect(database) as conn:
        catalog, names = Catalog(conn, world.files), Names(TABLE)
        source, target = catalog.read(names.retired), catalog.read(names.source)
    report = compare(database, world.files, source, target, "recorded_at", self_test=False)
    assert report.unexplained == 0, report


def _count(database: Database) -> None:
    with connect(database) as conn:
        assert count(conn, TABLE) == count(conn, Names(TABLE).retired)


def _said(cost: Cost) -> str:
    return f"{cost.seconds:.2f} s, {cost.cpu:.2f} s of CPU"
