"""A whole rehearsal: phases in the playbooks' order, each one leaving evidence.

Owns the order, what is resumed, and what stops a run. What a phase does is in `prepare`, `perform` and `prove`.
"""
