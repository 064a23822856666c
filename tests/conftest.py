"""Plugins and markers only."""

import signal

pytest_plugins = ["tests.fix_app", "tests.fix_postgres", "tests.fix_tables"]

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
