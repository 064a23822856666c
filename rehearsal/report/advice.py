"""What follows from a run: issues, recommendations, lessons learned, next steps.

Owns the sentences that turn results into work. Every sentence starts from a gate, a lock or a phase of this run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rehearsal.evidence.events import LockTaken
from rehearsal.evidence.run import resume_command
from rehearsal.plan.model import Plan
from rehearsal.report.model import Lessons, Number, TimeSpan
from rehearsal.report.numbers import say
from rehearsal.verdict.decide import GateResult, GateState, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the sentences are made of."""

    run: str
    plan: Plan
    kind: str
    verdict: Verdict
    numbers: Sequence[Number]
    spans: Sequence[TimeSpan]
    locks: Sequence[LockTaken]

    def of(self, *states: GateState) -> list[GateResult]:
        """Return the gates in these states."""
        return [result for result in self.verdict.gates if result.state in states]


def list_issues(facts: RunFacts) -> list[str]:
    """Return what went wrong or could not be seen, locks that had to be tried again, phases that broke off."""
    seen = [
        f"{result.gate.id} ({result.state}): {item.subject}: {item.observed}"
        for result in facts.of(GateState.FAILED, GateState.UNSEEN)
        for item in result.evidence
        if item.passed is not True
    ]
    silent = [
        f"{result.gate.id} (unseen): {result.reason}" for result in facts.of(GateState.UNSEEN) if not result.evidence
    ]
    spans = [f"phase {s.phase} {s.state} after {say(s.seconds or 0, 's')}" for s in facts.spans if _broke(s)]
    return [*seen, *silent, *spans, *_retries(facts)]


def list_recommendations(facts: RunFacts) -> list[str]:
    """Return what to do about what was seen."""
    bad = facts.of(GateState.FAILED, GateState.UNSEEN)
    if bad:
        return [f"{result.gate.id}: {result.gate.remedy}" for result in bad]
    limits = facts.plan.gates
    calm = "the quietest hour" if _retries(facts) else "off-peak hours; no lock had to be retried"
    back = next((number.text for number in facts.numbers if number.id == "rollback"), "not measured")
    return [
        _readiness(facts.kind),
        f"deployment window: {calm}",
        _thresholds(facts.plan),
        f"time to keep free for the rollback: {back} measured here, limit {say(limits.rollback_max_s, 's')}",
    ]


def learn(facts: RunFacts, notes: str, estimate: str) -> Lessons:
    """Return the lessons learned, pre-filled from what was seen."""
    passed = facts.of(GateState.PASSED)
    well = [f"{len(passed)} gates were seen and passed"] if passed else []
    well += [
        f"{number.title}: {number.text}{f' {number.note}' if number.note else ''}"
        for number in facts.numbers
        if number.tone == "good"
    ]
    wrong = list_issues(facts)
    adjust = [f"{result.gate.id}: {result.gate.remedy}" for result in facts.of(GateState.FAILED)]
    if _retries(facts):
        adjust.append("locks had to be retried: choose a quieter hour or end long transactions first")
    return Lessons(well=[*well, f"estimate: {estimate}"], wrong=wrong, adjustments=adjust, notes=notes)


def list_next_steps(facts: RunFacts) -> list[str]:
    """Return what comes next, by verdict and environment."""
    outcome = facts.verdict.outcome
    if outcome is Outcome.NO_GO:
        return [
            f"put right what failed, first reason first: `./inv explain {facts.of(GateState.FAILED)[0].gate.id}`",
            f"go on with {_again(facts)}, or rehearse anew after a change of plan or SQL",
        ]
    if outcome is Outcome.INCONCLUSIVE:
        return [
            "make the unseen gates visible: each names what it lacks",
            f"go on with {_again(facts)}; missing evidence is never a GO",
        ]
    return _after_go(facts)


def _again(facts: RunFacts) -> str:
    """Return the command that repeats the earliest phase in which something failed or was not seen, and what follows.

    Without `--from`, a phase that came to its end is not repeated, whatever it saw.
    """
    bad = {
        item.phase
        for result in facts.of(GateState.FAILED, GateState.UNSEEN)
        for item in result.evidence
        if item.passed is not True
    }
    first = next((span.phase for span in facts.spans if span.phase in bad), "")
    return f"`{resume_command(facts.run, facts.plan.name, first)}`"


def _after_go(facts: RunFacts) -> list[str]:
    if facts.kind in {"local", "docker"}:
        further = "docker or staging" if facts.kind == "local" else "staging"
        return [f"rehearse on {further}: the same plan and fingerprint, on other hosts", *_sign(facts)]
    return [
        *_sign(facts),
        "schedule the migration and notify the stakeholders",
        "look at dashboards and alerts together with the people on call",
        "brief the people on call on the rollback and on the thresholds above",
        f"run production with the same fingerprint within {facts.plan.report_max_age_days} days, or rehearse again",
        f"remove the retired tables after {facts.plan.stable_days} stable days and a final parity",
    ]


def _sign(facts: RunFacts) -> list[str]:
    return [f"sign this report: `./inv report.sign --run {facts.run} --by NAME`"]


def _readiness(kind: str) -> str:
    if kind in {"staging", "production"}:
        return "every required gate was seen and passed: ready for the change board"
    return f"every gate required on {kind} was seen and passed: ready for the next environment, not yet for production"


def _thresholds(plan: Plan) -> str:
    stall, rate = say(plan.gates.max_stall_ms, "ms"), plan.gates.max_error_rate
    return (
        f"roll back if any kind of request is without success for {stall}, if more than {rate:.1%} of the writes fail, "
        "or if parity shows one differing row"
    )


def _broke(span: TimeSpan) -> bool:
    return span.state in {"failed", "interrupted"}


def _retries(facts: RunFacts) -> list[str]:
    return [f"lock {lock.what} took {lock.attempts} attempts" for lock in facts.locks if lock.attempts > 1]
