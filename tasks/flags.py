"""The two routing flags of an app server, and a restart if it does not run with them yet."""

from pyinfra import host

from fleet import operations

data = host.data
operations.routing_flags(
    name="Set the routing flags and restart the app server",
    data=data,
    flags={data.flag_reads: bool(data.reads), data.flag_writes: bool(data.writes)},
    # Servers that do not answer with these flags, whatever their files say.
    restart=host.name in (data.get("restart") or ()),
)
