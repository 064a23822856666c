"""What was seen and what happened in one run: append-only JSON lines in the run's folder.

Owns `runs/<utc>-<env>-<plan>/` and its two streams: `events.jsonl` (what happened) and `evidence.jsonl` (what was
seen). Must not know gates, databases or how a report looks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.data import NOTHING, Data, read_data, require_fit
from rehearsal.evidence.events import Event, Happening, Judged, Note, Progress, read_event


def resume_command(run: str, plan: str, start: str = "") -> str:
    """Return the command that goes on with a run, whatever its environment; `start` is the phase to repeat from.

    >>> resume_command("20260101T000000Z-staging-hospitality", "hospitality", "load")
    './inv rehearse --env staging --plan hospitality --resume 20260101T000000Z-staging-hospitality --from load'
    """
    env = run.partition("-")[2].rpartition(f"-{plan}")[0]
    words = f"./inv rehearse --env {env} --plan {plan} --resume {run}"
    return f"{words} --from {start}" if start else words


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation that a gate is judged by.

    `passed` is None when the check could not see what it should judge: that is never a GO.
    """

    gate: str
    subject: str
    passed: bool | None
    observed: str
    phase: str = ""
    at: str = ""
    data: Data = NOTHING

    def to_line(self) -> dict[str, object]:
        """Return it as a line of `evidence.jsonl`."""
        return {**asdict(self), "data": self.data.to_json()}


@dataclass(frozen=True, slots=True)
class EvidenceLine:
    """A line of `evidence.jsonl`, its data as it stands there; a field that is not known is left out."""

    gate: str
    subject: str
    passed: bool | None
    observed: str
    phase: str = ""
    at: str = ""
    data: dict[str, object] = field(default_factory=dict[str, object])

    def to_evidence(self) -> Evidence:
        """Return it with its data by class."""
        data = read_data(self.gate, self.data)
        return Evidence(self.gate, self.subject, self.passed, self.observed, self.phase, self.at, data)


EVIDENCE_LINE = TypeAdapter(EvidenceLine)
Listener = Callable[[Event], None]
RUNS = "REHEARSAL_RUNS"
STAMP = "%Y%m%dT%H%M%SZ"


def runs_folder(root: Path) -> Path:
    """Return where runs are kept: the folder that REHEARSAL_RUNS names, else `runs/` of the project."""
    return Path(os.environ.get(RUNS) or root / "runs")


def utc_now() -> str:
    """Return the time now, ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Run:
    """One rehearsal's folder. Opening an existing folder continues it; nothing in it is ever rewritten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.phase = ""
        self._listeners: list[Listener] = []

    @classmethod
    def create(cls, root: Path, env: str, plan: str) -> Run:
        """Make the folder of a new run below `root`.

        Raises:
            PreconditionError: the folder cannot be made (full disk, no right).
        """
        stamp = datetime.now(UTC).strftime(STAMP)
        for number in range(100):
            folder = root / (f"{stamp}-{env}-{plan}" + (f"-{number}" if number else ""))
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as exc:
                message = f"cannot make the folder of the run {folder}: {exc.strerror}; free room or fix its rights"
                raise PreconditionError(message) from exc
            return cls(folder)
        message = f"too many runs at once in {root}"
        raise PreconditionError(message)

    @classmethod
    def open(cls, root: Path, name: str) -> Run:
        """Open the run `name` below `root`.

        Raises:
            UsageError: there is no such run; names those that there are.
        """
        folder = root / name
        if not folder.is_dir() or not name:
            known = ", ".join(sorted(path.name for path in root.glob("*-*-*"))[-5:]) or "none"
            message = f"no run {name!r} in {root}; the newest are: {known}"
            raise UsageError(message)
        return cls(folder)

    @property
    def name(self) -> str:
        """Name of the run, which is the name of its folder."""
        return self.folder.name

    @property
    def began(self) -> datetime:
        """The moment at which the run began, from its name: the same after each `--resume`.

        What has to be expected (partitions, rows) is expected as of this moment, so that midnight changes nothing.

        Raises:
            UsageError: the folder has no name of a run.
        """
        try:
            return datetime.strptime(self.name[: len("20260101T000000Z")], STAMP).replace(tzinfo=UTC)
        except ValueError as exc:
            message = f"{self.name!r} does not begin with the moment of a run, as 20260131T235800Z; name its folder so"
            raise UsageError(message) from exc

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event from now on."""
        self._listeners.append(listener)

    def tell(self, what: Happening) -> None:
        """Record that something happened, and hand it to the listeners."""
        event = Event(utc_now(), self.phase, what)
        self._append("events.jsonl", event.to_line())
        self.show(event)

    def note(self, text: str) -> None:
        """Record a sentence for people."""
        self.tell(Note(text))

    def show(self, event: Event) -> None:
        """Hand an event to the listeners without recording it."""
        for listener in self._listeners:
            listener(event)

    def progress(self, far: Progress, *, recorded: bool = False) -> None:
        """Let a bar move; recorded only where a forecast or a chart is made of it."""
        if recorded:
            self.tell(far)
        else:
            self.show(Event(utc_now(), self.phase, far))

    def record(self, gate: str, subject: str, passed: bool | None, observed: str, data: Data = NOTHING) -> Evidence:  # noqa: FBT001
        """Record what was seen for a gate; returns it.

        Raises:
            TypeError: the data are of another gate.
        """
        require_fit(gate, data)
        evidence = Evidence(gate, subject, passed, observed, self.phase, utc_now(), data)
        self._append("evidence.jsonl", evidence.to_line())
        self.tell(Judged(gate, subject, passed, observed))
        return evidence

    def evidence(self) -> list[Evidence]:
        """Read all evidence recorded so far, oldest first."""
        return [EVIDENCE_LINE.validate_python(line).to_evidence() for line in self._lines("evidence.jsonl")]

    def events(self) -> list[Event]:
        """Read all events recorded so far, oldest first."""
        return [read_event(line) for line in self._lines("events.jsonl")]

    def attach(self, name: str, text: str) -> Path:
        """Write an attachment of the report; a second call with the same name replaces it.

        Raises:
            PreconditionError: the disk is full or broken; what was there before is as it was.
        """
        path = self.folder / name
        temporary = path.with_name(path.name + ".new")
        with self._writing(path):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        return path

    def append_text(self, name: str, text: str) -> Path:
        """Append to an attachment that grows (row counts, logs).

        Raises:
            PreconditionError: the disk is full or broken.
        """
        path = self.folder / name
        with self._writing(path), path.open("a", encoding="utf-8") as file:
            file.write(text)
        return path

    def _append(self, name: str, value: Mapping[str, object]) -> None:
        data = (json.dumps(value, default=str, ensure_ascii=False) + "\n").encode()
        with self._writing(self.folder / name):
            # One write of one line on a descriptor opened for appending: a kill leaves whole lines or none.
            fd = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(fd, data)
                if written != len(data):
                    # The disk took a part of the line, which the next line must not be glued to.
                    os.ftruncate(fd, os.fstat(fd).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Generator[None]:
        try:
            yield
        except OSError as exc:
            message = f"cannot write {path}: {exc.strerror}; free room, then go on with --resume {self.name}"
            raise PreconditionError(message) from exc

    def _lines(self, name: str) -> Iterator[dict[str, object]]:
        path = self.folder / name
        if not path.exists():
            return
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
