"""What hangs on a table and has to be carried to its target: rights, policies, triggers, statistics, options, comments.

Owns what the carrying parts of the SQL steps are filled with. Reads the catalog only. What cannot be carried is
refused in `preflight`; that nothing was forgotten is proved by `carried`, which knows nothing of this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rehearsal.catalog.ddl import bare_check
from rehearsal.catalog.definition import read_sequences
from rehearsal.catalog.tables import Name, Table
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.kept import StatisticsNames
from rehearsal.switchover.names import Names, fit

REPLICA_IDENTITY = {"f": "full", "n": "nothing"}
ENABLE = {"O": "enable trigger", "A": "enable always trigger", "R": "enable replica trigger"}

Carried = Mapping[str, Any]


def read_carried(conn: Connection, files: SqlFiles, oid: int) -> Carried:
    """Return what hangs on a table, a list for each kind (`switchover/target/carried.sql`)."""
    found: Carried = scalar(conn, files.query("switchover/target/carried.sql"), {"oid": oid})
    return found


def carry_values(conn: Connection, files: SqlFiles, table: Table, names: Names, *, shares: bool) -> dict[str, Any]:
    """Return what `switchover/target/target.sql.j2` carries from the source when the target is made.

    `shares`: both tables draw from the sequences of the source, since both are written.
    """
    carried = read_carried(conn, files, table.oid)
    early = [check["name"] for check in carried["checks"] if check["valid"]]
    early += [comment["name"] for comment in carried["constraint_comments"] if comment["kind"] == "n"]
    return {
        "carried": carried,
        "checks": [
            {**check, "definition": bare_check(check["definition"])} for check in carried["checks"] if check["valid"]
        ],
        "early": early,
        "options": leaf_options(table, carried),
        "row_security": table.row_security,
        "replica_identity": REPLICA_IDENTITY.get(table.replica_identity),
        "shared": _shared_sequences(conn, files, table) if shares else [],
        "statistics": [
            {**statistics, "twin": statistics_name(statistics, "_partitioned")} for statistics in carried["statistics"]
        ],
        "triggers": [{**trigger, "definition": trigger_sql(trigger, names.target)} for trigger in carried["triggers"]],
    }


def leaf_options(table: Table, carried: Carried) -> list[str]:
    """Return the storage options of a leaf: those of the table and of its TOAST table; a parent cannot have them."""
    return [*table.options, *(f"toast.{option}" for option in carried["toast_options"])]


def statistics_name(carried: Carried, suffix: str) -> Name:
    """Return the name of a statistics object of the target, or of the retired table."""
    return carried["schema"], fit(carried["name"], suffix)


def trigger_sql(trigger: Carried, table: Name) -> str:
    """Return the statement that makes a trigger on another table."""
    head, rest = str(trigger["head"]), str(trigger["rest"])
    return head + rest.replace(trigger["place"], f" ON {quote_ident(table)} ", 1)


def _shared_sequences(conn: Connection, files: SqlFiles, table: Table) -> list[dict[str, str]]:
    sequences = read_sequences(conn, files, table)
    return [
        {"column": sequence["column"], "regclass": quote_ident((sequence["schema"], sequence["name"]))}
        for sequence in sequences
        if sequence["is_identity"]
    ]


def late_values(
    conn: Connection, files: SqlFiles, source: Table, target: Table, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `switchover/target/carry.sql.j2` carries once the rows are copied and the indexes built.

    `names` leads from an index of the source to the same one of the target.
    """
    carried = read_carried(conn, files, source.oid)
    leaves: dict[str, list[dict[str, Name]]] = {}
    for parent, table, index in conn.execute(files.query("switchover/target/leaf_indexes.sql"), {"oid": target.oid}):
        place = {"table": (target.name[0], table), "index": (target.name[0], index)}
        leaves.setdefault(parent, []).append(place)
    indexes = [
        {**built, "twin": (target.name[0], names[built["name"]]), "leaves": leaves.get(names[built["name"]], [])}
        for built in carried["indexes"]
    ]
    checks = [
        {**check, "definition": bare_check(check["definition"])} for check in carried["checks"] if not check["valid"]
    ]
    late = {check["name"] for check in checks}
    comments = [
        {"name": names.get(comment["name"], comment["name"]), "comment": comment["comment"]}
        for comment in carried["constraint_comments"]
        if comment["name"] in late or comment["kind"] in ("p", "u", "x")
    ]
    return {"target": target.name, "indexes": indexes, "checks": checks, "comments": comments}


def exchange_values(conn: Connection, files: SqlFiles, live: Table) -> dict[str, Any]:
    """Return what changes hands with the name: identity, sequences, triggers; `live` has the name just now."""
    sequences: list[dict[str, Any]] = [
        {**sequence, "sequence": (sequence["schema"], sequence["name"])}
        for sequence in read_sequences(conn, files, live)
    ]
    identity = {column.name: column.identity for column in live.columns}
    kinds = {"a": "always", "d": "by default"}
    triggers = read_carried(conn, files, live.oid)["triggers"]
    return {
        "identities": [
            {**sequence, "kind": kinds[identity[sequence["column"]]]}
            for sequence in sequences
            if sequence["is_identity"]
        ],
        "sequences": [sequence for sequence in sequences if not sequence["is_identity"]],
        "triggers": [
            {"name": trigger["name"], "enable": ENABLE[trigger["enabled"]]}
            for trigger in triggers
            if trigger["enabled"] != "D"
        ],
    }


def identity_sql(files: SqlFiles, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the statements that take the identity off the table `source`, and those that give it to another one.

    `values` are those of `exchange_values`, and `source`, the name that both tables have in their turn. Sequences that
    columns own go along with the second.
    """
    off, on = (files.render(f"switchover/target/{name}.sql.j2", **values) for name in ("identity_off", "identity_on"))
    return off, on


def key_comments(conn: Connection, files: SqlFiles, table: Table) -> dict[str, str | None]:
    """Return the comments on the primary key of a table: on its `constraint` and on its `index`."""
    carried = read_carried(conn, files, table.oid)
    key = next((index.name for index in table.indexes if index.is_primary), None)
    places = {"constraint": carried["constraint_comments"], "index": carried["indexes"]}
    return {
        what: next((str(row["comment"]) for row in found if row["name"] == key and row["comment"]), None)
        for what, found in places.items()
    }


def statistics_names(carried: Sequence[Carried]) -> list[StatisticsNames]:
    """Return the names of each statistics object: as the source's, the target's, the retired table's, and history's."""
    return [
        StatisticsNames(
            source=(statistics["schema"], statistics["name"]),
            target=statistics_name(statistics, "_partitioned"),
            retired=statistics_name(statistics, "_old"),
            history=statistics_name(statistics, "_history"),
        )
        for statistics in carried
    ]
