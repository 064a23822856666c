"""The Docker Engine that runs the hosts: reach it, and say clearly why when it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet.machines.layout import MachineError

LABEL = "pg-rehearsal.environment"
INSTEAD = "the environment `local` needs no Docker: ./inv rehearse --env local"
V1_CONTROLLERS = Path("/sys/fs/cgroup")


def connect() -> Any:
    """Return a client of the Docker Engine.

    Raises:
        MachineError: no SDK, no Engine, no right to use it, or one that runs other than Linux containers.
    """
    try:
        import docker  # noqa: PLC0415 -- an option: everything else works without it
        from docker.errors import DockerException  # noqa: PLC0415
    except ImportError as exc:
        message = f"the environment `docker` needs the Docker SDK for Python (pip install docker); {INSTEAD}"
        raise MachineError(message) from exc
    try:
        client = docker.from_env(timeout=600)
        info = client.info()
    except DockerException as exc:
        raise MachineError(_why(exc)) from exc
    if info.get("OSType") != "linux":
        message = f"this Docker Engine runs {info.get('OSType')} containers; the hosts are Linux. {INSTEAD}"
        raise MachineError(message)
    return client


def _why(exc: Exception) -> str:
    text = str(exc)
    if "Permission denied" in text:
        return (
            "this user lacks the privilege to use the Docker Engine: join the group `docker`, or run as root; "
            f"{INSTEAD}"
        )
    if "No such file" in text or "Connection refused" in text:
        return f"no Docker Engine answers: install it (Debian: apt-get install docker.io) and start it; {INSTEAD}"
    return f"the Docker Engine cannot be used: {text}; {INSTEAD}"


def run_options(info: dict[str, Any]) -> dict[str, Any]:
    """Return how a container must be run so that systemd is its first process; no `--privileged`.

    With cgroup v1 systemd needs the machine's hierarchy; with v2 a namespace of its own, writable.
    """
    options: dict[str, Any] = {
        "cap_add": ["SYS_ADMIN", "NET_ADMIN"],
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        "tmpfs": {"/run": "", "/run/lock": ""},
        "stop_signal": "SIGRTMIN+3",
    }
    if str(info.get("CgroupVersion")) == "2":
        return {
            **options,
            "cgroupns": "private",
            "volumes": {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
        }
    return {**options, "volumes": {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "ro"}}}


def require_cgroups(info: dict[str, Any]) -> None:
    """Refuse an Engine on whose machine systemd cannot run in a container.

    Raises:
        MachineError: cgroup v1 without the named hierarchy of systemd; says how to get it.
    """
    if str(info.get("CgroupVersion")) == "2" or (V1_CONTROLLERS / "systemd").is_dir():
        return
    message = (
        f"this machine has cgroup v1 without {V1_CONTROLLERS}/systemd, which systemd on the hosts needs: "
        "mkdir -p /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd"
    )
    raise MachineError(message)
