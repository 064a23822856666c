"""Environment `staging`: your own hosts over SSH. Copy this file to staging.py and put your values in.

`invoke doctor --env staging` says what is missing. The same keys describe `production` (env_kind = "production").
"""

# One host that reaches the database: psql and the backups run there. It may be the database host itself.
database = [
    (
        "db1.staging.example.org",
        {
            # How pyinfra logs in; see its SSH connector for more (ssh_key, ssh_known_hosts_file, …).
            "ssh_user": "deploy",
            # Folder of psql and pg_dump on that host; leave it out if they are on the PATH.
            "db_bin": "/usr/lib/postgresql/15/bin",
            # File with the passwords of psql on that host; written by `invoke db.provision`, mode 0600.
            "passfile": "/home/deploy/.pg-rehearsal.pgpass",
        },
    ),
]

# The app servers, in the order in which they are flipped: the first one is the canary.
app = [
    (
        f"app{number}.staging.example.org",
        {
            "ssh_user": "deploy",
            # Name of the server in reports, and its value of SERVER_NAME.
            "app_server": f"app{number}",
            "app_port": 8000,
            # Where the engine asks this server for /health and sends its requests.
            "app_url": f"http://app{number}.staging.example.org:8000",
            # File with the two routing flags, in the form NAME=value; the unit reads it as EnvironmentFile=.
            "env_file": "/etc/finance/app.env",
            # Log that is scanned after the smoke tests, on the app server.
            "app_log": "/var/log/finance/app.log",
            # Unit that is restarted after the flags have changed.
            "app_service": "finance.service",
            # Command instead of `systemctl restart <app_service>`, where the user needs sudo for it.
            "app_restart": "sudo systemctl restart finance.service",
        },
    )
    for number in (1, 2)
]
