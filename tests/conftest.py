"""Plugins and markers only."""

import os
import signal

import pytest

pytest_plugins = [
    "tests.fix_app",
    "tests.fix_fleet",
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
LONG = ("tests/faults/", "tests/zoo/", "tests/hosts/", "tests/fleet/", "tests/postgres/test_keys.py")
FIRST = ("tests/histories/", "tests/kills/", "tests/resilience/", *LONG)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whole folders as long, and begin with what takes long: at the end it would keep one worker busy alone."""
    for item in items:
        if item.nodeid.startswith(LONG):
            item.add_marker(pytest.mark.long)
    leave_out_hours(config, items)
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def leave_out_hours(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of hours, unless they are asked for: by their marker, or by a node id."""
    if "hours" in config.option.markexpr or any("::" in one for one in config.args):
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("hours")])
    items[:] = [item for item in items if not item.get_closest_marker("hours")]
