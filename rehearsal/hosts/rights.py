"""What provisioning found missing on a server that somebody else runs, as statements to be run as they are.

The host layer looks (`sql/hosts/rights.sql`) and reports; here it is said to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rehearsal.errors import HostsFailed
from rehearsal.evidence.events import RightsMissing
from rehearsal.evidence.run import Run
from rehearsal.hosts.pyinfra import HostsResult, try_pyinfra
from rehearsal.plan.model import Plan

NEEDED_KINDS = ("right", "owner")
BY = "as whoever administers the server, connected to the database {database}, run"
NEEDED = f"needed: {BY}"
WANTED = f"wanted: a rehearsal does without, but does not see or do everything; {BY}"
GIVEN = "given by `./inv db.provision`, as the superuser of the inventory"


def bring_roles(inventory: Path, plan: Plan, run: Run, *, dry: bool = False) -> HostsResult:
    """Bring roles, database and registry to the wanted state; what the server does not give is said as statements.

    Raises:
        HostsFailed: a host was not reached, or a right is missing; then nothing was written to the database.
    """
    result = try_pyinfra(inventory, "roles", plan=plan, run=run, dry=dry)
    for report in result.reports.values():
        if report.get("missing"):
            run.tell(RightsMissing(report["database"], tuple(report["missing"])))
            # At once: what is said next, on the other stream, is about these lines.
            print(missing_text(report), flush=True)
            if any(row["kind"] in NEEDED_KINDS for row in report["missing"]) and result.reason:
                message = (
                    f"rights are missing on the database {report['database']}, and nothing was written there; run the "
                    "statements above, then the same command again"
                )
                raise HostsFailed(message)
    if result.reason:
        raise HostsFailed(result.reason)
    return result


def missing_text(report: Mapping[str, Any]) -> str:
    """Return statements under what they are for; every line that is none is a comment.

    >>> row = {"kind": "right", "statement": "grant a to b;", "reason": "owns t"}
    >>> print(missing_text({"database": "finance", "missing": [row]}))
    -- needed: as whoever administers the server, connected to the database finance, run
    grant a to b;  -- owns t
    """
    lines: list[str] = []
    given = tuple(report.get("given", ()))
    needed = tuple(kind for kind in NEEDED_KINDS if kind not in given)
    for heading, kinds in ((NEEDED, needed), (GIVEN, given), (WANTED, ("wanted",))):
        found = [row for row in report["missing"] if row["kind"] in kinds]
        lines += [f"-- {heading.format(database=report['database'])}"] * bool(found)
        lines += [f"{row['statement']}  -- {row['reason']}" for row in found]
    return "\n".join(lines)
