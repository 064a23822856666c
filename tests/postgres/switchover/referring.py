"""What the tests of foreign keys that point at the events table have in common."""

from __future__ import annotations

import psycopg

from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from tests.fix_tables import EVENTS, make_plan

EV = 'public."We""ird Events"'
Violation = psycopg.errors.ForeignKeyViolation


def say(conn: Connection, statement: str) -> None:
    """Run one statement of the application."""
    conn.execute(statement.encode())


def plan_of(references: dict[str, str], strategy: str = "swap") -> Plan:
    """Return a plan with a decision for each foreign key."""
    table = {"name": EVENTS, "key": "Created At", "default_partition": True, "marker": "note", "references": references}
    return make_plan(strategy, tables=[table])
