"""The question before tables of somebody's own database are changed."""

from __future__ import annotations

import sys

from rehearsal.environment import Environment
from rehearsal.errors import UsageError
from rehearsal.plan.model import Plan


def confirm(env: Environment, plan: Plan, *, yes: bool, what: str = "switched over") -> None:
    """Ask before tables of somebody's staging database are changed; throwaway hosts are not asked about.

    Production was asked for already, by a question of its own (`rehearsal.approval.production`).

    Raises:
        UsageError: the answer was not yes, or there is no terminal to ask on.
    """
    if env.is_throwaway or yes or env.kind == "production":
        return
    tables = ", ".join(spec.name for spec in plan.tables)
    if not sys.stdin.isatty():
        message = f"{tables} on {env.name} will be {what}; there is no terminal to ask on, so say --yes"
        raise UsageError(message)
    print(f"{tables} on {env.name} ({env.database.name} at {env.database.host}) will be {what}.", file=sys.stderr)
    if input('Type "yes" to go on: ').strip() != "yes":
        message = "not confirmed; nothing was changed"
        raise UsageError(message)
