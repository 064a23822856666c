"""What became of tables since they were last known to fit: compared before names change, there and back.

Owns the rule that nothing is switched that is not what it was. `Watch.look` compares everything while nobody waits, and
refuses by name; `Watch.hold`, under the lock and in the transaction of the change, looks at one number that any DDL
changes, milliseconds: another one gives the lock back, and what changed is looked for without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import errors, sql

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Catalog, Name, Table, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import TryAgain
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.sightings import (
    Seen,
    Sight,
    changed_capture,
    changed_partitions,
    read_remembered,
    replace_remembered,
)

RELATION = """
select n.nspname, c.relname from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = pg_catalog.to_regclass(%s)
"""
COUNT_MS = 60_000
PARTITIONS = "Detach a partition that came, attach one that went, undo what was changed of one"
SHOWN = 8
Compare = Callable[[Connection, Table, Table], list[Difference]]
Prove = Callable[[], str | None]


@dataclass(slots=True)
class Watch:
    """One comparison of two tables; `compare` knows their definitions, `prove` compares their rows, None: equal.

    `back` says that the partitioned table is the one in use: what only it has would be lost. `early`: nothing is copied
    yet, or not all, so rows tell nothing. `premade`: partitions that came stay, with their rows; where these have to be
    in the other table by then (`follows`), they are compared.
    """

    sight: Sight
    migration: int
    accepted: Sequence[str]
    compare: Compare
    prove: Prove
    remedy: str
    back: bool = False
    early: bool = False
    premade: bool = False
    follows: bool = False
    _digest: str = field(default="", init=False)
    _seen: Seen = field(default_factory=dict[str, Mapping[str, str | None]], init=False)
    _is_stale: bool = field(default=False, init=False)

    def look(self, conn: Connection) -> None:
        """Compare definitions, partitions and triggers; no lock but ACCESS SHARE, nobody waits.

        Raises:
            PreconditionError: something differs; names it, and what to do. Nothing was changed.
        """
        _, parted = self._tables(conn)
        digest, self._seen = self._read_digest(conn), self.sight.read(conn)
        if found := self.find(conn):
            raise PreconditionError(self._message(conn, found, parted))
        if not self.early:
            self._require_capture(conn)
        self._digest, self._is_stale = digest, False

    def find(self, conn: Connection) -> list[Difference]:
        """Return what differs and is not accepted in the plan."""
        found = [*self.compare(conn, *self._tables(conn)), *self._partitions(conn)]
        return [difference for difference in found if difference.id not in self.accepted]

    def hold(self, held: Connection) -> None:
        """Under the lock: refuse to go on if anything was altered since `look`.

        GRANT and REVOKE take no lock of a table. One on a table that is renamed here either committed before, and is
        seen, or it and this transaction meet at the same catalog row and one of them fails; one on a column or on a
        partition that commits after this look and before the exchange does is not seen.

        Raises:
            TryAgain: it was; the lock is given back, and `again` says by name what it was.
        """
        if self._read_digest(held) != self._digest:
            self._is_stale = True
            message = f"{dotted(self.sight.plain)} or {dotted(self.sight.parted)} was altered meanwhile"
            raise TryAgain(message)

    def again(self, conn: Connection) -> None:
        """Between two tries, with no lock held: look once more if the last try found something altered."""
        if self._is_stale:
            self.look(conn)

    def remember(self, held: Connection, sight: Sight) -> None:
        """Keep partitions as `look` saw them and triggers as they are now, in the caller's transaction, after `hold`.

        `sight` is what is to be looked at from here on: names may have changed.
        """
        sight.remember_again(held, self._seen)

    def _tables(self, conn: Connection) -> tuple[Table, Table]:
        plain, parted = (_find(conn, self.sight.files, name) for name in (self.sight.plain, self.sight.parted))
        return plain, parted

    def _read_digest(self, conn: Connection) -> str:
        return read_digest(conn, self.sight.files, self.sight.plain, self.sight.parted)

    def _partitions(self, conn: Connection) -> list[Difference]:
        before = read_remembered(conn, self.migration)
        if before is None:
            return []
        found = changed_partitions(before, self.sight.read(conn))
        return [
            difference
            for difference in found
            if not (self.premade and difference.before is None and not difference.facet)
        ]

    def _require_capture(self, conn: Connection) -> None:
        """Have the rows compared if a trigger of ours or a partition's file is not what it was."""
        before, now = read_remembered(conn, self.migration), self.sight.read(conn)
        if before is None:
            return
        found = changed_capture(before, now)
        if self.premade and self.follows:
            # A table that was filled before it was attached brought rows that no trigger has seen.
            found += [f"{difference.subject} came" for difference in changed_partitions(before, now)]
        if not found:
            return
        if differing := self.prove():
            message = (
                f"{_listed(found)} since {dotted(self.sight.names.source)} was last seen right, and {differing}: "
                f"{self._lost()}. `./inv db.verify` lists them, `./inv doctor --fix` brings them; nothing was changed"
            )
            raise PreconditionError(message)
        with conn.transaction():
            replace_remembered(conn, self.migration, now)

    def _lost(self) -> str:
        return "going back would lose them or bring them back" if self.back else "they would be lost"

    def _message(self, conn: Connection, found: list[Difference], parted: Table) -> str:
        plain = dotted(self.sight.plain)
        told = [self._told(difference, plain) + self._rows(conn, difference, parted) for difference in found]
        accept = ", ".join(repr(difference.id) for difference in found[:SHOWN])
        what = "going back would lose or change" if self.back else "changed since its target was made"
        remedy = PARTITIONS if all(difference.subject.startswith("partition ") for difference in found) else self.remedy
        return (
            f"{dotted(self.sight.names.source)}: {what}: {_listed(told)}. {remedy}; or accept by name in the "
            f"plan's table: accepted = [{accept}]. Nothing was changed"
        )

    def _told(self, difference: Difference, plain: str) -> str:
        if difference.subject.startswith("partition "):
            return _told_partition(difference)
        if not difference.facet:
            return f"{difference.subject} (only in {dotted(self.sight.parted) if difference.before is None else plain})"
        ours, theirs = difference.before or "none", difference.after or "none"
        return f"{difference.subject}: {difference.facet} ({ours} in {plain}, {theirs} in {dotted(self.sight.parted)})"

    def _rows(self, conn: Connection, difference: Difference, parted: Table) -> str:
        """Say how many rows stand behind a difference: values of a column, rows of a partition."""
        if difference.facet:
            return ""
        if difference.subject.startswith("partition "):
            leaf = conn.execute(RELATION, [difference.subject.removeprefix("partition ")]).fetchone()
            return f", {_count(conn, (leaf[0], leaf[1]), sql.SQL('true'))} rows" if leaf else ""
        for column in parted.columns:
            if self.back and difference.before is None and difference.subject == "column " + _quoted(column.name):
                value = sql.SQL("{} is not null").format(sql.Identifier(column.name))
                return f", {_count(conn, parted.name, value)} rows with values"
        return ""


def read_digest(conn: Connection, files: SqlFiles, plain: Name, parted: Name) -> str:
    """Return one number for all that two tables are in the catalog; other DDL than none gives another one."""
    oids = {"plain": _oid(conn, plain), "parted": _oid(conn, parted)}
    return str(scalar(conn, files.query("switchover/drift_digest.sql"), oids))


def _oid(conn: Connection, name: Name) -> int | None:
    query = sql.SQL("select pg_catalog.to_regclass({})::oid::bigint")
    found: int | None = scalar(conn, query.format(sql.Literal(sql.Identifier(*name).as_string(conn))))
    return found


def _find(conn: Connection, files: SqlFiles, name: Name) -> Table:
    table = Catalog(conn, files).find(name)
    if table is None:
        message = f"table {dotted(name)} is gone: it was dropped or renamed since it was made. Give it its name again"
        raise PreconditionError(message)
    return table


def _told_partition(difference: Difference) -> str:
    if difference.facet:
        was, is_ = difference.before or "none", difference.after or "none"
        return f"{difference.subject}: {difference.facet} (was {was}, is {is_})"
    if difference.after is None:
        return f"{difference.subject} ({difference.before}) went: detached or dropped"
    return f"{difference.subject} ({difference.after}) came"


def _listed(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _count(conn: Connection, table: Name, condition: sql.SQL | sql.Composed) -> str:
    query = sql.SQL("select count(*) from {} where {}").format(sql.Identifier(*table), condition)
    try:
        with conn.transaction():
            conn.execute(sql.SQL("set local statement_timeout = {}").format(COUNT_MS))
            return f"{scalar(conn, query):,}"
    except errors.QueryCanceled:
        return "uncounted"
