"""The database server of a host that is ours: PostgreSQL of the distribution, its settings, TLS and access rules."""

from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt

from fleet import debian, operations, recorder, sizing, units
from fleet.facts import Lines, SqlRows
from fleet.templates import render

data = host.data
major = int(data.db_major)
folder = f"/etc/postgresql/{major}/main"
memory, cores = sizing.parse_size(host.get_fact(Lines, script=sizing.SCRIPT))

# Before the package comes: the cluster that it would make by itself has no checksums and somebody's locale.
units.folder(name="Make the folder of cluster defaults", path="/etc/postgresql-common", mode="755", owner="root:root")
operations.private_file(
    name="Keep the package from making a cluster of its own",
    path="/etc/postgresql-common/createcluster.conf",
    text="create_main_cluster = false\nadd_include_dir = 'conf.d'\n",
    mode="644",
    owner="root:root",
)
apt.packages(
    name="Install PostgreSQL",
    packages=[f"postgresql-{major}", f"postgresql-client-{major}"],
    no_recommends=True,
    update=True,
    cache_time=86_400,
)
debian.debian_cluster(name="Make the database cluster", major=major)
for file, mode in (("server.key", "600"), ("server.crt", "644")):
    operations.private_file(
        name=f"Write the {'key' if mode == '600' else 'certificate'} of the database server",
        path=f"{folder}/{file}",
        text=(Path(data.tls_folder) / file).read_text(encoding="utf-8"),
        mode=mode,
        owner="postgres:postgres",
    )
operations.private_file(
    name="Write the settings of the database server",
    path=f"{folder}/conf.d/50-pg-rehearsal.conf",
    text=render(
        "hosts/postgresql.conf.j2", memory=memory, cores=cores, folder=folder, sizes=sizing.settings(memory, cores)
    ),
    mode="644",
    owner="postgres:postgres",
)
debian.access_rules(
    name="Write the access rules of the database server",
    path=f"{folder}/pg_hba.conf",
    text=render(
        "hosts/pg_hba.conf.j2",
        superuser=data.db_superuser,
        app=data.db_app_role,
        apps=data.app_addresses,
        migrator=data.db_migrator,
        parity=data.db_parity_role,
        monitor=data.db_monitor_role,
        monitor_host=data.monitor_address,
        control=data.control_address,
        clocks=data.get("clock_addresses") or [],
    ),
)
debian.converged(
    name="Let the database server take in its settings",
    major=major,
    files=tuple(
        f"{folder}/{name}" for name in ("conf.d/50-pg-rehearsal.conf", "pg_hba.conf", "server.key", "server.crt")
    ),
)
debian.settings_in_force(
    name="Check that the database server took in all settings", path=f"{folder}/conf.d/50-pg-rehearsal.conf"
)
# Whether this is a fresh server still; templates and `postgres` come with every cluster.
query = "select datname from pg_database where not datistemplate and datname <> 'postgres'"
databases = host.get_fact(SqlRows, session=debian.administrator(), query=query)
recorder.report(databases=[row[0] for row in databases])
units.folder(name="Make the folder of backups", path="/var/backups/pg-rehearsal", mode="700", owner="postgres:postgres")
