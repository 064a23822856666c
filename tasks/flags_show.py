"""Report the routing flags that stand in the env file of each app server; changes nothing."""

from pyinfra import host

from fleet import recorder
from fleet.facts import FlagState
from fleet.operations import flags_source

names = tuple(sorted((host.data.flag_reads, host.data.flag_writes)))
found = host.get_fact(FlagState, source=flags_source(host.data), names=names, stale="")
recorder.report(flags=found["flags"], problem=found["problem"])
