"""The phase `trigger-tests`: the mirror, class by class, in a scratch pair."""

from __future__ import annotations

from rehearsal.checks.triggers import TriggerTest, results_text, run_trigger_tests
from rehearsal.plan.strategies import COPYING
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase, StopHere


def test_triggers(context: Context) -> None:
    """Test the mirror class by class in a scratch pair; a FAIL stops the run here."""
    results: list[TriggerTest] = []
    with context.session("trigger tests") as conn:
        for spec in context.plan.tables:
            source, _ = context.pair(conn, spec)
            application = context.env.app_database.user
            found = run_trigger_tests(conn, context.files, context.plan, spec, source.name, application=application)
            results += found
            for result in found:
                context.run.record("trigger-tests", f"{spec.name} {result.name}", result.passed, result.observed)
    context.run.attach("trigger_test_results.txt", results_text(results))
    if any(result.passed is False for result in results):
        raise StopHere


PHASE = Phase("trigger-tests", "Trigger tests", "trigger-tests", test_triggers, COPYING)
