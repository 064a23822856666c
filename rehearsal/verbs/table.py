"""Every verb that people type, declared once. Data only.

`rehearsal/cli.py` makes its parser of it and binds what each verb works with, `tasks.py` makes of it what `./inv`
offers, `rehearsal/verbs/readme.py` the table of README.md.
"""

from __future__ import annotations

from dataclasses import replace

from rehearsal.verbs.verb import Kind, Option, Verb

# The variable in which `./inv` tells the engine what was typed, so that a usage line names that.
AS_TYPED = "REHEARSAL_AS_TYPED"
# Verbs that were renamed: each answers to its old name for one version.
RENAMED = {"db.regrain": "db.split"}

PLAN = Option("plan", "name of a plan in plans/ (`./inv`: the first one, if none is named)", Kind.NAME, required=True)
EACH_PLAN = replace(PLAN, help="name of a plan in plans/ (`./inv`: all of them one by one, if none is named)")
ENV = Option("env", "name of an inventory in inventories/", Kind.NAME, default="local")
ON_DOCKER = replace(ENV, default="docker")
YES = Option("yes", "do not ask before a database is changed that is not throwaway", Kind.SWITCH)
ROWS = Option("rows", "rows of the scaled tables together, instead of the plan's", Kind.WHOLE)
DRY_RUN = Option("dry-run", "print what would be done, change nothing", Kind.SWITCH)
LEADS = Option(
    "leads",
    "where no app server says so: the one of two mirrored tables that the application uses",
    choices=("source", "target"),
)
RUN = Option("run", "name of a run in runs/ (the newest, if none is named)", Kind.NAME)
ON_OFF = ("on", "off")
ASKS = (PLAN, ENV, YES)
# `--yes` is taken by every verb on a plan, so that a script need not know which of them ask.
ON_PLAN = (PLAN, ENV, replace(YES, scripted=True))
HOSTS = (replace(PLAN, scripted=True), ON_DOCKER, replace(YES, scripted=True))

VERBS = (
    Verb(
        "rehearse",
        "rehearse a switchover from fresh hosts to a verdict; exit code 0 GO, 1 NO-GO, 3 INCONCLUSIVE",
        (
            EACH_PLAN,
            ENV,
            YES,
            ROWS,
            Option("from", "with --resume: repeat from this phase on", Kind.NAME, metavar="PHASE"),
            Option("until", "stop after this phase", Kind.NAME, metavar="PHASE"),
            Option("resume", "go on with this run of runs/", Kind.NAME, metavar="RUN"),
            Option("keep", "leave servers running at the end", Kind.SWITCH),
            replace(DRY_RUN, help="print every statement of the switchover, change nothing"),
        ),
    ),
    Verb(
        "db.provision",
        "bring hosts, roles, database and app servers to the wanted state; a second run changes nothing",
        (
            *ON_PLAN,
            Option("fresh", "drop the plan's database first (throwaway hosts only)", Kind.SWITCH),
            DRY_RUN,
        ),
        also="provision",
    ),
    Verb(
        "db.data",
        "fill the plan's tables with production-like rows, on throwaway hosts only; a second run changes nothing",
        (*ON_PLAN, ROWS),
    ),
    Verb(
        "db.migrate",
        "apply partitioned tables and triggers through the registry; a second run changes nothing",
        (*ON_PLAN, DRY_RUN),
    ),
    Verb(
        "db.status",
        "show where each table is in its journey, since when, who is at work, and what comes next",
        (*ON_PLAN, Option("json", "as JSON", Kind.SWITCH)),
    ),
    Verb("db.verify", "compare every pair of tables exactly, under whatever load there is", ON_PLAN),
    Verb(
        "db.switchover",
        "copy, follow and switch every table of the plan; goes on where a killed run stopped",
        (*ASKS, replace(DRY_RUN, help="print every statement, change nothing")),
    ),
    Verb(
        "db.rollback",
        "take the switchover back, or give up one that is under way; nothing acknowledged is lost",
        (
            *ASKS,
            Option("whole", "remove what was made for the switchover too; to switch again begins anew", Kind.SWITCH),
            Option("emergency", "needs no GO in production; the reason is kept", metavar="REASON"),
        ),
    ),
    Verb(
        "db.pause",
        "hold up the plan's copies and index builds, running or to come, until `db.resume`",
        (*ON_PLAN, Option("reason", "shown to whoever watches the copy")),
    ),
    Verb("db.resume", "let paused copies and index builds go on; writes were captured meanwhile", ON_PLAN),
    Verb(
        "db.split",
        "split the history of attached tables into partitions of the plan's interval, under writers",
        ASKS,
    ),
    Verb(
        "db.cleanup",
        "drop what is kept for a rollback, after the plan's stable days and a last exact comparison; with dual-write, "
        "those tables that no app server uses, sources or targets",
        (*ASKS, replace(DRY_RUN, help="print every statement, change nothing"), LEADS),
    ),
    Verb(
        "lifecycle.adopt",
        "look after the partitions of the plan's tables, or of one that others partitioned: install functions, write "
        "policies",
        (
            *ASKS,
            Option("table", "schema-qualified name of a partitioned table that is not the plan's", Kind.NAME),
            Option("interval", "with --table: how wide its partitions are", metavar="WIDTH"),
            Option("epoch", "with --table: what an integer key counts since 1970", choices=("s", "ms", "us")),
            Option("zone", "with --table: the time zone in which its months and days begin", Kind.NAME),
            Option("premake", "partitions kept ready, instead of the plan's", Kind.WHOLE),
            Option("retention", "age at which a partition goes, instead of the plan's", metavar="AGE"),
            Option("hold", "how long a detached partition is kept, instead of the plan's", metavar="TIME"),
            Option("archive", "drop no partition before its archive is proven, whatever the plan says", Kind.SWITCH),
            Option("no-archive", "drop partitions without an archive, whatever the plan says", Kind.SWITCH),
            Option("forget", "look after it no more; what was made stays", Kind.SWITCH),
        ),
    ),
    Verb(
        "lifecycle.status",
        "show how far ahead partitions are, what is past retention, held or wrong; exit code 1 if something is",
        (*ON_PLAN, Option("json", "as JSON", Kind.SWITCH)),
    ),
    Verb(
        "lifecycle.premake",
        "make the partitions that are due, under writers; a second run changes nothing",
        (*ON_PLAN, DRY_RUN),
    ),
    Verb(
        "lifecycle.retain",
        "detach partitions past their retention, and drop those that were held long enough",
        (
            *ON_PLAN,
            replace(DRY_RUN, help="print every statement, change nothing"),
            Option("save", "write what would be done to this file as JSON, change nothing", metavar="FILE"),
            Option("apply", "do what this file says; refused if anything has changed since", metavar="FILE"),
        ),
    ),
    Verb(
        "lifecycle.install",
        "bring a clock that makes and drops partitions by psql, without this program; a second run changes nothing",
        (
            *ASKS,
            Option(
                "clock",
                "timers on the hosts of the inventory's group `clock`, jobs of pg_cron, or a manifest of CronJobs",
                choices=("systemd", "pg_cron", "kubernetes"),
                default="systemd",
            ),
            Option("remove", "take the clock away; policies and partitions stay", Kind.SWITCH),
            Option("save", "kubernetes: write the manifest to this file", metavar="FILE"),
            replace(DRY_RUN, help="say what would change, change nothing; exit code 1 if anything would"),
        ),
    ),
    Verb(
        "lifecycle.archive",
        "write detached partitions as Parquet, read back and compared, before they are dropped; a second run looks at "
        "the files and changes nothing",
        (
            *ON_PLAN,
            Option("to", "folder for the files, on a disk that outlives the database", Kind.NAME, metavar="FOLDER"),
            Option("check", "look at the files alone; exit code 1 if one is not what was proven", Kind.SWITCH),
            DRY_RUN,
        ),
    ),
    Verb(
        "lifecycle.restore",
        "make an archived partition anew from its files, compared by digest; a second run changes nothing",
        (
            *ON_PLAN,
            Option("from", "manifest beside the Parquet file", Kind.NAME, metavar="MANIFEST", required=True),
            Option("attach", "attach it to its table again", Kind.SWITCH),
        ),
    ),
    Verb(
        "plan.new",
        "write a first plan from a live table, with the reasons as comments; never overwrites one",
        (
            ENV,
            Option("table", "schema-qualified name of the table", Kind.NAME, required=True),
            Option("name", "name of the plan (of the table, if none is given)"),
            Option("database", "database to look at (the inventory's, if none is given)"),
        ),
    ),
    Verb(
        "plan.review",
        "record a second person's review of a plan and its SQL as they are now; any change of them needs another",
        (
            PLAN,
            Option("by", "who reviewed plan and dry_run.log", metavar="NAME", required=True),
            Option("note", "what the reviewer says"),
        ),
    ),
    Verb(
        "flags.show",
        "show the routing flags of every app server, and where file, process, inventory and fleet disagree; exit "
        "code 1 if they do",
        ON_PLAN,
    ),
    Verb(
        "flags.set",
        "set the routing flags on app servers, batch by batch; all go back if one does not come up",
        (
            *ON_PLAN,
            Option("reads", "read the partitioned tables", choices=ON_OFF, required=True),
            Option("writes", "write the partitioned tables", choices=ON_OFF, required=True),
            Option("limit", "these app servers only, with commas; * stands for any", Kind.NAME, metavar="NAMES"),
            Option("batch", "servers at once, a number or a share like 25%", default="1"),
            Option("canary", "servers that go first, as a batch of their own", Kind.WHOLE, default="0"),
            Option("timeout", "seconds until a server must be healthy", Kind.NUMBER, default="30"),
        ),
    ),
    Verb(
        "load.run",
        "run the plan's open-loop load alone and reconcile its ledger of acknowledged writes",
        (
            *ON_PLAN,
            Option("seconds", "length, instead of the plan's", Kind.NUMBER),
            Option("rate", "times the plan's rates", Kind.NUMBER, default="1"),
        ),
    ),
    Verb(
        "hosts.up",
        "make the hosts of `docker`: systemd, sshd, an address and keys of their own; a second run changes nothing",
        HOSTS,
    ),
    Verb(
        "hosts.status",
        "look at the hosts of `docker`: address, state, SSH, snapshot; exit code 1 if one is not up",
        HOSTS,
    ),
    Verb(
        "hosts.ssh",
        "log in to a host of `docker` as root, by the environment's own key",
        (
            *HOSTS,
            Option("host", "name of the host, as in hosts.status", Kind.NAME, default="db"),
            Option("command", "run this there instead of a shell"),
        ),
    ),
    Verb(
        "hosts.reset",
        "throw the hosts of `docker` away and start them from their provisioned snapshots, in seconds",
        HOSTS,
    ),
    Verb(
        "hosts.down",
        "stop the servers of `local`, as after `--keep`, or remove the hosts of `docker`; `db.provision` starts or "
        "makes them again",
        (
            replace(PLAN, scripted=True),
            ENV,
            replace(YES, scripted=True),
            Option("images", "docker: remove the snapshots of its hosts too", Kind.SWITCH),
        ),
    ),
    Verb(
        "doctor",
        "find the known troubles (trigger off, rows that differ, missing index) and name their remedies",
        (
            *ON_PLAN,
            Option("fix", "perform the safe remedies", Kind.SWITCH),
            Option(
                "leads",
                "with --fix: which of two mirrored tables the application writes, where no app server says so",
                choices=("source", "target"),
            ),
        ),
    ),
    Verb(
        "runbook",
        "write the runbook of a GO: timetable with measured times, limits, the rollback, a page by symptom",
        (RUN, Option("for", "environment that its commands name", Kind.NAME, default="production", metavar="ENV")),
    ),
    Verb("report.open", "open a report in a browser and print its path", (RUN,)),
    Verb(
        "report.sign",
        "sign a report: name, date and fingerprint; an edited report no longer verifies",
        (
            RUN,
            Option("by", "who signs", metavar="NAME", required=True),
            Option("accept", "sign although the verdict is not GO", metavar="REASON"),
        ),
    ),
    Verb("report.verify", "check that a report, its evidence and its signature are as they were written", (RUN,)),
    Verb("gates", "list all gates of the verdict; `explain` says more of one"),
    Verb(
        "explain",
        "explain one gate or one finding: condition, effect, remedy",
        (Option("name", "id of a gate, or of a finding of preflight", Kind.WORD, required=True, short="n"),),
    ),
)
