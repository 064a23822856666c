"""The environment `staging`: copy to staging.py. Group data of the file's name beats that of `all`."""

# local, docker, staging or production; the database must carry the same mark before anything is written to it.
env_kind = "staging"

# The database as the engine on this machine and the app servers reach it; {plan} is the name of the plan.
db_host = "db1.staging.example.org"
db_port = 5432
db_name = "finance"
# With verify-full, `db_sslrootcert` is the file of the authority that signed the server's certificate.
db_sslmode = "require"

# A database that somebody else runs (a cloud service): no superuser and no host to log in to. Then the host of the
# group `database` is this machine ("@process/db" in place of its name), where psql and the backups run; what needs a
# superuser is printed by `invoke db.provision`, as statements, before anything is written.
db_managed = False

# Roles. The superuser is used by `invoke db.provision` only.
db_superuser = "postgres"
# As Debian has it, only the user postgres of the database host can be the superuser, by the socket and without a
# password: then this, `_sudo` at the host, and no db_superuser_password.
# db_superuser_host, db_superuser_runs_as = "/var/run/postgresql", "postgres"
db_migrator = "rehearsal"
db_app_role = "app"

# Commands of ours see a short list of this shell's variables (PATH, HOME, SSH_AUTH_SOCK and the like), and those that
# an inventory names. What a command for secrets needs beside them is named here; PG* and proxies are left out.
# needs_env = ["VAULT_ADDR", "VAULT_TOKEN"]

# Cores of the database's host, for the copy's pace; only where the migrating role may not read /proc/cpuinfo there.
# db_cores = 8

# Where passwords are, never what they are: {"env": NAME}, {"file": PATH} or {"command": [WORD, …]}, on this machine.
db_superuser_password = {"command": ["pass", "show", "staging/postgres"]}
db_migrator_password = {"env": "REHEARSAL_MIGRATOR_PASSWORD"}
db_app_password = {"file": "~/.secrets/staging-app"}

# pgbouncer beside each app server: "session" or "transaction"; "" is none. Only for an app without a pooler of its own;
# the app is yours to send to 127.0.0.1, port `pooler_port`. With verify-full it needs `db_sslrootcert` too.
pooler = ""
# Connections of the app that it takes on one host, sessions of the server that it has for them, and how many more once
# one has waited for five seconds.
pooler_port = 6432
pooler_clients = 200
pooler_sessions = 20
pooler_reserve = 5
# What the app asks for by `options` when it connects does not pass a pooler; its role can have it in its database.
# db_app_settings = {"statement_timeout": "30s", "TimeZone": "UTC"}

# systemd, docker, command (with app_restart at each host), or supervisord (environment local).
app_manager = "systemd"
env_file_mode = "640"

# Folder of the backups, on this machine, and who is named in the report.
backup_dir = "backups/staging"
admin_email = "dba@example.org"

# Log of the database server, on the host of the group `database`; what the soak must not see in it is looked for there.
# db_log = "/var/log/postgresql/postgresql-15-main.log"

# Hosts whose timers make and drop partitions (`invoke lifecycle.install`) are the inventory's group `clock`; when they
# go off, as systemd's OnCalendar says it. The migrating role must be let in from there.
# lifecycle_premake_at = "daily"
# lifecycle_retain_at = "*-*-* 03:30"

# Your Prometheus, which must have our rules as they are shipped (docs/howto/monitoring.md). Where some are left out:
# the names of those that must be there; `monitor_altered`: those of which you have a version of your own.
monitor_url = "http://prometheus.staging.example.org:9090"
# monitor_rules = ["DefaultPartitionHasRows", "NoPartitionForTheFuture", "DetachIsPending"]
# monitor_altered = ["NoPartitionForTheFuture"]
