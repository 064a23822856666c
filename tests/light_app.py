"""A very light app server: answers /health with its routing, as read from its environment when it started.

    python -I -S light_app.py FOLDER SERVER PORT

It misbehaves where a file in its folder says so: `SERVER.refuses` (it does not come up with partitioned reads),
`SERVER.lies` (it reports the legacy routing), `SERVER.errs` (with partitioned reads, all but /health is an error).
"""

import os
import signal
import socket
import sys

FOLDER, SERVER, PORT = sys.argv[1:4]
SIDES = {"true": "partitioned", "false": "legacy"}
READS, WRITES = SIDES[os.environ["USE_PARTITIONED_TABLES"]], SIDES[os.environ["ENABLE_PARTITION_ROUTING"]]
PID = os.path.join(FOLDER, SERVER + ".pid")  # noqa: PTH118 -- pathlib alone would double the time to start


def told(word: str) -> bool:
    """Return whether this server is to misbehave in a way."""
    return os.path.exists(os.path.join(FOLDER, f"{SERVER}.{word}"))  # noqa: PTH110, PTH118 -- as above


def stop(*_: object) -> None:
    """Take the pid file away, which whoever restarts the app waits for."""
    if os.path.exists(PID):  # noqa: PTH110 -- as above
        os.unlink(PID)  # noqa: PTH108 -- as above
    os._exit(0)


def answer(line: str) -> tuple[str, str]:
    """Return status and body for a request line."""
    reads, writes = ("legacy", "legacy") if told("lies") else (READS, WRITES)
    if "/health" not in line and READS == "partitioned" and told("errs"):
        return "500 Internal Server Error", '{"error": "relation does not exist"}'
    routing = f'{{"reads": "{reads}", "writes": "{writes}"}}'
    return "200 OK", f'{{"status": "ok", "server": "{SERVER}", "pid": {os.getpid()}, "routing": {routing}}}'


def main() -> None:
    """Serve for ever, one request a connection."""
    if READS == "partitioned" and told("refuses"):
        sys.exit(f"{SERVER} refuses the partitioned tables")
    signal.signal(signal.SIGTERM, stop)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(PORT)))
        listener.listen(64)
        while True:
            client, _ = listener.accept()
            with client:
                line = client.recv(65536).decode("latin-1").split("\r\n")[0]
                status, body = answer(line)
                fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
                head = f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n"
                client.sendall((head + body).encode())


main()
