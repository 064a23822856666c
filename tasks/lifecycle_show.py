"""Report the timers of the plan as systemd has them; changes nothing."""

from pyinfra import host

from fleet import recorder
from fleet.clock import JOBS, service_of, timer_of
from fleet.facts import Timer

recorder.report(
    timers={
        job: host.get_fact(Timer, timer=timer_of(job, host.data.plan), service=service_of(job, host.data.plan))
        for job in JOBS
    }
)
