"""The phases of a rehearsal, in the order of the playbooks."""

from __future__ import annotations

from rehearsal.rehearse import history as attach
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.phases import (
    backup,
    baseline,
    data,
    dry_run,
    flags_on,
    forward_again,
    history,
    load,
    parity_after,
    parity_before,
    preflight,
    provision,
    queries,
    rollback,
    smoke,
    switchover,
    trigger_tests,
    twins,
)
from rehearsal.verdict.gates import ATTACH

PHASES: tuple[Phase, ...] = (
    provision.PHASE,
    data.PHASE,
    preflight.PHASE,
    baseline.PHASE,
    twins.PHASE,
    trigger_tests.PHASE,
    parity_before.PHASE,
    dry_run.PHASE,
    backup.PHASE,
    switchover.PHASE,
    parity_after.PHASE,
    history.PHASE,
    flags_on.PHASE,
    smoke.PHASE,
    queries.PHASE,
    load.PHASE,
    Phase("load", "Full load", "load", attach.full_load, ATTACH),
    rollback.PHASE,
    Phase("rollback", "Rollback under load", "rollback", attach.roll_back, ATTACH),
    forward_again.PHASE,
    Phase("forward-again", "Forward again", "forward-again", attach.forward_again, ATTACH),
)
