"""How a database server is set up for the memory and cores of its host. Pure numbers; must not know any host."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

MEGABYTE = 1 << 20
CONNECTIONS = 120


def settings(memory: int, cores: int) -> dict[str, str]:
    """Return the settings of a server that has this memory (in bytes) and these cores to itself.

    A quarter of the memory for shared buffers, three quarters expected in caches, as PostgreSQL's manual advises. The
    memory of sorts is bounded so that all sessions together cannot take more than another quarter.

    >>> settings(8 << 30, 4)["shared_buffers"], settings(8 << 30, 4)["work_mem"]
    ('2048MB', '17MB')
    """
    whole = max(memory // MEGABYTE, 512)
    return {
        "shared_buffers": f"{min(whole // 4, 16_384)}MB",
        "effective_cache_size": f"{whole * 3 // 4}MB",
        "work_mem": f"{max(whole // 4 // CONNECTIONS, 4)}MB",
        "maintenance_work_mem": f"{min(max(whole // 16, 64), 2_048)}MB",
        "max_connections": str(CONNECTIONS),
        "max_worker_processes": str(max(cores, 8)),
        "max_parallel_workers": str(max(cores, 2)),
        "max_parallel_workers_per_gather": str(max(min(cores // 2, 4), 1)),
        "max_parallel_maintenance_workers": str(max(min(cores // 2, 4), 1)),
    }


def parse_size(lines: list[str]) -> tuple[int, int]:
    """Return memory in bytes and cores, of which a limit of the host's control group takes precedence.

    The lines are: kilobytes of the machine, cores, and the limits in bytes that there are.

    >>> parse_size(["2048", "4", "max", "1048576"])
    (1048576, 4)
    """
    if len(lines) < 2:
        return 1 << 30, 2
    limits = [int(line) for line in lines[2:] if line.isdecimal()]
    return min([int(lines[0]) * 1024, *limits]), int(lines[1])


# /proc/meminfo is the machine's in a container; its own limit is in its control group, v2 or v1.
SCRIPT = """\
awk '/^MemTotal/ {print $2}' /proc/meminfo; nproc
group=$(awk -F: '$2 == "memory" {print $3}' /proc/1/cgroup)
cat /sys/fs/cgroup/memory.max "/sys/fs/cgroup/memory${group%/init.scope}/memory.limit_in_bytes" 2>/dev/null; true
"""


def own_cores(group: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this machine lets our processes use; a quota of the control group takes precedence."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = re.match(r"(\d+) (\d+)", group.read_text()) if group.exists() else None
    return min(cores, math.ceil(int(quota[1]) / int(quota[2]))) if quota else cores
