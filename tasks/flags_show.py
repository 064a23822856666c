"""Report the routing flags that stand in the env file of each app server; changes nothing."""

from pyinfra import host

from fleet import recorder
from fleet.facts import EnvFlags

names = (host.data.flag_reads, host.data.flag_writes)
recorder.report(flags=host.get_fact(EnvFlags, path=host.data.env_file, names=names))
