"""The gate catalogue: every rule that a verdict is made of, as data.

Owns what each gate means and where it must have evidence. Must not know how evidence is gathered or how a report
looks. A field reads as a sentence: condition (what makes the gate fail), effect (what it
would cost in production), remedy (what to do next).
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.plan.strategies import ATTACH, COPYING, DUAL_WRITE, STRATEGIES, SWAP

KINDS: frozenset[str] = frozenset({"local", "docker", "staging", "production"})
HOSTS: frozenset[str] = KINDS - {"local"}
# Hosts that somebody else needs too; what is thrown away afterwards needs no second pair of eyes.
OTHERS: frozenset[str] = KINDS - {"local", "docker"}


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule. `kinds` are the environments that must show evidence; `needs` is what a plan must declare for it."""

    id: str
    title: str
    condition: str
    effect: str
    remedy: str
    steps: tuple[str, ...]
    kinds: frozenset[str] = KINDS
    strategies: frozenset[str] = STRATEGIES
    needs: str = ""


GATES: tuple[Gate, ...] = (
    Gate(
        "environment-mark",
        "The database belongs to this environment",
        "The mark in the database is missing or names another kind of environment than the inventory",
        "A rehearsal would write into production, or a production run into a clone",
        "Check which database the inventory names; re-mark a clone of production by provisioning it, never by hand",
        ("G0",),
    ),
    Gate(
        "tools",
        "Client tools are present and fit the server",
        "One of psql, pg_dump and pg_restore is missing or older than the server",
        "The backup, or the restore from it, stops in the middle of the switchover window",
        "Install the client tools of the server's major version, or point the inventory's client_bin at them",
        ("G0",),
    ),
    Gate(
        "preflight",
        "The catalog holds nothing that the migration cannot carry",
        "Something stands against the plan: nullable key, unique without it, no room, old transaction, missing right",
        "The migration stops half way, or the partitioned table silently lacks what the old one guaranteed",
        "Read each finding: it names the object and its own remedy; then run again from preflight",
        ("G0", "P1"),
    ),
    Gate(
        "baseline",
        "Every table was measured before anything changed",
        "Rows, bytes or key range of a table could not be read, or there are fewer rows than the plan asks for",
        "Nothing can be compared afterwards, and timings of a toy table say nothing about production",
        "Load production-like data with --rows, or correct the table's name in the plan",
        ("G2", "P1"),
    ),
    Gate(
        "data-distribution",
        "Rows are spread over the months as in production",
        "A full month holds fewer or more rows than the plan declares",
        "Pruning and speed-up are measured on partitions that production will never have",
        "Correct the generator's columns or its limits in the plan, then load the data again",
        ("P2",),
        needs="data",
    ),
    Gate(
        "target-structure",
        "The partitioned table has everything that the source has",
        "Partitions, indexes, constraints, foreign keys or grants differ from what source and plan imply",
        "A constraint that guarded the data, or an index that carried a query, is gone after the switchover",
        "Compare the listed differences; explain one in the plan, or repair the target and run again from target",
        ("G3", "P5"),
    ),
    Gate(
        "definition",
        "Everything that the table was, it still is",
        "The catalog's facts about the table before and after switchover or rollback differ unexplained",
        "A grant, policy, trigger, default, statistics target or dependent view is gone, and nobody was told",
        "Each difference is named by its id: mend it, or write the id into `accepted` of the table in the plan",
        ("G3", "G10", "P5"),
    ),
    Gate(
        "triggers-enabled",
        "Capture and sync triggers are enabled",
        "A trigger of the migration is missing, disabled or not ENABLE ALWAYS in the catalog",
        "Writes of some sessions, replicas' apply workers among them, never reach the other table",
        "Apply the triggers again by `./inv db.migrate`, then run again from triggers",
        ("G4",),
        strategies=COPYING,
    ),
    Gate(
        "trigger-tests",
        "The triggers carry every kind of write",
        "A test of the suite failed: insert, update, key move, delete, upsert, bulk, null, range, TRUNCATE, role",
        "That kind of write is lost or doubled for as long as both tables live side by side",
        "Read trigger_test_results.txt, correct the trigger, and run again from triggers",
        ("G5",),
        strategies=COPYING,
    ),
    Gate(
        "parity-before",
        "The target starts empty or equal",
        "Rows of the target differ from the source before the copy began",
        "Left-overs of an earlier attempt are taken for migrated rows",
        "Drop the target of the earlier attempt by `./inv db.rollback`, then run again from target",
        ("G6",),
        strategies=COPYING,
    ),
    Gate(
        "dry-run",
        "The dry run changed nothing and could name every statement",
        "Catalog or data differ after the dry run, or a statement could not be rendered",
        "What was reviewed is not what will run",
        "Compare dry_run.log with the difference shown; this is a defect of the plan or of the engine",
        ("G7",),
    ),
    Gate(
        "backup",
        "A fresh backup exists and its checksum holds",
        "No backup was made, it is older than the plan allows, or its checksum differs",
        "There is nothing to restore from",
        "Free room in the backup folder, check the rights of its owner, and run again from backup",
        ("G8", "P1", "P3"),
    ),
    Gate(
        "restore-drill",
        "The backup restores to equal content",
        "The backup could not be restored into a scratch database, or its content differs from the source",
        "The backup is a file that nobody has restored",
        "Read the restore's messages; check versions of the tools and room for the scratch database",
        ("G8", "P9"),
    ),
    Gate(
        "switchover",
        "The switchover ran to its end",
        "A step failed, or a stage left another number of rows than it must",
        "The tables are between two states until somebody resumes or goes back",
        "Read the failed step; go on with --resume, or go back with `./inv db.rollback`",
        ("G9", "P4"),
    ),
    Gate(
        "lock-budget",
        "No lock was held or waited for beyond its budget",
        "A lock that blocks the application was held too long, or not granted within its attempts",
        "Every query on the table queues behind the migration: an outage",
        "End the sessions named as blockers, choose a quieter hour, or raise the plan's lock budget knowingly",
        ("G9",),
    ),
    Gate(
        "parity-after",
        "Both sides hold the same rows",
        "A row is missing, surplus, stale, doubled or in the wrong partition; or the check failed its own test",
        "Data was lost or corrupted by the migration",
        "Look at the differing keys listed; do not switch; `./inv doctor` re-syncs and names the cause",
        ("G10", "P5"),
        strategies=COPYING,
    ),
    Gate(
        "history-unchanged",
        "No row of before was touched by the switchover, forwards or back",
        "Count or digest of the rows that no writer touches is not what it was before the table became a partition",
        "Rows were lost or changed by a migration that promises to move none",
        "Do not switch; restore the table from the backup and compare it with the partitions, row by row",
        ("G10", "P5"),
        strategies=ATTACH,
    ),
    Gate(
        "duplicates",
        "Nothing repeats that was unique before",
        "Two rows of the partitioned table share a value that the primary key or a unique index of the source forbids",
        "No index refuses it any more, whoever looks a row up by it gets two, and the rollback fails on them",
        "Delete or renumber one of each pair listed, then find the writer that draws its own numbers",
        ("G10", "P5"),
    ),
    Gate(
        "orphans",
        "Trigger-enforced foreign keys point at rows that are there",
        "A row of a referencing table points at nothing, or what points at the table could not be read",
        "Joins lose rows, and the rollback cannot validate the foreign key",
        "Delete the rows listed or bring back what they point at; then find the session that got past the triggers",
        ("G10", "P5"),
        strategies=SWAP,
        needs="references",
    ),
    Gate(
        "counts",
        "Row counts agree at every stage",
        "The number of rows differs between source and target at a stage where they must be equal",
        "Rows were lost or doubled; counts are the first thing that an auditor repeats",
        "Compare with the parity report, which names the keys, and with row_counts.log, which names the stage",
        ("G9", "G10", "P5"),
        strategies=COPYING,
    ),
    Gate(
        "default-empty",
        "The DEFAULT partition is empty",
        "A row went to the DEFAULT partition",
        "Rows outside every range; a partition for them can no longer be attached without a scan under lock",
        "Look at the keys of those rows; create their partitions, or correct the rows, before the switchover",
        ("P5",),
        needs="default_partition",
    ),
    Gate(
        "stats-unchanged",
        "Rows, oldest, newest and distinct counts are what they were",
        "A figure taken before the migration differs from the same figure taken after it, beyond the load's own writes",
        "The content changed although the counts may agree",
        "Compare the two columns of the table; the parity report names the keys",
        ("P3",),
    ),
    Gate(
        "flags",
        "Routing flags reached every app server, one at a time",
        "A server did not take the flags, is not healthy, reports another routing, or was restarted without need",
        "Some servers read the retired table and some the partitioned one",
        "Read the server's row; its flags were put back by themselves; mend the server and run again from flags",
        ("G11", "C3"),
        strategies=DUAL_WRITE,
    ),
    Gate(
        "smoke",
        "The application answers well on every server",
        "A declared request failed, was too slow, or answered something else than the plan expects",
        "Users meet the error first",
        "Repeat the request shown against that server and read its log",
        ("G12", "P7"),
        needs="smoke",
    ),
    Gate(
        "app-logs",
        "No new errors in the logs of application and database",
        "A log has errors that were not there before, or could not be read",
        "Something fails where no check looked",
        "Read the lines quoted; a log that could not be read needs its path in the inventory",
        ("G12", "P10"),
    ),
    Gate(
        "sync",
        "Rows made by the application are in both tables, equal",
        "A row that a request created is missing on one side, or its content differs",
        "The rollback would lose what users entered since the switchover",
        "Check the sync triggers and the app's routing on the server that made the row",
        ("G13",),
        strategies=DUAL_WRITE,
        needs="creates",
    ),
    Gate(
        "dashboard",
        "The dashboard renders in a real browser",
        "The charts were not drawn in time, or the console has errors",
        "Operators are blind while the switchover runs",
        "Open the screenshot and the console lines attached; then the page's own requests",
        ("P7",),
        kinds=HOSTS,
        needs="dashboard",
    ),
    Gate(
        "source-scan",
        "Every place in the code that uses the tables is known",
        "Code names a table in a form that partitioning breaks, or the source could not be searched",
        "A job that nobody rehearsed fails on its first run after the switchover",
        "Read the places listed; adapt the code, or acknowledge the place in the plan",
        ("P7",),
        needs="source_scan",
    ),
    Gate(
        "query-pruning",
        "Queries touch exactly the partitions that they must",
        "Partitions executed differ from those computed from the bounds, or the planner needed an index and took none",
        "Each query pays, and locks, for all partitions; it gets worse with every month",
        "Look at the plan attached: the key must be compared without a cast or function, on its own type",
        ("G14", "P6"),
        needs="queries",
    ),
    Gate(
        "query-speed",
        "Queries reach their declared speed",
        "The lower bound of the speed-up's confidence interval is under the target, or the slow-down is over its limit",
        "The migration costs its risk and does not bring its gain",
        "Check indexes and statistics of the partitions (ANALYZE the parent too), then compare the two plans",
        ("G14", "P6"),
        needs="queries",
    ),
    Gate(
        "load",
        "Real writers were at work all the time",
        "Fewer writes of some kind were acknowledged than the plan demands, or too many failed; each kind of operation "
        "is judged by itself, reads too, at each app server and in each phase",
        "A switchover without load proves nothing about one with load",
        "Look at errors by SQLSTATE and status; correct the operations or lower their rates in the plan",
        ("G15",),
    ),
    Gate(
        "ledger",
        "No acknowledged write was lost",
        "A write that the database acknowledged is missing, stale, resurrected, doubled or under the wrong key",
        "Customers' data is gone although the application said it was saved",
        "Do not switch; the examples name subject, operation and time; the timeline names the step that ran then",
        ("G15",),
    ),
    Gate(
        "availability",
        "No kind of request was without success for too long",
        "The longest time without a success, or the rate of errors, of the writes, the reads or one kind of operation "
        "is over the plan's limit, or a kind was never acknowledged",
        "Users see an outage of that length, or cannot do one thing at all",
        "Find the phase of the stall in the timeline and the lock or restart that stands beside it",
        ("G15",),
    ),
    Gate(
        "generator",
        "The load generator itself was honest",
        "Requests started late while a worker was free, or fewer were sent than offered",
        "Latency and availability are measured by a generator that was too slow to see the truth",
        "Give the generator its own cores or lower the rates, and repeat the load",
        ("G15",),
    ),
    Gate(
        "mismatch-found",
        "A mismatch that is put in is found",
        "Rows of its own that the rehearsal changed were not reported by the parity check, or not repaired",
        "Every clean parity report of this run is worthless",
        "This is a defect of the check or of the repair: do not trust any parity of this run",
        ("P9",),
    ),
    Gate(
        "lifecycle",
        "Partitions are made ahead, and go after their retention",
        "A leaf was not made, leaves a gap, or lacks what its sibling has; or retention took a wrong leaf",
        "In some months the application has no partition to write to, or rows are dropped that should have been kept",
        "Read which leaf it names; the statements are in lifecycle.log, `./inv lifecycle.status` says how tables stand",
        ("P8",),
    ),
    Gate(
        "rollback",
        "The rollback works under load",
        "A step of the rollback failed, the retired table lacks later writes, or the application did not recover",
        "There is no rollback once the switchover is made",
        "Read the failed step and the ledger's reconciliation after it; repeat from rollback",
        ("G16", "P9"),
    ),
    Gate(
        "rollback-time",
        "The rollback fits its time limit",
        "From the decision to go back to a working application it took longer than the plan allows",
        "The outage lasts longer than was promised to the business",
        "Look at the steps' times; a lock that waits or a restart that hangs is the usual cause",
        ("P9",),
    ),
    Gate(
        "forward-again",
        "Going forward again works after a rollback",
        "The second switch failed, or rows differ after it",
        "One rollback in production would mean starting the whole migration anew",
        "Read the failed step; left-overs of the first switch are the usual cause",
        ("G16",),
    ),
    Gate(
        "soak",
        "Nothing comes apart in the time after the switchover",
        "The load after the last switch was cut short, a log has errors, or a row was lost or differs",
        "What goes wrong only after a while is found by the application's users",
        "Read the log lines and the reconciliation of the soak; repeat it with --resume RUN --from soak",
        ("P10",),
    ),
    Gate(
        "fingerprint",
        "What was rehearsed is what would run",
        "Plan, SQL or tool changed during the run, or an applied file was edited",
        "Production would run something that nobody has seen",
        "Restore the file, or rehearse again with the new one",
        ("G18",),
    ),
    Gate(
        "script-reviewed",
        "The migration was reviewed by a second person",
        "No review is recorded for this fingerprint",
        "A mistake that a second pair of eyes would see goes to production",
        "Have dry_run.log reviewed, and record it by `./inv plan.review --plan PLAN --by NAME` for this fingerprint",
        ("P1",),
        kinds=OTHERS,
    ),
    Gate(
        "monitoring",
        "Alerts for partitions are in place, and see every host",
        "Prometheus cannot reach a target, or a rule for partitions is missing or cannot be evaluated",
        "A full DEFAULT partition or a missing future one is noticed by users",
        "Provision the monitoring host, or name your own Prometheus as `monitor_url`; then run again from smoke",
        ("P1",),
        kinds=HOSTS,
    ),
)
