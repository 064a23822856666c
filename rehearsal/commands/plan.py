"""The verbs of plans, `plan.*`: a first one from a live table, and a second person's review. Each returns an exit code.

What a review is worth is `rehearsal.approval`'s; what a first plan says, `rehearsal.advisor`'s.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from rehearsal.advisor.write import plan_name, write_plan
from rehearsal.approval.review import write_review
from rehearsal.commands.session import DONE
from rehearsal.errors import UsageError
from rehearsal.evidence.run import runs_folder
from rehearsal.hosts.inventory import load_environment
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import fingerprint_of


def new_plan(root: Path, env: str, table: str, *, name: str = "", database: str = "") -> int:
    """Write the first plan of a table of an environment, and say what was advised; the table is only read.

    Raises:
        UsageError: the table has no schema, or there is a plan of that name.
        PreconditionError: there is no such table, or nothing to partition it by.
    """
    if not re.fullmatch(r"[^.]+\..+", table):
        message = f"--table {table}: write it with its schema, as public.{table}"
        raise UsageError(message)
    where = load_environment(env, name or plan_name(table), root)
    place = replace(where.database, name=database) if database else where.database
    free = shutil.disk_usage(where.state_folder).free if where.state_folder else None
    with connect(place, role="plan.new") as conn:
        path, advice = write_plan(conn, SqlFiles(root / "sql"), table, root / "plans", name=name, free_bytes=free)
    print(f"{path}: {advice.strategy}, by {advice.best.spec.key}")
    for line in (*advice.why, *advice.best.reasons):
        print(f"  {line}")
    return DONE


def review_plan(root: Path, name: str, by: str, note: str) -> int:
    """Record a second person's review of a plan and its SQL, as they are now."""
    plan = load_plan(find_plan(name, root))
    fingerprint = fingerprint_of(plan, SqlFiles(root / "sql"))
    review = write_review(runs_folder(root), plan.name, fingerprint, by, note)
    print(f"plan {review.plan} reviewed by {review.by} at {review.at}, fingerprint {fingerprint[:16]}")
    return DONE
