"""The phases of a rehearsal, in the order of the playbooks."""

from __future__ import annotations

from rehearsal.rehearse import perform, prepare, prove, usage
from rehearsal.rehearse.runner import Phase

DUAL_WRITE = frozenset({"dual-write"})

PHASES: tuple[Phase, ...] = (
    Phase("provision", "Provision hosts", "tools", prepare.provision),
    Phase("data", "Make rows", "data-distribution", prepare.make_rows),
    Phase("preflight", "Preflight", "preflight", prepare.preflight),
    Phase("baseline", "Baseline", "baseline", prepare.baseline),
    Phase("twins", "Partitioned twins and triggers", "target-structure", prepare.make_twins),
    Phase("trigger-tests", "Trigger tests", "trigger-tests", prepare.test_triggers),
    Phase("parity-before", "Parity before", "parity-before", prepare.parity_before),
    Phase("dry-run", "Dry run", "dry-run", prepare.dry_run),
    Phase("backup", "Backup and restore drill", "backup", prepare.back_up),
    Phase("switchover", "Switchover under load", "switchover", perform.switch_over),
    Phase("parity-after", "Parity after", "parity-after", perform.parity_after),
    Phase("flags-on", "Routing flags on", "flags", perform.flags_on, DUAL_WRITE),
    Phase("smoke", "Smoke tests", "smoke", usage.smoke),
    Phase("queries", "Query comparison", "query-speed", perform.compare_speed),
    Phase("load", "Full load", "load", prove.full_load),
    Phase("rollback", "Rollback under load", "rollback", prove.roll_back),
    Phase("forward-again", "Forward again", "forward-again", prove.forward_again),
)
