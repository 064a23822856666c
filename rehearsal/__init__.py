"""Dress rehearsals for PostgreSQL partition switchovers: the engine.

Owns everything that is measured or moves data. Must not know pyinfra, gevent or invoke.
"""

__version__ = "0.1.0"
