"""An app server: its pooler, its env file, the program that runs it, and that it runs with them as they are."""

from pathlib import Path

from pyinfra import host, local, state

from fleet import operations, pooler
from fleet.facts import EnvFlags
from fleet.passwords import resolve
from fleet.psql import database_name
from fleet.templates import database_url, render

data = host.data
ours = data.app_manager == "supervisord" or bool(data.get("app_is_ours"))
names = (data.flag_reads, data.flag_writes)
have = host.get_fact(EnvFlags, path=data.env_file, names=(*names, "REHEARSAL_PLAN"))
# Flags outlive a deployment of the same plan; another plan, or a database made anew, starts with the legacy routing.
kept = have.get("REHEARSAL_PLAN") == data.plan and not data.get("reset")
database = database_name(data)
certificate = data.get("app_sslrootcert")
place = (data.db_host, data.db_port)
options = {"sslmode": data.db_sslmode if certificate else None, "sslrootcert": certificate}
pooled = pooler.wanted_mode(data)

# Before the app is sent there; the other way round at the end, so that the app always has a way to its database.
if pooled:
    local.include("tasks/pooler.py")
    place, options = ("127.0.0.1", data.pooler_port), {"sslmode": "disable"}


def env_file() -> str:
    """Return the env file of the app, with the password of its role."""
    url = database_url(*place, database, data.db_app_role, resolve(data.db_app_password), **options)
    return render(
        "app.env.j2",
        plan=data.plan,
        server=data.app_server,
        port=data.app_port,
        database_url=url,
        address=data.get("app_address"),
        flags={name: kept and have.get(name) == "true" for name in names},
    )


# An app that others deploy keeps its env file; only its flags are ours to set.
if ours:
    operations.private_file(
        name="Write the app server's env file",
        path=data.env_file,
        text=env_file,
        mode=data.env_file_mode,
        owner=data.get("env_file_owner"),
    )
if data.app_manager == "supervisord":
    apps = Path(data.base) / "apps"
    script = apps / f"{data.app_server}.sh"
    folder = data.get("app_folder") or str(Path(state.cwd or ".").absolute())
    operations.private_file(
        name="Write the app server's start script",
        path=str(script),
        text=render(
            "app.sh.j2",
            folder=folder,
            env_file=data.env_file,
            started=apps / f"{data.app_server}.started",
            command=data.app_command,
        ),
    )
    operations.private_file(
        name="Write the app server's program",
        path=str(Path(data.base) / "supervisor" / "programs" / f"{data.app_server}.conf"),
        text=render("app.supervisor.j2", program=data.app_server, script=script, folder=data.base, log=data.app_log),
    )
    operations.supervisor(name="Start the process manager", base=data.base)
    operations.program(name="Start the app server", base=data.base, program=data.app_server)
elif data.app_manager == "systemd":
    operations.service(
        name="Start the app server",
        unit=data.app_service,
        env_file=data.env_file,
        restart=data.get("app_restart"),
        files=(f"/etc/systemd/system/{data.app_service}", f"{data.app_folder}/current") if ours else (),
    )
if not pooled and data.app_manager != "supervisord":
    local.include("tasks/pooler_off.py")
