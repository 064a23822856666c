"""The two routing flags of an app server, and a restart if it does not run with them yet."""

from pyinfra import host

from fleet import operations

data = host.data
flags = {data.flag_reads: bool(data.reads), data.flag_writes: bool(data.writes)}

operations.env_flags(name="Set the routing flags", path=data.env_file, flags=flags)
if data.app_manager == "supervisord":
    operations.program(name="Restart the app server", base=data.base, program=data.app_server)
else:
    operations.service(
        name="Restart the app server", unit=data.app_service, env_file=data.env_file, restart=data.get("app_restart")
    )
