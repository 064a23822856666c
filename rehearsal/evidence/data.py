"""What evidence may carry beside its sentence: a frozen class for each shape, and which gate carries which.

Owns the keys of `data` in `evidence.jsonl`. Must not know how a gate is judged or shown. A line that an earlier version
wrote is read as far as it is known; a key that a later one added is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic import TypeAdapter, ValidationError

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as people read it."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Self:
        """Return rows under their columns."""
        return cls(tuple(columns), tuple(tuple(row) for row in rows))


@dataclass(frozen=True, slots=True)
class Data:
    """What was measured or found beside the sentence of one piece of evidence."""

    def to_json(self) -> dict[str, object]:
        """Return it as `data` of a line."""
        return dataclasses.asdict(self)

    @classmethod
    def unfolded(cls, given: Mapping[str, object]) -> dict[str, object]:
        """Return what a line has as `data`, by the names of the fields."""
        return dict(given)


@dataclass(frozen=True, slots=True)
class Nothing(Data):
    """The sentence says all of it."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Unread(Data):
    """What a version wrote that had other keys, or for another gate; it is shown, and nothing is measured by it."""

    fields: dict[str, object] = field(default_factory=dict[str, object])

    def to_json(self) -> dict[str, object]:
        """Return what the line has."""
        return self.fields


@dataclass(frozen=True, slots=True)
class Listed(Data):
    """All that was looked at, as a table."""

    table: Grid


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of preflight; its fields are those of `catalog.findings.Finding`."""

    id: str
    severity: str
    subject: str
    condition: str
    effect: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Findings(Data):
    """What stands against an act, and what it should be warned of."""

    findings: tuple[Found, ...]


Figure = int | str | None
DISTINCT = "distinct "
# Names in a line that are no names of Python.
SPELT = {"null_keys": "null keys", "index_bytes": "index bytes"}


@dataclass(frozen=True, slots=True)
class Baseline(Data):
    """One table before anything was changed: sizes and range of keys, and what must be the same afterwards.

    `distinct` counts the values of a column, a key each in the line; `figures` are of the rows up to `upto` that the
    load leaves alone. `primary` and `untouched` (rows and digest) only where rows stay where they are.
    """

    rows: int
    oldest: str | None = None
    newest: str | None = None
    null_keys: int | None = None
    distinct: dict[str, int] = field(default_factory=dict[str, int])
    bytes: int | None = None
    index_bytes: int | None = None
    figures: dict[str, Figure] = field(default_factory=dict[str, Figure])
    upto: int | None = None
    primary: str | None = None
    untouched: tuple[int, str] | None = None

    def to_json(self) -> dict[str, object]:
        """Return it with the columns beside the other figures."""
        line: dict[str, object] = {}
        for name, value in dataclasses.asdict(self).items():
            if name == "distinct":
                line |= {f"{DISTINCT}{column}": count for column, count in self.distinct.items()}
            elif value is not None or name not in {"primary", "untouched"}:
                line[SPELT.get(name, name)] = value
        return line

    @classmethod
    def unfolded(cls, given: Mapping[str, object]) -> dict[str, object]:
        """Return the columns by their names, apart from the other figures."""
        names = {spelt: name for name, spelt in SPELT.items()}
        fields = {names.get(key, key): value for key, value in given.items() if not key.startswith(DISTINCT)}
        counts = {key.removeprefix(DISTINCT): value for key, value in given.items() if key.startswith(DISTINCT)}
        return {**fields, "distinct": counts}


@dataclass(frozen=True, slots=True)
class Problems(Data):
    """What is wrong with the structure of a target."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes(Data):
    """How many changes the registry was given."""

    changes: int


@dataclass(frozen=True, slots=True)
class TriggerFound(Data):
    """How a trigger is enabled, by the catalog's letter; None: it is missing."""

    state: str | None


@dataclass(frozen=True, slots=True)
class Differences(Data):
    """Rows that differ, by class."""

    differences: dict[str, int]


@dataclass(frozen=True, slots=True)
class Printed(Data):
    """What a dry run printed; `digest` is that of the catalogs, which it must leave alone."""

    digest: str
    table: Grid


@dataclass(frozen=True, slots=True)
class Dump(Data):
    """A backup: its folder, and the rows of each table."""

    folder: str
    table: Grid


@dataclass(frozen=True, slots=True)
class Seconds(Data):
    """How long it took."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreSeconds(Data):
    """How long a rollback by restore would take."""

    restore_s: float


@dataclass(frozen=True, slots=True)
class Reached(Data):
    """The state that a table reached, and how long its steps took."""

    state: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Held(Data):
    """How long a lock was held."""

    held_ms: float


@dataclass(frozen=True, slots=True)
class Parity(Data):
    """A comparison of two tables: rows that differ unexplained, of those compared; a row of the table a partition."""

    differing: int
    rows: int
    differences: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float | None = None
    table: Grid = Grid()


@dataclass(frozen=True, slots=True)
class Repeated(Data):
    """Values that repeat although they were unique."""

    sets: int


@dataclass(frozen=True, slots=True)
class Orphans(Data):
    """Rows that point at nothing."""

    orphans: int


@dataclass(frozen=True, slots=True)
class Flipped(Data):
    """What a server was to be told, and how long it took."""

    seconds: float
    wanted: str


@dataclass(frozen=True, slots=True)
class Console(Data):
    """What a browser's console said."""

    console: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Errors(Data):
    """What a load was answered: errors by kind, the worst kind of operation, a row of the table each class."""

    errors: dict[str, int]
    worst: str
    table: Grid


@dataclass(frozen=True, slots=True)
class Stall(Data):
    """The longest time without success, whose it was, and those of all tracks."""

    stall_ms: float
    worst: str = ""
    stalls: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Reconciled(Data):
    """What became of the acknowledged writes; `examples` of each relation by kind, as the ledger has them."""

    lost: int
    acknowledged: int
    by_source: dict[str, int] = field(default_factory=dict[str, int])
    relations: tuple[str, ...] = ()
    table: Grid = Grid()
    examples: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Taken(Data):
    """How many rows were changed so that a comparison has something to find."""

    taken: int


@dataclass(frozen=True, slots=True)
class Injected(Data):
    """How long it took to put the mismatch in, which is no time of the rollback."""

    injected_s: float


@dataclass(frozen=True, slots=True)
class Outside(Data):
    """Rows outside history, which the rollback must bring back."""

    outside: int


# What each gate's evidence may carry; a gate that is not named says all in its sentence. Of several the first fits.
CARRIED: Mapping[str, tuple[type[Data], ...]] = {
    "preflight": (Findings, Listed),
    "baseline": (Baseline,),
    "data-distribution": (Listed,),
    "target-structure": (Problems, Changes),
    "definition": (Listed,),
    "triggers-enabled": (TriggerFound,),
    "parity-before": (Differences,),
    "dry-run": (Printed,),
    "backup": (Dump,),
    "restore-drill": (Seconds,),
    "switchover": (Reached,),
    "lock-budget": (Held,),
    "parity-after": (Parity,),
    "duplicates": (Repeated,),
    "orphans": (Orphans,),
    "flags": (Flipped,),
    "dashboard": (Console,),
    "source-scan": (Listed,),
    "query-speed": (Listed,),
    "load": (Errors,),
    "ledger": (Reconciled,),
    "availability": (Stall,),
    "mismatch-found": (Taken,),
    "rollback": (Injected, Outside),
    "rollback-time": (Seconds, RestoreSeconds),
    "monitoring": (Listed,),
}
READERS: Mapping[type[Data], TypeAdapter[Data]] = {
    carried: TypeAdapter(carried) for several in CARRIED.values() for carried in several
}


def require_fit(gate: str, data: Data) -> None:
    """Refuse what another gate carries.

    Raises:
        TypeError: no reader of the gate would look for it; it is a fault of the program.
    """
    if data is not NOTHING and type(data) not in CARRIED.get(gate, ()):
        message = f"evidence of {gate} carries no {type(data).__name__}; name it in evidence/data.py, table CARRIED"
        raise TypeError(message)


def read_data(gate: str, given: Mapping[str, object]) -> Data:
    """Read `data` of a line of `evidence.jsonl`; what does not fit its gate is `Unread`."""
    for carried in CARRIED.get(gate, ()) if given else ():
        try:
            return READERS[carried].validate_python(carried.unfolded(given))
        except ValidationError:
            continue
    return Unread(dict(given)) if given else NOTHING
