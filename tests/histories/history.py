"""One history: who does the next statement is drawn from the seed, until the engine is through and all have ended."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect
from rehearsal.switchover.table import Switchover
from tests.fix_tables import make_switchover
from tests.histories.actors import Engine, Session, Stuck, install
from tests.histories.model import Model, Pair
from tests.histories.programs import Act, Effect, Writer
from tests.histories.world import FILES, ITEMS, plan_of, target_of

# What PostgreSQL may answer to a writer at any time; anything else is a finding.
REFUSALS = {"40001", "40P01", "23505"}
ENGINE_SHARE = 0.75
TAIL = 2
SLEEPY = 0.1
MAX_TURNS = 5_000
END_ALL = """
select pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
where datname = current_database() and application_name like 'pg-rehearsal %' and pid <> pg_backend_pid()
"""


@dataclass
class Told:
    """What came of a history."""

    seed: int
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


@dataclass
class Player:
    """A session of the application, its program and its transaction under way."""

    session: Session
    writer: Writer
    acts: Iterator[Act] = field(default_factory=lambda: iter(()))
    act: Act | None = None
    effects: list[Effect] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    since: int = 0
    transactions: int = 0
    is_open: bool = False


@dataclass
class History:
    """Plays a history of one strategy on a fresh database."""

    database: Database
    strategy: str
    seed: int
    folder: Path
    with_pairs: bool
    sessions: int
    model: Model = field(default_factory=Model)
    told: Told = field(init=False)

    def __post_init__(self) -> None:
        self.told = Told(self.seed)
        self.chance = random.Random(self.seed)

    def play(self) -> Told:
        """Play it and judge the end."""
        with ExitStack() as stack:
            judge = stack.enter_context(connect(self.database, role="judge"))
            self.model.commit([((row[0], row[1]), row[2]) for row in judge.execute(_rows(ITEMS))])
            run = Run.create(self.folder, "local", f"history-{self.seed}")
            work = make_switchover(self.database, FILES, plan_of(self.strategy), run)
            engine = Engine(self._legs(work), judge)
            players = [self._player(number, judge) for number in range(self.sessions)]
            install(engine.gate)
            try:
                self._turns(engine, players)
                self.told.counts["locks given up"] += engine.given_up
            except Stuck as exc:
                self.told.problems.append(f"stuck: {exc}")
            finally:
                engine.gate.open()
                if not engine.is_done:
                    judge.execute(END_ALL)
                engine.close()
                install(None)
                for player in players:
                    player.session.close()
            if not self.told.problems:
                self._judge(judge, work)
        return self.told

    def _legs(self, work: Switchover) -> list[tuple[str, Callable[[], object]]]:
        legs: list[tuple[str, Callable[[], object]]] = [("prepare", work.prepare), ("switch", work.switch)]
        if self.strategy == "swap":
            legs += [("roll back", work.roll_back), ("again", work.switch)]
        return legs

    def _player(self, number: int, judge: Connection) -> Player:
        conn = connect(self.database, role="app")
        chance = random.Random(f"{self.seed} {number}")
        # After a swap the partitioned table cannot refuse an id twice: there the application must draw its ids.
        twice = self.with_pairs or self.strategy == "dual-write"
        return Player(Session(number, conn, judge), Writer(number, chance, self.with_pairs, twice))

    def _turns(self, engine: Engine, players: list[Player]) -> None:
        # A session that sleeps in its transactions has old snapshots and holds locks over whole steps of the engine.
        weights = [SLEEPY if player.session.number == 0 and self.chance.random() < 0.5 else 1.0 for player in players]
        for _ in range(MAX_TURNS):
            if engine.is_done and all(player.transactions >= TAIL and not player.is_open for player in players):
                return
            if not engine.is_done and self.chance.random() < ENGINE_SHARE:
                engine.step()
                self._note(f"engine: {engine.leg}")
                if engine.is_done:
                    for player in players:
                        player.transactions = 0
            else:
                self._turn(self.chance.choices(players, weights)[0], engine)
            if self.told.problems:
                return
        message = f"no end after {MAX_TURNS} turns, in {engine.leg}"
        raise Stuck(message)

    def _turn(self, player: Player, engine: Engine) -> None:
        if not player.session.is_blocked:
            if not player.is_open and engine.is_done and player.transactions >= TAIL:
                return
            player.act = next(player.acts, None)
            if player.act is None:
                player.acts, player.is_open = self._program(player, engine), True
                player.act = next(player.acts)
            player.session.begin(player.act.send)
        done, rows, error = player.session.result()
        self._note(f"session {player.session.number}: {player.act.text if player.act else ''}", done=done, error=error)
        if done:
            self._take(player, rows, error)

    def _program(self, player: Player, engine: Engine) -> Iterator[Act]:
        table = ITEMS
        if self.strategy == "dual-write" and engine.is_done and self.chance.random() < 0.5:
            table = target_of()
        return player.writer.transaction(table, lambda: [*self.model.rows, *(pair for pair, _ in player.effects)])

    def _take(self, player: Player, rows: list[object] | None, error: psycopg.Error | None) -> None:
        act = player.act
        assert act
        self.told.counts["statements"] += 1
        if act.kind == "truncate" and error is None:
            self.told.problems.append("TRUNCATE was not refused")
        if error is not None:
            self._refused(player, act, error)
            return
        if act.kind == "begin":
            player.effects, player.marks, player.since = [], {}, self.model.commits
        elif act.kind == "savepoint":
            player.marks[act.mark] = len(player.effects)
        elif act.kind == "rollback to":
            del player.effects[player.marks[act.mark] :]
        elif act.kind == "commit":
            self.model.commit(player.effects)
            self.told.counts["commits"] += 1
        elif act.kind == "write":
            self._witness(player, act, rows or [])
            player.effects += act.effects(rows or [])
        if act.kind in ("commit", "rollback"):
            player.effects = []
        if act.text.endswith("= origin"):
            player.is_open = False
            player.transactions += 1

    def _witness(self, player: Player, act: Act, rows: list[object]) -> None:
        must = [pair for pair in act.aims if self.model.must_find(pair, player.since, player.effects)]
        if len(rows) < len(must):
            self.told.problems.append(f"session {player.session.number}: {act.text} did not find {must}")

    def _refused(self, player: Player, act: Act, error: psycopg.Error) -> None:
        self.told.counts[f"refused {error.sqlstate}"] += 1
        if error.sqlstate not in REFUSALS and not (act.kind == "truncate" and error.sqlstate == "55006"):
            self.told.problems.append(f"session {player.session.number}: {act.text}: {error.sqlstate} {error}")
        player.session.conn.execute("rollback")
        player.session.conn.execute("set session_replication_role = origin")
        player.acts, player.effects, player.is_open = iter(()), [], False
        player.transactions += 1

    def _judge(self, judge: Connection, work: Switchover) -> None:
        try:
            if work.log_now(judge) is not None:
                work.follow()
        except StepFailed as exc:
            # A row that stands where it should not may stop the log before the tables can be compared.
            self.told.problems.append(f"the log cannot be replayed: {exc}")
            return
        names = work.names
        pair = (ITEMS, names.target) if self.strategy == "dual-write" else (ITEMS, names.retired)
        left, right = (judge.execute(_rows(side)).fetchall() for side in pair)
        if left != right:
            apart = sorted(row[:3] for row in set(left) ^ set(right))
            self.told.problems.append(f"the two tables differ: {apart[:6]}")
        have: dict[Pair, str] = {(row[0], row[1]): row[2] for row in left}
        if have != self.model.rows:
            apart = sorted(set(have.items()) ^ set(self.model.rows.items()))
            self.told.problems.append(f"table and acknowledged writes differ: {apart[:6]}")
        self.told.counts["rows"] += len(have)

    def _note(self, what: str, *, done: bool = True, error: psycopg.Error | None = None) -> None:
        note = f"{what}{'' if done else ' … waits'}{f' ! {error.sqlstate}' if error else ''}"
        if not self.told.trace or self.told.trace[-1] != note:
            self.told.trace.append(note)


def _rows(table: Name) -> sql.Composed:
    return sql.SQL("select id, k, v, pad from {} order by 1, 2, 3").format(sql.Identifier(*table))
