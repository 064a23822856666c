"""The verdict, by examples and by properties."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rehearsal.evidence.run import Evidence
from rehearsal.plan.model import Plan, SourceScan, TableSpec
from rehearsal.verdict.decide import GateState, Outcome, Verdict, decide, decide_run
from rehearsal.verdict.gate import Gate
from rehearsal.verdict.gates import GATES

PLAN = Plan(
    name="posts",
    strategy="dual-write",
    tables=[TableSpec(name="public.posts", key="created_at", default_partition=True)],
    source_scan=SourceScan(paths=["app"]),
)
REQUIRED = [
    gate
    for gate in GATES
    if gate.needs in {"", "default_partition", "source_scan"}
    and "local" in gate.kinds
    and "dual-write" in gate.strategies
]
SOME = st.sampled_from(REQUIRED)
PASSED = st.sampled_from([True, True, True, False, None])
PHASES = st.sampled_from(["one", "two"])
ITEMS = st.builds(
    Evidence,
    gate=SOME.map(lambda gate: gate.id),
    subject=st.sampled_from("ab"),
    passed=PASSED,
    observed=st.just("seen"),
    phase=PHASES,
)


def all_passed() -> list[Evidence]:
    """Evidence that every required gate of the plan passed."""
    return [Evidence(gate.id, "all", True, "seen", "one") for gate in REQUIRED]


def judge(evidence: list[Evidence], *, kind: str = "local") -> Verdict:
    """Decide with the whole catalogue."""
    return decide_run(evidence, kind=kind, plan=PLAN)


def test_go_when_every_required_gate_was_seen_and_passed() -> None:
    verdict = judge(all_passed())

    assert verdict.outcome is Outcome.GO
    assert verdict.exit_code == 0
    assert verdict.reasons == ()
    named = {line.split(":")[0] for line in verdict.not_rehearsed}
    assert named == {gate.id for gate in GATES} - {gate.id for gate in REQUIRED}


def test_nothing_seen_is_inconclusive() -> None:
    verdict = judge([])

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.exit_code == 3
    assert len(verdict.reasons) == len(REQUIRED)


def test_no_gates_at_all_is_not_a_go() -> None:
    assert decide((), [], kind="local", strategy="swap", plan=PLAN).outcome is Outcome.INCONCLUSIVE


def test_hosts_must_show_what_local_need_not() -> None:
    """The same evidence that is enough here is not enough on staging."""
    assert judge(all_passed(), kind="staging").outcome is Outcome.INCONCLUSIVE
    assert any(reason.startswith("monitoring") for reason in judge(all_passed(), kind="staging").reasons)


def test_failed_evidence_counts_where_it_is_not_required() -> None:
    """A dashboard that broke on `local` is a NO-GO although `local` need not show one."""
    broken = Evidence("dashboard", "/units/1", False, "console error", "smoke")

    verdict = judge([*all_passed(), broken])

    assert verdict.outcome is Outcome.NO_GO
    assert verdict.reasons[0] == "dashboard: /units/1: console error"


def test_reasons_name_failures_before_blindness_and_lost_data_first() -> None:
    """A change board reads three lines; the worst must be among them."""
    changes = {"switchover": False, "tools": None, "ledger": False, "parity-after": None, "preflight": False}
    evidence = [replace(item, passed=changes.get(item.gate, True)) for item in all_passed()]

    got = [reason.split(":")[0] for reason in judge(evidence).reasons if reason.split(":")[0] in changes]

    assert got == ["ledger", "preflight", "switchover", "parity-after", "tools"]


def test_failure_of_a_gate_outside_the_catalogue_counts() -> None:
    stray = Evidence("leger", "posts", False, "2 lost", "load")

    assert judge([*all_passed(), stray]).outcome is Outcome.NO_GO


def test_repeated_phase_replaces_its_own_evidence_only() -> None:
    failed = Evidence("smoke", "GET /", False, "status 500", "one")
    again = replace(failed, passed=True, observed="status 200")

    assert judge([*all_passed(), failed, again]).outcome is Outcome.GO
    assert judge([*all_passed(), again, failed]).outcome is Outcome.NO_GO
    assert judge([*all_passed(), failed, replace(again, phase="two")]).outcome is Outcome.NO_GO


@given(st.lists(ITEMS), SOME)
def test_adding_a_failure_never_yields_go(evidence: list[Evidence], gate: Gate) -> None:
    failure = Evidence(gate.id, "c", False, "seen", "three")

    assert judge([*all_passed(), *evidence, failure]).outcome is Outcome.NO_GO


@given(st.lists(ITEMS), st.data())
def test_removing_passed_evidence_never_turns_a_verdict_into_go(evidence: list[Evidence], data: st.DataObject) -> None:
    """What is taken away may have been the only sight of its gate."""
    items = [*all_passed(), *evidence]
    passed = [index for index, item in enumerate(items) if item.passed]
    gone = data.draw(st.sets(st.sampled_from(passed)))

    before = judge(items).outcome
    after = judge([item for index, item in enumerate(items) if index not in gone]).outcome

    assert after is not Outcome.GO or before is Outcome.GO


@given(SOME)
def test_removing_all_evidence_of_a_required_gate_is_never_go(gate: Gate) -> None:
    evidence = [item for item in all_passed() if item.gate != gate.id]

    assert judge(evidence).outcome is Outcome.INCONCLUSIVE


@given(st.lists(ITEMS, max_size=60))
def test_go_exactly_when_all_are_seen_and_passed(evidence: list[Evidence]) -> None:
    """Against a second, plain reading of the rule."""
    last = {(item.gate, item.subject, item.phase): item.passed for item in evidence}
    seen = {name for name, _, _ in last}
    want = Outcome.GO
    if any(passed is False for passed in last.values()):
        want = Outcome.NO_GO
    elif any(passed is None for passed in last.values()) or {gate.id for gate in REQUIRED} - seen:
        want = Outcome.INCONCLUSIVE

    verdict = judge(evidence)

    assert verdict.outcome is want
    assert (verdict.exit_code == 0) == (want is Outcome.GO)
    assert len(verdict.reasons) == sum(result.state in {GateState.FAILED, GateState.UNSEEN} for result in verdict.gates)
