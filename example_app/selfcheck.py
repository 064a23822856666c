"""Integration test of a running server: what goes in by one request comes out by another, and can be taken out again.

    python -m example_app.selfcheck finance http://127.0.0.1:8000
    python -m example_app.selfcheck telemetry http://127.0.0.1:8000

Ends with 0 if everything held, with 1 and a sentence if not.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import httpx

LIMIT_S = 10.0


def require(condition: bool, what: str) -> None:  # noqa: FBT001 -- an assertion that also holds under -O
    """End with a sentence if something does not hold."""
    if not condition:
        sys.exit(f"selfcheck: {what}")


def check_finance(client: httpx.Client) -> None:
    """Create, change, approve and delete one revenue; the daily report must follow."""
    now = datetime.now(UTC)
    report = {"date": f"{now:%Y-%m-%d}", "propertyId": "9"}
    before = client.get("/reports/daily", params=report).json()["revenueCount"]
    body = {
        "propertyId": 9,
        "amount": 12.5,
        "description": "selfcheck",
        "paymentMode": "cash",
        "occurredAt": now.isoformat(),
    }
    made = client.post("/finance/revenue", json=body).json()
    require(client.get("/reports/daily", params=report).json()["revenueCount"] > before, "the report misses a revenue")
    approved = client.post("/finance/approve", json={"transactionId": made["id"], "type": "revenue"}).json()
    require(approved["status"] == "approved", f"approval answers {approved}")
    require(client.delete(f"/finance/revenue/{made['id']}").status_code == httpx.codes.OK, "it cannot be deleted")
    require(client.delete(f"/finance/revenue/{made['id']}").status_code == httpx.codes.NOT_FOUND, "it is there twice")


def check_telemetry(client: httpx.Client) -> None:
    """Ingest, correct and delete one reading; the newest readings must follow."""
    body = {"unitId": 9, "deviceId": 9, "temperature": 21.5, "recordedAt": datetime.now(UTC).isoformat()}
    made = client.post("/trpc/readings.ingest", json=body).json()
    client.patch(f"/trpc/readings/{made['id']}", json={"source": "selfcheck"}).raise_for_status()
    recent = client.post("/trpc/readings.recent", json={"unitId": 9, "limit": 50}).text
    require(str(made["id"]) in recent, "the newest readings miss the one that was ingested")
    require(client.delete(f"/trpc/readings/{made['id']}").status_code == httpx.codes.OK, "it cannot be deleted")
    require(client.delete(f"/trpc/readings/{made['id']}").status_code == httpx.codes.NOT_FOUND, "it is there twice")


CHECKS = {"finance": check_finance, "telemetry": check_telemetry}


def main(words: list[str]) -> None:
    """Run one check against one server."""
    require(len(words) == len(("what", "url")) and words[0] in CHECKS, f"name one of {', '.join(CHECKS)}, and a URL")
    with httpx.Client(base_url=words[1], timeout=LIMIT_S, trust_env=False) as client:
        CHECKS[words[0]](client)
    print(f"{words[0]}: every answer was as it must be")


if __name__ == "__main__":
    main(sys.argv[1:])
