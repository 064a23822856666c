"""What a generator is told: a JSON file of mode 0600, since it holds a password.

Owns the shape of that file. The generator reads it once and removes it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rehearsal.catalog.keytypes import Drawn, Epoch, KeyType, time_type
from rehearsal.errors import UsageError
from rehearsal.plan.model import Operation


class KeyRange(BaseModel):
    """Where the keys of a table may lie.

    Those that tell the `time`: from `lower` to `upper`, or to the present. Others: any `number` of `numbers` (both ends
    inclusive), a `choice` of `choices`, or a `fresh` one that no row has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: Literal["time", "number", "choice", "fresh"] = "time"
    base: str = Field(description="name of the key's type in PostgreSQL, below all domains")
    epoch: Epoch | None = None
    lower: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    upper: datetime | None = None
    numbers: tuple[int, int] = (0, 0)
    choices: tuple[str, ...] = ()

    @property
    def type(self) -> KeyType:
        """How these keys tell the time; of those that are drawn by it, and of fresh ones."""
        return time_type(self.base, self.epoch)

    def read(self, text: str) -> Drawn:
        """Read a key from the ledger's text of it, in the type that driver and JSON take."""
        if self.how == "number":
            return int(text)
        key = self.type.read(text) if self.how == "time" else text
        return key if isinstance(key, datetime | date | int | str) else str(key)


class Server(BaseModel):
    """An app server that HTTP operations are sent to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    url: str


class LoadConfig(BaseModel):
    """Everything that one generator needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    segment: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    folder: Path = Field(description="where the ledger and the latencies are written")
    conninfo: dict[str, Any] = Field(repr=False)
    servers: list[Server] = Field(default_factory=list[Server])
    operations: list[Operation]
    keys: dict[str, KeyRange] = Field(description="by planned table")
    connections: int = Field(default=8, ge=1)
    seed: int = 1
    rate: float = Field(default=1.0, gt=0, description="multiplies the rate of every operation")
    duration_s: float | None = Field(default=None, gt=0, description="None: until told")
    timeout_s: float = Field(default=30.0, gt=0, description="longest time that one operation may take")
    grace_s: float = Field(default=10.0, ge=0, description="how long operations under way are waited for at the end")
    failover: bool = Field(default=False, description="a refused connection is tried on the next app server")

    def dump(self) -> str:
        """Return the text of the file, password included."""
        return self.model_dump_json(by_alias=True)


def load_config(path: Path) -> LoadConfig:
    """Read the file and remove it, since it holds a password.

    Raises:
        UsageError: it cannot be read, or it is not what a generator needs; the text itself is never shown.
    """
    try:
        text = path.read_bytes()
        path.unlink()
        return LoadConfig.model_validate_json(text)
    except OSError as exc:
        message = f"cannot read the configuration {path}: {exc.strerror}; it is written anew for each start"
        raise UsageError(message) from exc
    except ValidationError as exc:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors(include_input=False)
        )
        message = f"the configuration {path} is wrong: {wrong}"
        raise UsageError(message) from None
