"""What a person sees while a rehearsal runs: listeners for a run's events, and the verdict at the end.

Owns the live view (on a terminal) and plain lines (everywhere else: no colour, no control codes). What goes well is
gathered and said in one line a gate at the end of its phase; what does not is said at once and in full. Must not know
how phases work. An event of an unknown kind is left out; nothing that an event holds can stop the run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

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

from rehearsal.evidence.events import Event, PhaseFinished, PhaseStarted
from rehearsal.evidence.events import Progress as Far
from rehearsal.terminal.wording import (
    Gathered,
    Line,
    clean,
    explain_verdict,
    say_next,
    say_progress,
    say_title,
    seconds_of,
)
from rehearsal.verdict.decide import Outcome, Verdict

PLAIN_EVERY_S = 5.0
PLAIN_MOST_S = 60.0
COLOURS = {"passed": "green", "FAILED": "bold red", "UNSEEN": "yellow", "ok": "green", "failed": "bold red"}
VERDICT_COLOURS = {Outcome.GO: "green", Outcome.NO_GO: "red", Outcome.INCONCLUSIVE: "yellow"}


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
        if isinstance(event.what, Far):
            line = self._progress(event, event.what)
            self._write_all([line] if line else [])
        else:
            self._write_all(self._gathered.add(event))

    def show_verdict(self, verdict: Verdict, report: Path) -> None:
        """Write how it ended."""
        self._write_all(self._gathered.take())
        self._write(f"\nverdict: {verdict.outcome}")
        for line in (*explain_verdict(verdict), *say_next(verdict, report)):
            self._write(f"  {clean(line)}")

    def _progress(self, event: Event, far: Far) -> Line | None:
        """Return a line every few seconds, ever more rarely, and at the end of a work that took long enough for one."""
        now = seconds_of(event)
        work = self._works.setdefault((event.phase, far.what), Work(now, far.done, now))
        ended = 0 < far.total <= far.done and work.said > work.started
        if now - work.said < min(max(PLAIN_EVERY_S, (now - work.started) / 10), PLAIN_MOST_S) and not ended:
            return None
        work.said = now
        rate = work.rate(now, far.done)
        return Line(1, "", clean(f"{far.what}: {say_progress(far.done, far.total, rate, far.unit)}"))

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
        what = event.what
        if isinstance(what, Far):
            self._draw_progress(event, what)
            return
        lines = self._gathered.add(event)
        if isinstance(what, PhaseStarted | PhaseFinished):
            self._turn(what)
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

    def _turn(self, what: PhaseStarted | PhaseFinished) -> None:
        """Take the finished phase and its bars away, or put up the next one."""
        for task in (*(task for task, _ in self._bars.values()), *([self._phase] if self._phase is not None else [])):
            self._display.remove_task(task)
        self._bars.clear()
        self._phase = None
        if isinstance(what, PhaseStarted):
            self._title = say_title(what)
            self._phase = self._display.add_task(clean(self._title), total=None)

    def _draw_progress(self, event: Event, far: Far) -> None:
        now, key = seconds_of(event), (event.phase, far.what)
        if key not in self._bars:
            task = self._display.add_task(clean(f"  {far.what}"), total=None, bar=True, rate=0.0, unit=clean(far.unit))
            self._bars[key] = (task, Work(now, far.done, now))
        task, work = self._bars[key]
        if 0 < far.total <= far.done:
            # What is done is said by its step's line.
            self._display.remove_task(task)
            del self._bars[key]
            return
        rate = work.rate(now, far.done)
        self._display.update(task, completed=far.done, total=far.total or None, rate=rate)

    def _print_all(self, lines: Sequence[Line]) -> None:
        for line in lines:
            text = Text("  " * line.indent)
            text.append(line.word, style=COLOURS.get(line.word, "bold" if not line.indent else ""))
            text.append(f" {line.text}" if line.word else line.text)
            # What passed is one line on any terminal; everything else is shown in full.
            short = line.word == "passed"
            self.console.print(text, no_wrap=short, overflow="ellipsis" if short else "fold")
