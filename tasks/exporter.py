"""The figures of a host, for the monitoring host."""

from pyinfra.operations import apt

apt.packages(
    name="Install the exporter of the host's figures",
    packages=["prometheus-node-exporter"],
    no_recommends=True,
    update=True,
    cache_time=86_400,
)
