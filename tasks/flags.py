"""The two routing flags of an app server, and a restart if it does not run with them yet.

With `look`, the flags of every server are read and reported first; if those of one cannot be, nobody's are touched.
"""

from pyinfra import host
from pyinfra.api.exceptions import PyinfraError

from fleet import operations, recorder

data = host.data
flags = {data.flag_reads: bool(data.reads), data.flag_writes: bool(data.writes)}
seen = None
if data.get("look"):
    seen = operations.look_at_flags(data, flags)
    recorder.report(flags=seen["flags"], problem=seen["problem"])
    if seen["problem"] or not seen["flags"]:
        # Raised before the first operation of any host begins: it ends the run of all of them.
        message = f"the flags of {host.name} cannot be read"
        raise PyinfraError(message)
operations.routing_flags(
    name="Set the routing flags and restart the app server",
    data=data,
    flags=flags,
    # Servers that do not answer with these flags, whatever their files say.
    restart=host.name in (data.get("restart") or ()),
    seen=seen,
)
