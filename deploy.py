"""Host group to tasks, by phase; nothing else. One pyinfra run per phase: groups of one run interleave.

pyinfra -y inventories/local.py deploy.py --data phase=roles --data plan=hospitality --limit database
"""

from pyinfra import host, local

from fleet import recorder

recorder.install()
recorder.no_delay()

PHASES = {
    "cluster": ("database", "tasks/cluster.py"),
    "roles": ("database", "tasks/roles.py"),
    "migrate": ("database", "tasks/migrate.py"),
    "app": ("app", "tasks/app.py"),
    "app-log": ("app", "tasks/app_log.py"),
    "flags": ("app", "tasks/flags.py"),
    "flags-show": ("app", "tasks/flags_show.py"),
}
# Hosts that are ours from the ground up. A line each, not a loop: pyinfra orders operations by the lines that they
# stand on, and two files included on one line would mix.
if host.data.phase == "hosts":
    if "database" in host.groups:
        local.include("tasks/server.py")
    if "app" in host.groups:
        local.include("tasks/app_host.py")
    if "monitor" in host.groups:
        local.include("tasks/monitor.py")
    local.include("tasks/exporter.py")
    local.include("tasks/firewall.py")
else:
    group, tasks = PHASES[host.data.phase]
    if host.data.phase == "roles" and host.data.get("db_managed"):
        tasks = "tasks/managed.py"
    if group in host.groups:
        local.include(tasks)
