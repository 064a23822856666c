"""Availability and errors by track: one kind of operation, by its way, at one app server.

Owns the rules by which a kind that fails is no longer hidden among those that work. Pure: must not know files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehearsal.load.summary import ClassSummary, LoadSummary, Track
from rehearsal.plan.model import GateLimits, Operation

# A percentage of fewer says little: 2 of 20 may be bad luck. Then only what luck does twice in a thousand counts.
FEW = 100
CHANCE = 0.002
# What one phase may have beyond the limit of the whole: a restart takes the requests that were under way with it.
MAX_IN_A_PHASE = 0.2
# A kind that was due as often as this and never sent was not seen at all.
EXPECTED = 10
# Refused by design while tables are exchanged: a write through a snapshot from before (decision 10).
EXCHANGES = frozenset({"switchover", "rollback", "forward-again"})
BY_DESIGN = "40001"


@dataclass(frozen=True, slots=True)
class Problem:
    """A track that fails (`passed` is False) or was not seen (None), and how bad it is, to find the worst."""

    track: str
    passed: bool | None
    text: str
    weight: float

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.track}: {self.text}"


def most_errors_fail(failed: int, attempted: int, limit: float) -> bool:
    """Return whether so many failures are over the limit: by share, or of few samples by the exact binomial bound.

    >>> [most_errors_fail(failed, 5, 0.02) for failed in (1, 2, 3)]
    [False, False, True]
    >>> most_errors_fail(2, 100, 0.02), most_errors_fail(3, 100, 0.02)
    (False, True)
    """
    if attempted >= FEW:
        return failed > limit * attempted
    return failed > 0 and _chance(failed, attempted, limit) < CHANCE


def _chance(failed: int, attempted: int, limit: float) -> float:
    """Return how likely at least so many failures are where each attempt fails with the limit's probability."""
    return sum(
        math.comb(attempted, number) * limit**number * (1 - limit) ** (attempted - number)
        for number in range(failed, attempted + 1)
    )


def error_problems(
    summary: LoadSummary, limits: GateLimits, operations: Sequence[Operation], rate: float = 1.0
) -> list[Problem]:
    """Return the kinds that fail too often or were not seen, the worst first."""
    kinds, limit = {operation.name: operation for operation in operations}, limits.max_error_rate
    found = list(_never(summary, operations, rate))
    for split in (False, True):

        def name(track: Track, *, split: bool = split) -> str:
            return _name(track.op, kinds, track.server if split else None)

        def in_phase(track: Track, *, split: bool = split) -> str:
            return f"{name(track, split=split)} in phase {track.phase or 'start'}"

        found += _over(summary.tracks, name, limit)
        found += _over(summary.tracks, in_phase, max(limit, MAX_IN_A_PHASE))
    named = {problem.track: problem for problem in sorted(found, key=lambda problem: problem.weight)}
    return sorted(named.values(), key=lambda problem: (problem.passed is not False, -problem.weight))


def stall_problems(summary: LoadSummary, limits: GateLimits, operations: Sequence[Operation]) -> list[Problem]:
    """Return who was without success for too long, the longest first."""
    return [
        Problem(name, passed=False, text=f"{ms:.0f} ms without success", weight=ms)
        for name, ms in stalls(summary, operations)
        if ms > limits.max_stall_ms
    ]


def stalls(summary: LoadSummary, operations: Sequence[Operation]) -> list[tuple[str, float]]:
    """Return the longest time without success of the writes, the reads and each kind, the longest first.

    Of one kind, and of the reads, several arrivals in a row must have gone without: a single failure of a low rate is
    followed by a long time in which nobody asks. At one server of several they must have failed: those that only
    waited while it restarted are told by their latency.
    """
    kinds = {operation.name: operation for operation in operations}
    found: dict[str, float] = {}
    for op in kinds:
        found[_name(op, kinds)] = summary.several.get(f"op {op}", 0.0)
        for server in {track.server for track in summary.tracks if track.op == op and track.server}:
            found[_name(op, kinds, server)] = summary.failures.get(f"op {op} on {server}", 0.0)
    # Last, so that of equal ones the kind is named before the group that it is in.
    found |= {"writes": summary.stall_ms, "reads": summary.several.get("reads", 0.0)}
    return sorted(found.items(), key=lambda item: -item[1])


def _name(op: str, kinds: Mapping[str, Operation], server: str | None = None) -> str:
    via = kinds[op].via if op in kinds else ""
    by = "" if via in op.lower().split() else f" by {via.upper()}"
    return f"{op}{by}{f' on {server}' if server else ''}"


def _never(summary: LoadSummary, operations: Sequence[Operation], rate: float) -> Iterator[Problem]:
    """Yield kinds without a single success: those that failed each time, and those that were never sent."""
    kinds = {operation.name: operation for operation in operations}
    seconds = max(0.0, summary.end - summary.start)
    for operation in operations:
        felt = summary.operations.get(operation.name)
        tried = _attempted(felt) if felt else 0
        expected = operation.rate * rate * seconds
        if felt and tried and not felt.ok:
            errors = _told(Counter(felt.errors))
            yield Problem(
                _name(operation.name, kinds),
                passed=False if tried > 1 else None,
                text=f"none of {tried} acknowledged{errors}",
                weight=2.0,
            )
        elif not tried and expected >= EXPECTED:
            yield Problem(
                _name(operation.name, kinds), passed=None, text=f"never sent, due {expected:.0f} times", weight=0.0
            )


def _over(tracks: Iterable[Track], name: Callable[[Track], str], limit: float) -> Iterator[Problem]:
    """Yield groups of tracks, by their name, whose errors are over the limit."""
    attempted: Counter[str] = Counter()
    errors: dict[str, Counter[str]] = {}
    for track in tracks:
        attempted[name(track)] += _attempted(track.felt)
        errors.setdefault(name(track), Counter()).update(_counted(track))
    for label, wrong in errors.items():
        failed, tried = wrong.total(), attempted[label]
        if most_errors_fail(failed, tried, limit):
            yield Problem(label, passed=False, text=f"{failed} of {tried} failed{_told(wrong)}", weight=failed / tried)


def _counted(track: Track) -> dict[str, int]:
    """Return the errors of a track that count: not those that are refused by design where a table is exchanged."""
    return {
        code: count
        for code, count in track.felt.errors.items()
        if not (code == BY_DESIGN and track.via == "sql" and track.phase in EXCHANGES)
    }


def _attempted(felt: ClassSummary) -> int:
    return felt.ok + felt.failed + felt.unknown


def _told(errors: Counter[str]) -> str:
    most = errors.most_common(3)
    return f" ({', '.join(f'{code} ×{count}' for code, count in most)})" if most else ""
