"""Environment `staging`: your own hosts over SSH. Copy this file to staging.py and put your values in.

`invoke doctor --env staging` says what is missing. The same keys describe `production` (env_kind = "production").
"""

# How pyinfra logs in by SSH. Host data wins over the SSH configuration file; what is left out is taken from there.
_ssh = {
    "ssh_user": "deploy",
    # Port other than 22, and the address where the name of the host is not the one to connect to.
    # "ssh_port": 2222,
    # "ssh_hostname": "10.0.0.11",
    # Private key; without it, keys of the agent and of ~/.ssh are tried (ssh_allow_agent, ssh_look_for_keys).
    "ssh_key": "~/.ssh/id_ed25519",
    # Host keys. "yes": only known ones, a changed or an unknown key is refused. The default, "accept-new", writes
    # unknown keys into the file. ("ask" cannot be answered: there is no terminal. "no" does not check.)
    "ssh_strict_host_key_checking": "yes",
    "ssh_known_hosts_file": "~/.ssh/known_hosts",
    # A bastion: name it in an SSH configuration file as ProxyJump (or ProxyCommand) of the host; there is no key for it
    # here. The bastion needs its own StrictHostKeyChecking there, since for hops "ask" is the default.
    # "ssh_config_file": "~/.ssh/config",
    # Tries after the first one, for hosts that come up.
    "ssh_connect_retries": 2,
    # sudo for everything that is done on the host, without a password (NOPASSWD); see also _sudo_user. A
    # _sudo_password is refused: pyinfra would put it into the host's process list.
    # "_sudo": True,
}

# One host that reaches the database: psql and the backups run there. It may be the database host itself.
database = [
    (
        "db1.staging.example.org",
        {
            **_ssh,
            # Folder of psql and pg_dump on that host; leave it out if they are on the PATH.
            "db_bin": "/usr/lib/postgresql/15/bin",
            # File with the passwords of psql on that host; written by `invoke db.provision`, mode 0600.
            "passfile": "/home/deploy/.pg-rehearsal.pgpass",
        },
    ),
]

# Hosts whose timers make and drop partitions once `invoke lifecycle.install` has brought them; they need root (_sudo).
# clock = database

# The app servers, in the order in which they are flipped: the first one is the canary.
app = [
    (
        f"app{number}.staging.example.org",
        {
            **_ssh,
            # Name of the server in reports, and its value of SERVER_NAME; what its /health calls `server`, if it does.
            "app_server": f"app{number}",
            "app_port": 8000,
            # Where the engine asks this server for /health and sends its requests.
            "app_url": f"http://app{number}.staging.example.org:8000",
            # File with the two routing flags, in the form NAME=value; the unit reads it as EnvironmentFile=. It is
            # replaced, not written into: a container mounts its folder, since a mounted file would stay the old one.
            "env_file": "/etc/finance/app.env",
            # A pooler beside the app, by `pooler` in the group data or here for one server; it needs root (_sudo).
            # "pooler": "transaction",
            # Log that is scanned after the smoke tests, on the app server.
            "app_log": "/var/log/finance/app.log",
            # app_manager systemd: unit that is restarted after the flags have changed.
            "app_service": "finance.service",
            # app_manager docker: container that is restarted; it must read env_file itself when it starts. One whose
            # variables were fixed when it was made (--env-file) is made anew by an app_restart of its own.
            # "app_container": "finance",
            # Command in the place of the manager's; with app_manager "command" there is no other. It ends when the app
            # was told to start; whether it came up is asked at /health. PM2, Compose, a rollout of Kubernetes:
            #   "pm2 reload finance --update-env"
            #   "docker compose --project-directory /srv/finance up -d --force-recreate app"
            #   "kubectl rollout restart deployment/finance && kubectl rollout status deployment/finance --timeout 5m"
            "app_restart": "sudo systemctl restart finance.service",
            # Where flags are kept elsewhere than in env_file: a command that prints them as lines NAME=value, and one
            # that sets them; {flags} stands for NAME=value words. They run on the host, which may be this machine
            # (name the host "@process/finance"). Then env_file may be left out.
            # "app_flags_now": "kubectl set env deployment/finance --list",
            # "app_flags_set": "kubectl set env deployment/finance {flags}",
            # Commands that run on this machine, before a server is restarted and after it was found healthy; a list of
            # words or one line, without a shell. {server}, {host} and {url} are filled in. Both bear being repeated.
            # "app_drain": ["balancer", "drain", "{server}"],
            # "app_undrain": ["balancer", "ready", "{server}"],
            # Flags that this server should have; `invoke flags.show` says where it has others.
            # "app_flags": {"reads": "off", "writes": "off"},
        },
    )
    for number in (1, 2)
]
