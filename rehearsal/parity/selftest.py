"""Proof that a comparison would have seen corruption: corrupt a row of each class, look, roll back.

Owns the corruption and its limits: one leaf, three rows, none that somebody else has locked, never committed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from rehearsal.environment import Database
from rehearsal.parity.digest import digest_leaf
from rehearsal.parity.drill import drill
from rehearsal.parity.pair import Leaf, Pair
from rehearsal.postgres import Connection, connect
from rehearsal.sqlfiles import Quoted, SqlFiles, quote_ident, quote_literal

ATTEMPTS = 5
LEAST_ROWS = 3
DAYS = frozenset({"date", "timestamptz", "timestamp"})
TRIES = 28
BUSY = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)
FORBIDDEN = (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)
# A constraint or a type may refuse one way to corrupt a row; then another one is tried.
REFUSED = (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError)

SETTINGS = """
set local lock_timeout = '500ms'; set local statement_timeout = '60s'; set local jit = off;
set local idle_in_transaction_session_timeout = '60s';
select pg_catalog.set_config('rehearsal.applying', 'on', true)
"""

NUMBERS = frozenset({"int2", "int4", "int8"})
TEXTS = frozenset({"text", "varchar"})
Identity = tuple[str | None, ...]
Wanted = set[tuple[str, Identity]]


@dataclass(slots=True)
class Attempt:
    """What was corrupted, and what of it nothing could be done about."""

    wanted: set[tuple[str, Identity]] = field(default_factory=set[tuple[str, Identity]])
    unseen: list[str] = field(default_factory=list[str])
    impossible: list[str] = field(default_factory=list[str])


class Busy(Exception):
    """Too few rows are free to be corrupted."""


def run_self_test(database: Database, files: SqlFiles, pair: Pair, rows: Mapping[int, int]) -> tuple[bool | None, str]:
    """Return whether every class was seen (None: not possible) and a sentence that says so."""
    leaf = choose_leaf(pair, rows)
    if leaf is None:
        return None, f"no partition of the target has {LEAST_ROWS} rows"
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            return _judge(_attempt(database, files, pair, leaf), leaf)
        except FORBIDDEN as exc:
            return None, f"the role may not write to {leaf.name[1]}: {_first_line(exc)}"
        except Busy as exc:
            reason = str(exc)
        except BUSY as exc:
            reason = _first_line(exc)
        time.sleep(random.uniform(0.05, 0.1) * (attempt + 1))  # noqa: S311 -- jitter between tries for a lock
    return None, f"no free rows in {leaf.name[1]} after {ATTEMPTS} tries: {reason}"


def choose_leaf(pair: Pair, rows: Mapping[int, int]) -> Leaf | None:
    """Return the smallest leaf that is large enough, rather not the newest one, which writers are busy with."""
    fit = [leaf for leaf in pair.leaves if leaf.oid and not leaf.is_default and rows.get(leaf.oid, 0) >= LEAST_ROWS]
    return min(fit[:-1] or fit, key=lambda leaf: rows[leaf.oid], default=None)


def _attempt(database: Database, files: SqlFiles, pair: Pair, leaf: Leaf) -> Attempt:
    """Corrupt and look in one transaction that is always rolled back."""
    with connect(database, autocommit=False, role="parity self-test") as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            conn.execute(SETTINGS)
            return _corrupt_and_look(conn, files, pair, leaf)
        finally:
            if not conn.closed:
                conn.rollback()


def _corrupt_and_look(conn: Connection, files: SqlFiles, pair: Pair, leaf: Leaf) -> Attempt:
    victims = conn.execute(files.query("parity/victims.sql.j2", pair=pair, leaf=leaf)).fetchall()
    if len(victims) < LEAST_ROWS:
        message = f"only {len(victims)} of {LEAST_ROWS} rows are equal in the source and not locked"
        raise Busy(message)
    vandal, attempt = Vandal(conn, files, pair, leaf), Attempt()
    _, before = digest_leaf(conn, files, pair, leaf)
    for (place, identity), kind in zip(victims, ("replaced", "stale", "moved"), strict=True):
        wanted = vandal.corrupt(kind, place, tuple(identity))
        if wanted is None:
            attempt.impossible.append(kind)
        elif wanted:
            attempt.wanted |= wanted
            _, after = digest_leaf(conn, files, pair, leaf)
            if after == before:
                attempt.unseen.append(f"digest of a row that was {kind}")
            before = after
    found = drill(conn, files, pair, [leaf], max_examples=10_000)
    attempt.unseen += sorted(kind for kind, _ in attempt.wanted - {(one.kind, one.identity) for one in found.examples})
    return attempt


def _judge(attempt: Attempt, leaf: Leaf) -> tuple[bool | None, str]:
    kinds = ", ".join(sorted(kind for kind, _ in attempt.wanted)) or "none"
    if attempt.unseen:
        return False, f"corruption in {leaf.name[1]} was not seen: {', '.join(attempt.unseen)}"
    if attempt.impossible:
        return None, f"no row of {leaf.name[1]} could be {', '.join(attempt.impossible)}; corruption seen: {kinds}"
    return True, f"corruption was seen: {kinds}"


@dataclass(frozen=True, slots=True)
class Vandal:
    """Corrupts rows of one leaf, each way at its own savepoint."""

    conn: Connection
    files: SqlFiles
    pair: Pair
    leaf: Leaf

    def corrupt(self, kind: str, place: str, identity: Identity) -> Wanted | None:
        """Return what a comparison must report now; empty if the class does not apply, None if nothing worked."""
        if kind == "replaced":
            return self._replace(place, identity)
        if kind == "moved" and (self.pair.key in self.pair.primary_key or self._holds_one_key):
            return set()
        values = list(self._other_keys() if kind == "moved" else other_values(self.pair))
        if not values and kind == "stale":
            return set()
        return None if self._first("corrupt_update", place, values) is None else {(kind, identity)}

    def _replace(self, place: str, identity: Identity) -> Wanted | None:
        """Put a row in under a key that nobody has; where none can be made, take one out at least."""
        # The key may be the whole identity: then a new one must be free and belong into this leaf, which may be full.
        whole = self.pair.primary_key == (self.pair.key,)
        values = self._free_keys("gone") if whole else new_keys(self.pair)
        new = self._first("corrupt_replace", place, values, stored=self.pair.source.stored_columns)
        if new is not None:
            return {("missing", identity), ("orphan", new)}
        query = self.files.query("parity/corrupt_delete.sql.j2", leaf=self.leaf, place=place)
        return {("missing", identity)} if self.conn.execute(query).rowcount else None

    @property
    def _holds_one_key(self) -> bool:
        """Whether no row of the leaf can have another key: a list of one value."""
        part = next((one for one in self.pair.target.partitions if one.oid == self.leaf.oid), None)
        return part is not None and len(part.values) == 1

    def _other_keys(self) -> Iterator[tuple[str, Quoted]]:
        key, leaf = quote_ident(self.pair.key), quote_ident(self.leaf.name)
        for order in ("desc", "asc"):
            other = f"select y.{key} from {leaf} as y where y.{key} <> x.{key} order by y.{key} {order} limit 1"  # noqa: S608 -- quoted
            yield self.pair.key, Quoted(f"({other})")
        yield from self._free_keys("x")

    def _free_keys(self, alias: str) -> Iterator[tuple[str, Quoted]]:
        """Yield keys near a row's own; what another row or another leaf has is refused by PostgreSQL."""
        own, kind = f"{alias}.{quote_ident(self.pair.key)}", self.pair.base_of(self.pair.key)
        lower = next((one.lower for one in self.pair.target.partitions if one.oid == self.leaf.oid), None)
        for step in range(TRIES):
            yield from ((self.pair.key, Quoted(one)) for one in near(own, kind, lower, step))

    def _first(
        self, template: str, place: str, values: Iterable[tuple[str, Quoted]], **more: object
    ) -> Identity | None:
        """Try one value after the other; return the identity of the row afterwards, or None if all were refused."""
        for column, value in values:
            query = self.files.query(
                f"parity/{template}.sql.j2",
                pair=self.pair,
                leaf=self.leaf,
                place=place,
                column=column,
                value=value,
                **more,
            )
            with contextlib.suppress(*REFUSED), self.conn.transaction():
                row = self.conn.execute(query).fetchone()
                if row:
                    return tuple(row[0])
        return None


def new_keys(pair: Pair) -> Iterator[tuple[str, Quoted]]:
    """Yield expressions for a primary key that no row has; `gone` is the row that is copied."""
    for name in pair.primary_key:
        if name == pair.key:
            continue
        column, source = quote_ident(name), quote_ident(pair.source.name)
        lowest = f"(select min(z.{column}) from {source} as z)"  # noqa: S608 -- quoted
        own = ("gone", name)
        for value in NEW_KEYS.get(pair.base_of(name), ()):
            yield name, Quoted(value.format(lowest=lowest, own=quote_ident(own)))


def other_values(pair: Pair) -> Iterator[tuple[str, Quoted]]:
    """Yield expressions that change a column which is not part of the identity; `x` is the row."""
    free = [column for column in pair.source.columns if column.name not in pair.identity and not column.generated]
    easy = list(OTHER_VALUES)
    bases = {column.name: pair.base_of(column.name) for column in free}
    for column in sorted(free, key=lambda one: easy.index(bases[one.name]) if bases[one.name] in OTHER_VALUES else 99):
        name = "x." + quote_ident(column.name)
        for value in OTHER_VALUES.get(bases[column.name], ()):
            yield column.name, Quoted(value.format(x=name))
        if not column.not_null:
            yield column.name, Quoted(f"case when {name} is not null then null else {name} end")


def near(own: str, kind: str, lower: str | None, step: int) -> Iterator[str]:
    """Yield expressions for keys of a type, the `step`-th ones from the leaf's lower bound or from a row's own."""
    if kind in DAYS and lower is not None:
        yield f"({quote_literal(lower)}::{kind} + {step} * interval '1 day')::{kind}"
    elif kind in NUMBERS:
        yield from (f"({lower})::{kind} + {step}",) if lower is not None else ()
        yield from (f"{own} + {step + 1}", f"{own} - {step + 1}")
    elif kind == "uuid":
        # The first 15 characters hold the time and the version.
        yield f"(left({own}::text, 15) || substr(gen_random_uuid()::text, 16))::uuid"
        yield "gen_random_uuid()"
    elif kind in TEXTS:
        yield "md5(random()::text)"


NUMBER = ("coalesce({x}, 0) + 1", "coalesce({x}, 0) - 1")
TEXT = ("coalesce({x}, '') || '~'", "left(pg_catalog.md5(coalesce({x}, '')), 4)")
TIME = ("coalesce({x}, 'epoch') + interval '1 second'",)
OTHER_VALUES = {
    "text": TEXT,
    "varchar": TEXT,
    "numeric": NUMBER,
    "float8": NUMBER,
    "float4": NUMBER,
    "timestamptz": TIME,
    "timestamp": TIME,
    "date": ("coalesce({x}, 'epoch') + 1",),
    "bool": ("not coalesce({x}, false)",),
    "int8": NUMBER,
    "int4": NUMBER,
    "int2": NUMBER,
    "uuid": ("pg_catalog.gen_random_uuid()",),
}
BELOW = ("least({lowest}, 0) - 1",)
# A row's own text with a sign more passes most checks on how it begins.
NEW_TEXTS = ("{own} || '~'", "md5(random()::text)", "left(md5(random()::text), 8)")
NEW_KEYS = {
    "int8": BELOW,
    "int4": BELOW,
    "int2": BELOW,
    "numeric": BELOW,
    "uuid": ("pg_catalog.gen_random_uuid()",),
    "text": NEW_TEXTS,
    "varchar": NEW_TEXTS,
    "bpchar": NEW_TEXTS,
    "bytea": ("{own} || '\\x00'::bytea", "sha256({own})"),
    "float8": BELOW,
    "float4": BELOW,
    "interval": ("{lowest} - interval '1 day'",),
    "timestamptz": ("{lowest} - interval '1 day'",),
    "timestamp": ("{lowest} - interval '1 day'",),
    "date": ("{lowest} - 1",),
}


def _first_line(exc: psycopg.Error) -> str:
    return str(exc).partition("\n")[0]
