"""The environment `local`."""

env_kind = "local"
db_host = "127.0.0.1"
db_name = "{plan}_local"
db_sslmode = "disable"
app_manager = "supervisord"
admin_email = "root@localhost"
