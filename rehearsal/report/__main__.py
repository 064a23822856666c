"""Write the JSON Schema of report.json: `python -m rehearsal.report > docs/report.schema.json`."""

from __future__ import annotations

import json
import sys

from rehearsal.report.model import report_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(report_schema(), indent=2) + "\n")
