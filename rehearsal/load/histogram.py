"""Latencies as a mergeable histogram: percentiles are computed from merged counts, never averaged.

This is the HDR histogram (High Dynamic Range, Gil Tene) with 128 buckets for each doubling: exact below 256 us, at most
1/128 of the value wide above, so a percentile is off by less than one percent. Kept by hand, since it is two lines of
arithmetic, and its counts travel as plain JSON; the usual library wraps them in a binary form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_HALF = 128


def bucket_of(micros: int) -> int:
    """Return the bucket of a latency in microseconds.

    >>> bucket_of(200), bucket_of(1_000_000)
    (200, 1780)
    """
    micros = max(0, micros)
    shift = max(0, micros.bit_length() - 8)
    return shift * _HALF + (micros >> shift)


def upper_of(bucket: int) -> int:
    """Return the largest latency of a bucket.

    >>> upper_of(200), upper_of(bucket_of(1_000_000)) >= 1_000_000
    (200, True)
    """
    shift = max(0, bucket // _HALF - 1)
    return ((bucket - shift * _HALF + 1) << shift) - 1


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and the exact maximum."""

    counts: dict[int, int] = field(default_factory=dict[int, int])
    max_us: int = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        micros = round(seconds * 1e6)
        bucket = bucket_of(micros)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.max_us = max(self.max_us, micros)

    def merge(self, counts: Mapping[str, int] | Mapping[int, int], max_us: int) -> None:
        """Add the counts of another histogram."""
        for bucket, count in counts.items():
            self.counts[int(bucket)] = self.counts.get(int(bucket), 0) + count
        self.max_us = max(self.max_us, max_us)

    @property
    def total(self) -> int:
        """How many latencies were counted."""
        return sum(self.counts.values())

    @property
    def max_ms(self) -> float:
        """The largest latency."""
        return self.max_us / 1e3

    def quantile_ms(self, share: float) -> float:
        """Return the latency that `share` of the operations did not exceed; 0 if there are none."""
        left = share * self.total
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(upper_of(bucket), self.max_us) / 1e3
        return self.max_ms
