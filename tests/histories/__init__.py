"""Random histories: sessions of the application and the engine itself, interleaved statement by statement.

`python -m tests.histories --count 500` prints a report; `test_histories.py` runs a part of it in CI.
"""
