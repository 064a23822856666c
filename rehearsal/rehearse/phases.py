"""The phases of a rehearsal, in the order of the playbooks."""

from __future__ import annotations

from rehearsal.plan.strategies import ATTACH, COPYING, DUAL_WRITE
from rehearsal.rehearse import history, perform, prepare, prove, usage
from rehearsal.rehearse.runner import Phase

PHASES: tuple[Phase, ...] = (
    Phase("provision", "Provision hosts", "tools", prepare.provision),
    Phase("data", "Make rows", "data-distribution", prepare.make_rows),
    Phase("preflight", "Preflight", "preflight", prepare.preflight),
    Phase("baseline", "Baseline", "baseline", prepare.baseline),
    Phase("twins", "Partitioned twins and triggers", "target-structure", prepare.make_twins),
    Phase("trigger-tests", "Trigger tests", "trigger-tests", prepare.test_triggers, COPYING),
    Phase("parity-before", "Parity before", "parity-before", prepare.parity_before, COPYING),
    Phase("dry-run", "Dry run", "dry-run", prepare.dry_run),
    Phase("backup", "Backup and restore drill", "backup", prepare.back_up),
    Phase("switchover", "Switchover under load", "switchover", perform.switch_over),
    Phase("parity-after", "Parity after", "parity-after", perform.parity_after, COPYING),
    Phase("history", "History unchanged", "history-unchanged", history.unchanged, ATTACH),
    Phase("flags-on", "Routing flags on", "flags", perform.flags_on, DUAL_WRITE),
    Phase("smoke", "Smoke tests", "smoke", usage.smoke),
    Phase("queries", "Query comparison", "query-speed", perform.compare_speed),
    Phase("load", "Full load", "load", prove.full_load, COPYING),
    Phase("load", "Full load", "load", history.full_load, ATTACH),
    Phase("rollback", "Rollback under load", "rollback", prove.roll_back, COPYING),
    Phase("rollback", "Rollback under load", "rollback", history.roll_back, ATTACH),
    Phase("forward-again", "Forward again", "forward-again", prove.forward_again, COPYING),
    Phase("forward-again", "Forward again", "forward-again", history.forward_again, ATTACH),
)
