"""What the environment of the process decides; read once, at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SWITCH = {"true": True, "false": False}
LAST_PORT = 65535


class SettingsError(ValueError):
    """An environment variable is missing or has a value that means nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to serve, where the data is, and which tables are read and written."""

    database_url: str = field(repr=False)
    port: int
    server_name: str
    reads_partitioned: bool
    writes_partitioned: bool
    address: str = "127.0.0.1"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a variable is missing or wrong; names it and what is right.
        """
        return cls(
            database_url=_required(environment, "DATABASE_URL", "as postgresql://user@host:5432/name"),
            port=_port(_required(environment, "PORT", "as 8000")),
            server_name=environment.get("SERVER_NAME") or "app",
            reads_partitioned=_switch(environment, "USE_PARTITIONED_TABLES"),
            writes_partitioned=_switch(environment, "ENABLE_PARTITION_ROUTING"),
            address=environment.get("ADDRESS") or "127.0.0.1",
        )


def routing_name(partitioned: bool) -> str:  # noqa: FBT001 -- one value in, one word out
    """Say a switch in a word.

    >>> routing_name(True)
    'partitioned'
    """
    return "partitioned" if partitioned else "legacy"


def _required(environment: Mapping[str, str], name: str, example: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set; set it, {example}")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LAST_PORT:
        raise SettingsError(f"PORT is {text!r}; set it to a number from 1 to {LAST_PORT}")
    return int(text)


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "false")
    if value not in SWITCH:
        raise SettingsError(f"{name} is {value!r}; set it to true or false")
    return SWITCH[value]
