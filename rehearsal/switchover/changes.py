"""Changes for the registry: what makes a table's target, rendered once and kept as it was applied.

Owns the stamp of a change: of which text it was rendered, for which table of the plan. Reads the source (its catalog
rows, oldest and newest key: one scan at most, ACCESS SHARE); writes nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rehearsal.catalog.tables import split_name
from rehearsal.errors import SqlFileError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, checksum
from rehearsal.switchover.names import change_name
from rehearsal.switchover.strategies.registry import strategy_of
from rehearsal.switchover.target.target import mirror_values, target_values

STAMP = re.compile(r"-- rendered from \S+, sha256 ([0-9a-f]+), (.*)\n")
# Checksums of templates that were written anew and make the same tables, triggers and functions, with that of today: a
# database that an earlier version migrated is not edited.
MIRROR = "f415a5463511b11da881a2f6cdba4495770e3c5a3ddf4d6b36e5b272ad81aa3f"
TARGET = "653765414c7d69fe76e3bee4d34dddee8cfa25c8c2e3e00c0afbcbd7b1159a3e"
SAYS_THE_SAME = {
    # asked for the strategy's name, not for what it does
    "14626d25dbdfbc8abe94138ca97692d4ee0c4a655d0794f63dbbba8833047049": MIRROR,
    # included a part that lay elsewhere
    "3116e19ae8f3d88e1e4348f3c3be562c05cdcb597159135c3cb5e39bd5e38a22": MIRROR,
    # had other words in its comments
    "d0b1dce24205e48cb4df50b1f46a71176a8d860ae884a68f97969b6601ae8861": MIRROR,
    "149f9c4238e5af44642c0584ee7bea8b412b33a470b7c83db1adf5e8756c4e96": TARGET,
    # did not write down what partitions and triggers were then; who looks goes by the rest
    "28f4948ed346e4aba147acf3b17e3d6ea874eda0a5330f904affb3e600655a24": MIRROR,
    # did not write down for which moment the partitions were decided; so they are judged by the present
    "654d985151ad1aedfc130d649ec9f1b545afed3e83701f0c5355870624575b35": TARGET,
    # had other names for its loop variables
    "8fa3c8bd0470eac344a9c2c9dd283b8ce8af31a73d400fc156a4b505f2bdb679": TARGET,
}


@dataclass(frozen=True, slots=True)
class RenderedChange:
    """One change for the registry: its name and its SQL."""

    name: str
    body: str


def render_changes(conn: Connection, files: SqlFiles, plan: Plan, now: datetime) -> list[RenderedChange]:
    """Render the changes of all tables of the plan: the target, then its mirror.

    A change that was applied already is returned as it was applied, since bounds depend on the day it was made.

    Raises:
        SqlFileError: a template was edited after its change was applied.
    """
    applied = read_applied(conn)
    changes: list[RenderedChange] = []
    for spec in plan.tables:
        for name, template in names_of_changes(plan, spec).items():
            body = applied.get(name)
            if body is None:
                stamp = (
                    f"-- rendered from {template}, sha256 {checksum(files.text(template))}, {spec_stamp(spec, plan)}\n"
                )
                body = stamp + files.render(template, **_values(template, conn, files, plan, spec, now))
            elif not fits(body, checksum(files.text(template)), spec_stamp(spec, plan)):
                message = (
                    f"change {name} was applied from another {template} or another plan; restore the file or "
                    "the plan's table, or start from a fresh database"
                )
                raise SqlFileError(message)
            changes.append(RenderedChange(name, body))
    return changes


def names_of_changes(plan: Plan, spec: TableSpec) -> dict[str, str]:
    """Return the names of a table's changes in the registry, in order, with the template of each."""
    base = f"{plan.name}/{change_name(split_name(spec.name))}"
    return {
        f"{base}/{number}_{template.rpartition('/')[2]}": f"{template}.sql.j2"
        for number, template in strategy_of(plan).changes
    }


def fits(body: str, now: str, spec: str) -> bool:
    """Return whether an applied change was rendered from a template that says what it says now, for the same table.

    Where the template lay then does not count. `now` is its checksum.

    >>> body = "-- rendered from old/place/a.sql.j2, sha256 1f, public.t by day, 1 day, swap" + chr(10)
    >>> fits(body, "1f", "public.t by day, 1 day, swap"), fits(body, "2e", "public.t by day, 1 day, swap")
    (True, False)
    """
    stamp = STAMP.match(body)
    return stamp is not None and stamp[2] == spec and (stamp[1] == now or SAYS_THE_SAME.get(stamp[1]) == now)


def _values(
    template: str, conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, now: datetime
) -> dict[str, Any]:
    if template.endswith("/target.sql.j2"):
        return target_values(conn, files, plan, spec, now)
    if template.endswith("/mirror.sql.j2"):
        return mirror_values(conn, files, plan, spec)
    return {"source_text": spec.name, "plan": plan.name, "strategy": plan.strategy}


def spec_stamp(spec: TableSpec, plan: Plan) -> str:
    """Return a stamp of the parts of the plan that a rendered change depends on."""
    words = [f"{spec.name} by {spec.key}", spec.interval, plan.strategy]
    if spec.epoch:
        words.append(f"epoch {spec.epoch}")
    if spec.method != "range":
        words.append(f"{spec.method} {json.dumps(spec.values) if spec.method == 'list' else spec.modulus}")
    return ", ".join(words).replace("\n", " ")


def read_applied(conn: Connection) -> dict[str, str]:
    """Return the bodies of applied changes by name; empty when there is no registry yet."""
    if scalar(conn, "select to_regclass('rehearsal.change') is null"):
        return {}
    return dict(conn.execute("select name, body from rehearsal.change").fetchall())
