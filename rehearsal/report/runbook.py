"""The runbook of a switchover, from what its rehearsal measured: timetable, limits, the rollback, a page by symptom.

Owns the steps of the days around the night and their commands. What was not measured is a named blank, never a guess.
Pure, but for the templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from rehearsal.plan.model import Plan
from rehearsal.report.model import Report, Signature

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
# As the gate of the load says it.
FAILED_SHARE = re.compile(r"acknowledged, ([0-9.]+)% not")


@dataclass(frozen=True, slots=True)
class RunbookStep:
    """One thing to do; `phase` is what measured it in the rehearsal, empty where nothing could."""

    what: str
    command: str = ""
    phase: str = ""
    measured: str = ""


@dataclass(frozen=True, slots=True)
class DayStage:
    """The steps of one day, or of the night."""

    when: str
    title: str
    steps: Sequence[RunbookStep]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit with what the rehearsal measured of it, and what to do beyond."""

    what: str
    limit: str
    measured: str
    then: str


@dataclass(frozen=True, slots=True)
class WayBack:
    """One kind of rollback and how long it took."""

    what: str
    measured: str
    command: str


@dataclass(frozen=True, slots=True)
class Symptom:
    """What somebody sees at three in the morning, what it means, what to run, what comes then."""

    seen: str
    means: str
    command: str
    then: str


@dataclass(frozen=True, slots=True)
class Runbook:
    """What a runbook is made of: the plan, the report of its rehearsal, and those of the other runs like it."""

    plan: Plan
    report: Report
    others: Sequence[Report]
    env: str
    signature: Signature | None = None

    def markdown(self) -> str:
        """Return runbook.md."""
        env = jinja2.Environment(  # noqa: S701 -- Markdown
            loader=jinja2.FileSystemLoader(TEMPLATES),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        text = env.get_template("runbook.md.j2").render(
            plan=self.plan,
            report=self.report,
            signature=self.signature,
            env=self.env,
            fingerprint=self.report.fingerprint,
            rows_text=", ".join(f"{rows:,} rows in {table}" for table, rows in self.report.rows.items())
            or "no rows known",
            runs=1 + len(self.others),
            stages=list(self._stages()),
            limits=list(self._limits()),
            ways_back=list(self._ways_back()),
            symptoms=list(self._symptoms()),
            blanks=list(self._blanks()),
        )
        return squeeze(text)

    def html(self) -> str:
        """Return runbook.html: one file, no script, no network."""
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(self.markdown())
        env = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
        return env.get_template("runbook.html.j2").render(name=self.plan.name, body=Markup(body))  # noqa: S704 -- rendered

    def commands(self) -> list[str]:
        """Return the commands of the timetable, in order."""
        return [step.command for stage in self._stages() for step in stage.steps if step.command]

    def _verb(self, words: str) -> str:
        verb, *rest = words.split(" ", 1)
        return " ".join([f"./inv {verb} --env {self.env} --plan {self.plan.name}", *rest])

    def _step(self, what: str, words: str = "", phase: str = "") -> RunbookStep:
        command = self._verb(words) if words else ""
        return RunbookStep(what, command, phase, self._measured(phase) if phase else "")

    def _measured(self, phase: str) -> str:
        times = [
            span.seconds
            for report in (self.report, *self.others)
            for span in report.timeline
            if span.phase == phase and span.state == "ok" and span.seconds is not None
        ]
        if not times:
            return ""
        low, high = _span(min(times)), _span(max(times))
        return low if low == high else f"{low} to {high}"

    def _stages(self) -> Iterator[DayStage]:
        name = self.plan.name
        yield DayStage(
            "T-7 days",
            "review and announce",
            [
                RunbookStep(
                    "A second person reads plan and `dry_run.log`", f'./inv plan.review --plan {name} --by "NAME"'
                ),
                RunbookStep("Announce the window, and who decides"),
            ],
        )
        yield DayStage(
            "T-1 day",
            "look, change nothing",
            [
                self._step("Roles, rights and settings are as they must be", "db.provision --dry-run"),
                self._step("Every statement of the night, and preflight", "db.switchover --dry-run", "dry-run"),
                self._step("A fresh backup, and its restore", phase="backup"),
            ],
        )
        yield DayStage("T-0", "the switchover", list(self._night()))
        yield DayStage(
            "T+1 to T+7 days",
            "watch",
            [
                self._step("Where everything is, and how large the change log is", "db.status"),
                *(
                    [self._step("Both tables hold the same rows", "db.verify", "parity-after")]
                    if self.plan.traits.copies
                    else []
                ),
                self._step("Known troubles, each with its remedy", "doctor"),
                *self._looked_after(),
            ],
        )
        what = "what is kept for the rollback"
        if self.plan.traits.mirrors:
            what = "the tables that no app server uses any more, once nobody is seen to use them"
        look = self._step("What is going to be dropped, and what goes along", "db.cleanup --dry-run")
        end = self._step(f"Drop {what}, after a last exact comparison", "db.cleanup")
        yield DayStage(f"T+{self.plan.stable_days} days", "the end of the rollback", [look, end])

    def _looked_after(self) -> Iterator[RunbookStep]:
        if any(table.method == "range" for table in self.plan.tables):
            yield self._step("Partitions are looked after from now on", "lifecycle.adopt", "lifecycle")
            yield self._step("Partitions are made ahead", "lifecycle.premake", "lifecycle")

    def _night(self) -> Iterator[RunbookStep]:
        yield self._step("Make targets and triggers; the application feels milliseconds", "db.migrate", "twins")
        yield self._step("Copy, follow, switch; it goes on where it was stopped", "db.switchover", "switchover")
        if self.plan.traits.copies:
            yield self._step("Compare every row, under whatever load there is", "db.verify", "parity-after")
        if self.plan.flags:
            words = "flags.set --reads on --writes on --canary 1 --batch 25%"
            yield self._step("Let the app servers use the partitioned tables, batch by batch", words, "flags-on")
        checks = ", ".join(smoke.name for smoke in self.plan.smoke)
        if checks:
            yield self._step(f"Look at the application: {checks}", phase="smoke")
        yield self._step("Say where everything is", "db.status")

    def _limits(self) -> Iterator[Threshold]:
        limits, numbers = self.plan.gates, {number.id: number for number in self.report.numbers}
        back = "roll back"

        def seen(name: str) -> str:
            number = numbers.get(name)
            return "not measured" if number is None or number.value is None else number.text

        yield Threshold("rows that differ in `db.verify`", "0", seen("differing"), f"{back} at once")
        yield Threshold(
            "failed requests", f"{limits.max_error_rate:.1%}", _errors(self.report), f"{back} if it stays a minute"
        )
        yield Threshold("time without success", _span(limits.max_stall_ms / 1e3), seen("stall"), back)
        held = _span(limits.max_lock_hold_ms / 1e3)
        yield Threshold(
            "a lock that we hold", held, seen("hold"), "it is given back by itself; run again in a quieter hour"
        )
        yield Threshold(
            "the rollback itself", _span(limits.rollback_max_s), seen("rollback"), "decide before this is left"
        )

    def _ways_back(self) -> Iterator[WayBack]:
        numbers = {number.id: number for number in self.report.numbers}
        measured = numbers["rollback"].text if numbers["rollback"].value is not None else "not measured"
        yield WayBack("By the product, no acknowledged write lost", measured, self._verb("db.rollback"))
        yield WayBack(
            "In an emergency, where no GO is at hand; the reason is kept",
            "as above",
            self._verb('db.rollback --emergency "REASON"'),
        )
        yield WayBack(
            "Whole: nothing of the switchover is left, forward again begins anew",
            "not measured",
            self._verb("db.rollback --whole"),
        )

    def _symptoms(self) -> Iterator[Symptom]:
        yield Symptom(
            "The change log grows",
            "Nobody replays it: the switchover stands still, or waits for its clean-up. Nothing is lost.",
            self._verb("doctor"),
            "Run `db.switchover` again if it was stopped; else `doctor --fix` replays it. Clean up in its time.",
        )
        yield Symptom(
            "A lock is not granted",
            "Somebody holds the table; the message names pid, application and age. We gave the lock back each time.",
            self._verb("doctor"),
            "End that session, or wait for it; then run the same command again. It goes on where it was.",
        )
        yield Symptom(
            "An app server does not come up",
            "The rollout stops and takes the batch back; the other servers go on as before.",
            self._verb("flags.show") if self.plan.flags else self._verb("db.status"),
            "Read that server's log, mend it, run the same command again. If it cannot be mended, roll back.",
        )
        yield Symptom(
            "Rows in the default partition",
            "Rows came for which there was no partition: premake did not run, or a key is garbage.",
            self._verb("doctor"),
            "Correct the keys, or move the rows before a partition for them is attached; then run `lifecycle.premake`.",
        )
        yield Symptom(
            "Rows differ, or a trigger is off",
            "Somebody disabled a trigger, truncated or altered a table.",
            self._verb("doctor"),
            "`doctor --fix` performs the safe remedies, and names the rest. If rows still differ, roll back.",
        )
        yield Symptom(
            "A query is slow on the partitioned table",
            "It reads all partitions: its condition does not name the key, or statistics are missing.",
            self._verb("doctor"),
            "`doctor --fix` analyzes; add the key to the condition. If the service suffers meanwhile, roll back.",
        )
        yield Symptom(
            "A detachment was interrupted",
            "The partition's rows are out of the table and readable in the partition itself.",
            self._verb("lifecycle.retain"),
            "It finishes that first. Nothing is dropped before its hold is over.",
        )

    def _blanks(self) -> Iterator[str]:
        yield from self.report.verdict.not_rehearsed
        yield from (f"{number.title}: not measured" for number in self.report.numbers if number.value is None)
        if not self.others:
            yield "an interval of the times: one run has none"
        if self.report.estimate.startswith("withheld"):
            yield "a forecast for production"


def _errors(report: Report) -> str:
    seen = [observed.observed for gate in report.gates if gate.id == "load" for observed in gate.observations]
    shares = [float(share) for observed in seen for share in FAILED_SHARE.findall(observed)]
    return f"{max(shares):.2f}% at worst" if shares else "not measured"


def _span(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> _span(0.0123), _span(4.44), _span(250)
    ('12 ms', '4.4 s', '4.2 min')
    """
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def squeeze(text: str) -> str:
    r"""Return Markdown without runs of blank lines.

    >>> squeeze("a\n\n\n\nb\n")
    'a\n\nb\n'
    """
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).strip() + "\n"


def named_parts(runbook: Runbook) -> Mapping[str, str]:
    """Return the files of a runbook by name."""
    return {"runbook.md": runbook.markdown(), "runbook.html": runbook.html()}
