"""A whole rehearsal: phases in the playbooks' order, each one leaving evidence.

Owns the order, what is resumed, and what stops a run. What a phase does is in `phases`, one file each; what two of
them share stands here, beside that room.
"""
