"""The report of one run: built from its evidence and events, rendered as Markdown, JSON, HTML and JUnit XML.

Owns `report.*` and `MANIFEST.sha256` in the run's folder. Must not know databases or hosts. No sentence in it is
typed by hand but `notes.md`: every line comes from evidence or from an event.
"""

from rehearsal.report.build import build_report
from rehearsal.report.model import Report, report_schema
from rehearsal.report.write import write_report

__all__ = ["Report", "build_report", "report_schema", "write_report"]
