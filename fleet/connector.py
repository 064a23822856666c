"""A host that is this machine: the environment `local` has several of them, told apart by name.

Owns the pyinfra connector `@process/NAME`. Must not know what runs on such a host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra.api.exceptions import InventoryError
from pyinfra.connectors.local import LocalConnector


class ProcessConnector(LocalConnector):
    """Run commands on this machine, as `@local` does, for any number of named hosts.

    So `--limit @process/app1` changes one app server of the environment `local`, exactly as it does on real hosts.
    """

    __examples_doc__ = "pyinfra @process/app1 exec -- uptime"

    @staticmethod
    def make_names_data(name: str | None = None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Yield the one host that the name stands for."""
        if not name:
            message = "a process host has a name: @process/NAME"
            raise InventoryError(message)
        yield f"@process/{name}", {}, ["@process"]
