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
    "flags": ("app", "tasks/flags.py"),
    "flags-show": ("app", "tasks/flags_show.py"),
}
group, tasks = PHASES[host.data.phase]
if group in host.groups:
    local.include(tasks)
