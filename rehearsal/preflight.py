"""Preflight: what would stop or spoil a switchover, found before anything is changed. Reads only.

A `blocker` is something that this version does not carry or that would fail half way: it is refused here, with a
remedy, and never dropped in silence. A `warning` is a risk that people decide on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from rehearsal.attach_checks import refusals
from rehearsal.catalog import Catalog, split_name
from rehearsal.dependents import PROBLEMS, read_dependents
from rehearsal.findings import Facts, Finding
from rehearsal.keychecks import check_key, check_key_values
from rehearsal.keys import read_key
from rehearsal.names import Names
from rehearsal.plan import Plan
from rehearsal.postgres import Connection
from rehearsal.readback import Readback
from rehearsal.references import problem_of, read_references, unknown_references
from rehearsal.sqlfiles import SqlFiles
from rehearsal.state import ATTACHED, REGRAINED, SWAPPED, find_migration
from rehearsal.statements import statements_view
from rehearsal.uniques import unknown_decisions, without_key

OLDEST = 140000


def run_preflight(conn: Connection, files: SqlFiles, plan: Plan, *, free_bytes: int | None = None) -> list[Finding]:
    """Return all findings for the server and for each table of the plan; empty means ready.

    `free_bytes` is the room on the disk of the data, where it can be seen.
    """
    server = _row(conn, files, "preflight_server")
    findings = list(_check_server(server))
    need = 0
    leaves = 0
    for spec in plan.tables:
        name = split_name(spec.name)
        migration = find_migration(conn, name)
        if migration is not None and migration.state in (ATTACHED, REGRAINED):
            continue
        if migration is not None and migration.state == SWAPPED:
            name = Names(name).retired
        table = Catalog(conn, files).find(name)
        if table is None:
            findings.append(
                Finding("table-missing", "blocker", spec.name, "there is no such table", "nothing to partition",
                        "correct the plan or connect to the right database")
            )  # fmt: skip
            continue
        facts = Facts(plan, spec, table, _row(conn, files, "preflight_table", oid=table.oid))
        findings += [found for check in CHECKS for found in check(facts)]
        findings += _check_dependents(conn, files, facts)
        findings += _check_references(conn, files, facts)
        findings += _check_key(conn, files, facts)
        findings += _check_attach(conn, files, facts)
        findings += _check_statements(conn, facts)
        # With attach no row is copied: two more indexes at most are built.
        need += facts.row["total_bytes"] // (8 if plan.strategy == "attach" else 1)
        leaves += 30 * (1 + len(table.indexes))
    findings += _check_room(need, free_bytes)
    findings += _check_wal_files(need, server)
    findings += _check_lock_slots(leaves, server)
    return findings


def _row(conn: Connection, files: SqlFiles, query: str, **values: Any) -> dict[str, Any]:
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(files.query(f"queries/{query}.sql"), values).fetchone()
    return row or {}


def _check_server(row: Mapping[str, Any]) -> Iterator[Finding]:
    if row["version"] < OLDEST:
        yield Finding("server-version", "blocker", "server", f"version {row['version_text']}", "TID ranges and "
                      "other parts need PostgreSQL 14", "upgrade the server first")  # fmt: skip
    if row["is_standby"]:
        yield Finding("standby", "blocker", "server", "the server is a standby", "nothing can be written",
                      "name the primary in the inventory")  # fmt: skip
    if row["encoding"] == "SQL_ASCII":
        yield Finding("encoding", "blocker", "database", "its encoding is SQL_ASCII", "bytes of any kind stand for "
                      "text, and nobody can say which", "restore a dump of it in the encoding that it has")  # fmt: skip
    if not row["may_read_stats"]:
        yield Finding("right-read-stats", "blocker", "role", "the role may not read other sessions' state",
                      "blockers and old snapshots would not be seen", "grant pg_monitor to the role")  # fmt: skip
    if not row["may_create_database"]:
        yield Finding("right-createdb", "warning", "role", "the role may not create databases",
                      "the restore drill cannot run", "alter role … createdb")  # fmt: skip
    for one in row["old_transactions"]:
        yield Finding("old-transaction", "warning", "server", one, "locks and the barrier would wait for it",
                      "end it, or rehearse when it has ended")  # fmt: skip
    for one in row["prepared"]:
        yield Finding("prepared-transaction", "warning", "server", f"prepared transaction {one}",
                      "locks and the barrier would wait for it", "commit or roll it back")  # fmt: skip


def _not_plain(facts: Facts) -> Iterator[Finding]:
    kinds = {"p": "partitioned already", "f": "a foreign table", "v": "a view", "m": "a materialized view"}
    what = kinds.get(facts.table.kind)
    if facts.row["is_inherited"] or facts.row["is_partition"]:
        what = what or "part of an inheritance tree"
    if facts.row["persistence"] != "p":
        what = what or "not logged"
    if what:
        yield Finding("table-kind", "blocker", facts.spec.name, f"the table is {what}", "only ordinary tables are "
                      "switched over", "leave it out of the plan")  # fmt: skip


def _no_primary_key(facts: Facts) -> Iterator[Finding]:
    if not facts.table.primary_key:
        yield Finding("no-primary-key", "blocker", facts.spec.name, "no primary key", "rows cannot be told apart",
                      "add a primary key")  # fmt: skip


def _rights(facts: Facts) -> Iterator[Finding]:
    if not facts.row["is_owner"]:
        yield Finding("right-owner", "blocker", facts.spec.name, f"owned by {facts.table.owner}", "triggers and "
                      "renames are refused", f"grant {facts.table.owner} to the migrating role")  # fmt: skip
    if not facts.row["may_create"]:
        yield Finding("right-create", "blocker", facts.spec.name, f"no right to create in {facts.table.name[0]}",
                      "the twin cannot be made", f"grant create on schema {facts.table.name[0]}")  # fmt: skip


def _unique_without_key(facts: Facts) -> Iterator[Finding]:
    for index in without_key(facts.table, facts.spec.key):
        subject, condition = f"{facts.spec.name} {index.name}", f"unique, without {facts.spec.key}"
        decision = facts.spec.uniques.get(index.name)
        if index.constraint_sql and index.constraint_sql.startswith("EXCLUDE"):
            continue
        if facts.plan.strategy == "attach":
            yield Finding("unique-without-key", "blocker", subject, condition, "the parent cannot hold it, and history "
                          "would alone", "choose swap, or drop it")  # fmt: skip
        elif decision is None:
            yield Finding("unique-without-key", "blocker", subject, condition, "a partitioned table cannot hold it "
                          "over all partitions", f'decide in the plan: uniques = {{ "{index.name}" = "add-key" }} or '
                          '"per-partition"; or drop it')  # fmt: skip
        else:
            yield Finding("unique-weakened", "warning", subject, f"{condition}; the plan says {decision}", "duplicates "
                          "over partitions are no longer refused, they are looked for in every comparison",
                          "have the application or one sequence make the values")  # fmt: skip
    for name in unknown_decisions(facts.table, facts.spec):
        yield Finding("unique-unknown", "blocker", facts.spec.name, f"uniques names {name}", "there is no such unique "
                      "index without the key", "correct the name in the plan")  # fmt: skip


def _invalid_index(facts: Facts) -> Iterator[Finding]:
    for index in facts.table.indexes:
        if not index.is_valid:
            yield Finding("invalid-index", "blocker", index.name, "the index is invalid", "it would be copied as if "
                          "it were good", "drop or rebuild it")  # fmt: skip


def _identity(facts: Facts) -> Iterator[Finding]:
    """Dual-write: the mirror back has to write every column of a row that is there already."""
    if facts.plan.strategy != "dual-write":
        return
    for column in facts.table.columns:
        if column.identity == "a" and column.name not in facts.table.primary_key:
            yield Finding("identity-outside-key", "blocker", f"{facts.spec.name}.{column.name}", "GENERATED ALWAYS, "
                          "not in the primary key", "the mirror cannot update it in the source",
                          "set generated by default, or choose strategy swap")  # fmt: skip


def _triggers(facts: Facts) -> Iterator[Finding]:
    """Triggers of the application fire on the table that has the name; with two tables in use they would fire twice."""
    for one in facts.row["own_triggers"]:
        subject = f"{facts.spec.name}: trigger {one['name']}"
        if facts.plan.strategy == "dual-write":
            yield Finding("trigger-twice", "blocker", subject, "a trigger of the application", "a mirrored write would "
                          "fire it a second time", "choose strategy swap, or move it into the application")  # fmt: skip
        elif one["has_transition_tables"] and one["is_row"]:
            yield Finding("trigger-transition", "blocker", subject, "a row trigger with transition tables",
                          "PostgreSQL has none on partitions", "make it a statement trigger")  # fmt: skip
        elif one["is_row"] and one["is_before"]:
            yield Finding("trigger-moves-row", "warning", subject, "fires before the row is written", "PostgreSQL "
                          "refuses the write if it moves the row to another partition",
                          "make sure that it never changes the key")  # fmt: skip
        elif one["is_row"] and one["on_update"]:
            yield Finding("trigger-key-move", "warning", subject, "fires for each updated row", "a row that an update "
                          "moves to another partition fires it as DELETE and INSERT",
                          "make sure that it bears that, or never update the key")  # fmt: skip


def _policies(facts: Facts) -> Iterator[Finding]:
    for name in facts.row["own_policies"]:
        yield Finding("policy-self", "blocker", f"{facts.spec.name}: policy {name}", "selects from its own table", "it "
                      "would go on reading the retired one", "ask a SECURITY DEFINER function instead")  # fmt: skip
    if facts.row["is_forced"] and not facts.row["bypasses_policies"]:
        yield Finding("policy-forced", "blocker", facts.spec.name, "row security is forced on the owner too",
                      "the copy would not see all rows", "give the migrating role bypassrls")  # fmt: skip


def _constraints(facts: Facts) -> Iterator[Finding]:
    for one in facts.table.foreign_keys:
        if not one.is_validated:
            yield Finding("foreign-key-not-valid", "blocker", f"{facts.spec.name}: {one.name}",
                          "a foreign key NOT VALID", "that of a partitioned table is validated, which may fail",
                          "validate it first, or drop it")  # fmt: skip
    for index in facts.table.indexes:
        if "WITHOUT OVERLAPS" in (index.constraint_sql or ""):
            yield Finding("temporal-key", "blocker", f"{facts.spec.name}: {index.name}", "WITHOUT OVERLAPS",
                          "a temporal key cannot hold another partition key", "leave it out of the plan")  # fmt: skip
        if index.is_primary and index.deferrable and facts.plan.strategy == "dual-write":
            yield Finding("primary-key-deferrable", "blocker", facts.spec.name, "the primary key is deferrable",
                          "ON CONFLICT of the mirrors cannot use it", "choose strategy swap")  # fmt: skip
    for name in facts.row["not_null_not_valid"]:
        yield Finding("not-null-not-valid", "blocker", f"{facts.spec.name}: {name}", "a NOT NULL that is not valid",
                      "rows without a value have no place in the twin", "validate it first")  # fmt: skip


def _check_references(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Foreign keys that point at the table: replaced at a swap as the plan says, untouched by dual-write."""
    found = read_references(conn, files, facts.table.oid)
    for one in found:
        problem = problem_of(one, facts.plan, facts.spec, conn.info.server_version)
        if facts.plan.strategy == "attach":
            yield Finding("referenced", "blocker", facts.spec.name, f"{one.label} points at it", "it would point at "
                          "the history partition alone", "choose swap, or drop it")  # fmt: skip
        elif facts.plan.strategy == "dual-write":
            yield Finding("own-reference" if one.is_own else "stays-reference", "blocker" if one.is_own else "warning",
                          facts.spec.name, f"{one.label} points at it", "the source keeps it, the twin cannot have it",
                          "drop it before" if one.is_own else "decide when the source is given up")  # fmt: skip
        elif problem:
            yield Finding("referenced", "blocker", facts.spec.name, f"{one.label} points at it", *problem)
        else:
            effect = "its table gets the partition key as well, filled by a trigger; changes of the key cascade"
            if facts.spec.references[one.name] == "loose":
                effect = "triggers stand in for it; not against REPEATABLE READ deletes and replication roles"
            yield Finding("moves-reference", "warning", facts.spec.name, f"{one.label} points at it", effect,
                          "review it in the dry run; every comparison looks for orphans")  # fmt: skip
    for name in unknown_references(found, facts.spec):
        yield Finding("reference-unknown", "blocker", facts.spec.name, f"references names {name}", "there is no such "
                      "foreign key that points at it", "correct the name in the plan")  # fmt: skip


def _not_carried(facts: Facts) -> Iterator[Finding]:
    version = facts.row["version"]
    lists: dict[str, list[str]] = {
        "exclusion": facts.row["exclusions"] if version < 170000 else [],
        "type": facts.row["of_type"],
        "security-label": facts.row["labels"],
    }
    for kind, found in lists.items():
        for one in found:
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, f"{kind.replace('-', ' ')} {one}",
                          "it would stay on the retired table", "drop it before and make it again after")  # fmt: skip


def _check_attach(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    if facts.plan.strategy == "attach":
        for one in refusals(facts.spec, facts.table, Readback(conn, files, facts.table)):
            yield Finding(one.id, "blocker", one.subject, one.condition, one.effect, one.remedy)
        yield from _stays_on_history(facts)


def _stays_on_history(facts: Facts) -> Iterator[Finding]:
    """What a swap moves to the table that takes the name, and attach does not yet."""
    table = facts.table
    found = {
        "identity": [f"column {one.name}" for one in table.columns if one.identity],
        "trigger": [str(one["name"]) for one in facts.row["own_triggers"]],
        "policy": ["row security"] if table.row_security else [],
        "replica-identity": [] if table.replica_identity == "d" else ["not the primary key"],
    }
    for kind, names in found.items():
        for name in names:
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, f"{kind.replace('-', ' ')}: {name}",
                          "it would stay on the history partition", 'choose strategy = "swap"')  # fmt: skip


def _wraparound(facts: Facts) -> Iterator[Finding]:
    share, vacuum = facts.row["wraparound_share"], facts.row["wraparound_vacuum"]
    if vacuum or (share or 0) > 0.9:
        seen = "a vacuum to prevent wraparound is at it" if vacuum else f"{share:.0%} of the age that forces a vacuum"
        yield Finding("wraparound", "blocker", facts.spec.name, f"{seen} (age {facts.row['frozen_age']:,})",
                      "a vacuum to prevent wraparound never yields a lock",
                      "vacuum (freeze) the table first")  # fmt: skip


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _not_plain,
    _no_primary_key,
    _rights,
    _unique_without_key,
    _invalid_index,
    _identity,
    _triggers,
    _policies,
    _constraints,
    _not_carried,
    _wraparound,
)


def _check_dependents(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    """Name what points at the table: moved with its name by a swap, left on the equal source by dual-write."""
    for one in read_dependents(conn, files, facts.table.oid, facts.spec.key):
        kind = one.kind.replace(" ", "-")
        if facts.plan.strategy == "attach":
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, str(one), "it would stay on the history "
                          "partition", "choose swap, or drop it before and make it again after")  # fmt: skip
        elif facts.plan.strategy == "dual-write":
            # A mirror writes by INSERT … ON CONFLICT, which PostgreSQL refuses on a table with rules.
            stuck = one.kind == "rule" and one.before_sql is not None
            effect = (
                "the mirror cannot write a table with rules" if stuck else "it stays on the source, which is kept equal"
            )
            remedy = "turn the rule into a trigger" if stuck else "move it when the source is given up"
            yield Finding(f"{'not-carried' if stuck else 'stays'}-{kind}", "blocker" if stuck else "warning",
                          facts.spec.name, str(one), effect, remedy)  # fmt: skip
        elif one.problem:
            condition, effect, remedy = PROBLEMS[one.problem]
            yield Finding(f"not-carried-{kind}", "blocker", facts.spec.name, f"{one}: {condition}", effect, remedy)
        else:
            effect = (
                "it moves with the name, locked for as long as the swap takes"
                if one.lock_sql
                else "it moves with the name"
            )
            yield Finding(f"moves-{kind}", "warning", facts.spec.name, str(one), effect, "review it in the dry run")


def _check_key(conn: Connection, files: SqlFiles, facts: Facts) -> Iterator[Finding]:
    column = next((one for one in facts.table.columns if one.name == facts.spec.key), None)
    if column is None:
        subject = f"{facts.spec.name}.{facts.spec.key}"
        yield Finding("key-missing", "blocker", subject, "no such column", "nothing to partition by",
                      f"choose one of: {', '.join(one.name for one in facts.table.columns)}")  # fmt: skip
        return
    key = read_key(conn, files, facts.table, facts.spec)
    findings = list(check_key(key, column))
    yield from findings
    if not findings:
        found = check_key_values(conn, files, key, facts.table)
        # The bound that attach adds says not null as well.
        yield from (one for one in found if one.id != "key-nullable" or facts.plan.strategy != "attach")


def _check_statements(conn: Connection, facts: Facts) -> Iterator[Finding]:
    """Look in pg_stat_statements for ON CONFLICT targets that a partitioned table refuses (trap 21)."""
    view = statements_view(conn)
    if view is None:
        yield Finding("statements-unseen", "warning", facts.spec.name, "pg_stat_statements cannot be asked",
                      "statements that a partitioned table refuses are not found",
                      "load it (shared_preload_libraries), and create it in the database")  # fmt: skip
        return
    query = sql.SQL(
        "select distinct query from {} "
        "where dbid = (select oid from pg_catalog.pg_database where datname = current_database()) "
        "and query ~* %s and query !~* 'rehearsal'"
    ).format(view)
    name = re.escape(facts.table.name[1])
    pattern = rf'insert\s+into\s+("?{re.escape(facts.table.name[0])}"?\.)?"?{name}"?\W.*on\s+conflict\s*\('
    for (text,) in conn.execute(query, [pattern]):
        target = re.search(r"on\s+conflict\s*\(([^)]*)\)", text, re.IGNORECASE)
        columns: set[str] = {one.strip().strip('"').lower() for one in target[1].split(",")} if target else set()
        if columns and facts.spec.key.lower() not in columns:
            yield Finding("on-conflict-target", "blocker", facts.spec.name, f"seen: {' '.join(text.split())[:160]}",
                          "a partitioned table has no such unique index, so the statement fails",
                          f"add {facts.spec.key} to its ON CONFLICT target")  # fmt: skip


def _check_room(need: int, free: int | None) -> Iterator[Finding]:
    # Twin and its indexes, and as much WAL again (research: performance.md, 228 MB WAL for 190 MB of rows and indexes).
    if free is not None and free < 2 * need:
        yield Finding("room", "blocker", "disk", f"{free / 1e9:.1f} GB free, {2 * need / 1e9:.1f} GB needed",
                      "the copy would fill the disk", "free room or add a volume")  # fmt: skip


def _check_wal_files(need: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    """Files that are used again cost nothing; a new one is filled with zeros and synced while all commits wait."""
    wanted, kept = min(need, server["max_wal_bytes"]), server["min_wal_bytes"]
    if kept < wanted:
        megabytes = math.ceil(wanted / (1 << 20))
        yield Finding("wal-files", "warning", "server", f"min_wal_size keeps {kept / 1e6:.0f} MB of WAL files, the "
                      f"change writes {need / 1e6:.0f} MB", "commits wait tens of milliseconds whenever a WAL file is "
                      "made", f"set min_wal_size = '{megabytes}MB' some checkpoints before")  # fmt: skip


def _check_lock_slots(leaves: int, server: Mapping[str, Any]) -> Iterator[Finding]:
    slots = server["max_locks"] * server["max_connections"]
    if leaves * 4 > slots:
        yield Finding("lock-slots", "warning", "server", f"{slots} lock slots in all", "statements that touch all "
                      "partitions may fail with 'out of shared memory'", "raise max_locks_per_transaction")  # fmt: skip
