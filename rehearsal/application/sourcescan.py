"""Where the application uses the planned tables: in its source, and in what the server saw it send.

Owns the audit of uses. Must not know what a use means for the migration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from rehearsal.catalog.statements import statements_view
from rehearsal.errors import PlanError
from rehearsal.postgres.connection import Connection

SKIPPED = frozenset({".git", ".venv", "node_modules", "__pycache__", "dist", "build"})
LARGEST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of source that names a table."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class StatementUse:
    """One statement that names a table, with how often and how long it ran."""

    table: str
    query: str
    calls: int
    mean_ms: float


def scan_source(root: Path, paths: Sequence[str], patterns: Sequence[str]) -> list[SourceLine]:
    """Search the text files below `paths` for the patterns; one use a line, in order of file and line.

    Raises:
        PlanError: a path is not there or a pattern is no regular expression: an audit of nothing is no audit.
    """
    try:
        wanted = [re.compile(pattern) for pattern in patterns]
    except re.error as exc:
        raise PlanError(f"source_scan.patterns: {exc.pattern!r} is no regular expression: {exc}") from exc
    return [
        SourceLine(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file), number, line.strip())
        for path in paths
        for file in _files(root / path)
        for number, line in _lines(file)
        if any(pattern.search(line) for pattern in wanted)
    ]


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise PlanError(f"source_scan.paths: {path} does not exist")
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not SKIPPED & set(file.relative_to(path).parts):
            yield file


def _lines(file: Path) -> list[tuple[int, str]]:
    if file.stat().st_size > LARGEST_BYTES:
        return []
    content = file.read_bytes()
    if b"\0" in content:
        return []
    return list(enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1))


STATEMENTS = """
select s.query, s.calls, s.mean_exec_time
from {} as s
where s.dbid = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
      and s.query ~ %(pattern)s
order by s.total_exec_time desc
limit 200
"""


def scan_statements(conn: Connection, tables: Sequence[str]) -> list[StatementUse] | None:
    """Return the statements on each table that pg_stat_statements has seen; None where it is not there to ask."""
    view = statements_view(conn)
    if view is None:
        return None
    uses: list[StatementUse] = []
    for table in tables:
        pattern = rf"\m{re.escape(table.rsplit('.', 1)[-1])}(_partitioned)?\M"
        rows = conn.execute(sql.SQL(STATEMENTS).format(view), {"pattern": pattern}).fetchall()
        uses += [StatementUse(table, " ".join(str(row[0]).split()), int(row[1]), float(row[2])) for row in rows]
    return uses
