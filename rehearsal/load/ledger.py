"""The ledger of writes: what was sent, what was acknowledged, and what may therefore be true.

Owns the files `NNNN.ledger.jsonl` of a run, one for each start of a generator, and the pure model of what they
allow. An intent is in the file before the write is sent, the transaction id before COMMIT is, the outcome after.
Must not know databases, plans or how writes are made.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from rehearsal.errors import PreconditionError

Action = Literal["insert", "update", "delete", "move"]
Outcome = Literal["ok", "failed", "unknown"]
Uid = tuple[int, int]
SUBJECTS_PER_FILE = 10_000_000
MARKER_PREFIX = "lg:"


def marker_prefix(run: str) -> str:
    """Return what every marker of a run starts with."""
    return f"{MARKER_PREFIX}{run}:"


def marker(run: str, segment: str, subject: int, version: int) -> str:
    """Return the mark that one write leaves in its row.

    >>> marker("r1", "cutover", 10000001, 3)
    'lg:r1:cutover:10000001:3'
    """
    return f"{marker_prefix(run)}{segment}:{subject}:{version}"


def parse_marker(run: str, text: str) -> tuple[int, int] | None:
    """Return subject and version of a marker of the run, or None if it is none of ours.

    >>> parse_marker("r1", "lg:r1:cutover:10000001:3"), parse_marker("r1", "lg:r1:x")
    ((10000001, 3), None)
    """
    words = text.removeprefix(marker_prefix(run)).split(":")
    if len(words) != 3 or not (words[1].isdecimal() and words[2].isdecimal()):
        return None
    return int(words[1]), int(words[2])


def canonical_key(key: object) -> str:
    """Return the one text of a key, whatever the type of its column: UTC, microseconds.

    >>> canonical_key(date(2026, 1, 31)), canonical_key(datetime(2026, 1, 31, 12, tzinfo=UTC))
    ('2026-01-31', '2026-01-31T12:00:00.000000')
    >>> canonical_key(True), canonical_key(7), canonical_key("de")
    ('true', '7', 'de')
    """
    if isinstance(key, bool):
        return str(key).lower()
    if not isinstance(key, datetime):
        return key.isoformat() if isinstance(key, date) else str(key)
    return (key.astimezone(UTC).replace(tzinfo=None) if key.tzinfo else key).isoformat(timespec="microseconds")


@dataclass(slots=True)
class Write:
    """One write of the load, as far as the ledger knows."""

    file: int
    seq: int
    segment: str
    subject: int
    op: str
    action: Action
    via: str
    server: str | None
    table: str
    version: int
    key: str
    scheduled: float
    started: float
    id: int | str | None = None
    xid: str | None = None
    outcome: Outcome | None = None
    finished: float | None = None
    code: str | None = None
    error: str | None = None
    rows: int | None = None
    missing: bool = False

    @property
    def uid(self) -> Uid:
        """Identity in the run: file and number in it."""
        return self.file, self.seq

    @property
    def is_void(self) -> bool:
        """Whether it certainly changed nothing: refused, or never asked to commit.

        The transaction id is in the file before COMMIT is sent, so a write by SQL without one was not committed
        when the file was read.
        """
        return self.outcome == "failed" or (self.via == "sql" and self.outcome is None and self.xid is None)


@dataclass(frozen=True, slots=True)
class RowState:
    """A row that is there, with the version and the key that a write gave it. No row at all is None."""

    version: int
    key: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be true of a subject: `states`, the first by the newest certain write `base`."""

    states: tuple[RowState | None, ...]
    base: Write | None


def allowed_states(writes: Sequence[Write], certain: Collection[Uid], refuted: Collection[Uid] = ()) -> Allowed:
    """Return what may be true of one subject after its `writes`, oldest first.

    `certain` are the writes known to be visible, `refuted` those known to have been rolled back. Each later write
    that was sent may have happened or not.
    """
    states: list[RowState | None] = [None]
    base: Write | None = None
    for write in writes:
        if write.is_void or write.uid in refuted:
            continue
        after = None if write.action == "delete" else RowState(write.version, write.key)
        if write.uid in certain:
            states, base = [after], write
        elif after not in states:
            states.append(after)
    return Allowed(tuple(states), base)


class Ledger:
    """All writes of a run, read from the files of a folder; reading again gives what was added since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writes: dict[Uid, Write] = {}
        self._offsets: dict[Path, int] = {}
        self._segments: dict[Path, str] = {}

    def read(self, paths: Iterable[Path] | None = None) -> Ledger:
        """Read whole lines that are new in the files (default: all of the folder)."""
        for path in sorted(paths) if paths is not None else ledger_files(self.folder):
            for line in self._new_lines(path):
                self._take(path, line)
        return self

    def certain(self) -> set[Uid]:
        """Return the writes that were acknowledged and found their row."""
        return {uid for uid, write in self.writes.items() if write.outcome == "ok" and not write.missing}

    def by_subject(self) -> dict[int, list[Write]]:
        """Return the writes of each subject, oldest first."""
        found: dict[int, list[Write]] = {}
        for uid in sorted(self.writes):
            found.setdefault(self.writes[uid].subject, []).append(self.writes[uid])
        return found

    def _new_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        for line in whole.splitlines():
            yield json.loads(line)

    def _take(self, path: Path, line: dict[str, Any]) -> None:
        kind = line.pop("t")
        if kind == "head":
            self._segments[path] = line["segment"]
            return
        uid = (file_number(path), line["seq"])
        if kind == "intent":
            self.writes[uid] = Write(file=uid[0], segment=self._segments[path], **line)
            return
        for name, value in line.items():
            if name != "seq":
                setattr(self.writes[uid], name, value)


class LedgerWriter:
    """Appends to a file of its own; holds a lock on it, so that others see whether its writer lives."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._seq = 0

    @classmethod
    def claim(cls, folder: Path, run: str, segment: str) -> LedgerWriter:
        """Make the next file of the folder.

        Raises:
            PreconditionError: the file cannot be made (full disk, no right).
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path, fd = _create_next(folder)
        except OSError as exc:
            message = f"cannot make a ledger in {folder}: {exc.strerror}; free room or fix its rights"
            raise PreconditionError(message) from exc
        fcntl.flock(fd, fcntl.LOCK_EX)
        writer = cls(path, fd)
        writer._append({"t": "head", "run": run, "segment": segment, "pid": os.getpid()})
        return writer

    @property
    def first_subject(self) -> int:
        """First of the subject numbers that only this file uses."""
        return file_number(self.path) * SUBJECTS_PER_FILE

    def intent(self, **fields: Any) -> int:
        """Record that a write is about to be sent; return its number."""
        self._seq += 1
        self._append({"t": "intent", "seq": self._seq, **fields})
        return self._seq

    def commit(self, seq: int, xid: str) -> None:
        """Record that COMMIT of transaction `xid` is about to be sent."""
        self._append({"t": "commit", "seq": seq, "xid": xid})

    def outcome(self, seq: int, **fields: Any) -> None:
        """Record how a write ended."""
        self._append({"t": "outcome", "seq": seq, **fields})

    def close(self) -> None:
        """Close the file; its lock goes with it."""
        os.close(self._fd)

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self._fd, self.path, line)


def append_line(fd: int, path: Path, line: dict[str, Any]) -> None:
    """Append one line of JSON in one write; not fsynced, since it must outlive a kill, not the end of the machine.

    Raises:
        PreconditionError: the disk is full or broken; what is not in the file was not sent either.
    """
    data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
    try:
        written = os.write(fd, data)
    except OSError as exc:
        message = f"cannot write {path}: {exc.strerror}; free room, then start the load again"
        raise PreconditionError(message) from exc
    if written != len(data):
        message = f"cannot write {path}: only a part of a line went in; free room, then start the load again"
        raise PreconditionError(message)


def ledger_files(folder: Path) -> list[Path]:
    """Return the ledger files of a folder, oldest first."""
    return sorted(folder.glob("*.ledger.jsonl"))


def file_number(path: Path) -> int:
    """Return the number that the name of a ledger file starts with."""
    return int(path.name.partition(".")[0])


def finished_files(folder: Path) -> list[Path]:
    """Return the ledger files whose writer is gone."""
    return [path for path in ledger_files(folder) if _is_unlocked(path)]


def _is_unlocked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _create_next(folder: Path) -> tuple[Path, int]:
    number = 1 + max((file_number(path) for path in ledger_files(folder)), default=0)
    while True:
        path = folder / f"{number:04}.ledger.jsonl"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            number += 1
