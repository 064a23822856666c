"""Host group to tasks, by phase; nothing else.

    pyinfra inventories/docker.py deploy.py                  # all hosts in the wanted state, for the default plan
    pyinfra inventories/docker.py deploy.py --dry            # what would be done
    pyinfra -y inventories/local.py deploy.py --data phase=roles --data plan=hospitality --limit database

The engine asks for one phase a run. Without one, hosts, database, roles, registry and app servers are brought to the
wanted state; what belongs to a switchover (changes of the schema, flags) is the engine's to ask for.
"""

from pyinfra import host, local

from fleet import delivery, operations, plans, recorder

recorder.install()
recorder.no_delay()
delivery.refuse_told(host.name, host.data)

PHASES = {
    "cluster": ("database", "tasks/cluster.py"),
    "roles": ("database", "tasks/managed.py" if host.data.get("db_managed") else "tasks/roles.py"),
    "migrate": ("database", "tasks/migrate.py"),
    "app": ("app", "tasks/app.py"),
    "app-log": ("app", "tasks/app_log.py"),
    "db-log": ("database", "tasks/db_log.py"),
    "flags": ("app", "tasks/flags.py"),
    "flags-show": ("app", "tasks/flags_show.py"),
    "lifecycle": ("clock", "tasks/lifecycle_clock.py"),
    "lifecycle-job": ("clock", "tasks/lifecycle_job.py"),
    "lifecycle-show": ("clock", "tasks/lifecycle_show.py"),
}
phase = plans.phase_of(host.data, ("hosts", *PHASES))
plans.fill_in(host.data)

# A line each, not a loop: pyinfra orders operations by the lines that they stand on, and two files included on one line
# would mix. Operations of hosts in different groups mix too, but for what all hosts have: there, each waits for all.
if phase == "hosts" or (phase is None and host.data.get("provisioned")):
    if "database" in host.groups:
        local.include("tasks/server.py")
    if "app" in host.groups:
        local.include("tasks/app_host.py")
    if "monitor" in host.groups:
        local.include("tasks/monitor.py")
    local.include("tasks/exporter.py")
    local.include("tasks/firewall.py")
if phase is None:
    operations.together(name="Wait until all hosts have their packages")
    if "database" in host.groups and host.data.env_kind == "local":
        local.include("tasks/cluster.py")
    if "database" in host.groups:
        local.include(PHASES["roles"][1])
    operations.together(name="Wait until the database has its roles")
    if "app" in host.groups:
        local.include("tasks/app.py")
elif phase != "hosts" and PHASES[phase][0] in host.groups:
    local.include(PHASES[phase][1])
