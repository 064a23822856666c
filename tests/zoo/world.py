"""How a specimen is brought forward and back: reads specimen files, applies writes, compares rows and definitions."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from rehearsal.catalog.definition import Difference, read_definition
from rehearsal.catalog.tables import Catalog, Name, Table, split_name
from rehearsal.checks.inspection import inspect
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity import compare as compare_rows
from rehearsal.switchover.table import Switchover

FOLDER = Path(__file__).parent / "specimens"
ROLES = ("zoo reader", "zoo_writer", 'Zoo "Ops"', "zoo_owner")


@dataclass(frozen=True)
class Specimen:
    """One table, one file.

    The comments at the file's top are TOML: `name`, `key`, ... as in a plan's table, and `strategies`, `since` (server
    version), `built_with` (a library: `icu`, `libxml`). Then come the parts, each under a line `-- # setup`,
    `-- # writes` (`:table` is the table that is written, `:round` the number of the round) and `-- # holds` (queries
    that must answer true at any time).
    """

    name: str
    table: dict[str, Any]
    strategies: tuple[str, ...] = ("swap",)
    since: int = 14
    built_with: str = ""
    parts: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls, path: Path) -> Specimen:
        """Read a specimen from its file."""
        head, *rest = re.split(r"^-- # (\w+)\n", path.read_text(), flags=re.MULTILINE)
        settings = tomllib.loads("\n".join(line.removeprefix("--") for line in head.splitlines()))
        needs = tuple(settings.pop("strategies", ("swap",))), settings.pop("since", 14), settings.pop("built_with", "")
        return cls(path.stem, settings, *needs, dict(zip(rest[::2], rest[1::2], strict=True)))


SPECIMENS = [Specimen.read(path) for path in sorted(FOLDER.glob("*.sql"))]


@dataclass
class Zoo:
    """One specimen on a database of its own."""

    database: Database
    conn: Connection
    files: SqlFiles
    specimen: Specimen
    strategy: str
    run: Run
    round: int = 0

    def __post_init__(self) -> None:
        """Make the table."""
        self.conn.execute("set search_path = public")
        self.conn.execute(as_query(self.specimen.parts["setup"]))
        self.conn.execute("set search_path = pg_catalog")
        self.conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*self.name)))
        self.plan = Plan.model_validate(
            {
                "name": "zoo",
                "strategy": self.strategy,
                "tables": [{"premake": 0, **self.specimen.table}],
                "copy": {"chunk_rows": 100, "drain_batch": 50},
                # A table of 300 columns takes its time, and is not what is asked here.
                "locks": {"hold_ms": 10_000},
            }
        )
        self.work = Switchover(self.database, self.files, self.plan, self.plan.tables[0], self.run)
        self.original = read_definition(self.conn, self.files, self.read(self.name))

    @property
    def name(self) -> Name:
        """The table's name."""
        return split_name(self.specimen.table["name"])

    @property
    def names(self) -> Names:
        """Names around the table."""
        return Names(self.name)

    def read(self, name: Name) -> Table:
        """Read a table from the catalog."""
        return Catalog(self.conn, self.files).read(name)

    def write(self, table: Name | None = None) -> None:
        """Let the application write a round; it must change something, or it proves nothing."""
        self.round += 1
        text = self.specimen.parts["writes"].replace(":round", str(self.round))
        name = table or self.name
        before = self.rows(name)
        self.conn.execute("set search_path = public")
        self.conn.execute(as_query(text.replace(":table", quote_ident(name))))
        self.conn.execute("set search_path = pg_catalog")
        assert self.rows(name) != before, "the writes of this specimen change nothing"

    def rows(self, name: Name) -> list[str]:
        """Return all rows as text, sorted."""
        query = sql.SQL('select t::text collate "C" from {} as t order by 1').format(sql.Identifier(*name))
        return [row[0] for row in self.conn.execute(query)]

    def rows_are_equal(self) -> None:
        """Replay, then compare both tables: by an EXCEPT of our own, and by the engine's parity."""
        self.work.follow()
        keylog, other = self.work.log_now(self.conn), self.other
        source, target = (other, self.name) if other == self.names.retired else (self.name, other)
        assert self.rows(source) == self.rows(target) != []
        found = compare_rows(
            self.database,
            self.files,
            self.read(source),
            self.read(target),
            self.plan.tables[0].key,
            keylog=keylog,
            self_test=False,
        )
        assert (found.unexplained, found.explained) == (0, 0), found

    @property
    def other(self) -> Name:
        """The table that stands beside the one with the name."""
        return self.names.retired if Catalog(self.conn, self.files).find(self.names.retired) else self.names.target

    def digest(self) -> str:
        """Return a digest of catalog and state; row counters are left out, since sessions tell them when they like."""
        counters = "select format('rows "
        parts = self.files.text("switchover/catalog_snapshot.sql").split("    union all\n")
        kept = [part for part in parts if counters not in part]
        assert len(kept) == len(parts) - 1
        return str(scalar(self.conn, as_query("    union all\n".join(kept)), {}))

    @property
    def mirrored(self) -> bool:
        """Whether both tables are mirrored already: then going forward is the business of the flags alone."""
        return state.read_migration(self.conn, self.name).state == state.MIRRORED

    def holds(self) -> None:
        """Ask what must be true of this specimen at any time."""
        for query in filter(str.strip, self.specimen.parts.get("holds", "").split(";\n")):
            assert scalar(self.conn, as_query(query)) is True, query

    def unwanted(self) -> list[str]:
        """Return the differences that neither the strategy nor the plan wants, as the gate sees them."""
        return [difference.id for difference in self.judged() if difference.reason is None]

    def misshapen(self) -> list[str]:
        """Return what the structure of the partitions lacks; their bounds are made as of the fixtures' day."""
        source, target = (self.other, self.name) if self.other == self.names.retired else (self.name, self.other)
        found = inspect(self.conn, self.files, self.plan.tables[0], self.read(source), self.read(target))
        return [said for finding in found if finding.check != "partitions" for said in finding.problems]

    def judged(self) -> list[Difference]:
        """Return all differences of the definition just now, as the gate sees them."""
        return self.work.differences(self.conn)
