"""Environment `docker`: hosts with systemd and sshd, made by `invoke hosts.up`, reached by SSH as any host.

fleet/machines/layout.py has the variables that it listens to. Nothing here needs the hosts to be up.
"""

from fleet.machines import keys
from fleet.machines.layout import Machine, read_layout, read_pooler

_layout = read_layout()
_base = _layout.base
_database = _layout.find("db")
_monitor = _layout.find("monitor")
_apps = [machine.address for machine in _layout.machines if machine.group == "app"]
_app_port, _node_port = 8000, 9100

_everywhere = {
    "ssh_user": "root",
    "ssh_key": str(keys.ssh_key(_layout)),
    "ssh_known_hosts_file": str(keys.known_hosts(_layout)),
    # A host's key was read from the host itself when it was made: another one is not to be accepted.
    "ssh_strict_host_key_checking": "yes",
    "ssh_allow_agent": False,
    "ssh_look_for_keys": False,
    "ssh_connect_retries": 3,
    "base": str(_base),
    "tls_folder": str(_base / "tls"),
    "control_address": _layout.control,
    "monitor_address": _monitor.address,
    "app_addresses": _apps,
    "clock_addresses": [_database.address],
    "all_addresses": {machine.name: machine.address for machine in _layout.machines},
    "monitor_url": f"http://{_monitor.address}:9090",
    "db_host": _database.address,
    "db_port": 5432,
    "db_sslrootcert": str(_base / "tls" / "ca.crt"),
    "db_migrator_password": {"file": str(_base / "secrets" / "migrator.password")},
    "db_app_password": {"file": str(_base / "secrets" / "app.password")},
    "db_monitor_password": {"file": str(_base / "secrets" / "monitor.password")},
    "db_parity_password": {"file": str(_base / "secrets" / "parity.password")},
    "app_bundle": str(_base / "app" / "bundle.json"),
    "backup_dir": str(_base / "backups"),
}


def _host(machine: Machine, *rules: tuple[int, list[str]], **more: object) -> tuple[str, dict[str, object]]:
    firewall = [{"port": port, "sources": sources} for port, sources in (*rules, (_node_port, [_monitor.address]))]
    return machine.name, {"ssh_hostname": machine.address, "firewall": firewall, **more}


database = ([_host(_database, (5432, [*_apps, _monitor.address, _layout.control]))], _everywhere)
# Whose timers make and drop partitions.
clock = database
app = (
    [
        _host(
            machine,
            (_app_port, [_layout.control, _monitor.address]),
            app_server=machine.name,
            app_address=machine.address,
            app_url=f"http://{machine.address}:{_app_port}",
        )
        for machine in _layout.machines
        if machine.group == "app"
    ],
    {**_everywhere, "app_port": _app_port, "pooler": read_pooler()},
)
monitor = ([_host(_monitor, (9090, [_layout.control]))], _everywhere)
