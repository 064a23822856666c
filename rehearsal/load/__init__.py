"""Open-loop load in a process of its own: `python -m rehearsal.load --config FILE`.

Owns the writes that stand for the application during a rehearsal, and the record of how they fared. The engine
starts it through `rehearsal.load.driver`; what it wrote is reconciled by `rehearsal.load.reconciliation`.
"""
