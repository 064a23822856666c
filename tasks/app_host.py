"""A host of the app: its user, its code, its unit. What depends on the plan, its env file, comes with the app."""

import json
from pathlib import Path

from pyinfra import host

from fleet import operations, units
from fleet.templates import render

data = host.data
bundle = json.loads(Path(data.app_bundle).read_text(encoding="utf-8"))
config = str(Path(data.env_file).parent)

units.system_user(name="Make the user of the app", user=data.app_user)
units.folder(name="Make the folder of the app's settings", path=config, mode="750", owner=f"root:{data.app_user}")
units.folder(
    name="Make the folder of the app's log",
    path=str(Path(data.app_log).parent),
    mode="750",
    owner=f"{data.app_user}:adm",
)
operations.private_file(
    name="Write the certificate that the app trusts",
    path=data.app_sslrootcert,
    text=(Path(data.tls_folder) / "ca.crt").read_text(encoding="utf-8"),
    mode="644",
    owner="root:root",
)
units.unpacked(
    name="Unpack the app and its packages", archive=bundle["archive"], digest=bundle["digest"], folder=data.app_folder
)
units.unit(
    name="Write the unit of the app",
    unit=data.app_service,
    text=render(
        "hosts/app.service.j2", user=data.app_user, env_file=data.env_file, folder=data.app_folder, log=data.app_log
    ),
)
