"""Plugins and markers only."""

import os
import signal
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

pytest_plugins = [
    "tests.fix_app",
    "tests.fix_fleet",
    "tests.fix_parity",
    "tests.fix_postgres",
    "tests.fix_tables",
    "tests.fix_verbs",
    "tests.fix_production",  # after the world that it is made of
]

# Before any library reads them: tests mean the same in every shell (rehearsal/variables.py does so for the commands).
for _name in [
    name for name in os.environ if (name.startswith("PG") and name != "PGBIN") or name.lower().endswith("_proxy")
]:
    del os.environ[_name]

# A shell starts its background jobs with SIGINT ignored, and children inherit that: Ctrl-C would do nothing in tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Minutes each, and without surprises for who changes one module: left to `./inv test --all`.
LONG = ("tests/faults/", "tests/zoo/", "tests/hosts/", "tests/fleet/", "tests/postgres/catalog/test_keys.py")
# The longest first: what one worker begins late keeps the others waiting at the end.
FIRST = (
    "tests/hosts/",
    "tests/kills/",
    "tests/postgres/catalog/test_keys.py",
    "tests/histories/",
    "tests/resilience/",
    "tests/fleet/",
    "tests/local/",
    "tests/zoo/",
    "tests/faults/",
)


# Of a fault's many variants CI has the first ones; all of them belong to `./inv test --long`.
SAMPLES = {
    "tests/faults/test_drift.py": 2,
    "tests/faults/test_drift_ways_on.py": 1,
    "tests/faults/test_encodings.py": 2,
    "tests/faults/test_key_alone.py": 3,
    "tests/faults/test_mismatch.py": 3,
    "tests/faults/test_production.py": 2,
    "tests/faults/test_refused_first.py": 2,
    "tests/faults/test_split_history.py": 1,
}


# One set of hosts takes minutes to make: all tests on hosts are for one worker, as those of any other file are.
TOGETHER = ("tests/hosts/",)


class Sharing(LoadFileScheduling):
    """Gives a worker the tests of a file, or of a folder that shares what is made for it."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group in TOGETHER if nodeid.startswith(group)), super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Take this in the place of `--dist loadfile`; any other way of sharing tests stays as it is."""
    return Sharing(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Mark before anybody chooses by marks; begin with what takes long, which would keep one worker busy at the end."""
    for item in items:
        if item.nodeid.startswith(LONG):
            item.add_marker(pytest.mark.long)
    mark_variants(items)
    yield
    leave_out_hours(config, items)
    items.sort(key=turn_of)


def turn_of(item: pytest.Item) -> int:
    """Return how early a test begins; those of one turn stay as they are shuffled."""
    return next((turn for turn, path in enumerate(FIRST) if item.nodeid.startswith(path)), len(FIRST))


def mark_variants(items: list[pytest.Item]) -> None:
    """Mark what is beyond the sample of a parametrized test; its cases count in the order of their names."""
    seen = Counter[str]()
    for item in sorted(items, key=lambda item: item.nodeid):
        path, _, case = item.nodeid.partition("::")
        if path in SAMPLES and "[" in case:
            name = item.nodeid.partition("[")[0]
            seen[name] += 1
            if seen[name] > SAMPLES[path]:
                item.add_marker(pytest.mark.hours)


def leave_out_hours(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of hours, unless they are asked for: by their marker, or by a node id."""
    if "hours" in config.option.markexpr or any("::" in argument for argument in config.args):
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("hours")])
    items[:] = [item for item in items if not item.get_closest_marker("hours")]
