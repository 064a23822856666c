"""The verdict: a pure function of gates and evidence.

Owns when a run is GO, NO-GO or INCONCLUSIVE. Must not know files, databases or how a report looks.

Which evidence counts: a phase that is repeated (`--resume`, `--from`) replaces what the same phase said before about
the same gate and subject; what other phases said stays. So a failure is only ever cleared by looking again at the
same thing in the same phase, never by a later phase that was luckier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rehearsal.evidence.run import Evidence
from rehearsal.plan.model import Plan
from rehearsal.verdict.gate import Gate
from rehearsal.verdict.gates import GATES


class Outcome(StrEnum):
    """What the change board is told."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


class GateState(StrEnum):
    """What became of one gate."""

    PASSED = "passed"
    FAILED = "failed"
    UNSEEN = "unseen"
    NOT_REHEARSED = "not rehearsed here"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate, its state, why, and the evidence that counted."""

    gate: Gate
    state: GateState
    reason: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome with everything that it rests on."""

    outcome: Outcome
    gates: tuple[GateResult, ...]
    reasons: tuple[str, ...]
    not_rehearsed: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this verdict."""
        return {Outcome.GO: 0, Outcome.NO_GO: 1, Outcome.INCONCLUSIVE: 3}[self.outcome]


# Of a reason on page one.
MAX_LETTERS = 300
DATA_GATES = frozenset({"ledger", "parity-after", "history-unchanged", "duplicates", "orphans", "mismatch-found"})
DECLARED: dict[str, tuple[Callable[[Plan], bool], str]] = {
    "data": (
        lambda plan: any(table.month_min is not None or table.month_max is not None for table in plan.data.tables),
        "no limits for rows in a month",
    ),
    "default_partition": (lambda plan: any(table.default_partition for table in plan.tables), "no DEFAULT partition"),
    "smoke": (lambda plan: bool(plan.smoke), "no smoke requests"),
    "creates": (lambda plan: any(request.creates for request in plan.smoke), "no request that creates a row"),
    "dashboard": (lambda plan: plan.dashboard is not None, "no dashboard"),
    "source_scan": (lambda plan: bool(plan.source_scan.paths), "no source to scan"),
    "references": (
        lambda plan: any(table.references for table in plan.tables),
        "no foreign key that points at a table",
    ),
    "queries": (lambda plan: bool(plan.queries), "no queries"),
}


def latest(evidence: Iterable[Evidence]) -> list[Evidence]:
    """Return the evidence that counts: the last of each gate, subject and phase, in the order recorded."""
    last: dict[tuple[str, str, str], Evidence] = {}
    for item in evidence:
        key = (item.gate, item.subject, item.phase)
        last.pop(key, None)
        last[key] = item
    return list(last.values())


def decide(gates: Sequence[Gate], evidence: Iterable[Evidence], *, kind: str, strategy: str, plan: Plan) -> Verdict:
    """Return the verdict; a required gate without evidence can never be a GO.

    Evidence counts wherever it exists: a gate that is not required here still fails the run when its check failed.
    """
    counted = latest(evidence)
    known = {gate.id for gate in gates}
    strangers = [_stranger(name) for name in dict.fromkeys(item.gate for item in counted) if name not in known]
    results = tuple(
        _judge(gate, tuple(item for item in counted if item.gate == gate.id), _excuse(gate, kind, strategy, plan))
        for gate in (*gates, *strangers)
    )
    return Verdict(_outcome(results), results, _reasons(results), _not_rehearsed(results))


def decide_run(evidence: Iterable[Evidence], *, kind: str, plan: Plan) -> Verdict:
    """Return the verdict on the whole catalogue, with the plan's own strategy."""
    return decide(GATES, evidence, kind=kind, strategy=plan.strategy, plan=plan)


def _judge(gate: Gate, evidence: tuple[Evidence, ...], excuse: tuple[GateState, str] | None) -> GateResult:
    failed = [item for item in evidence if item.passed is False]
    blind = [item for item in evidence if item.passed is not True]
    if failed:
        return GateResult(gate, GateState.FAILED, _say(failed), evidence)
    if blind:
        return GateResult(gate, GateState.UNSEEN, _say(blind), evidence)
    if evidence:
        return GateResult(gate, GateState.PASSED, _say(evidence), evidence)
    state, reason = excuse or (GateState.UNSEEN, "no evidence was recorded")
    return GateResult(gate, state, reason, ())


def _excuse(gate: Gate, kind: str, strategy: str, plan: Plan) -> tuple[GateState, str] | None:
    if strategy not in gate.strategies:
        return GateState.NOT_APPLICABLE, f"not part of the strategy {strategy}"
    declared, missing = DECLARED.get(gate.needs, (None, ""))
    if declared is not None and not declared(plan):
        return GateState.NOT_APPLICABLE, f"the plan declares {missing}"
    if kind not in gate.kinds:
        return GateState.NOT_REHEARSED, f"not required in an environment of kind {kind}"
    return None


def _outcome(results: Sequence[GateResult]) -> Outcome:
    states = {result.state for result in results}
    if GateState.FAILED in states:
        return Outcome.NO_GO
    if GateState.UNSEEN in states or GateState.PASSED not in states:
        return Outcome.INCONCLUSIVE
    return Outcome.GO


def _reasons(results: Sequence[GateResult]) -> tuple[str, ...]:
    """Return why the verdict is no GO: failed before unseen, and lost data before everything else."""
    bad = [result for result in results if result.state in {GateState.FAILED, GateState.UNSEEN}]
    ordered = sorted(bad, key=lambda result: (result.state is GateState.UNSEEN, result.gate.id not in DATA_GATES))
    if not ordered and not any(result.state is GateState.PASSED for result in results):
        return ("no gate has evidence",)
    return tuple(f"{result.gate.id}: {shortened(result.reason)}" for result in ordered)


def shortened(text: str) -> str:
    """Cut a reason to what a page of its own bears; the evidence has it whole.

    >>> shortened("a" * 500)[-3:]
    'a …'
    """
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS].rstrip()} …"


def _not_rehearsed(results: Sequence[GateResult]) -> tuple[str, ...]:
    excused = (GateState.NOT_REHEARSED, GateState.NOT_APPLICABLE)
    return tuple(f"{result.gate.id}: {result.reason}" for result in results if result.state in excused)


def _say(evidence: Sequence[Evidence]) -> str:
    first = f"{evidence[0].subject}: {evidence[0].observed}"
    return first if len(evidence) == 1 else f"{first} (and {len(evidence) - 1} more)"


def _stranger(name: str) -> Gate:
    """Return a gate for evidence that the catalogue does not know, so that its failure is never overlooked."""
    return Gate(name, "Not in the catalogue", "Its check failed", "Unknown", "Add the gate to the catalogue", ())
