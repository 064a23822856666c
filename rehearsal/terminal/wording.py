"""The words for a run's events: what is said of a phase, a gate, a lock, a step, a verdict. Pure.

What goes well is gathered and said in one line a gate at the end of its phase; what does not is said at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from rehearsal.evidence import Event
from rehearsal.verdict.decide import Outcome, State, Verdict

MAX_REASONS = 5
SHORT_STEP_MS = 100.0
MOST_LETTERS = 140
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
        self._events: list[Event] = []

    def add(self, event: Event) -> list[Line]:
        """Take in an event; return the lines to show now."""
        if event.kind == "phase-skipped":
            self._skipped.append(word_of(event.fields, "reason", ""))
            return []
        if event.kind in {"phase-started", "phase-finished"}:
            self._inside = event.kind == "phase-started"
            line = describe(event)
            return [*self.take(), *([line] if line else [])]
        if event.kind == "note" and not self._inside:
            line = describe(event)
            return [*self.take(), *([line] if line else [])]
        self.now = say_now(event) or self.now
        if event.kind in GATHERED:
            self._events.append(event)
        line = describe(event) if is_urgent(event) else None
        return [line] if line else []

    def take(self) -> list[Line]:
        """Return the lines of what was gathered, and forget it."""
        events, self._events, self.now = self._events, [], ""
        skipped, self._skipped = self._skipped, []
        of = {kind: [one.fields for one in events if one.kind == kind] for kind in GATHERED}
        why = [(reason, skipped.count(reason)) for reason in dict.fromkeys(skipped)]
        over = [Line(0, "", clean(f"{_count(many, 'phase')} skipped: {reason}")) for reason, many in why]
        return [*over, *say_steps(of["step"]), *say_locks(of["lock"]), *say_gates(of["evidence"])]


GATHERED = ("step", "lock", "evidence")


def is_urgent(event: Event) -> bool:
    """Return whether an event is shown at once: trouble, what somebody wrote for people, and a change of the hosts."""
    fields = event.fields
    match event.kind:
        case "evidence":
            return fields.get("passed") is not True
        case "lock":
            return number_of(fields, "attempts") > 1 or bool(fields.get("blockers"))
        case "operation":
            return fields.get("ok") is False
        case "hosts" | "note" | "pace":
            return True
        case _:
            return False


def describe(event: Event) -> Line | None:
    """Return the line that says an event; None for kinds that are not for people."""
    fields = event.fields
    match event.kind:
        case "phase-started":
            return Line(0, clean(say_title(event)), "")
        case "phase-finished":
            return Line(1, "ok" if fields.get("ok") is True else "failed", f"({number_of(fields, 'seconds'):.1f} s)")
        case "phase-skipped":
            return Line(
                0, clean(word_of(fields, "title", event.phase)), clean(f"skipped: {word_of(fields, 'reason', '')}")
            )
        case "evidence":
            said = (
                f"{word_of(fields, 'gate', '?')}: {word_of(fields, 'subject', '?')}: {word_of(fields, 'observed', '')}"
            )
            return Line(1, _mark(fields.get("passed")), clean(said))
        case "lock" | "step" | "operation" | "hosts" | "note" | "pace":
            return Line(1, "", clean(_sentence(event.kind, fields)))
        case _:
            return None


def say_title(event: Event) -> str:
    """Return the title of a phase, with its place among all phases where that is known."""
    number, most = number_of(event.fields, "number"), number_of(event.fields, "of")
    place = f"{number:.0f}/{most:.0f} " if most > 0 else ""
    return place + word_of(event.fields, "title", event.phase)


def say_now(event: Event) -> str:
    """Return what is being done just now, for the line that moves; empty if an event does not tell."""
    fields = event.fields
    match event.kind:
        case "operation":
            return f"{_host(fields)}: {word_of(fields, 'operation', '')}"
        case "step":
            return f"{word_of(fields, 'table', '')}: {word_of(fields, 'name', '')} done"
        case "evidence":
            return f"{word_of(fields, 'gate', '')}: {word_of(fields, 'subject', '')}"
        case _:
            return ""


def say_steps(steps: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line a table: its steps in order, those too short to matter left out."""
    lines: list[Line] = []
    for table in dict.fromkeys(word_of(one, "table", "") for one in steps):
        of_table = [one for one in steps if word_of(one, "table", "") == table]
        long = [one for one in of_table if number_of(one, "ms") >= SHORT_STEP_MS] or of_table
        said = ", ".join(f"{word_of(one, 'name', 'step').replace('-', ' ')} {_step(one)}" for one in long)
        lines.append(Line(1, "", clean(f"{table}: {said}")))
    return lines


def say_locks(locks: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line: how many locks, the longest wait, the longest hold."""
    if not locks:
        return []
    longest = max(locks, key=lambda one: number_of(one, "held_ms"))
    waited = max(number_of(one, "waited_ms") for one in locks)
    again = sum(number_of(one, "attempts") > 1 for one in locks)
    said = (
        f"{_count(len(locks), 'lock')}, {again or 'none'} asked for twice; longest wait {_took(waited)}, "
        f"longest hold {_took(number_of(longest, 'held_ms'))} ({word_of(longest, 'what', 'lock')})"
    )
    return [Line(1, "", clean(said))]


def say_gates(evidence: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line a gate for what passed; what did not was said at once."""
    lines: list[Line] = []
    for gate in dict.fromkeys(word_of(one, "gate", "?") for one in evidence):
        every = [one for one in evidence if word_of(one, "gate", "?") == gate]
        passed = [one for one in every if one.get("passed") is True]
        if passed:
            lines.append(Line(1, "passed", clean(f"{gate}: {_gate(passed, len(every))}")))
    return lines


def _gate(passed: Sequence[Mapping[str, Any]], of: int) -> str:
    subject, seen = word_of(passed[0], "subject", "?"), word_of(passed[0], "observed", "")
    if of == 1:
        return f"{subject}: {seen}"
    if len(passed) < of:
        return f"{len(passed)} of {of} checks"
    if all(word_of(one, "observed", "") == seen for one in passed):
        return f"{of} checks, each: {seen}"
    last = passed[-1]
    return _cut(f"{of} checks, the last: {word_of(last, 'subject', '?')}: {word_of(last, 'observed', '')}")


def explain_verdict(verdict: Verdict) -> list[str]:
    """Return the first reasons and what was not rehearsed, as lines."""
    passed = sum(result.state is State.PASSED for result in verdict.gates)
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


def _sentence(kind: str, fields: Mapping[str, Any]) -> str:
    match kind:
        case "lock":
            waited, held = _took(number_of(fields, "waited_ms")), _took(number_of(fields, "held_ms"))
            tries = _count(round(number_of(fields, "attempts")), "attempt")
            what, by = word_of(fields, "what", "lock"), _blockers(fields.get("blockers"))
            return f"lock for {what}: granted after {waited} and {tries}{by}; held {held}"
        case "step":
            return f"{word_of(fields, 'table', '')} {word_of(fields, 'name', 'step')}: {_step(fields)}"
        case "operation":
            end = "done" if fields.get("ok") is not False else "FAILED"
            return f"{_host(fields)}: {word_of(fields, 'operation', '')}: {end}"
        case "hosts":
            changed, took = number_of(fields, "changed"), _took(1e3 * number_of(fields, "seconds"))
            many = _count(round(number_of(fields, "operations")), "operation")
            who = ", ".join(_names(fields.get("hosts"))) or "no host"
            return f"hosts, {word_of(fields, 'of', '')}: {many} on {who}, {changed:.0f} changed something, {took}"
        case _:
            return word_of(fields, "text", "")


def _step(fields: Mapping[str, Any]) -> str:
    """Return how long a step took, and how many rows a copy brought."""
    result, took = fields.get("result"), _took(number_of(fields, "ms"))
    rows = number_of(cast("Mapping[str, Any]", result), "rows") if isinstance(result, Mapping) else 0.0
    return f"{rows:,.0f} rows in {took}" if rows else took


def _host(fields: Mapping[str, Any]) -> str:
    return word_of(fields, "host", "?")


def _names(value: Any) -> list[str]:
    names = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
    return [str(name) for name in names]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _blockers(value: Any) -> str:
    names = _names(value)
    return f", behind {', '.join(names)}" if names else ""


def _took(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 or not math.isfinite(ms) else f"{ms / 1000:.1f} s"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def _mark(passed: object) -> str:
    return "passed" if passed is True else "FAILED" if passed is False else "UNSEEN"


def word_of(fields: Mapping[str, Any], name: str, default: str) -> str:
    """Return a field as text."""
    value = fields.get(name)
    return default if value is None else str(value)


def number_of(fields: Mapping[str, Any], name: str) -> float:
    """Return a field as a number; 0 where it is none."""
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def seconds_of(event: Event) -> float:
    """Return the moment of an event in seconds of the epoch."""
    try:
        return datetime.fromisoformat(event.at).timestamp()
    except ValueError:
        return 0.0
