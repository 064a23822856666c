"""What a person sees while a rehearsal runs: listeners for a run's events, and the verdict at the end.

Owns the live view (on a terminal) and plain lines (everywhere else: no colour, no control codes). What goes well is
gathered and said in one line a gate at the end of its phase; what does not is said at once and in full. Must not know
how phases work. An event of an unknown kind is left out; nothing that an event holds can stop the run.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from rehearsal.evidence import Event
from rehearsal.verdict import Outcome, State, Verdict

MAX_REASONS = 5
PLAIN_EVERY_S = 5.0
PLAIN_MOST_S = 60.0
SHORT_STEP_MS = 100.0
MOST_LETTERS = 140
CONNECTOR = re.compile(r"@\w+/(?=\w)")
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
    said: float

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
        self._gathered = Gathered()
        self._gone = False

    def __enter__(self) -> Self:
        """Open the view."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the view; what was gathered so far is said."""
        self._write_all(self._gathered.take())

    def __call__(self, event: Event) -> None:
        """Write the lines of an event, if it is one to be said at once."""
        if event.kind == "progress":
            line = self._progress(event)
            self._write_all([line] if line else [])
        else:
            self._write_all(self._gathered.add(event))

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Write how it ended."""
        self._write_all(self._gathered.take())
        self._write(f"\nverdict: {verdict.outcome}")
        for line in (*explain_verdict(verdict), *say_next(verdict, report)):
            self._write(f"  {clean(line)}")

    def _progress(self, event: Event) -> Line | None:
        """Return a line every few seconds, ever more rarely, and at the end of a work that took long enough for one."""
        now, what = _seconds(event), _word(event.fields, "what", "work")
        done, total = _number(event.fields, "done"), _number(event.fields, "total")
        work = self._works.setdefault((event.phase, what), Work(now, done, now))
        ended = 0 < total <= done and work.said > work.started
        if now - work.said < min(max(PLAIN_EVERY_S, (now - work.started) / 10), PLAIN_MOST_S) and not ended:
            return None
        work.said = now
        rate, unit = work.rate(now, done), _word(event.fields, "unit", "")
        return Line(1, "", clean(f"{what}: {say_progress(done, total, rate, unit)}"))

    def _write_all(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._write(str(line))

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


class LongBarColumn(ProgressColumn):
    """The bar of a long work; nothing for a phase, whose end nobody knows."""

    def __init__(self, width: int) -> None:
        """Draw bars of that width."""
        super().__init__()
        self._bar = BarColumn(width)

    def render(self, task: Task) -> ProgressBar | Text:
        """Return the bar, or no text at all for a phase."""
        return self._bar.render(task) if task.fields.get("bar") else Text("")


class Live:
    """The live view: finished lines scroll, the phase at work and its bars stand below them."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on `stream`, which is a terminal."""
        self.console = Console(file=stream, highlight=False, soft_wrap=False)
        said = TextColumn(
            "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        )
        rate = RateColumn(table_column=Column(no_wrap=True))
        columns = (SpinnerColumn(), said, LongBarColumn(20), rate, TimeElapsedColumn())
        self._display = Progress(*columns, console=self.console, transient=True, expand=True)
        self._bars: dict[tuple[str, str], tuple[TaskID, Work]] = {}
        self._phase: TaskID | None = None
        self._title = ""
        self._gathered = Gathered()

    def __enter__(self) -> Self:
        """Open the view."""
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the view; what was gathered so far is said, and the cursor is back."""
        self._print_all(self._gathered.take())
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
        lines = self._gathered.add(event)
        if event.kind in {"phase-started", "phase-finished"}:
            self._turn(event)
        elif self._phase is not None and (now := self._gathered.now):
            self._display.update(self._phase, description=clean(f"{self._title}: {now}"))
        self._print_all(lines)

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Draw the verdict's panel, and below it what can be pasted as it stands."""
        self._print_all(self._gathered.take())
        self._display.stop()
        colour = VERDICT_COLOURS[verdict.outcome]
        body = Text("\n".join(clean(line) for line in explain_verdict(verdict)))
        self.console.print(Panel(body, title=Text(verdict.outcome, style=f"bold {colour}"), border_style=colour))
        for line in say_next(verdict, report):
            self.console.print(Text(clean(line)), soft_wrap=True)

    def _turn(self, event: Event) -> None:
        """Take the finished phase and its bars away, or put up the next one."""
        for task in (*(task for task, _ in self._bars.values()), *([self._phase] if self._phase is not None else [])):
            self._display.remove_task(task)
        self._bars.clear()
        self._phase = None
        if event.kind == "phase-started":
            self._title = say_title(event)
            self._phase = self._display.add_task(clean(self._title), total=None)

    def _draw_progress(self, event: Event) -> None:
        now, what = _seconds(event), _word(event.fields, "what", "work")
        done, total = _number(event.fields, "done"), _number(event.fields, "total")
        key, unit = (event.phase, what), _word(event.fields, "unit", "")
        if key not in self._bars:
            task = self._display.add_task(clean(f"  {what}"), total=None, bar=True, rate=0.0, unit=clean(unit))
            self._bars[key] = (task, Work(now, done, now))
        task, work = self._bars[key]
        if 0 < total <= done:
            # What is done is said by its step's line.
            self._display.remove_task(task)
            del self._bars[key]
            return
        self._display.update(task, completed=done, total=total or None, rate=work.rate(now, done))

    def _print_all(self, lines: Sequence[Line]) -> None:
        for line in lines:
            text = Text("  " * line.indent)
            text.append(line.word, style=COLOURS.get(line.word, "bold" if not line.indent else ""))
            text.append(f" {line.text}" if line.word else line.text)
            # What passed is one line on any terminal; everything else is shown in full.
            short = line.word == "passed"
            self.console.print(text, no_wrap=short, overflow="ellipsis" if short else "fold")


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
            self._skipped.append(_word(event.fields, "reason", ""))
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
            return _number(fields, "attempts") > 1 or bool(fields.get("blockers"))
        case "operation":
            return fields.get("ok") is False
        case "hosts" | "note":
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
            return Line(1, "ok" if fields.get("ok") is True else "failed", f"({_number(fields, 'seconds'):.1f} s)")
        case "phase-skipped":
            return Line(0, clean(_word(fields, "title", event.phase)), clean(f"skipped: {_word(fields, 'reason', '')}"))
        case "evidence":
            said = f"{_word(fields, 'gate', '?')}: {_word(fields, 'subject', '?')}: {_word(fields, 'observed', '')}"
            return Line(1, _mark(fields.get("passed")), clean(said))
        case "lock" | "step" | "operation" | "hosts" | "note":
            return Line(1, "", clean(_sentence(event.kind, fields)))
        case _:
            return None


def say_title(event: Event) -> str:
    """Return the title of a phase, with its place among all phases where that is known."""
    number, most = _number(event.fields, "number"), _number(event.fields, "of")
    place = f"{number:.0f}/{most:.0f} " if most > 0 else ""
    return place + _word(event.fields, "title", event.phase)


def say_now(event: Event) -> str:
    """Return what is being done just now, for the line that moves; empty if an event does not tell."""
    fields = event.fields
    match event.kind:
        case "operation":
            return f"{_host(fields)}: {_word(fields, 'operation', '')}"
        case "step":
            return f"{_word(fields, 'table', '')}: {_word(fields, 'name', '')} done"
        case "evidence":
            return f"{_word(fields, 'gate', '')}: {_word(fields, 'subject', '')}"
        case _:
            return ""


def say_steps(steps: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line a table: its steps in order, those too short to matter left out."""
    lines: list[Line] = []
    for table in dict.fromkeys(_word(one, "table", "") for one in steps):
        of_table = [one for one in steps if _word(one, "table", "") == table]
        long = [one for one in of_table if _number(one, "ms") >= SHORT_STEP_MS] or of_table
        said = ", ".join(f"{_word(one, 'name', 'step').replace('-', ' ')} {_step(one)}" for one in long)
        lines.append(Line(1, "", clean(f"{table}: {said}")))
    return lines


def say_locks(locks: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line: how many locks, the longest wait, the longest hold."""
    if not locks:
        return []
    longest = max(locks, key=lambda one: _number(one, "held_ms"))
    waited = max(_number(one, "waited_ms") for one in locks)
    again = sum(_number(one, "attempts") > 1 for one in locks)
    said = (
        f"{_count(len(locks), 'lock')}, {again or 'none'} asked for twice; longest wait {_took(waited)}, "
        f"longest hold {_took(_number(longest, 'held_ms'))} ({_word(longest, 'what', 'lock')})"
    )
    return [Line(1, "", clean(said))]


def say_gates(evidence: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return one line a gate for what passed; what did not was said at once."""
    lines: list[Line] = []
    for gate in dict.fromkeys(_word(one, "gate", "?") for one in evidence):
        every = [one for one in evidence if _word(one, "gate", "?") == gate]
        passed = [one for one in every if one.get("passed") is True]
        if passed:
            lines.append(Line(1, "passed", clean(f"{gate}: {_gate(passed, len(every))}")))
    return lines


def _gate(passed: Sequence[Mapping[str, Any]], of: int) -> str:
    subject, seen = _word(passed[0], "subject", "?"), _word(passed[0], "observed", "")
    if of == 1:
        return f"{subject}: {seen}"
    if len(passed) < of:
        return f"{len(passed)} of {of} checks"
    if all(_word(one, "observed", "") == seen for one in passed):
        return f"{of} checks, each: {seen}"
    last = passed[-1]
    return _cut(f"{of} checks, the last: {_word(last, 'subject', '?')}: {_word(last, 'observed', '')}")


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
            waited, held = _took(_number(fields, "waited_ms")), _took(_number(fields, "held_ms"))
            tries = _count(round(_number(fields, "attempts")), "attempt")
            what, by = _word(fields, "what", "lock"), _blockers(fields.get("blockers"))
            return f"lock for {what}: granted after {waited} and {tries}{by}; held {held}"
        case "step":
            return f"{_word(fields, 'table', '')} {_word(fields, 'name', 'step')}: {_step(fields)}"
        case "operation":
            end = "done" if fields.get("ok") is not False else "FAILED"
            return f"{_host(fields)}: {_word(fields, 'operation', '')}: {end}"
        case "hosts":
            changed, took = _number(fields, "changed"), _took(1e3 * _number(fields, "seconds"))
            many = _count(round(_number(fields, "operations")), "operation")
            who = ", ".join(_names(fields.get("hosts"))) or "no host"
            return f"hosts, {_word(fields, 'of', '')}: {many} on {who}, {changed:.0f} changed something, {took}"
        case _:
            return _word(fields, "text", "")


def _step(fields: Mapping[str, Any]) -> str:
    """Return how long a step took, and how many rows a copy brought."""
    result, took = fields.get("result"), _took(_number(fields, "ms"))
    rows = _number(cast("Mapping[str, Any]", result), "rows") if isinstance(result, Mapping) else 0.0
    return f"{rows:,.0f} rows in {took}" if rows else took


def _host(fields: Mapping[str, Any]) -> str:
    return _word(fields, "host", "?")


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
