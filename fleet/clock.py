"""What the timers of partitions are called on a host, and the file of variables that they connect with."""

from __future__ import annotations

JOBS = ("premake", "retain")
USER = "pg-lifecycle"
FOLDER = "/etc/pg-lifecycle"


def timer_of(job: str, plan: str) -> str:
    """Return the timer of a job for a plan; without a plan, the template of all of them.

    >>> timer_of("premake", "posts"), timer_of("premake", "")
    ('pg-lifecycle-premake@posts.timer', 'pg-lifecycle-premake@.timer')
    """
    return f"pg-lifecycle-{job}@{plan}.timer"


def service_of(job: str, plan: str) -> str:
    """Return the service that a timer starts; without a plan, the template of all of them."""
    return f"pg-lifecycle-{job}@{plan}.service"


def env_text(**values: str) -> str:
    r"""Return the text of an EnvironmentFile of systemd; what is empty is left out.

    >>> print(env_text(PGHOST="db 1", PGUSER='a"b\\c', PGSSLROOTCERT=""), end="")
    PGHOST="db 1"
    PGUSER="a\"b\\c"

    Raises:
        ValueError: a value has more than one line.
    """
    for name, value in values.items():
        if "\n" in value:
            message = f"{name} has more than one line"
            raise ValueError(message)
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items() if value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
