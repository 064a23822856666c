"""What can happen in a run: a frozen class for each kind, written and read as JSON.

Owns the names of kinds and of their fields in `events.jsonl`. A kind is told by its class, and read by it; a line that
an earlier version wrote is read as far as it is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import TypeAdapter, ValidationError

# What a step says of itself: a count, a text, or figures by name.
StepResult = dict[str, object] | str | int | None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened; `kind` is its name on disk."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class Note(Happening):
    """A sentence for people."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class PhaseStarted(Happening):
    """A phase began; it is the `number`th of `of`."""

    kind: ClassVar[str] = "phase-started"
    title: str
    name: str
    number: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class PhaseSkipped(Happening):
    """A phase was left out, and why."""

    kind: ClassVar[str] = "phase-skipped"
    title: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PhaseFinished(Happening):
    """A phase ended; `ok`: it came to its end."""

    kind: ClassVar[str] = "phase-finished"
    title: str
    name: str
    seconds: float
    ok: bool


# The names stand in `rehearsal.step` and in the events of earlier runs, so they stay; people read the glossary's words.
STEP_TITLES = {"settle": "purge", "drain": "replay", "guard": "snapshot fence"}


@dataclass(frozen=True, slots=True)
class StepDone(Happening):
    """A step of a table's switchover was done; `result` is what it says of itself: a count, or what a copy brought."""

    kind: ClassVar[str] = "step"
    table: str
    name: str
    ms: float
    result: StepResult = None

    @property
    def title(self) -> str:
        """What people read for the step."""
        return STEP_TITLES.get(self.name, self.name.replace("-", " "))


@dataclass(frozen=True, slots=True)
class LockTaken(Happening):
    """A lock that the application could feel: how it was got, how long it was held, who blocked it."""

    kind: ClassVar[str] = "lock"
    table: str
    what: str
    attempts: int
    waited_ms: float
    held_ms: float
    blockers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress(Happening):
    """How far a long work is; `blocks` are those read of those there are, where rows are copied."""

    kind: ClassVar[str] = "progress"
    what: str
    done: float
    total: float
    unit: str
    blocks: str = ""


@dataclass(frozen=True, slots=True)
class ThrottleChanged(Happening):
    """The throttle of a work moved, and why; `paused` only where somebody said so by command."""

    kind: ClassVar[str] = "pace"
    what: str
    text: str
    reasons: tuple[str, ...] = ()
    places: float | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Judged(Happening):
    """Evidence was recorded for a gate."""

    kind: ClassVar[str] = "evidence"
    gate: str
    subject: str
    passed: bool | None
    observed: str


@dataclass(frozen=True, slots=True)
class OperationDone(Happening):
    """An operation ended on a host."""

    kind: ClassVar[str] = "operation"
    host: str
    operation: str
    ok: bool
    changed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class HostsDone(Happening):
    """A run over the hosts ended; `of` is the phase of the host layer."""

    kind: ClassVar[str] = "hosts"
    of: str
    hosts: tuple[str, ...]
    operations: int
    changed: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RightsMissing(Happening):
    """What the roles lack on a database, as rows of the host layer's query."""

    kind: ClassVar[str] = "missing-rights"
    database: str
    rows: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FlagsFlipped(Happening):
    """What became of the flags of one app server."""

    kind: ClassVar[str] = "flags"
    server: str
    before: str
    wanted: str
    after: str
    restarted: bool
    seconds: float
    ok: bool
    error: str | None = None
    reverting: bool = False


@dataclass(frozen=True, slots=True)
class LoadStarted(Happening):
    """Writers began."""

    kind: ClassVar[str] = "load started"
    segment: str
    operations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadStopped(Happening):
    """Writers ended; `honest`: the generator kept its schedule, else the reasons."""

    kind: ClassVar[str] = "load stopped"
    segment: str
    honest: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowsCounted(Happening):
    """Rows of both tables of each pair, by name, at a stage of the run."""

    kind: ClassVar[str] = "rows"
    stage: str
    counts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class WaitsSeen(Happening):
    """Which sessions waited for locks during a load: in all, and by phase; see `load.lock_waits` for the units."""

    kind: ClassVar[str] = "victims"
    samples: int
    period_ms: float
    max_gap_ms: float
    complete: bool
    reasons: tuple[str, ...] = ()
    total: dict[str, object] = field(default_factory=dict[str, object])
    phases: dict[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class MismatchMoved(Happening):
    """A mismatch was put in, or repaired."""

    kind: ClassVar[str] = "mismatch"
    table: str
    stage: str
    rows: int


@dataclass(frozen=True, slots=True)
class ServerSeen(Happening):
    """The server's version, as the server counts."""

    kind: ClassVar[str] = "server"
    version: int


@dataclass(frozen=True, slots=True)
class OptionsChosen(Happening):
    """What the command line chose: the share of the planned rows."""

    kind: ClassVar[str] = "options"
    scale: float


@dataclass(frozen=True, slots=True)
class FingerprintTaken(Happening):
    """The fingerprint of what runs, whole and of its parts."""

    kind: ClassVar[str] = "fingerprint"
    whole: str
    parts: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Unknown(Happening):
    """A line of a version that knew other kinds, or other fields."""

    kind: ClassVar[str] = "unknown"
    name: str
    fields: dict[str, object] = field(default_factory=dict[str, object])


ALL: tuple[type[Happening], ...] = (
    Note,
    PhaseStarted,
    PhaseSkipped,
    PhaseFinished,
    StepDone,
    LockTaken,
    Progress,
    ThrottleChanged,
    Judged,
    OperationDone,
    HostsDone,
    RightsMissing,
    FlagsFlipped,
    LoadStarted,
    LoadStopped,
    RowsCounted,
    WaitsSeen,
    MismatchMoved,
    ServerSeen,
    OptionsChosen,
    FingerprintTaken,
)
KINDS: Mapping[str, type[Happening]] = {event.kind: event for event in ALL}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, when (ISO 8601, UTC), and in which phase of the run."""

    at: str
    phase: str
    what: Happening

    def to_line(self) -> dict[str, object]:
        """Return it as a line of `events.jsonl`."""
        fields = dataclasses.asdict(self.what)
        return {"kind": self.what.kind, "at": self.at, "phase": self.phase, "fields": fields}


@dataclass(frozen=True, slots=True)
class EventLine:
    """A line of `events.jsonl`, its fields as they stand there."""

    kind: str
    at: str
    phase: str
    fields: dict[str, object] = field(default_factory=dict[str, object])


EVENT_LINE = TypeAdapter(EventLine)
READERS = {kind: TypeAdapter(made) for kind, made in KINDS.items()}


def read_event(given: Mapping[str, object]) -> Event:
    """Read a line of `events.jsonl`.

    Fields that are not known are left out; a kind that is not known, or one whose fields are not what they are here
    (an earlier version wrote it), is `Unknown`.
    """
    line = EVENT_LINE.validate_python(given)
    try:
        what: Happening = READERS[line.kind].validate_python(line.fields)
    except (KeyError, ValidationError):
        what = Unknown(line.kind, line.fields)
    return Event(line.at, line.phase, what)
