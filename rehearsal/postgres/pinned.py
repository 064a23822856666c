"""Settings that each session of ours has, whatever role, database or shell say.

Owns the table of what is pinned, and how it reaches psycopg and PostgreSQL's own programs. Speed alone (work_mem,
enable_*, jit) stays as the server's people set it, but for what is asked under a lock (`postgres`). `fleet/psql.py` has
the same table for psql; a test compares them.
"""

from __future__ import annotations

# What a role, a database or the caller's shell may set and what would change what we mean, as it must be in each of our
# sessions.
PINNED = {
    # What rows and definitions look like: a digest, a bound or a rendered change must not depend on it.
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    # What a statement means.
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "gin_fuzzy_search_limit": "0",
    "check_function_bodies": "on",
    "client_min_messages": "notice",
    # Off raises where a policy would hide rows.
    "row_security": "off",
    "role": "none",
    # A snapshot for each statement, taken after its lock; who needs an older one asks for it.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # What was reported as done is durable.
    "synchronous_commit": "on",
    # Where new tables go, unless a statement says so.
    "default_tablespace": "",
    "temp_tablespaces": "",
    "default_table_access_method": "heap",
    # A limit is set by whoever needs one.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
# Settings of later versions, by the first one that has them.
PINNED_SINCE = {170000: {"transaction_timeout": "0"}}
# What libpq sends as parameters of their own, which beat `options`, if the caller's shell has these variables.
PINNED_VARIABLES = {"PGTZ": "UTC", "PGDATESTYLE": "ISO, MDY", "PGCLIENTENCODING": "UTF8"}


def pinned_settings(server_version: int) -> dict[str, str]:
    """Return what is pinned on a server of this version."""
    settings = dict(PINNED)
    for since, more in PINNED_SINCE.items():
        settings |= more if server_version >= since else {}
    return settings


def pinned_options() -> str:
    """Return the pinned settings as libpq's `options`, which beat the defaults of role and database.

    >>> pinned_options()[:15]
    '-c TimeZone=UTC'
    """
    return " ".join(f"-c {name}={_option(value)}" for name, value in PINNED.items())


def pinned_environ() -> dict[str, str]:
    """Return the variables by which a program of PostgreSQL's gets the same settings."""
    return {"PGOPTIONS": pinned_options(), **PINNED_VARIABLES}


def _option(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
