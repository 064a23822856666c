"""The phases of a rehearsal, in the order of the playbooks."""

from __future__ import annotations

from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.phases import (
    backup,
    baseline,
    data,
    dry_run,
    flags_on,
    forward_again,
    history,
    lifecycle,
    load,
    parity_after,
    parity_before,
    preflight,
    provision,
    queries,
    rollback,
    smoke,
    soak,
    switchover,
    trigger_tests,
    twins,
)

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
    lifecycle.PHASE,
    rollback.PHASE,
    forward_again.PHASE,
    soak.PHASE,
)
