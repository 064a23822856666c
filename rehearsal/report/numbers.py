"""The five numbers of page one, and the estimate for production.

Owns what of the evidence's data the numbers are read from. A number that nobody measured is shown as "not
measured"; it is never taken as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rehearsal.evidence.data import Data, Held, Parity, Reconciled, Seconds, Stall
from rehearsal.evidence.events import LockTaken
from rehearsal.evidence.run import Evidence
from rehearsal.plan.model import Plan
from rehearsal.report.model import Number, Series, Tone
from rehearsal.report.timeline import History
from rehearsal.verdict.decide import GateResult, GateState

MIN_ROWS = 100_000
MIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """Where one number is read: gate, what is read of its data, and how values are joined."""

    gate: str
    read: Callable[[Data], float | None]
    join: Callable[[Iterable[float]], float]


def _lost(data: Data) -> float | None:
    return data.lost if isinstance(data, Reconciled) else None


def _acknowledged(data: Data) -> float | None:
    return data.acknowledged if isinstance(data, Reconciled) else None


def _differing(data: Data) -> float | None:
    return data.differing if isinstance(data, Parity) else None


def _compared(data: Data) -> float | None:
    return data.rows if isinstance(data, Parity) else None


def _stall_ms(data: Data) -> float | None:
    return data.stall_ms if isinstance(data, Stall) else None


def _held_ms(data: Data) -> float | None:
    return data.held_ms if isinstance(data, Held) else None


def _seconds(data: Data) -> float | None:
    return data.seconds if isinstance(data, Seconds) else None


# A reconciliation is of all writes since the run began: of several in one phase the largest counts, never their sum.
LOST = ReadFrom("ledger", _lost, max)
ACKNOWLEDGED = ReadFrom("ledger", _acknowledged, max)
DIFFERING = ReadFrom("parity-after", _differing, sum)
COMPARED = ReadFrom("parity-after", _compared, sum)
STALL = ReadFrom("availability", _stall_ms, max)
HOLD = ReadFrom("lock-budget", _held_ms, max)
ROLLBACK = ReadFrom("rollback-time", _seconds, max)


GATE_OF = {
    "lost": LOST.gate,
    "differing": DIFFERING.gate,
    "stall": STALL.gate,
    "hold": HOLD.gate,
    "rollback": ROLLBACK.gate,
}


def measure(evidence: Sequence[Evidence], source: ReadFrom) -> float | None:
    """Return one number of the evidence that counted, of the worst phase; None when it was not measured."""
    phases: dict[str, list[float]] = {}
    for item in evidence:
        value = source.read(item.data) if item.gate == source.gate else None
        if value is not None:
            phases.setdefault(item.phase, []).append(value)
    return max((source.join(values) for values in phases.values()), default=None)


def read_numbers(results: Sequence[GateResult], history: History, plan: Plan) -> list[Number]:
    """Return the five numbers of page one. A number whose gate failed is never shown as good."""
    states = {result.gate.id: result.state for result in results}
    return [
        _toned(number, states)
        for number in _read([item for result in results for item in result.evidence], history, plan)
    ]


def _read(evidence: Sequence[Evidence], history: History, plan: Plan) -> list[Number]:
    limits = plan.gates
    holds = [measure(evidence, HOLD), *(lock.held_ms for _, lock in history.of(LockTaken))]
    hold = max((value for value in holds if value is not None), default=None)
    acknowledged = measure(evidence, ACKNOWLEDGED)
    witness = "" if acknowledged is None else f"of {acknowledged:,.0f} acknowledged"
    compared = measure(evidence, COMPARED)
    rows = "" if compared is None else f"of {compared:,.0f} compared"
    return [
        _number("lost", "acknowledged writes lost", measure(evidence, LOST), 0, "", note=witness),
        _number("differing", "rows differ after the switchover", measure(evidence, DIFFERING), 0, "", note=rows),
        _number(
            "stall",
            "longest time without success",
            measure(evidence, STALL),
            limits.max_stall_ms,
            "ms",
            note=_whose_stall(evidence, limits.max_stall_ms),
        ),
        _number("hold", "longest lock hold", hold, limits.max_lock_hold_ms, "ms"),
        _number("rollback", "rollback", measure(evidence, ROLLBACK), limits.rollback_max_s, "s"),
    ]


def _whose_stall(evidence: Sequence[Evidence], limit_ms: float) -> str:
    """Return the kind of request that was longest without success, and the limit; empty where none is named."""
    stalls = [item.data for item in evidence if isinstance(item.data, Stall)]
    worst = max(stalls, key=lambda stall: stall.stall_ms, default=None)
    return f"{worst.worst}; limit {say(limit_ms, 'ms')}" if worst and worst.worst else ""


def estimate(progress: Sequence[Series], kind: str) -> str:
    """Return the estimate for the copy in production, or the word withheld with the reason."""
    copies = [line for line in progress if "copy" in line.title.lower() and line.unit in {"row", "rows"}]
    if not copies:
        return "withheld: no copy of rows was measured in this run"
    rows = sum(line.points[-1][1] - line.points[0][1] for line in copies)
    seconds = sum(line.points[-1][0] - line.points[0][0] - line.paused_s for line in copies)
    if rows < MIN_ROWS or seconds < MIN_SECONDS:
        return f"withheld: {rows:,.0f} rows in {seconds:.1f} s are too few to judge a long copy by"
    minutes = 100_000_000 / (rows / seconds) / 60
    place = (
        "the same hardware, cache and load as here" if kind == "staging" else f"a {kind} machine, so an order of size"
    )
    return (
        f"{minutes:,.0f} minutes for 100 million rows at {rows / seconds:,.0f} rows a second, copy only, on {place}; "
        f"measured over {rows:,.0f} rows in {seconds:.1f} s; indexes, backup and verification come on top"
    )


def say(value: float, unit: str) -> str:
    """Return a number with its unit, as people read it.

    >>> say(0, ""), say(1234, "ms"), say(12.34, "ms"), say(75, "s")
    ('0', '1.2 s', '12 ms', '1 min 15 s')
    """
    if unit == "ms":
        return f"{value:.0f} ms" if value < 1000 else say(value / 1000, "s")
    if unit == "s" and value >= 60:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{value:.1f} s" if unit == "s" else f"{value:,.0f}"


def _number(name: str, title: str, value: float | None, limit: float, unit: str, *, note: str = "") -> Number:
    tone: Tone = "unknown" if value is None else "good" if value <= limit else "bad"
    text = "not measured" if value is None else say(value, unit)
    shown = note or (f"limit {say(limit, unit)}" if limit else "")
    return Number(id=name, title=title, value=value, unit=unit, text=text, note=shown, tone=tone)


def _toned(number: Number, states: Mapping[str, GateState]) -> Number:
    state = states.get(GATE_OF[number.id])
    tone: Tone | None = "bad" if state is GateState.FAILED else "unknown" if state is GateState.UNSEEN else None
    return number.model_copy(update={"tone": tone}) if tone and number.tone == "good" else number
