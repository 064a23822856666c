"""What all environments share unless they say otherwise."""

db_migrator = "rehearsal"
db_app_role = "app"
db_superuser = "postgres"
db_sslmode = "prefer"
env_file_mode = "600"
