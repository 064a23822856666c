"""Write the JSON Schema of a run's lines: `python -m rehearsal.evidence > docs/evidence.schema.json`."""

from __future__ import annotations

import json
import sys

from rehearsal.evidence.schema import lines_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(lines_schema(), indent=2) + "\n")
