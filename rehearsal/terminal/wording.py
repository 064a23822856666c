"""The words for a run's events: what is said of a phase, a gate, a lock, a step, a verdict. Pure.

What goes well is gathered and said in one line a gate at the end of its phase; what does not is said at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rehearsal.evidence.events import (
    Event,
    Happening,
    HostsDone,
    Judged,
    LockTaken,
    Note,
    OperationDone,
    PhaseFinished,
    PhaseSkipped,
    PhaseStarted,
    StepDone,
    ThrottleChanged,
)
from rehearsal.verdict.decide import GateState, Outcome, Verdict

MAX_REASONS = 5
SHORT_STEP_MS = 100.0
MAX_LETTERS = 140
CONNECTOR = re.compile(r"@\w+/(?=\w)")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Line:
    """One line for a person: how deep it stands, a word that may be coloured, and the rest."""

    indent: int
    word: str
    text: str

    def __str__(self) -> str:
        """Return the line as plain text."""
        return "  " * self.indent + " ".join(part for part in (self.word, self.text) if part)


class Gathered:
    """What went well in a phase, until its end; hands out at once what a person must see at once."""

    def __init__(self) -> None:
        self.now = ""
        self._inside = False
        self._skipped: list[str] = []
        self._steps: list[StepDone] = []
        self._locks: list[LockTaken] = []
        self._judged: list[Judged] = []

    def add(self, event: Event) -> list[Line]:
        """Take in an event; return the lines to show now."""
        what = event.what
        if isinstance(what, PhaseSkipped):
            self._skipped.append(what.reason)
            return []
        if isinstance(what, PhaseStarted | PhaseFinished):
            self._inside = isinstance(what, PhaseStarted)
            return self._with(what)
        if isinstance(what, Note) and not self._inside:
            return self._with(what)
        self.now = say_now(what) or self.now
        self._gather(what)
        line = describe(what) if is_urgent(what) else None
        return [line] if line else []

    def _with(self, what: Happening) -> list[Line]:
        line = describe(what)
        return [*self.take(), *([line] if line else [])]

    def _gather(self, what: Happening) -> None:
        match what:
            case StepDone():
                self._steps.append(what)
            case LockTaken():
                self._locks.append(what)
            case Judged():
                self._judged.append(what)
            case _:
                pass

    def take(self) -> list[Line]:
        """Return the lines of what was gathered, and forget it."""
        skipped, self._skipped, self.now = self._skipped, [], ""
        steps, locks, judged = self._steps, self._locks, self._judged
        self._steps, self._locks, self._judged = [], [], []
        why = [(reason, skipped.count(reason)) for reason in dict.fromkeys(skipped)]
        over = [Line(0, "", clean(f"{_count(many, 'phase')} skipped: {reason}")) for reason, many in why]
        return [*over, *say_steps(steps), *say_locks(locks), *say_gates(judged)]


def is_urgent(what: Happening) -> bool:
    """Return whether it is shown at once: trouble, what somebody wrote for people, and a change of the hosts."""
    match what:
        case Judged():
            return what.passed is not True
        case LockTaken():
            return what.attempts > 1 or bool(what.blockers)
        case OperationDone():
            return not what.ok
        case HostsDone() | Note() | ThrottleChanged():
            return True
        case _:
            return False


def describe(what: Happening) -> Line | None:
    """Return the line that says what happened; None for kinds that are not for people."""
    match what:
        case PhaseStarted():
            return Line(0, clean(say_title(what)), "")
        case PhaseFinished():
            return Line(1, "ok" if what.ok else "failed", f"({what.seconds:.1f} s)")
        case PhaseSkipped():
            return Line(0, clean(what.title), clean(f"skipped: {what.reason}"))
        case Judged():
            return Line(1, _mark(what.passed), clean(f"{what.gate}: {what.subject}: {what.observed}"))
        case _:
            said = _sentence(what)
            return Line(1, "", clean(said)) if said is not None else None


def say_title(started: PhaseStarted) -> str:
    """Return the title of a phase, with its place among all phases where that is known."""
    place = f"{started.number}/{started.of} " if started.of > 0 else ""
    return place + started.title


def say_now(what: Happening) -> str:
    """Return what is being done just now, for the line that moves; empty if an event does not tell."""
    match what:
        case OperationDone():
            return f"{what.host}: {what.operation}"
        case StepDone():
            return f"{what.table}: {what.title} done"
        case Judged():
            return f"{what.gate}: {what.subject}"
        case _:
            return ""


def say_steps(steps: Sequence[StepDone]) -> list[Line]:
    """Return one line a table: its steps in order, those too short to matter left out."""
    lines: list[Line] = []
    for table in dict.fromkeys(step.table for step in steps):
        of_table = [step for step in steps if step.table == table]
        long = [step for step in of_table if step.ms >= SHORT_STEP_MS] or of_table
        said = ", ".join(f"{step.title} {_step(step)}" for step in long)
        lines.append(Line(1, "", clean(f"{table}: {said}")))
    return lines


def say_locks(locks: Sequence[LockTaken]) -> list[Line]:
    """Return one line: how many locks, the longest wait, the longest hold."""
    if not locks:
        return []
    longest = max(locks, key=lambda lock: lock.held_ms)
    waited = max(lock.waited_ms for lock in locks)
    again = sum(lock.attempts > 1 for lock in locks)
    said = (
        f"{_count(len(locks), 'lock')}, {again or 'none'} retried; longest wait {_took(waited)}, "
        f"longest hold {_took(longest.held_ms)} ({longest.what})"
    )
    return [Line(1, "", clean(said))]


def say_gates(judged: Sequence[Judged]) -> list[Line]:
    """Return one line a gate for what passed; what did not was said at once."""
    lines: list[Line] = []
    for gate in dict.fromkeys(check.gate for check in judged):
        every = [check for check in judged if check.gate == gate]
        passed = [check for check in every if check.passed is True]
        if passed:
            lines.append(Line(1, "passed", clean(f"{gate}: {_gate(passed, len(every))}")))
    return lines


def _gate(passed: Sequence[Judged], of: int) -> str:
    subject, seen = passed[0].subject, passed[0].observed
    if of == 1:
        return f"{subject}: {seen}"
    if len(passed) < of:
        return f"{len(passed)} of {of} checks"
    if all(check.observed == seen for check in passed):
        return f"{of} checks, each: {seen}"
    last = passed[-1]
    return _cut(f"{of} checks, the last: {last.subject}: {last.observed}")


def explain_verdict(verdict: Verdict) -> list[str]:
    """Return the first reasons and what was not rehearsed, as lines."""
    passed = sum(result.state is GateState.PASSED for result in verdict.gates)
    reasons = list(verdict.reasons[:MAX_REASONS]) or [f"every required gate was seen and passed: {passed} gates"]
    more = len(verdict.reasons) - MAX_REASONS
    absent = ", ".join(line.partition(":")[0] for line in verdict.not_rehearsed)
    return [
        *reasons,
        *([f"and {more} more, all of them in the report"] if more > 0 else []),
        *([f"not rehearsed here: {absent}"] if absent else []),
    ]


def say_next(verdict: Verdict, report: Path) -> list[str]:
    """Return where the report is and what to do with it, as commands that can be pasted."""
    run = report.parent.name
    first = next((reason.partition(":")[0] for reason in verdict.reasons if ":" in reason), "")
    return [
        f"report: {_near(report)}",
        f"open:   ./inv report.open --run {run}",
        *([f'sign:   ./inv report.sign --run {run} --by "YOUR NAME"'] if verdict.outcome is Outcome.GO else []),
        *([f"why:    ./inv explain {first}"] if first else []),
    ]


def _near(path: Path) -> Path:
    """Return a path as it is written from the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def say_progress(done: float, total: float, rate: float, unit: str) -> str:
    """Return how far a work is, how fast, and how long it still takes.

    >>> say_progress(500, 1000, 100, "rows")
    '50 % of 1,000 rows, 100/s, 5 s left'
    """
    far = f"{min(done / total, 1):.0%} of {total:,.0f}".replace("%", " %") if total > 0 else f"{done:,.0f}"
    speed = f", {rate:,.0f}/s" if rate > 0 else ""
    left = f", {max(total - done, 0) / rate:,.0f} s left" if rate > 0 and total > 0 else ""
    return f"{far} {unit}".rstrip() + speed + left


def clean(text: str) -> str:
    r"""Return a text without control characters, so that no log line can draw on the terminal.

    A host is called by its name, without the connector that reaches it.

    >>> clean("a\x1b[31mb\nc")
    'a [31mb c'
    >>> clean("@process/app1: healthy")
    'app1: healthy'
    """
    return CONTROL.sub(" ", CONNECTOR.sub("", text))


def _sentence(what: Happening) -> str | None:
    match what:
        case LockTaken():
            tries = _count(what.attempts, "attempt")
            by = f", blocked by {', '.join(what.blockers)}" if what.blockers else ""
            waited, held = _took(what.waited_ms), _took(what.held_ms)
            return f"lock for {what.what}: granted after {waited} and {tries}{by}; held {held}"
        case StepDone():
            return f"{what.table} {what.title}: {_step(what)}"
        case OperationDone():
            return f"{what.host}: {what.operation}: {'done' if what.ok else 'FAILED'}"
        case HostsDone():
            many, who = _count(what.operations, "operation"), ", ".join(what.hosts) or "no host"
            return f"hosts, {what.of}: {many} on {who}, {what.changed} changed something, {_took(1e3 * what.seconds)}"
        case Note() | ThrottleChanged():
            return what.text
        case _:
            return None


def _step(step: StepDone) -> str:
    """Return how long a step took, and how many rows a copy brought."""
    found = step.result.get("rows") if isinstance(step.result, dict) else 0
    rows = found if isinstance(found, int) else 0
    return f"{rows:,.0f} rows in {_took(step.ms)}" if rows else _took(step.ms)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _took(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 or not math.isfinite(ms) else f"{ms / 1000:.1f} s"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "…"


def _mark(passed: object) -> str:
    return "passed" if passed is True else "FAILED" if passed is False else "UNSEEN"


def seconds_of(event: Event) -> float:
    """Return the moment of an event in seconds of the epoch."""
    try:
        return datetime.fromisoformat(event.at).timestamp()
    except ValueError:
        return 0.0
