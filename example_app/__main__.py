"""Serve the app: `python -m example_app`, settings in the environment.

ADDRESS (127.0.0.1 if there is none), DATABASE_URL, PORT, SERVER_NAME, USE_PARTITIONED_TABLES and
ENABLE_PARTITION_ROUTING (true or false) are read once, at start; a change of routing needs a restart. Exit code 2: a
setting is wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvicorn

from example_app.service import make_service
from example_app.settings import Settings, SettingsError


def main() -> int:
    """Serve until told to stop; requests in flight are finished first."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as exc:
        print(f"example_app: {exc}", file=sys.stderr)  # noqa: T201 -- a command's answer to its caller
        return 2
    # uvicorn raises the signal again once it has stopped; to have stopped as told is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(
        make_service(settings),
        host=settings.address,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
