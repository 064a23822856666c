"""What a rehearsal needs of a server that somebody else runs: looked for first, given or asked for by statements.

Owns the reading of `sql/hosts/rights.sql`. Nothing is written by `asked`; `given` writes what a superuser may give.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from fleet import recorder
from fleet.facts import Missing
from fleet.operations import Commands, refuse
from fleet.psql import Session

KINDS = ("right", "owner")
QUERY = Path(__file__).resolve().parent.parent / "sql" / "hosts" / "rights.sql"


def look(session: Session, names: dict[str, str]) -> list[dict[str, str]]:
    """Return what is missing on the session's database, `seen` as the last row; none if it could not be looked at."""
    found: list[dict[str, str]] = host.get_fact(
        Missing, session=session, query=QUERY.read_text(encoding="utf-8"), names=names
    )
    return found


def names_of(data: Any) -> dict[str, str]:
    """Return what the query has to know: both roles, the plan's tables, and what is to be done with them where."""
    return {
        "migrator": data.db_migrator,
        "app": data.db_app_role,
        "tables": json.dumps(list(data.tables)),
        "strategy": data.strategy,
        "kind": data.env_kind,
    }


@operation()
def asked(
    session: Session, names: dict[str, str], kinds: tuple[str, ...] = KINDS, *, must_see: bool = True
) -> Commands:
    """Refuse a database that lacks a right, before anything is written there; report every statement that gives it.

    `kinds` are those that are refused. Unless `must_see`, a database that is not there yet is no reason.
    """
    rows = look(session, names)
    if rows:
        # What is not refused here is given by the operation `given`, later in the same run.
        recorder.report(
            missing=rows[:-1], database=session.database, given=[kind for kind in KINDS if kind not in kinds]
        )
    needed = [row for row in rows if row["kind"] in kinds]
    if needed:
        statements = "\n".join(row["statement"] for row in needed)
        database = session.database
        yield refuse(
            f"{names['migrator']} lacks {len(needed)} rights on the database {database}; nothing was written there; "
            f"run this as whoever administers the server, connected to {database}, then the same command again:\n"
            f"{statements}"
        )
    elif rows or not must_see:
        host.noop(f"{names['migrator']} can do what it must")
    else:
        # On the server, so that psql says why no session could be had.
        yield session.run("select 1;")


@operation()
def given(session: Session, names: dict[str, str]) -> Commands:
    """Give the migrating role the rights that it lacks, as a superuser; what people decide on is left to `asked`."""
    statements = [row["statement"] for row in look(session, names) if row["kind"] == "right"]
    if not statements:
        host.noop(f"{names['migrator']} has these rights")
        return
    yield session.run("begin;\n" + "\n".join(statements) + "\ncommit;\n")
