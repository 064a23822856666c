"""Everything that can stop the engine.

RehearsalError (exit 1)
├── PlanError (2)            the plan file is wrong; names the key at fault
├── UsageError (2)           a command line, an environment or an inventory is wrong
├── SqlFileError (2)         an SQL file is missing, malformed or was edited after it was applied
├── PreconditionError (1)    the database or a host is not in the state that a step needs
├── LockNotAcquired (1)      a lock was not granted within the budget; names the blockers
├── ConnectionLost (1)       the server ended a session or went away; the next run goes on
├── StepFailed (1)           a step of the engine failed
├── HostsFailed (1)          pyinfra could not bring the hosts to the wanted state
└── CannotSee (3)            evidence could not be gathered, so there is no verdict on it

A failed gate is a value (`Evidence.passed is False`), never an exception.
"""

from __future__ import annotations


class RehearsalError(Exception):
    """Root of the tree; the command line shows its message and exits with `exit_code`."""

    exit_code = 1


class PlanError(RehearsalError, ValueError):
    """The plan file cannot be used as it is written."""

    exit_code = 2


class UsageError(RehearsalError, ValueError):
    """A name or an option on the command line, or an inventory, is wrong."""

    exit_code = 2


class SqlFileError(RehearsalError, ValueError):
    """An SQL file is missing or malformed, or differs from what was applied."""

    exit_code = 2


class PreconditionError(RehearsalError):
    """The database or a host is not in the state that the next step needs."""


class LockNotAcquired(RehearsalError, TimeoutError):
    """A lock was not granted within its budget of attempts and time."""

    def __init__(self, message: str, *, blockers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.blockers = blockers


class ConnectionLost(RehearsalError, ConnectionError):
    """The server ended a session of ours or went away; whatever was under way is undone, and the next run goes on."""


class StepFailed(RehearsalError, RuntimeError):
    """A step of the engine failed; the message names step and table."""


class HostsFailed(RehearsalError, RuntimeError):
    """pyinfra ended without bringing every host to the wanted state."""


class CannotSee(RehearsalError):
    """Evidence could not be gathered, which is INCONCLUSIVE and never GO."""

    exit_code = 3
