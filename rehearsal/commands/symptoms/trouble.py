"""What `doctor` says of one trouble."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """One trouble: where, what, what to do, and whether it was done."""

    subject: str
    trouble: str
    remedy: str
    fixed: bool = False
