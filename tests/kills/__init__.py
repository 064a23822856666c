"""Crash anything: our process, a backend, the whole server, at every step of a switchover under writers.

`python -m tests.kills --kills 200` prints a report; `test_kills.py` runs a part of it in CI.
"""
