"""What all environments share unless they say otherwise."""

# The plan where nobody names one: `pyinfra inventories/docker.py deploy.py`.
default_plan = "hospitality"
db_migrator = "rehearsal"
db_app_role = "app"
db_superuser = "postgres"
db_sslmode = "prefer"
env_file_mode = "600"
# Of a pooler (`pooler` is "session" or "transaction"): its port on the app's host, how many connections of the app it
# takes, how many sessions of the server it has for them, and how many more once one has waited for five seconds.
pooler_port = 6432
pooler_clients = 200
pooler_sessions = 20
pooler_reserve = 5
