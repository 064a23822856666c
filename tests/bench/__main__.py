"""What a migration costs, against the raw floor and against others, in one run.

    python -m tests.bench [--rows N] [--rounds N] [--parts a,b] [--peers-up-to N] [--to FILE]

Ways take turns, so that a noisy machine hits all of them; ratios count, seconds do not. Prints a line for each
measurement and Markdown at the end. A part that cannot be measured here says why and is left out.
"""

from __future__ import annotations

import argparse
import platform
import signal
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from rehearsal.environment import Database
from rehearsal.errors import RehearsalError
from rehearsal.postgres.connection import connect, scalar
from tests.bench import cared, felt
from tests.bench.ways import FLOOR, WAYS, Way
from tests.bench.world import Cost, World, count

FELT = ("capture", "stall", "foreground", "parity", "lifecycle")
PARTS = (*WAYS, *FELT)


def main(argv: list[str] | None = None) -> int:
    """Measure; return 0, or 2 for a part that there is none of."""
    words = make_parser().parse_args(argv)
    parts = words.parts.split(",") if words.parts else list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"no part {', '.join(unknown)}; the parts are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    # Ended from outside, it takes its server along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"making {words.rows:,} rows", flush=True)
    world = World(words.rows)
    try:
        text = "\n".join(measure(world, parts, words.rounds, words.peers_up_to))
    finally:
        world.close()
    print("\n" + text)
    if words.to:
        words.to.write_text(text + "\n", encoding="utf-8")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="bench", description="what a migration costs")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each way is measured (default: 3)")
    parser.add_argument("--parts", default="", help=f"of {','.join(PARTS)} (default: all)")
    parser.add_argument(
        "--peers-up-to", type=int, default=1_000_000, help="leave the slow peers out above so many rows"
    )
    parser.add_argument("--to", type=Path, help="file that the Markdown is written to as well")
    return parser


def measure(world: World, parts: list[str], rounds: int, peers_up_to: int) -> list[str]:
    """Measure the parts; return Markdown."""
    lines = [*headline(world), ""]
    ways = [way for part in parts for way in WAYS.get(part, []) if allowed(world, way, peers_up_to)]
    if ways:
        lines += [*ways_table(measure_ways(world, [FLOOR, *ways], rounds)), ""]
    works: dict[str, Callable[[], list[felt.Figure]]] = {
        "capture": lambda: felt.capture(world),
        "stall": lambda: felt.stall(world),
        "foreground": lambda: felt.foreground(world, rounds),
        "parity": lambda: felt.parity(world),
        "lifecycle": lambda: cared.lifecycle(world),
    }
    figures: list[felt.Figure] = []
    for part in (part for part in FELT if part in parts):
        print(f"{part}:", flush=True)
        figures += works[part]()
        print("\n".join(f"   {figure.what}: {figure.value}" for figure in figures[-5:]), flush=True)
    return lines + (figures_table(figures) if figures else [])


def headline(world: World) -> list[str]:
    """Return what was measured, and on what."""
    with connect(world.server) as conn:
        version = scalar(conn, "select current_setting('server_version')")
    return [f"### {world.rows:,} rows, PostgreSQL {version}, {platform.machine()}"]


def allowed(world: World, way: Way, peers_up_to: int) -> bool:
    """Return whether a way is measured here; says why not."""
    if way.slow and world.rows > peers_up_to:
        print(f"left out: {way.name}: slow, see --peers-up-to")
        return False
    if "pg_partman" in way.name and not world.has_extension("pg_partman"):
        print(f"left out: {way.name}: the server has no pg_partman; the bench installs nothing")
        return False
    return True


def measure_ways(world: World, ways: list[Way], rounds: int) -> dict[str, list[Cost]]:
    """Measure every way once a round; one that fails is left out from then on and named."""
    costs: dict[str, list[Cost]] = {way.name: [] for way in ways}
    for number in range(rounds):
        for way in [way for way in ways if way.name in costs]:
            database = world.clone()
            try:
                way.setup(world, database)
                cost = world.measure(lambda way=way, database=database: way.run(world, database))  # type: ignore[misc]
            except (RehearsalError, KeyError, ValueError) as exc:
                print(f"left out: {way.name}: {type(exc).__name__}: {exc}", flush=True)
                del costs[way.name]
                continue
            assert partitioned_rows(database) == world.rows, way.name
            costs[way.name].append(cost)
            print(f"round {number + 1}, {way.name}: {cost.seconds:.2f} s, CPU {cost.cpu:.2f} s", flush=True)
    return costs


def partitioned_rows(database: Database) -> int:
    """Return the rows of the partitioned table, whichever name it has in the end."""
    query = (
        "select relname from pg_catalog.pg_class where relkind = 'p' and relnamespace = 'public'::regnamespace "
        "and relname like 'readings%'"
    )
    with connect(database) as conn:
        return count(conn, ("public", str(scalar(conn, query))))


def ways_table(costs: dict[str, list[Cost]]) -> list[str]:
    """Return the ways as Markdown: medians, and ratios to the floor."""
    wall = {name: statistics.median(run.seconds for run in each) for name, each in costs.items() if each}
    cpu = {name: statistics.median(run.cpu for run in each) for name, each in costs.items() if each}
    lines = ["| way | median s | to the floor | CPU s | to the floor |", "| --- | --- | --- | --- | --- |"]
    for name, seconds in wall.items():
        ratios = f"{seconds / wall[FLOOR.name]:.2f} | {cpu[name]:.2f} | {cpu[name] / cpu[FLOOR.name]:.2f}"
        lines.append(f"| {name} | {seconds:.2f} | {ratios} |")
    return lines


def figures_table(figures: list[felt.Figure]) -> list[str]:
    """Return single figures as Markdown."""
    head = ["| what | measured | target |", "| --- | --- | --- |"]
    return head + [f"| {figure.what} | {figure.value} | {figure.target} |" for figure in figures]


if __name__ == "__main__":
    sys.exit(main())
