"""The environment `docker`."""

env_kind = "docker"
# These hosts are ours: packages, server, users and units are brought to the wanted state, not only roles and flags.
provisioned = True
db_major = 15
db_name = "{plan}_docker"
db_sslmode = "verify-full"
# The superuser has no password: only the user `postgres` of the database host can be it.
db_psql_host = "/var/run/postgresql"
db_superuser_runs_as = "postgres"
db_monitor_role = "monitor"
db_parity_role = "parity"
db_log = "/var/log/postgresql/postgresql-15-main.log"
# What the app asks for when it connects, in its database for its role too: a pooler cannot pass it on.
db_app_settings = {"statement_timeout": "30s", "TimeZone": "UTC"}
passfile = "/root/.pg-rehearsal.pgpass"
app_manager = "systemd"
app_is_ours = True
app_user = "finance"
app_service = "finance.service"
app_folder = "/opt/finance"
app_log = "/var/log/finance/app.log"
app_sslrootcert = "/etc/finance/ca.crt"
env_file = "/etc/finance/app.env"
env_file_mode = "640"
env_file_owner = "root:finance"
admin_email = "root@localhost"
