"""The monitoring host: Prometheus, Alertmanager, the database's exporter, and the rules for partitions.

Exporter and Alertmanager listen on loopback. Prometheus answers the engine too, which the firewall of the host lets in.
"""

from pathlib import Path

from pyinfra import host, state
from pyinfra.operations import apt

from fleet import operations, units
from fleet.passwords import resolve
from fleet.templates import database_url, render

data = host.data
texts = Path(state.cwd or ".") / "templates" / "hosts"
folder, rules = "/etc/pg-rehearsal", "/etc/prometheus/partitions.rules.yml"
exporter, alertmanager = "127.0.0.1:9187", "127.0.0.1:9093"

units.folder(name="Make the folder of the database exporter", path=folder, mode="755", owner="root:root")
for path, text in (
    (f"{folder}/ca.crt", (Path(data.tls_folder) / "ca.crt").read_text(encoding="utf-8")),
    (f"{folder}/queries.yaml", (texts / "partition_queries.yaml").read_text(encoding="utf-8")),
):
    operations.private_file(
        name=f"Write {Path(path).name} for the database exporter", path=path, text=text, mode="644", owner="root:root"
    )


def exporter_env() -> str:
    """Return how the exporter logs in, and what it looks at."""
    password = resolve(data.db_monitor_password)
    place = (data.db_host, data.db_port, "postgres", data.db_monitor_role, password)
    url = database_url(*place, sslmode=data.db_sslmode, sslrootcert=f"{folder}/ca.crt")
    return (
        f"DATA_SOURCE_NAME='{url}'\nPG_EXPORTER_EXTEND_QUERY_PATH={folder}/queries.yaml\n"
        f"PG_EXPORTER_AUTO_DISCOVER_DATABASES=true\nARGS='--web.listen-address={exporter}'\n"
    )


# systemd reads it as root and hands it on: the exporter's own user cannot.
operations.private_file(
    name="Write how the database exporter logs in",
    path=f"{folder}/exporter.env",
    text=exporter_env,
    mode="600",
    owner="root:root",
)
apt.packages(
    name="Install Prometheus, Alertmanager and the database exporter",
    packages=["prometheus", "prometheus-alertmanager", "prometheus-postgres-exporter"],
    no_recommends=True,
    update=True,
    cache_time=86_400,
)
operations.private_file(
    name="Write the rules for partitions",
    path=rules,
    text=(texts / "partitions.rules.yml").read_text(encoding="utf-8"),
    mode="644",
    owner="root:root",
)
operations.private_file(
    name="Write what Prometheus looks at",
    path="/etc/prometheus/prometheus.yml",
    text=render(
        "hosts/prometheus.yml.j2",
        rules=rules,
        hosts=data.all_addresses,
        database="db",
        interval="5s",
        exporter=exporter,
        alertmanager=alertmanager,
    ),
    mode="644",
    owner="root:root",
)
# The address of a receiver often holds a token: Alertmanager's own group may read it, nobody else.
operations.private_file(
    name="Write whom Alertmanager tells",
    path="/etc/prometheus/alertmanager.yml",
    text=render("hosts/alertmanager.yml.j2", wait="30s", webhook=data.get("monitor_webhook") or ""),
    mode="640",
    owner="root:prometheus",
)
# Alone: without an address for a cluster it opens no port for one.
operations.private_file(
    name="Write where Alertmanager listens",
    path=f"{folder}/alertmanager.env",
    text=f"ARGS='--web.listen-address={alertmanager} --cluster.listen-address='\n",
    mode="644",
    owner="root:root",
)
units.drop_in(
    name="Let the database exporter log in",
    unit="prometheus-postgres-exporter.service",
    text=f"[Service]\nEnvironmentFile={folder}/exporter.env\n",
)
units.drop_in(
    name="Let Alertmanager listen on loopback alone",
    unit="prometheus-alertmanager.service",
    text=f"[Service]\nEnvironmentFile={folder}/alertmanager.env\n",
)
operations.service(
    name="Start the database exporter",
    unit="prometheus-postgres-exporter.service",
    env_file=f"{folder}/exporter.env",
    files=(f"{folder}/queries.yaml", units.drop_in_path("prometheus-postgres-exporter.service")),
)
operations.service(
    name="Start Alertmanager",
    unit="prometheus-alertmanager.service",
    env_file=f"{folder}/alertmanager.env",
    files=("/etc/prometheus/alertmanager.yml", units.drop_in_path("prometheus-alertmanager.service")),
)
operations.service(
    name="Start Prometheus", unit="prometheus.service", env_file="/etc/prometheus/prometheus.yml", files=(rules,)
)
