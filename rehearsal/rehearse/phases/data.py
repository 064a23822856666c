"""The phase `data`: production-like rows on throwaway environments, and how they are spread everywhere."""

from __future__ import annotations

from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.rows import make_rows

PHASE = Phase("data", "Make rows", "data-distribution", make_rows)
