"""Do a job of the timers at once, as systemd does it when it is due: `data.job` is premake or retain."""

from pyinfra import host

from fleet import units
from fleet.clock import JOBS, service_of

job = host.data.job
if job not in JOBS:
    message = f"there is no job {job!r} of the timers; there are {', '.join(JOBS)}"
    raise ValueError(message)
units.job(name=f"Do lifecycle.{job} by its timer's unit", unit=service_of(job, host.data.plan))
