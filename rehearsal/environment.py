"""Where things are: one environment as read from its pyinfra inventory.

Owns the values that connect the engine to a database and to app servers. Must not know pyinfra: the inventory is
read by a child process (`rehearsal.hosts.pyinfra`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["local", "docker", "staging", "production"]
THROWAWAY: frozenset[str] = frozenset({"local", "docker"})


@dataclass(frozen=True, slots=True)
class AppServer:
    """One app server: its name in the inventory and where it answers."""

    name: str
    url: str
    log: str | None = None
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Database:
    """How to reach a database as one role. `password` never appears in `repr`.

    `cores` are those of its host where the inventory tells them (`db_cores`): a role that may not read the server's
    files cannot ask.
    """

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False, default="")
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    cores: int | None = None

    def conninfo(self) -> dict[str, Any]:
        """Return connection parameters for psycopg."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": self.user,
            "password": self.password or None,
            "sslmode": self.sslmode,
            **({"sslrootcert": self.sslrootcert} if self.sslrootcert else {}),
        }


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment. `database` is reached as the role that migrates, `app_database` as the app's role."""

    name: str
    kind: Kind
    inventory: Path
    database: Database
    app_database: Database
    database_host: str
    app_servers: tuple[AppServer, ...]
    backup_folder: Path
    admin_email: str
    client_bin: Path | None = None
    state_folder: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    clocks: tuple[str, ...] = ()

    @property
    def is_throwaway(self) -> bool:
        """Whether the environment may be destroyed and made anew without asking."""
        return self.kind in THROWAWAY
