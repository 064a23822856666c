"""The image of a bare host: Debian with systemd and sshd, made once for each content.

Owns the images `pg-rehearsal-host:<content>` and `pg-rehearsal-base:<suite>`. The base is pulled; where nothing can be
pulled, mmdebstrap makes one. Both end in the same Dockerfile.

REHEARSAL_DOCKER_BASE_IMAGE   an image to begin with, instead of debian:12-slim
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fleet.machines.downloads import download_environ
from fleet.machines.engine import LABEL
from fleet.machines.layout import MachineError

FOLDER = Path(__file__).resolve().parent
SUITE, PUBLIC_BASE = "bookworm", "debian:12-slim"
REPOSITORY, BASE_REPOSITORY = "pg-rehearsal-host", "pg-rehearsal-base"
# What a host has before it is provisioned: what SSH, pyinfra and systemd need. The rest is provisioning's.
PACKAGES = (
    "acl", "ca-certificates", "dbus", "iproute2", "nftables", "openssh-server", "procps", "python3", "sudo", "systemd",
    "systemd-sysv",
)  # fmt: skip
# Settings of the machine's own apt without which it would not reach its mirror from a container either.
OF_THE_MACHINE = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
DEFAULT_MIRRORS = ("http://deb.debian.org/", "https://deb.debian.org/")
SCRIPTS = "etc/apt/apt.conf.d/60-of-the-machine"


def ensure_image(client: Any) -> tuple[str, bool]:
    """Return the name of the image of a bare host, and whether it had to be made.

    Raises:
        MachineError: there is no base to begin with, or the build failed; has the end of what it said.
    """
    from docker.errors import BuildError, DockerException, ImageNotFound  # noqa: PLC0415 -- an option, see engine

    with tempfile.TemporaryDirectory(prefix="pg-rehearsal-image-") as place:
        context = Path(place)
        tag = f"{REPOSITORY}:{write_context(context)}"
        try:
            client.images.get(tag)
        except ImageNotFound:
            pass
        else:
            return tag, False
        arguments = {"BASE": _base(client), "PACKAGES": " ".join(PACKAGES)}
        try:
            # The machine's own network: its resolver and proxy serve the build too.
            client.images.build(
                path=str(context), tag=tag, buildargs=arguments, labels={LABEL: "image"}, network_mode="host", rm=True
            )
        except BuildError as exc:
            said = "".join(str(line.get("stream") or line.get("error") or "") for line in exc.build_log)
            message = f"the image of the hosts cannot be built: {' | '.join(said.strip().splitlines()[-6:])}"
            raise MachineError(message) from exc
        except DockerException as exc:
            message = f"the image of the hosts cannot be built: {exc}"
            raise MachineError(message) from exc
    return tag, True


def write_context(folder: Path) -> str:
    """Write what the image is built from into a folder; return the digest of all of it."""
    shutil.copy(FOLDER / "Dockerfile", folder / "Dockerfile")
    files = folder / "files"
    shutil.copytree(FOLDER / "image", files)
    for name, text in _apt_of_the_machine().items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(text, encoding="utf-8")
    digest = hashlib.sha256(
        f"{SUITE} {' '.join(PACKAGES)} {os.environ.get('REHEARSAL_DOCKER_BASE_IMAGE', '')}".encode()
    )
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(0o644)
        digest.update(f"\0{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _apt_of_the_machine() -> dict[str, str]:
    """Return apt's files for the hosts where this machine has a mirror, a proxy or exceptions of its own."""
    lines = [line for line in _said("apt-config", "dump").splitlines() if line.startswith(OF_THE_MACHINE)]
    files = {SCRIPTS: "\n".join(lines) + "\n"} if lines else {}
    sources = _sources()
    if sources and not all(line.split()[1].startswith(DEFAULT_MIRRORS) for line in sources):
        files["etc/apt/sources.list"] = "\n".join(sources) + "\n"
        files["etc/apt/sources.list.d/debian.sources"] = "# See /etc/apt/sources.list\n"
    return files


def _sources() -> list[str]:
    """Return the machine's own sources of this Debian suite, as lines of sources.list; none on another system."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    found = _said("apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian").splitlines()
    wanted = (line.split() for line in found)
    return sorted({f"deb {uri} {suite} {part}" for uri, suite, part in wanted if suite.startswith(SUITE)})


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:  # no Debian
        return ""


def _base(client: Any) -> str:
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415 -- an option, see engine

    if given := os.environ.get("REHEARSAL_DOCKER_BASE_IMAGE"):
        return given
    made = f"{BASE_REPOSITORY}:{SUITE}"
    for name in (PUBLIC_BASE, made):
        try:
            client.images.get(name)
        except ImageNotFound:
            continue
        return name
    try:
        client.images.pull(PUBLIC_BASE)
    except DockerException as exc:
        return _bootstrap(client, made, str(exc))
    return PUBLIC_BASE


def _bootstrap(client: Any, name: str, reason: str) -> str:
    """Make a root file system by mmdebstrap and import it, since the public image cannot be pulled."""
    if not shutil.which("mmdebstrap"):
        message = (
            f"{PUBLIC_BASE} cannot be pulled ({reason[:200]}), and there is no mmdebstrap to make a base with: "
            "apt-get install mmdebstrap, or name an image of Debian 12 in REHEARSAL_DOCKER_BASE_IMAGE"
        )
        raise MachineError(message)
    with tempfile.TemporaryDirectory(prefix="pg-rehearsal-base-") as folder:
        archive = Path(folder) / "root.tar"
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", "--dpkgopt=force-unsafe-io"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale")]
        options += [f"--aptopt={line}" for line in _apt_of_the_machine().get(SCRIPTS, "").splitlines()]
        command = ["mmdebstrap", *options, SUITE, str(archive), *_sources()]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=download_environ()
        )
        if done.returncode != 0:
            message = f"mmdebstrap cannot make a root file system: {' | '.join(done.stderr.strip().splitlines()[-4:])}"
            raise MachineError(message)
        repository, _, tag = name.partition(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
    return name
