"""The application under rehearsal: finance API, telemetry API, dashboard page."""
