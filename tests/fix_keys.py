"""Tables with every kind of partition key and primary key, and writers for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes
from tests.waiting import eventually
from tests.writing import ACTIONS, Writers, at_work

TABLE: Name = ("public", 'Key"ed Rows')
ROWS = 1_500
# Of the writers of one block; those of the next block begin after them.
NUMBERS = 15_000
SESSIONS = 3
# A spread of instants in the first five months of 2026, without a pattern that would hide a wrong bound.
MOMENT = "('2026-01-01 00:00:00+00'::timestamptz + (n * 7919 % 13000000) * interval '1 second')"
MILLIS = f"(extract(epoch from {MOMENT}) * 1000)::bigint"
BITS = "'7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15)"
UUID_V7 = f"(lpad(to_hex({MILLIS}), 12, '0') || {BITS})::uuid"


@dataclass(frozen=True, slots=True)
class Specimen:
    """A table: its columns beside `tag` and `note`, how they are made of a number n, and its part of the plan."""

    columns: str
    primary: str
    values: dict[str, str]
    spec: dict[str, Any]
    before: str = ""

    @property
    def setup(self) -> str:
        """Statements that make and fill the table."""
        table = sql.Identifier(*TABLE).as_string(None)
        names = ", ".join(sql.Identifier(name).as_string(None) for name in self.values)
        return f"""{self.before};
            create table {table} (tag bigint not null, note text, {self.columns}, primary key ({self.primary}));
            insert into {table} (tag, note, {names})
            select n, 'row ' || n, {", ".join(self.values.values())} from generate_series(1, {ROWS}) as n;
            create index on {table} (tag);
            analyze {table};
        """

    def plan(self, strategy: str, **more: Any) -> Plan:
        """Return the plan."""
        flags = {"reads": "R", "writes": "W"} if strategy == "dual-write" else None
        values = {"name": "keyed", "strategy": strategy, "flags": flags, "tables": [self.table]}
        return Plan.model_validate({**values, "copy": {"chunk_rows": 200, "drain_batch": 50}, **more})

    @property
    def table(self) -> dict[str, Any]:
        """Return its table of a plan."""
        return {"name": ".".join(TABLE), "marker": "note", **self.spec}


def _by_month(columns: str, primary: str, values: dict[str, str], before: str = "") -> Specimen:
    return Specimen(f"{columns}, at timestamptz not null", primary, {**values, "at": MOMENT}, {"key": "at"}, before)


NUMBER = "n * 7919 % 9000 - 2000"
REGION = "(array['de', 'fr', 'us', 'o''neill', 'a, b', 'elsewhere'])[1 + n % 6]"
REGIONS: dict[str, list[str | int]] = {"eu": ["de", "fr"], "us": ["us"], "odd": ["o'neill", "a, b"]}
EPOCH = {"interval": "1 month", "premake": 1}

METHODS: dict[str, Specimen] = {
    "bigint range": Specimen(
        '"K ey" bigint not null', "tag", {"K ey": NUMBER}, {"key": "K ey", "interval": "1000", "premake": 2}
    ),
    "integer range that is the primary key": Specimen(
        "id int", "id", {"id": "(n * 2)::int"}, {"key": "id", "interval": "100000"}
    ),
    "smallint range to both ends of the type": Specimen(
        "k smallint not null", "tag", {"k": "(n * 7919 % 65536 - 32768)::smallint"}, {"key": "k", "interval": "5000"}
    ),
    "bigint epoch in ms": Specimen(
        "k bigint not null", "tag", {"k": MILLIS}, {"key": "k", "epoch": "ms", **EPOCH}
    ),
    "int epoch in s": Specimen(
        "k int not null", "tag, k", {"k": f"({MILLIS} / 1000)::int"}, {"key": "k", "epoch": "s", "interval": "2 weeks"}
    ),
    "uuid v7 that is the primary key": Specimen(
        "id uuid", "id", {"id": UUID_V7}, {"key": "id", "interval": "1 month", "premake": 1}
    ),
    "date of a domain": Specimen(
        "day known_day not null", "tag", {"day": f"{MOMENT}::date"}, {"key": "day", "interval": "1 week"},
        "create domain public.some_day as date; "
        "create domain public.known_day as public.some_day check (value > '2000-01-01')",
    ),
    "timestamp": Specimen(
        "at timestamp not null", "tag", {"at": f"{MOMENT} at time zone 'UTC'"}, {"key": "at", "interval": "1 month"}
    ),
    "list of text with a default": Specimen(
        "region text not null", "tag", {"region": REGION},
        {"key": "region", "method": "list", "values": REGIONS, "default_partition": True},
    ),
    "list of an enum in the primary key": Specimen(
        "kind kind", "kind, tag", {"kind": "(array['a', 'B b', 'c']::public.kind[])[1 + n % 3]"},
        {"key": "kind", "method": "list", "values": {"first": ["a"], "rest": ["c", "B b"]}},
        "create type public.kind as enum ('a', 'B b', 'c')",
    ),
    "list of numbers": Specimen(
        "k int not null", "tag", {"k": "(n % 4 - 1)::int"},
        {"key": "k", "method": "list", "values": {"low": [-1, "00"], "high": [1, 2]}},
    ),
    "list of booleans": Specimen(
        "done boolean not null", "tag", {"done": "n % 3 = 0"},
        {"key": "done", "method": "list", "values": {"open": ["no"], "closed": ["yes"]}},
    ),
    "hash of a bigint primary key": Specimen(
        "id bigint", "id", {"id": "n"}, {"key": "id", "method": "hash", "modulus": 4}
    ),
    "hash of a text of a domain": Specimen(
        "tenant tenant not null", "tag", {"tenant": "'tenant ' || n % 50"},
        {"key": "tenant", "method": "hash", "modulus": 3}, "create domain public.tenant as varchar(40)",
    ),
    "hash of a uuid": Specimen(
        "id uuid", "id", {"id": "md5(n::text)::uuid"}, {"key": "id", "method": "hash", "modulus": 5}
    ),
}  # fmt: skip

PRIMARY_KEYS: dict[str, Specimen] = {
    "text of another collation, and an integer": _by_month(
        'a text collate "C", b int', "a, b", {"a": "'Ä ' || n % 700", "b": "(n / 700)::int"}
    ),
    "text that ignores case": _by_month(
        "name text collate public.no_case",
        "name",
        {"name": "(array['Ab', 'aB', 'AB'])[1 + n % 3] || n"},
        "create collation public.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    ),
    "char": _by_month("code char(12)", "code", {"code": "'c' || n"}),
    "bytea": _by_month("digest bytea", "digest", {"digest": "sha256(n::text::bytea)"}),
    "numeric": _by_month("a numeric", "a", {"a": "(n || case n % 2 when 0 then '.50' else '.5' end)::numeric"}),
    "domain": _by_month(
        "code code", "code", {"code": "'c-' || n"}, "create domain public.code as text check (value like 'c%')"
    ),
    "array": _by_month("path int[]", "path", {"path": "array[n % 7, n]::int[]"}),
    "composite type": _by_month(
        "place place", "place", {"place": "row(n::int, 'a, \"b\" ' || n)::public.place"},
        "create type public.place as (x int, name text)",
    ),
    "interval and float": _by_month(
        "i interval, f float8", "i, f", {"i": "n * interval '1 hour'", "f": "n / 3.0"}
    ),
}  # fmt: skip
SPECIMENS = METHODS | PRIMARY_KEYS


def deploy_now(conn: Connection, files: SqlFiles, plan: Plan) -> list[str]:
    """Apply the rendered changes as the registry would, with the bounds of today; return their texts."""
    changes = render_changes(conn, files, plan, datetime.now(UTC))
    for change in changes:
        with conn.transaction():
            conn.execute(as_query(change.body))
            conn.execute(
                "insert into rehearsal.change (name, checksum, body) values (%s, 'test', %s) on conflict do nothing",
                [change.name, change.body],
            )
    return [change.body for change in changes]


class KeyPen:
    """Writes the table of a specimen, with numbers that no other session takes."""

    def __init__(self, specimen: Specimen, table: Name, first: int, seed: int) -> None:
        self.specimen, self.table = specimen, table
        # The numbers after them are those of the writers that come later: two rows would have the same tag.
        self.fresh = iter(range(first + seed, first + NUMBERS, SESSIONS))
        self.ahead = list(islice(self.fresh, 1))

    def actions(self) -> Sequence[str]:
        """Return what may come next: when the numbers are used up, nothing that needs one."""
        return ACTIONS if self.ahead else ("update",)

    def _take(self) -> int:
        (number,), self.ahead = self.ahead, list(islice(self.fresh, 1))
        return number

    def write(self, conn: Connection, action: str, row: int, note: str) -> int:
        """Write the row with this tag."""
        number = self._take() if action in ("insert", "move") else 0
        tag = number if action == "insert" else row
        conn.execute("set search_path = public, pg_catalog")
        done = conn.execute(as_query(self._text(action)), {"note": note, "tag": tag, "number": number}).rowcount
        assert done == 1, f"{action} of {tag} touched {done} rows"
        return tag

    def _text(self, action: str) -> str:
        values, key = self.specimen.values, self.specimen.spec["key"]
        names = ", ".join(sql.Identifier(name).as_string(None) for name in values)
        texts = {
            "insert": f"insert into {{t}} (tag, note, {names}) select n, %(note)s, {', '.join(values.values())} "
            "from (select %(number)s::bigint as n) as g",
            "update": "update {t} set note = %(note)s where tag = %(tag)s",
            "move": f"update {{t}} set note = %(note)s, {sql.Identifier(key).as_string(None)} = "
            f"(select {values[key]} from (select %(number)s::bigint as n) as g) where tag = %(tag)s",
            "delete": "delete from {t} where tag = %(tag)s",
        }
        return texts[action].replace("{t}", sql.Identifier(*self.table).as_string(None)).replace(" % ", " %% ")


@contextmanager
def writing_keys(database: Database, specimen: Specimen, table: Name = TABLE, first: int = 5_000) -> Iterator[Writers]:
    """Keep writers at work for the block, and until each kind of write was acknowledged."""
    state = Writers(database, partial(KeyPen, specimen, table, first), row="tag")
    with at_work(*state.jobs(SESSIONS)) as working:
        yield state
        eventually(
            lambda: dict(state.acknowledged),
            60,
            that=lambda _: state.did_everything,
            unless=lambda: next((future.exception() for future in working if future.done()), None),
        )
