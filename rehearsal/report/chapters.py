"""The chapters of the report, in the order of the playbook, and which gates each one shows.

Owns the order and the words around the values. A chapter's lines come from its gates; none is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rehearsal.evidence.events import (
    FlagsFlipped,
    HostsDone,
    LockTaken,
    Note,
    OperationDone,
    StepDone,
    ThrottleChanged,
    WaitsSeen,
)
from rehearsal.report.model import ReportTable, Section
from rehearsal.report.timeline import History, read_row_counts

Chart = Literal["", "timeline", "progress", "parity", "latency"]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter before it is filled."""

    id: str
    title: str
    gates: tuple[str, ...] = ()
    chart: Chart = ""
    text: str = ""


CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        "timeline", "Timeline", (), "timeline", "Every attempt of every phase, in seconds from the start of the run."
    ),
    Chapter(
        "baseline",
        "Baseline",
        ("environment-mark", "tools", "preflight", "baseline", "data-distribution", "stats-unchanged"),
        text="What was there before anything changed, and what must be the same afterwards.",
    ),
    Chapter(
        "structure",
        "Target structure",
        ("target-structure", "definition", "default-empty"),
        text="Expected sets are computed from source and plan; they are compared with the catalog.",
    ),
    Chapter("triggers", "Triggers", ("triggers-enabled", "trigger-tests")),
    Chapter("backup", "Dry run, backup and restore", ("dry-run", "backup", "restore-drill")),
    Chapter("switchover", "Switchover", ("switchover", "lock-budget", "counts"), "progress"),
    Chapter(
        "parity",
        "Parity",
        ("parity-before", "parity-after", "history-unchanged", "duplicates", "orphans", "mismatch-found"),
        "parity",
        "Content is compared in one snapshot while writers are at work; equal counts are not enough.",
    ),
    Chapter("flags", "Routing flags", ("flags",)),
    Chapter("smoke", "Application", ("smoke", "app-logs", "sync", "dashboard", "source-scan")),
    Chapter(
        "queries",
        "Queries before and after",
        ("query-speed", "query-pruning"),
        text="A speed-up counts by the lower bound of its confidence interval; pruning by partitions, not by time.",
    ),
    Chapter(
        "load",
        "Load and ledger of acknowledged writes",
        ("load", "ledger", "availability", "generator"),
        "latency",
        "Open-loop load: latency counts from the time at which a request was due, so that waiting is seen.",
    ),
    Chapter(
        "lifecycle",
        "Partition lifecycle",
        ("lifecycle",),
        text="A leaf made ahead on the table, and a retention on a scratch table of its shape, under writers.",
    ),
    Chapter("rollback", "Rollback and forward again", ("rollback", "rollback-time", "forward-again")),
    Chapter("soak", "Soak", ("soak",), text="The load goes on after the last switch, and everything stays as it is."),
    Chapter("control", "Change control", ("fingerprint", "script-reviewed", "monitoring")),
)


def build_sections(history: History) -> list[Section]:
    """Return the chapters with the tables that come from events."""
    tables: Mapping[str, Sequence[ReportTable]] = {
        "timeline": [
            *history.table(HostsDone, "Work on hosts"),
            *history.table(OperationDone, "Operations on hosts"),
            *history.table(Note, "Notes"),
        ],
        "baseline": read_row_counts(history),
        "flags": history.table(FlagsFlipped, "Rollout, server by server"),
        "load": history.table(WaitsSeen, "Sessions that waited behind a lock"),
        "switchover": [
            *history.table(StepDone, "Steps"),
            *history.table(LockTaken, "Locks that block the application"),
            *history.table(ThrottleChanged, "Throttle: slower, paused, and why"),
        ],
    }
    return [_section(chapter, tables.get(chapter.id, ())) for chapter in CHAPTERS]


def _section(chapter: Chapter, tables: Sequence[ReportTable]) -> Section:
    return Section(
        id=chapter.id,
        title=chapter.title,
        text=[chapter.text] if chapter.text else [],
        gates=list(chapter.gates),
        tables=list(tables),
        chart=chapter.chart,
    )
