"""What points at a table from outside and moves with its name: views, rules, functions, policies, publications.

All of them follow the table's oid, so after a rename they would silently stay on the retired table. Their
texts are read while the table has its name and run again, in the same transaction, when another table has taken it:
the same texts go forward and back. Views keep their oid (CREATE OR REPLACE), so that whatever stands on them, other
views, materialized views, grants, triggers, is not touched. Foreign keys are in `references`.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import class_row

from rehearsal.catalog.tables import Name, dotted
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

# What each problem means: condition, effect, remedy. A problem is refused in preflight and again before the swap.
PROBLEMS: dict[str, tuple[str, str, str]] = {
    "materialized": (
        "it reads the table itself",
        "making it anew would empty it or refill it under the lock",
        "let it read a plain view of the table: the view moves, the materialized view keeps oid, rows and indexes",
    ),
    "needs-primary-key": (
        "it groups by the primary key alone",
        "the partitioned table's primary key is another one, so PostgreSQL refuses the definition",
        "name all its columns in GROUP BY",
    ),
    "shows-row": ("a column has the table's row type", "a view's column cannot change its type", "name the columns"),
    "only": ("it reads ONLY the table", "a partitioned table itself has no rows, so it would be empty", "drop ONLY"),
    "temporary": ("another session made it", "nobody else can change it", "end that session"),
    "not-owner": ("the migrating role does not own it", "it cannot be moved", "grant its owner to the role"),
    "function-needed": (
        "it takes or returns rows of the table, and other objects need it",
        "it must be made anew, which they forbid",
        "drop those objects, or let the function take or return columns",
    ),
    "publication-leaves": (
        "it publishes changes under the names of partitions",
        "subscribers have no such tables and stop",
        "alter publication … set (publish_via_partition_root = true); it changes nothing for ordinary tables",
    ),
    "publication-key": (
        "its column list lacks the partition key, which becomes part of the primary key",
        "every UPDATE and DELETE of the table would fail",
        "add the key to the column list",
    ),
    "publication-all": (
        "it publishes all tables, of the database or of the schema",
        "target and retired table would be published too, and subscribers without them stop",
        "name the tables in the publication for the time of the migration",
    ),
    "subscription": (
        "a subscription writes into the table",
        "it would go on writing into the retired one",
        "disable it, and refresh it after the switchover; or migrate at the publisher",
    ),
    "unknown": (
        "it depends on the table or its row type",
        "it would stay on the retired table",
        "drop it before, and make it again after",
    ),
}


@dataclass(frozen=True, slots=True)
class Dependent:
    """One object that points at a table. Without a problem, `before_sql` and `after_sql` move it with the name."""

    kind: str
    name: str
    lock_sql: str | None
    before_sql: str | None
    after_sql: str | None
    problem: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


Dependents = tuple[Dependent, ...]


def read_dependents(conn: Connection, files: SqlFiles, oid: int, key: str) -> Dependents:
    """Return what points at the table now, in the order in which it is moved; reads catalogs only.

    Definitions come out with every name qualified, which needs the pinned search_path of `postgres.connect`.
    """
    query = files.query("catalog/dependents.sql.j2", has_row_filters=conn.info.server_version >= 150000)
    with conn.cursor(row_factory=class_row(Dependent)) as cursor:
        return tuple(cursor.execute(query, {"oid": oid, "key": key}).fetchall())


def require_movable(found: Dependents, table: Name, act: str = "change its name") -> Dependents:
    """Return the same; somebody may have made something since preflight that cannot be moved, so `act` is refused.

    Raises:
        PreconditionError: names each such object, and what to do.
    """
    stuck = [
        f"{dependent}: {PROBLEMS[dependent.problem][0]}; {PROBLEMS[dependent.problem][2]}"
        for dependent in found
        if dependent.problem
    ]
    if stuck:
        message = f"{dotted(table)} cannot {act}, it would leave behind: {'. '.join(stuck)}"
        raise PreconditionError(message)
    return found


def lock_statements(found: Dependents) -> list[str]:
    """Return statements that lock each object for the move, to run before the table itself is locked.

    A reader of a view locks the view first and the table second; in the other order we would deadlock with it. LOCK
    TABLE on a view would lock every table under it, so the view is given to its own owner, which locks it alone.
    """
    return sorted({dependent.lock_sql for dependent in found if dependent.lock_sql})


def check_moved(conn: Connection, files: SqlFiles, moved: Dependents, old: int, new: int, key: str) -> None:
    """Compare what points at the new table with what pointed at the old one, in the transaction of the move.

    Raises:
        StepFailed: something was left behind or came out differently; the transaction must not commit.
    """
    there = {
        (dependent.kind, dependent.name, dependent.after_sql) for dependent in read_dependents(conn, files, new, key)
    }
    lost = [str(dependent) for dependent in moved if (dependent.kind, dependent.name, dependent.after_sql) not in there]
    left = [str(dependent) for dependent in read_dependents(conn, files, old, key)]
    if lost or left:
        message = f"not moved as it was: {', '.join(lost) or 'nothing'}; left behind: {', '.join(left) or 'nothing'}"
        raise StepFailed(message)
