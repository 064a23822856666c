"""What works beside a test ends with its block, and what it raised is the test's."""

from __future__ import annotations

import threading

import pytest

from tests.writing import at_work


def test_an_error_of_a_job_is_raised_after_the_block() -> None:
    """The block goes to its end first, and so do the other jobs."""
    ended: list[str] = []

    def breaks(_: threading.Event) -> None:
        message = "nothing to write on"
        raise OSError(message)

    def waits(stop: threading.Event) -> None:
        stop.wait()
        ended.append("job")

    with pytest.raises(OSError, match="nothing to write on"), at_work(breaks, waits):
        ended.append("block")

    assert ended == ["block", "job"]


def test_a_block_that_fails_ends_its_jobs_and_its_own_error_counts() -> None:
    ended = threading.Event()

    def waits(stop: threading.Event) -> None:
        stop.wait()
        ended.set()

    message = "of the block"
    with pytest.raises(OSError, match=message), at_work(waits):
        raise OSError(message)

    assert ended.is_set()
