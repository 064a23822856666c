"""What the application does: random transactions of random statements."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.postgres.connection import Connection
from tests.histories.model import Pair

LEVELS = ("read committed", "read committed", "repeatable read", "serializable")
FIRST = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 100
IDS = 14
Effect = tuple[Pair, str | None]


@dataclass
class Act:
    """One statement: how it is sent, what its rows mean, and which rows it aims at."""

    text: str
    send: Callable[[Connection], list[Any]]
    effects: Callable[[list[Any]], list[Effect]]
    aims: tuple[Pair, ...] = ()
    kind: str = "write"
    mark: str = ""


@dataclass
class Writer:
    """Makes the statements of one session."""

    number: int
    chance: random.Random
    with_pairs: bool
    twice: bool
    values: int = 0
    gids: int = 0
    fresh: int = field(init=False)

    def __post_init__(self) -> None:
        self.fresh = 1_000 * (self.number + 1)

    def transaction(self, table: Name, known: Callable[[], list[Pair]]) -> Iterator[Act]:
        """Return the statements of one transaction, made one by one from the rows that are known then."""
        level = self.chance.choice(LEVELS)
        if self.chance.random() < 0.1:
            yield _plain("set session_replication_role = replica")
        yield _plain(f"begin isolation level {level}", "begin")
        saved = 0
        for _ in range(self.chance.randint(1, 4)):
            what = self.chance.choices(*_weighted(self.with_pairs))[0]
            if what == "savepoint":
                saved += 1
                yield _plain(f"savepoint s{saved}", "savepoint", f"s{saved}")
            elif what == "rollback to" and not saved:
                continue
            elif what == "rollback to":
                yield _plain(f"rollback to savepoint s{saved}", "rollback to", f"s{saved}")
            elif what == "look":
                yield _plain("select count(*) from public.others")
            elif what == "truncate":
                yield Act(
                    "truncate", _sender(sql.SQL("truncate {}").format(sql.Identifier(*table))), list, (), "truncate"
                )
            else:
                yield getattr(self, f"_{what.replace(' ', '_')}")(sql.Identifier(*table), known())
        end = self.chance.random()
        if end < 0.12:
            yield _plain("rollback", "rollback")
        elif end < 0.24:
            self.gids += 1
            gid = f"g{self.number}-{self.gids}"
            yield _plain(f"prepare transaction '{gid}'", "prepare")
            wanted = "commit" if self.chance.random() < 0.8 else "rollback"
            yield _plain(f"{wanted} prepared '{gid}'", wanted)
        else:
            yield _plain("commit", "commit")
        yield _plain("set session_replication_role = origin")

    def _value(self) -> str:
        self.values += 1
        return f"s{self.number}v{self.values}"

    def _key(self) -> datetime:
        return FIRST + timedelta(days=self.chance.randrange(DAYS))

    def _new(self) -> Pair:
        # Now and then an id that others use as well, so that there are duplicates to refuse.
        self.fresh += 1
        again = self.twice and self.chance.random() < 0.15
        return (self.chance.randint(1, IDS) if again else self.fresh), self._key()

    def _pick(self, known: list[Pair]) -> Pair:
        return self.chance.choice(known) if known else (1, self._key())

    def _insert(self, table: sql.Identifier, _known: list[Pair]) -> Act:
        rows = [(*self._new(), self._value()) for _ in range(self.chance.choice((1, 1, 1, 3)))]
        values = sql.SQL(", ").join(sql.SQL("({}, {}, {})").format(*row) for row in rows)
        text = sql.SQL("insert into {} (id, k, v) values {} returning id, k, v").format(table, values)
        return Act(f"insert {rows}", _sender(text), _put)

    def _upsert(self, table: sql.Identifier, known: list[Pair]) -> Act:
        pair, value = self._pick(known), self._value()
        text = sql.SQL(
            "insert into {} (id, k, v) values ({}, {}, {}) "
            "on conflict (id, k) do update set v = excluded.v returning id, k, v"
        ).format(table, *pair, value)
        return Act(f"upsert {pair} {value}", _sender(text), _put)

    def _copy(self, table: sql.Identifier, _known: list[Pair]) -> Act:
        rows = [(*self._new(), self._value()) for _ in range(2)]

        def send(conn: Connection) -> list[Any]:
            with conn.cursor() as cursor, cursor.copy(sql.SQL("copy {} (id, k, v) from stdin").format(table)) as copy:
                for row in rows:
                    copy.write_row(row)
            return rows

        return Act(f"copy {rows}", send, _put)

    def _update(self, table: sql.Identifier, known: list[Pair]) -> Act:
        pairs = tuple({self._pick(known) for _ in range(self.chance.choice((1, 1, 2)))})
        where = sql.SQL(" or ").join(sql.SQL("(id, k) = ({}, {})").format(*pair) for pair in pairs)
        value = self._value()
        text = sql.SQL("update {} set v = {} where {} returning id, k, v").format(table, value, where)
        return Act(f"update {pairs} {value}", _sender(text), _put, pairs)

    def _delete(self, table: sql.Identifier, known: list[Pair]) -> Act:
        pair = self._pick(known)
        text = sql.SQL("delete from {} where (id, k) = ({}, {}) returning id, k, v").format(table, *pair)
        return Act(f"delete {pair}", _sender(text), lambda rows: [((row[0], row[1]), None) for row in rows], (pair,))

    def _key_move(self, table: sql.Identifier, known: list[Pair]) -> Act:
        pair = self._pick(known)
        return self._move(table, pair, (pair[0], self._key()))

    def _id_change(self, table: sql.Identifier, known: list[Pair]) -> Act:
        pair = self._pick(known)
        return self._move(table, pair, (self._new()[0], pair[1]))

    def _move(self, table: sql.Identifier, old: Pair, new: Pair) -> Act:
        value = self._value()
        text = sql.SQL("update {} set id = {}, k = {}, v = {} where (id, k) = ({}, {}) returning id, k, v").format(
            table, *new, value, *old
        )
        return Act(f"move {old} to {new} {value}", _sender(text), lambda rows: _moved(old, rows), (old,))


def _moved(old: Pair, rows: list[Any]) -> list[Effect]:
    return [(old, None), *_put(rows)] if rows else []


def _put(rows: list[Any]) -> list[Effect]:
    return [((row[0], row[1]), row[2]) for row in rows]


def _plain(text: str, kind: str = "plain", mark: str = "") -> Act:
    def send(conn: Connection) -> list[Any]:
        conn.execute(sql.SQL(text))
        return []

    return Act(text, send, lambda _rows: [], (), kind, mark)


def _sender(text: sql.Composed) -> Callable[[Connection], list[Any]]:
    def send(conn: Connection) -> list[Any]:
        found = conn.execute(text)
        return found.fetchall() if found.description else []

    return send


def _weighted(with_pairs: bool) -> tuple[list[str], list[int]]:
    weights = {
        "insert": 4, "update": 6, "delete": 3, "key move": 3, "id change": 1, "copy": 1, "look": 1, "savepoint": 2,
        "rollback to": 2, "truncate": 1, "upsert": 3 if with_pairs else 0,
    }  # fmt: skip
    return list(weights), list(weights.values())
