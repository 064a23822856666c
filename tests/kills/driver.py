"""Journey after journey, killed at step after step, until the kills are used up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_postgres import ROOT
from tests.fix_tables import deploy, make_switchover
from tests.kills.life import UNCLEAR, End, Target, live
from tests.kills.weapons import KINDS, Arms
from tests.kills.world import JOURNEYS, NAME, Leg, differences, leftovers, listing, make_table, plan_of, sessions

MAX_QUIET_FAILURES = 2
NEXT_STEPS = 3
# Kills that the engine survives to tell, and must tell clearly.
TOLD = ("backend ended", "backend killed", "server stopped", "server killed")


@dataclass
class Report:
    """What was done and what came of it."""

    kills: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    journeys: int = 0
    lost: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing to repair, nothing left over, no unclear word."""
        return not (self.lost or self.differing or self.repairs or self.unclear or self.leftovers)


@dataclass
class Ledger:
    """What the writers of a journey were told; empty until they have ended."""

    rows: dict[str, str | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)


@dataclass
class Driver:
    """Kills journeys on one cluster."""

    arms: Arms
    base: Path
    chance: random.Random
    mutate: Callable[[], None] | None = None
    only: str | None = None
    report: Report = field(default_factory=Report)
    quiet: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    whole: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    _number: int = 0
    _bag: list[str] = field(default_factory=list)

    def run(self, kills: int, strategies: tuple[str, ...]) -> Report:
        """Learn each strategy from a journey in peace, then kill until `kills` are done, strategies in turns.

        A defect that was put in is looked for until it is found.
        """
        for strategy in strategies:
            self.journey(strategy, 0)
        turn = 0
        while sum(self.report.kills.values()) < kills and not (self.mutate and not self.report.is_clean):
            before = sum(self.report.kills.values())
            self.journey(strategies[turn % len(strategies)], kills - before)
            turn += 1
        return self.report

    def journey(self, strategy: str, kills: int) -> None:
        """Go one journey under writers, killed at most that often; then look at everything."""
        with self._database() as database:
            with self.arms.open(database) as conn:
                conn.execute(SqlFiles(ROOT / "sql").query("registry.sql"))
                make_table(conn)
                deploy(conn, SqlFiles(ROOT / "sql"), plan_of(strategy))
            run = Run.create(self.base / "runs", "local", f"kills-{self._number}")
            with _writing(database) as ledger:
                for leg in JOURNEYS[strategy]:
                    kills -= self._leg(database, strategy, leg, run, kills)
            self._judge(database, strategy, run, ledger)
        self.report.journeys += 1

    def _leg(self, database: Database, strategy: str, leg: Leg, run: Run, kills: int) -> int:
        """Live until the leg is done; return how often it was killed."""
        done = failures = rank = 0
        with self.arms.open(database) as conn:
            leg.before(conn)
        while True:
            target = self._target(strategy, leg, rank) if done < kills else None
            end = live(database, strategy, leg, run, target, self.arms.strike, self.mutate)
            if target and end.struck_in:
                done += 1
                rank = leg.order.index(end.struck_in) + self.chance.choice((0, 1))
                self.report.kills[strategy, leg.name, end.struck_in, target.kind] += 1
                self._listen(strategy, leg, target, end)
                with self.arms.open(database):
                    # Nobody goes on before the server is up again; where a run would find it down, it says so.
                    pass
            elif end.code != 0:
                failures += 1
                self.report.repairs.append(f"{strategy} {leg.name}: {end.error}: {end.message}")
            if end.code == 0 or failures > MAX_QUIET_FAILURES:
                self.quiet.setdefault((strategy, leg.name), end.counts)
                return done

    def _target(self, strategy: str, leg: Leg, rank: int) -> Target | None:
        """Choose a statement of the next steps, of the one that was killed least."""
        counts = self.quiet.get((strategy, leg.name), [])
        steps = [step for step in range(rank, len(counts)) if counts[step] and self.only in (None, leg.order[step])]
        steps = steps[:NEXT_STEPS]
        if not steps:
            return None
        at = min(steps, key=lambda step: (self._killed(strategy, leg, step), self.chance.random()))
        self._bag = self._bag or self.chance.sample(KINDS, len(KINDS))
        return Target(at, self.chance.randint(1, counts[at]), self._bag.pop(), self.chance.random() < 0.5)

    def _killed(self, strategy: str, leg: Leg, rank: int) -> int:
        return sum(n for key, n in self.report.kills.items() if key[:3] == (strategy, leg.name, leg.order[rank]))

    def _listen(self, strategy: str, leg: Leg, target: Target, end: End) -> None:
        """What a life says at its end must be clear: an error of ours, with its exit code."""
        if end.code == 0 or (end.code < 0 and target.kind not in TOLD):
            return
        self.report.errors[f"{end.error} (exit {end.code})"] += 1
        if end.code == UNCLEAR or end.code < 0:
            where = f"{strategy} {leg.name}, {end.struck_in}, {target.kind}"
            self.report.unclear.append(f"{where}: {end.error}: {end.message}")

    def _judge(self, database: Database, strategy: str, run: Run, ledger: Ledger) -> None:
        files, report = SqlFiles(ROOT / "sql"), self.report
        work = make_switchover(database, files, plan_of(strategy), run)
        with self.arms.open(database) as conn:
            where = f"journey {self._number} ({strategy})"
            if work.log_now(conn) is not None:
                work.follow()
            report.writes.update(ledger.counts)
            report.lost += [f"{where}: {text}" for text in _lost(conn, ledger)]
            written = sum(note is not None for note in ledger.rows.values())
            if apart := differences(conn, strategy, written):
                report.differing.append(f"{where}: {apart}")
            found = listing(conn)
            wanted = self.whole.setdefault(strategy, found)
            report.leftovers += [f"{where}: {text}" for text in leftovers(found, wanted)]
            report.leftovers += [f"{where}: {session}" for session in self._sessions(conn)]

    def _sessions(self, conn: Connection) -> list[str]:
        """Return sessions that stay; those of a killed life end by client_connection_check_interval."""
        for _ in range(100):
            if not (left := [session for session in sessions(conn) if not session.startswith("pg-rehearsal judge")]):
                return []
            conn.execute("select pg_sleep(0.05)")
        return [f"session {session}" for session in left]

    @contextmanager
    def _database(self) -> Iterator[Database]:
        self._number += 1
        server = self.arms.server
        name = sql.Identifier(f"kills_{self._number}")
        with connect(server) as conn:
            conn.execute(sql.SQL("create database {}").format(name))
        yield dataclasses.replace(server, name=f"kills_{self._number}")
        with self.arms.open(server) as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(name))


@contextmanager
def _writing(database: Database) -> Iterator[Ledger]:
    """Keep writers at work for the block; the ledger is filled at its end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.kills.writers"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    child.stdin.write(json.dumps(dataclasses.asdict(database)) + "\n")
    child.stdin.flush()
    ledger = Ledger()
    try:
        yield ledger
    finally:
        with contextlib.suppress(BrokenPipeError):
            out, _ = child.communicate(timeout=60)
            vars(ledger).update(json.loads(out))


def _lost(conn: Connection, ledger: Ledger) -> list[str]:
    query = sql.SQL("select id, note from {} where id = any(%s)").format(sql.Identifier(*NAME))
    have: dict[int, str | None] = dict(conn.execute(query, [[int(number) for number in ledger.rows]]).fetchall())
    wrong = [f"row {row} is {have.get(int(row))!r}, acknowledged was {note!r}" for row, note in ledger.rows.items()
             if have.get(int(row)) != note]  # fmt: skip
    return [*ledger.missed, *wrong]
