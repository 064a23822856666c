"""What a generator is told: a JSON file of mode 0600, since it holds a password.

Owns the shape of that file. The generator reads it once and removes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rehearsal.errors import UsageError
from rehearsal.plan.model import Operation

KeyType = Literal["timestamptz", "timestamp", "date", "epoch", "uuid7", "number", "choice", "uuid"]


class KeyRange(BaseModel):
    """Where the keys of a table may lie: from `lower` to `upper`, or to the present.

    Keys that tell no time are drawn from `numbers` (both ends inclusive) or from `choices`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: KeyType
    lower: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    upper: datetime | None = None
    per_second: int = Field(default=1, description="epoch: what the number counts")
    numbers: tuple[int, int] = (0, 0)
    choices: tuple[str, ...] = ()


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
