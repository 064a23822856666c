"""Hosts: pyinfra facts, operations and connectors, and the throwaway cluster of `local`.

Must not know `rehearsal`: the seam between the two is files and registry tables.
"""
