"""Preflight: what would stop or spoil a switchover, found before anything is changed. Reads only.

A `blocker` is something that this version does not carry or that would fail half way: it is refused here, with a
remedy, and never dropped in silence. A `warning` is a risk that people decide on.
"""

from rehearsal.checks.preflight.run import ASKS, Intent, check_act, run_preflight
from rehearsal.checks.preflight.server import OF_THE_DRILL, check_drill

__all__ = ["ASKS", "OF_THE_DRILL", "Intent", "check_act", "check_drill", "run_preflight"]
