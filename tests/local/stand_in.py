"""A stand-in for the app under rehearsal: answers /health, and misbehaves where a file in its folder says so.

`<server>.refuses`: it does not come up with partitioned reads. `<server>.lies`: it reports the legacy routing.
`<server>.waits`: with partitioned reads it does not answer as long as the file is there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVER = os.environ["SERVER_NAME"]
SIDES = {"true": "partitioned", "false": "legacy"}
READS, WRITES = SIDES[os.environ["USE_PARTITIONED_TABLES"]], SIDES[os.environ["ENABLE_PARTITION_ROUTING"]]


class Health(BaseHTTPRequestHandler):
    """Answers everything with its health."""

    def do_GET(self) -> None:
        """Answer."""
        folder = Path(sys.argv[1])
        lies = (folder / f"{SERVER}.lies").exists()
        routing = {"reads": "legacy", "writes": "legacy"} if lies else {"reads": READS, "writes": WRITES}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(
            json.dumps({"status": "ok", "server": SERVER, "pid": os.getpid(), "routing": routing}).encode()
        )


if READS == "partitioned" and (Path(sys.argv[1]) / f"{SERVER}.refuses").exists():
    sys.exit(f"{SERVER} refuses the partitioned tables")
while READS == "partitioned" and (Path(sys.argv[1]) / f"{SERVER}.waits").exists():
    time.sleep(0.05)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health).serve_forever()
