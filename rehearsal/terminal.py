"""What a person sees while a rehearsal runs: listeners for a run's events, and the verdict at the end.

Owns the live view (on a terminal) and plain lines (everywhere else: no colour, no control codes). Must not know how
phases work. An event of an unknown kind is left out; nothing that an event holds can stop the run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO, cast

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from rehearsal.evidence import Event
from rehearsal.verdict import Outcome, Verdict

MAX_REASONS = 5
PLAIN_EVERY_S = 5.0
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
COLOURS = {"passed": "green", "FAILED": "bold red", "UNSEEN": "yellow", "ok": "green", "failed": "bold red"}
VERDICT_COLOURS = {Outcome.GO: "green", Outcome.NO_GO: "red", Outcome.INCONCLUSIVE: "yellow"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line for a person: how deep it stands, a word that may be coloured, and the rest."""

    indent: int
    word: str
    text: str

    def __str__(self) -> str:
        """Return the line as plain text."""
        return "  " * self.indent + " ".join(part for part in (self.word, self.text) if part)


@dataclass(slots=True)
class Work:
    """One long work: when it was first seen, so that a rate can be told."""

    started: float
    done: float
    said: float = field(default=float("-inf"))

    def rate(self, now: float, done: float) -> float:
        """Return units a second since the work was first seen."""
        return (done - self.done) / (now - self.started) if now > self.started else 0.0


class Terminal(Protocol):
    """A listener that is opened before a run and closed after it."""

    def __enter__(self) -> Self:
        """Open the view."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the view; the terminal is left as it was found."""
        ...

    def __call__(self, event: Event) -> None:
        """Show an event."""
        ...

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Show how it ended and where the report is."""
        ...


def make_terminal(stream: TextIO | None = None) -> Terminal:
    """Return the live view if `stream` (default: stdout) is a terminal, else plain lines."""
    out = sys.stdout if stream is None else stream
    return Live(out) if out.isatty() else Plain(out)


class Plain:
    """Plain lines, for files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._works: dict[tuple[str, str], Work] = {}
        self._gone = False

    def __enter__(self) -> Self:
        """Open the view."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the view."""

    def __call__(self, event: Event) -> None:
        """Write the line of an event."""
        line = self._progress(event) if event.kind == "progress" else describe(event)
        if line is not None:
            self._write(str(line))

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Write how it ended."""
        self._write(f"\nverdict: {verdict.outcome}")
        for line in (*explain_verdict(verdict), f"report: {report}"):
            self._write(f"  {clean(line)}")

    def _progress(self, event: Event) -> Line | None:
        """Return a line at the end of a work, and else every few seconds."""
        now, what = _seconds(event), _word(event.fields, "what", "work")
        done, total = _number(event.fields, "done"), _number(event.fields, "total")
        work = self._works.setdefault((event.phase, what), Work(now, done))
        if now - work.said < PLAIN_EVERY_S and not 0 < total <= done:
            return None
        work.said = now
        rate, unit = work.rate(now, done), _word(event.fields, "unit", "")
        return Line(1, "", clean(f"{what}: {say_progress(done, total, rate, unit)}"))

    def _write(self, text: str) -> None:
        if self._gone:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more (`| head`): the rehearsal and its record go on.
            self._gone = True


class RateColumn(ProgressColumn):
    """Done, total, rate and time left of a long work; nothing for a phase."""

    def render(self, task: Task) -> Text:
        """Return the column's text."""
        if not task.fields.get("bar"):
            return Text("")
        said = say_progress(task.completed, task.total or 0.0, task.fields["rate"], task.fields["unit"])
        return Text(said, style="dim")


class Live:
    """The live view: finished lines scroll, the phase at work and its bars stand below them."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on `stream`, which is a terminal."""
        self.console = Console(file=stream, highlight=False, soft_wrap=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), RateColumn())
        self._display = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        self._bars: dict[tuple[str, str], tuple[TaskID, Work]] = {}
        self._phase: TaskID | None = None

    def __enter__(self) -> Self:
        """Open the view."""
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the view; the cursor is back."""
        self._display.stop()

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        try:
            self._draw(event)
        except OSError:
            # The terminal was closed: the rehearsal and its record go on.
            self.console.quiet = True

    def _draw(self, event: Event) -> None:
        if event.kind == "progress":
            self._draw_progress(event)
            return
        line = describe(event)
        if event.kind in {"phase-started", "phase-finished"}:
            self._turn(event)
        if line is not None:
            self._print(line)

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Draw the verdict's panel."""
        self._display.stop()
        colour = VERDICT_COLOURS[verdict.outcome]
        body = Text("\n".join(clean(line) for line in (*explain_verdict(verdict), f"report: {report}")))
        self.console.print(Panel(body, title=Text(verdict.outcome, style=f"bold {colour}"), border_style=colour))

    def _turn(self, event: Event) -> None:
        """Take the finished phase and its bars away, or put up the next one."""
        for task in (*(task for task, _ in self._bars.values()), *([self._phase] if self._phase is not None else [])):
            self._display.remove_task(task)
        self._bars.clear()
        self._phase = None
        if event.kind == "phase-started":
            title = _word(event.fields, "title", event.phase)
            self._phase = self._display.add_task(clean(title), total=None)

    def _draw_progress(self, event: Event) -> None:
        now, what = _seconds(event), _word(event.fields, "what", "work")
        done, total = _number(event.fields, "done"), _number(event.fields, "total")
        key, unit = (event.phase, what), _word(event.fields, "unit", "")
        if key not in self._bars:
            task = self._display.add_task(clean(f"  {what}"), total=None, bar=True, rate=0.0, unit=clean(unit))
            self._bars[key] = (task, Work(now, done))
        task, work = self._bars[key]
        self._display.update(task, completed=done, total=total or None, rate=work.rate(now, done))

    def _print(self, line: Line) -> None:
        text = Text("  " * line.indent)
        text.append(line.word, style=COLOURS.get(line.word, "bold" if not line.indent else ""))
        text.append(f" {line.text}" if line.word else line.text)
        self.console.print(text)


def describe(event: Event) -> Line | None:
    """Return the line that says an event; None for kinds that are not for people."""
    fields = event.fields
    match event.kind:
        case "phase-started":
            return Line(0, clean(_word(fields, "title", event.phase)), "")
        case "phase-finished":
            return Line(1, "ok" if fields.get("ok") is True else "failed", f"({_number(fields, 'seconds'):.1f} s)")
        case "phase-skipped":
            return Line(0, clean(_word(fields, "title", event.phase)), clean(f"skipped: {_word(fields, 'reason', '')}"))
        case "evidence":
            said = f"{_word(fields, 'gate', '?')}: {_word(fields, 'subject', '?')}: {_word(fields, 'observed', '')}"
            return Line(1, _mark(fields.get("passed")), clean(said))
        case "lock" | "step" | "operation" | "note":
            return Line(1, "", clean(_sentence(event.kind, fields)))
        case _:
            return None


def explain_verdict(verdict: Verdict) -> list[str]:
    """Return the first reasons and what was not rehearsed, as lines."""
    reasons = list(verdict.reasons[:MAX_REASONS]) or ["every required gate was seen and passed"]
    more = len(verdict.reasons) - MAX_REASONS
    absent = ", ".join(line.partition(":")[0] for line in verdict.not_rehearsed)
    return [
        *reasons,
        *([f"and {more} more"] if more > 0 else []),
        *([f"not rehearsed here: {absent}"] if absent else []),
    ]


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

    >>> clean("a\x1b[31mb\nc")
    'a [31mb c'
    """
    return CONTROL.sub(" ", text)


def _sentence(kind: str, fields: Mapping[str, Any]) -> str:
    match kind:
        case "lock":
            waited, held = _number(fields, "waited_ms"), _number(fields, "held_ms")
            tries = _number(fields, "attempts")
            by = _blockers(fields.get("blockers"))
            what = _word(fields, "what", "lock")
            return f"lock {what}: {tries:.0f} attempts, waited {waited:.0f} ms, held {held:.0f} ms{by}"
        case "step":
            return f"{_word(fields, 'table', '')} {_word(fields, 'name', 'step')}: {_took(_number(fields, 'ms'))}"
        case "note":
            return _word(fields, "text", "")
        case _:
            return ", ".join(f"{name} {value}" for name, value in fields.items())


def _blockers(value: Any) -> str:
    names = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
    return f", behind {', '.join(str(name) for name in names)}" if names else ""


def _took(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _mark(passed: object) -> str:
    return "passed" if passed is True else "FAILED" if passed is False else "UNSEEN"


def _word(fields: Mapping[str, Any], name: str, default: str) -> str:
    value = fields.get(name)
    return default if value is None else str(value)


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _seconds(event: Event) -> float:
    try:
        return datetime.fromisoformat(event.at).timestamp()
    except ValueError:
        return 0.0
