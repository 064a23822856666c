"""Plugins and markers only."""

import signal

pytest_plugins = ["tests.fix_app", "tests.fix_fleet", "tests.fix_postgres", "tests.fix_tables"]

# A shell starts its background jobs with SIGINT ignored, and children inherit that: Ctrl-C would do nothing in tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
