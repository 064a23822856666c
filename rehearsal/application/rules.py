"""The alerts that `templates/hosts/partitions.rules.yml` has: what each asks, and for how many seconds it must hold.

Kept here as well, since whoever asks a Prometheus need not have the file; `tests/monitoring` compares both.
"""

from __future__ import annotations

from collections.abc import Mapping

SHIPPED: Mapping[str, tuple[str, float]] = {
    "DefaultPartitionHasRows": ("pg_rehearsal_partitions_default_rows > 0", 60),
    "NoPartitionForTheFuture": (
        (
            "pg_rehearsal_lifecycle_ahead < 1 or (pg_rehearsal_partitions_runway_days < 7 "
            "unless on (server, datname, parent) pg_rehearsal_lifecycle_wanted)"
        ),
        60,
    ),
    "FewerPartitionsAheadThanWanted": ("pg_rehearsal_lifecycle_ahead < pg_rehearsal_lifecycle_wanted", 93_600),
    "RetentionLags": ("pg_rehearsal_lifecycle_lag_days > 2", 60),
    "DetachIsPending": ("pg_rehearsal_partitions_pending_detach > 0", 600),
    "ChangeLogGrows": ("pg_rehearsal_change_log_rows > 100000 and pg_rehearsal_change_log_sessions == 0", 3_600),
    "PremakeDoesNotSucceed": ("pg_rehearsal_lifecycle_premake_age_s > 2 * 86400", 60),
    "RetainDoesNotSucceed": ("pg_rehearsal_lifecycle_retain_age_s > 2 * 86400", 60),
    "AdoptedTableUnclear": ("pg_rehearsal_lifecycle_unclear > 0", 60),
    "SessionsWaitForLocks": ("pg_rehearsal_waits_longest_s > 10", 15),
    "SequenceNearItsEnd": ("pg_rehearsal_sequences_used_percent > 80", 60),
    "TargetDown": ("up == 0", 60),
    "DatabaseDown": ("pg_up == 0", 60),
    "ExporterCannotQuery": (
        (
            "(pg_exporter_last_scrape_error and on (job, instance) pg_up == 1) > 0 "
            "or pg_exporter_user_queries_load_error > 0"
        ),
        120,
    ),
}
