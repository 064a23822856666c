"""The app under rehearsal as one archive: its code, and the packages that it needs, for the hosts' Python.

Owns `<base>/app/`. The versions are those of requirements.lock, hashes checked; nothing is downloaded on a host.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fleet.machines.downloads import download_environ
from fleet.machines.layout import PROJECT, Layout, MachineError

PYTHON = "3.11"  # of Debian 12
NEEDS = ("starlette", "uvicorn", "psycopg[binary,pool]", "pydantic")


def make_bundle(layout: Layout) -> bool:
    """Make the archive of the present code, if it is not there; return whether it was made.

    Raises:
        MachineError: the packages cannot be had.
    """
    folder = layout.base / "app"
    archive = folder / f"app-{digest()}.tar.gz"
    if archive.exists():
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pg-rehearsal-app-") as place:
        content = Path(place) / "content"
        _install(content / "lib")
        shutil.copytree(PROJECT / "example_app", content / "example_app", ignore=shutil.ignore_patterns("__pycache__"))
        with tarfile.open(archive.with_suffix(".new"), "w:gz", compresslevel=1) as tar:
            tar.add(content, arcname=".", filter=_plain)
    for old in folder.glob("app-*.tar.gz"):
        old.unlink()
    archive.with_suffix(".new").replace(archive)
    (folder / "bundle.json").write_text(json.dumps({"archive": str(archive), "digest": digest()}) + "\n")
    return True


def digest() -> str:
    """Return what the archive is made of, in a word: code, lock, Python and processor."""
    found = hashlib.sha256(f"{PYTHON} {platform.machine()} {NEEDS}".encode())
    paths = (
        path for path in (PROJECT / "example_app").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    for path in (PROJECT / "requirements.lock", *sorted(paths)):
        found.update(f"\0{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def _install(folder: Path) -> None:
    uv = shutil.which("uv") or str(PROJECT / ".tools" / "bin" / "uv")
    if not Path(uv).exists():
        message = "no uv to fetch the app's packages with; `./inv` installs one: run this by ./inv"
        raise MachineError(message)
    target = [f"--python-version={PYTHON}", f"--python-platform={platform.machine()}-unknown-linux-gnu"]
    only = ["--only-binary=:all:", "--link-mode=copy", f"--constraints={PROJECT / 'requirements.lock'}"]
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        f"--target={folder}",
        *target,
        *only,
        *NEEDS,
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=download_environ()
    )
    if done.returncode != 0:
        message = f"the app's packages cannot be had: {' | '.join(done.stderr.strip().splitlines()[-4:])}"
        raise MachineError(message)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Let everything in the archive be root's, and nothing be writable by others."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry
