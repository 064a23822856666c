"""Findings about the server: version, who is in the way, room for a copy."""

from __future__ import annotations

from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, Shown, warns

WAITS = "locks and the cutover would wait for it"
NO_DRILL = "the restore drill cannot run, and without it there is no GO"

SERVER_ENTRIES: tuple[Entry, ...] = (
    Entry(
        "server-version",
        "The server is older than PostgreSQL 14",
        Says("version {version}", "TID ranges and other parts need PostgreSQL 14", "upgrade the server first"),
        Shown("A server of version 13 or older", "the version is that of the server's programs"),
    ),
    Entry(
        "standby",
        "The inventory names a standby",
        Says("the server is a standby", "nothing can be written", "name the primary in the inventory"),
        Shown("A standby", "a server becomes one by its files and a restart"),
    ),
    Entry(
        "encoding",
        "The database does not say how its text is encoded",
        Says(
            "its encoding is SQL_ASCII",
            "bytes of any kind stand for text, and nobody can say which",
            "restore a dump of it in the encoding that it has",
        ),
        Shown(
            "A database that was made with `encoding 'SQL_ASCII'`",
            "a database has its encoding from the day on which it was made",
        ),
    ),
    Entry(
        "old-transaction",
        "A transaction has been open for more than five minutes",
        warns("{session}", WAITS, "end it, or rehearse when it has ended"),
        Shown("A second session that says `begin; select now();` and nothing more", "it takes five minutes"),
    ),
    Entry(
        "prepared-transaction",
        "A prepared transaction was neither committed nor rolled back",
        warns("prepared transaction {name}", WAITS, "commit or roll it back"),
        Example(
            "begin;\ninsert into public.message values (0, now(), 'half done');\nprepare transaction 'left over';",
            "rollback prepared 'left over';",
        ),
    ),
    Entry(
        "restore-drill",
        "The server does not let the role into the scratch database of the restore drill",
        warns("{condition}", NO_DRILL, "{remedy}"),
        Shown(
            "A server whose pg_hba.conf lets the role into the plan's database only; the finding has the line that "
            "is missing",
            "who is let into a database stands in a file, not in a table",
        ),
    ),
    Entry(
        "room",
        "The disk has no room for the copy",
        Says("{free} GB free, {needed} GB needed", "the copy would fill the disk", "free room or add a volume"),
        Shown("A disk with less room than twice the tables' size", "SQL cannot see how much room a disk has"),
    ),
    Entry(
        "wal-files",
        "The server keeps fewer WAL files for use again than the change writes",
        warns(
            "min_wal_size keeps {kept} MB of WAL files, the change writes {written} MB",
            "commits wait tens of milliseconds whenever a WAL file is made",
            "set min_wal_size = '{wanted}MB' some checkpoints before",
        ),
        Shown(
            "The setting `min_wal_size = '32MB'` and a table of 40 MB",
            "it is a setting of the server, and the table is not small",
        ),
    ),
    Entry(
        "lock-slots",
        "A statement over all partitions may need more locks than the server has",
        warns(
            "{slots} lock slots in all",
            "statements that touch all partitions may fail with 'out of shared memory'",
            "raise max_locks_per_transaction",
        ),
        Shown(
            "The setting `max_locks_per_transaction = 10` and a table with a dozen indexes",
            "it is a setting that the server reads when it starts",
        ),
    ),
)
