"""How fast the copy goes: it steps back for the application, says why, and stops before it does harm.

Owns the rule (additive increase, multiplicative decrease) and the permits that workers hold while they copy a chunk or
build an index. A permit and a half means: two workers, of which each rests a quarter of the time. Limits that are
passed end the work with its state kept; a pause (`pause`) holds it up. Must not know what the workers do.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.evidence.events import ThrottleChanged
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Pace, Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.copy.pause import Pause, PauseWatch
from rehearsal.switchover.copy.signals import PATIENCE_MS, Reading, Signals

LOOK_EVERY_S = 0.5
FIRST_LOOK_S = 0.0
LEAST = 0.1
GROWTH = 0.125
# Between this share of a threshold and the threshold itself, the throttle stays as it is: no see-saw.
QUIET = 0.8
# Half a session: a copy that has the server to itself must not hinder itself by a sample's chance.
SLACK = 0.5
LONGEST_REST_S = 10.0
GB = 1 << 30

Tell = Callable[[ThrottleChanged], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reading is judged against: cores, permits in use, and a lookup's time when nobody hindered it."""

    cores: int | None
    permits: float
    quiet_ms: float | None

    def most(self, workers: int, reading: Reading, pace: Pace) -> float:
        """Return how many permits there may be: while others are at work, all cores but one.

        >>> around = Surroundings(cores=2, permits=2, quiet_ms=None)
        >>> around.most(4, Reading(others=True), Pace()), around.most(4, Reading(others=False), Pace())
        (1.0, 4.0)
        """
        shared = self.cores and is_shared(reading, pace)
        return float(min(workers, max(1, (self.cores or 1) - 1)) if shared else workers)


def is_shared(reading: Reading, pace: Pace) -> bool:
    """Return whether the server must be shared with others; where they cannot be seen, it is taken for granted."""
    return pace.mode != "full" and reading.others is not False


def reasons(reading: Reading, pace: Pace, around: Surroundings, share: float = 1.0) -> dict[str, str]:
    """Return why the copy must be slower, by kind; `share` of each threshold is allowed.

    >>> reasons(Reading(busy=12), Pace(), Surroundings(cores=2, permits=2, quiet_ms=None))
    {'busy': '12 sessions at work on 2 cores'}
    >>> reasons(Reading(busy=0, probe_ms=4.9), Pace(), Surroundings(cores=2, permits=2, quiet_ms=0.3))
    {}
    """
    if pace.mode == "full":
        return {}
    found: dict[str, str] = {}
    if around.cores and reading.busy is not None:
        room = pace.busy * around.cores * share + SLACK
        # A copy that is alone on a small server goes on with all its workers.
        if reading.busy >= SLACK * share and reading.busy + around.permits > room:
            found["busy"] = f"{_count(reading.busy, 'session')} at work on {_count(around.cores, 'core')}"
    if reading.probe_ms is not None:
        quiet = around.quiet_ms
        most = max(pace.probe_floor_ms, pace.probe_factor * (quiet or 0))
        if reading.probe_ms > most * share:
            usual = "the server was never quiet" if quiet is None else f"{quiet:.1f} ms when the server was quiet"
            found["probe"] = f"a lookup takes {reading.probe_ms:.1f} ms, {usual}"
    found |= _above("lag", reading.replica_lag_s, pace.max_replica_lag_s, share, "a standby lags {:.1f} s")
    found |= _above("wal", reading.wal_mb_s, pace.max_wal_mb_s, share, "{:.0f} MB of WAL a second")
    return found | _above(
        "archive", reading.archive_queue, pace.max_archive_queue, share, "{:.0f} WAL files wait to be archived"
    )


def broken_limits(reading: Reading, pace: Pace) -> list[str]:
    """Return the limits that a reading passes: reasons to stop, whatever the mode.

    >>> broken_limits(Reading(free_bytes=10**9), Pace())
    ['0.9 GB free on the disk, less than 2 (pace.stop_free_gb)']
    """
    limits = (
        (reading.replica_lag_s, pace.stop_replica_lag_s, "a standby lags {:.0f} s", "stop_replica_lag_s"),
        (reading.archive_queue, pace.stop_archive_queue, "{:.0f} WAL files wait to be archived", "stop_archive_queue"),
        (_gb(reading.slot_bytes), pace.stop_slot_gb, "a slot holds back {:.1f} GB of WAL", "stop_slot_gb"),
        (reading.xmin_age, pace.stop_xmin_age, "the oldest snapshot is {:.0f} transactions old", "stop_xmin_age"),
    )
    found = [
        f"{text.format(value)}, more than {most:g} (pace.{key})"
        for value, most, text, key in limits
        if value is not None and value > most
    ]
    free = _gb(reading.free_bytes)
    if free is not None and free < pace.stop_free_gb:
        found.append(f"{free:.1f} GB free on the disk, less than {pace.stop_free_gb:g} (pace.stop_free_gb)")
    return found


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}" if round(number) == 1 else f"{number:.0f} {noun}s"


def _gb(value: float | None) -> float | None:
    return None if value is None else value / GB


def _above(kind: str, value: float | None, most: float | None, share: float, text: str) -> dict[str, str]:
    over = value is not None and most is not None and value > most * share
    return {kind: text.format(value)} if over else {}


def next_permits(permits: float, workers: int, *, slow: bool, quiet: bool) -> float:
    """Return how many permits there are from now on: half as many when it is too much, a few more when it is quiet.

    >>> next_permits(2, 2, slow=True, quiet=False), next_permits(1, 2, slow=False, quiet=True)
    (1.0, 1.25)
    >>> next_permits(0.15, 2, slow=True, quiet=False), next_permits(1, 2, slow=False, quiet=False)
    (0.1, 1)
    """
    if slow:
        return max(LEAST, permits / 2)
    return min(float(workers), permits + GROWTH * workers) if quiet else permits


@dataclass(slots=True)
class Throttle:
    """Looks at the signals in a thread of its own, and hands out turns (`rehearsal.postgres.turns`) by what it sees."""

    what: str
    pace: Pace
    signals: Signals
    pauses: PauseWatch
    workers: int
    tell: Tell
    permits: float = 0.0
    shared: bool = False
    _running: int = 0
    _quiet_ms: float | None = None
    _lowest: float = math.inf
    _kinds: frozenset[str] = frozenset()
    _end: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _change: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Look once, then go on looking.

        Raises:
            StepFailed: a limit is passed already.
        """
        self.permits = float(self.workers)
        try:
            self._look(FIRST_LOOK_S)
        except BaseException:
            self.signals.close()
            raise
        self._thread = threading.Thread(target=self._watch, name="throttle", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self.signals.close()

    @contextmanager
    def turn(self, conn: Connection, stop: threading.Event) -> Generator[bool]:
        """Wait for the end of a pause and for a permit; hold it for the block, and rest in it if permits are short.

        Raises:
            StepFailed: a limit was passed, or the signals can no longer be read.
        """
        if not self.pauses.wait(conn, stop) or not self._take_permit(stop):
            yield False
            return
        started = time.monotonic()
        try:
            yield True
            stop.wait(self._rest(time.monotonic() - started))
        finally:
            self._give_permit()

    def _take_permit(self, stop: threading.Event) -> bool:
        with self._change:
            while not stop.is_set():
                if self._end:
                    raise StepFailed(str(self._end)) from self._end
                if self._running < math.ceil(self.permits):
                    self._running += 1
                    return True
                self._change.wait(LOOK_EVERY_S)
        return False

    def _give_permit(self) -> None:
        with self._change:
            self._running -= 1
            self._change.notify_all()

    def _rest(self, worked: float) -> float:
        """Return how long a worker rests, so that all together take no more than the permits there are."""
        share = self.permits / max(1, self._running)
        return min(LONGEST_REST_S, worked * (1 / share - 1)) if share < 1 else 0.0

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._look(LOOK_EVERY_S)
            except BaseException as exc:  # noqa: BLE001 -- raised again by the workers, who must not go on blindly
                with self._change:
                    self._end = exc
                    self._change.notify_all()
                return

    def _look(self, seconds: float) -> None:
        reading = self.signals.read(self._stop, seconds)
        if broken := broken_limits(reading, self.pace):
            message = (
                f"{self.what} stopped: {'; '.join(broken)}. What was done is kept: mend that or raise the limit in the "
                "plan, then run again"
            )
            self.tell(ThrottleChanged(self.what, message, tuple(broken), 0.0))
            raise StepFailed(message)
        if reading.probe_ms is not None and reading.probe_ms < PATIENCE_MS:
            self._quiet_ms = min(self._quiet_ms or math.inf, reading.probe_ms) or None
        self._judge(reading)

    def _judge(self, reading: Reading) -> None:
        if self.pauses.is_paused:
            # Nothing of ours is at work, so nothing that is felt now is ours.
            return
        around = Surroundings(self.pace.cores or self.signals.cores, self.permits, self._quiet_ms)
        slow = reasons(reading, self.pace, around)
        quiet = not slow and not reasons(reading, self.pace, around, QUIET)
        most = around.most(self.workers, reading, self.pace)
        permits = min(most, next_permits(self.permits, self.workers, slow=bool(slow), quiet=quiet))
        if self.permits > most:
            slow["core"] = f"others are at work; one of {_count(around.cores or 1, 'core')} is theirs"
        with self._change:
            self.shared = is_shared(reading, self.pace)
            self.permits = permits
            self._change.notify_all()
        self._say(slow)

    def _say(self, slow: dict[str, str]) -> None:
        """Tell of each new low and each new kind of reason, and of the full speed at the end."""
        kinds = self._kinds | slow.keys()
        if slow and (self.permits < self._lowest or kinds != self._kinds):
            self._lowest, self._kinds = min(self._lowest, self.permits), frozenset(kinds)
            text = f"{self.what} slowed to {self.permits:.2g} of {self.workers} sessions: {'; '.join(slow.values())}"
            self.tell(ThrottleChanged(self.what, text, tuple(slow.values()), round(self.permits, 2)))
        elif self._kinds and self.permits >= self.workers:
            self._lowest, self._kinds = math.inf, frozenset()
            self.tell(ThrottleChanged(self.what, f"{self.what} at full speed again", places=self.permits))


def make_throttle(
    what: str, database: Database, files: SqlFiles, plan: Plan, run: Run, source: Name, key: tuple[str, ...]
) -> Throttle:
    """Return the throttle of one work on a table; what cannot be seen is told once a run."""
    signals = Signals(database, files, source, key)

    told = {event.what.text for event in run.events() if isinstance(event.what, ThrottleChanged)}
    cores = "cores:" if plan.pace.cores else None
    for blind in signals.blind:
        text = f"the throttle does not see {blind}"
        if text not in told and not (cores and cores in text):
            run.tell(ThrottleChanged(what, text))
    watch = PauseWatch(plan.name, lambda pause: run.tell(_of_pause(what, pause)))
    return Throttle(what, plan.pace, signals, watch, plan.copying.workers, run.tell)


def _of_pause(what: str, pause: Pause | None) -> ThrottleChanged:
    if pause is None:
        return ThrottleChanged(what, f"{what} goes on after the pause", paused=False)
    text = f"{what} {pause}; `./inv db.resume` lets it go on"
    return ThrottleChanged(what, text, (str(pause),), paused=True)
